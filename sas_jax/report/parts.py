"""The parts that all sections of the report are made of."""

import re
from collections.abc import Iterable, Sequence

from sas_jax.report import numbers
from sas_jax.report.arms import Measure
from sas_jax.report.markup import Markup, element, joined

_INTERVAL = re.compile(r"(\([\d.]+\u2013[\d.]+\))")


def section(title: str, *content: object) -> Markup:
    """A section, or nothing where it has no content."""
    inside = joined(*content)
    return element("section", element("h2", title), inside) if inside else Markup()


def accuracy(found: Measure | None) -> Markup:
    """An accuracy and, small, its interval: the content of a cell."""
    if found is None:
        return Markup(numbers.NOTHING)
    return joined(numbers.percent(found.value), element("small", numbers.span(found.low, found.high)))


def note(text: str) -> Markup:
    return element("p", text, class_="soft")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], class_: str | None = None) -> Markup:
    """A table that scrolls by itself on a narrow screen; each row's first cell is its header."""
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    top = element("thead", element("tr", *(element("th", name, scope="col") for name in head))) if head else None
    return element("div", element("table", top, element("tbody", *body), class_=class_), class_="scroll", tabindex="0")


def figures(pictures: Sequence[Markup]) -> Markup | None:
    """Figures side by side where there is room; None where all are empty."""
    return element("div", *pictures, class_="pair") if any(pictures) else None


def sentence(text: str) -> Markup:
    """A sentence whose intervals are not broken over two lines."""
    pieces = _INTERVAL.split(text)
    return joined(*(element("span", piece, class_="whole") if at % 2 else piece for at, piece in enumerate(pieces)))


def label_name(label: int, class_names: Sequence[str] | None) -> str:
    """A label as its class is called; the number where it has no name."""
    return str(class_names[label]) if class_names is not None and 0 <= label < len(class_names) else str(label)
