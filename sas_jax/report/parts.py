"""The building blocks of the report's sections."""

from collections.abc import Sequence

from sas_jax.results.markup import Markup, element, joined


def section(title: str, *content: object, id: str | None = None) -> Markup:
    """Returns a section, or empty markup if it has no content."""
    inside = joined(*content)
    return element("section", element("h2", title), inside, id=id) if inside else Markup()


def note(text: str) -> Markup:
    return element("p", text, class_="soft")


def notes(sentences: Sequence[str]) -> Markup | None:
    """Returns a list of sentences for below a table, one per line; None if there are none."""
    items = [element("li", text) for text in sentences]
    return element("ul", *items, class_="notes", id="reading") if items else None


def folded(summary: str, *content: object, id: str | None = None) -> Markup:
    """Returns content that is hidden until its summary is clicked."""
    return element("details", element("summary", summary), *content, id=id)


def figures(pictures: Sequence[Markup]) -> Markup | None:
    """Returns figures side by side, if there is room; None if all are empty."""
    return element("div", *pictures, class_="pair") if any(pictures) else None


def label_name(label: int, class_names: Sequence[str] | None) -> str:
    """Returns the name of a label's class, or the number if it has no name."""
    return str(class_names[label]) if class_names is not None and 0 <= label < len(class_names) else str(label)
