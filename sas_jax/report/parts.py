"""The parts that all sections of the report are made of."""

from collections.abc import Sequence

from sas_jax.results.markup import Markup, element, joined


def section(title: str, *content: object, id: str | None = None) -> Markup:
    """A section, or nothing where it has no content."""
    inside = joined(*content)
    return element("section", element("h2", title), inside, id=id) if inside else Markup()


def note(text: str) -> Markup:
    return element("p", text, class_="soft")


def notes(sentences: Sequence[str]) -> Markup | None:
    """Sentences below a table, a line each."""
    items = [element("li", text) for text in sentences]
    return element("ul", *items, class_="notes", id="reading") if items else None


def folded(summary: str, *content: object, id: str | None = None) -> Markup:
    """What is behind a click."""
    return element("details", element("summary", summary), *content, id=id)


def figures(pictures: Sequence[Markup]) -> Markup | None:
    """Figures side by side where there is room; None where all are empty."""
    return element("div", *pictures, class_="pair") if any(pictures) else None


def label_name(label: int, class_names: Sequence[str] | None) -> str:
    """A label as its class is called; the number where it has no name."""
    return str(class_names[label]) if class_names is not None and 0 <= label < len(class_names) else str(label)
