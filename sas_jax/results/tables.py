"""Tables of arms and of their differences, as text, Markdown and HTML.

To add a column to the arms' table, add a line to `_BEFORE` or `_AFTER`. To add an accuracy to every table, add a line
to `arms.MEASURES`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from sas_jax.results import numbers, selectors
from sas_jax.results.arms import PRIMARY, Group, Measure, titles
from sas_jax.results.differences import Difference, Differences
from sas_jax.results.markup import Markup, element, joined


class Cell(Protocol):
    """A table cell that is not plain text."""

    def text(self) -> str: ...
    def markdown(self) -> str: ...
    def html(self) -> Markup: ...


@dataclasses.dataclass(frozen=True)
class Name:
    """An arm's name; in HTML it has the colour of its selector."""

    title: str
    style: str

    def text(self) -> str:
        return self.title

    markdown = text

    def html(self) -> Markup:
        return joined(element("span", class_=f"key {self.style}"), self.title)


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Two cells in one: an accuracy with a difference below it."""

    first: Cell
    second: Cell

    def text(self) -> str:
        return f"{self.first.text()} {self.second.text()}"

    def markdown(self) -> str:
        return f"{self.first.markdown()}<br>{self.second.markdown()}"

    def html(self) -> Markup:
        return joined(self.first.html(), element("div", self.second.html()))


Value = Cell | str | None
"""The value of a cell; None if it is empty."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first cell of a row is its name."""

    head: Sequence[str]
    rows: Sequence[Sequence[Value]]

    def __bool__(self) -> bool:
        return bool(self.rows)

    def text(self) -> str:
        """Formats the table for a terminal, with aligned columns; it is ASCII if the names are."""
        cells = [[_ascii(name) for name in self.head]]
        cells += [[_ascii(_written(cell, "text")) for cell in row] for row in self.rows]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.head))]
        cells.insert(1, ["-" * width for width in widths])
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() + "\n" for row in cells
        ]
        return "".join(lines)

    def markdown(self) -> str:
        lines = [self.head, ["---", *["---:"] * (len(self.head) - 1)]]
        lines += [[_written(cell, "markdown") for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def html(self, class_: str | None = None) -> Markup:
        """Formats the table as HTML that scrolls on its own on narrow screens; each row's first cell is its header."""
        head = element("thead", element("tr", *(element("th", name, scope="col") for name in self.head)))
        rows = [[_written(cell, "html") for cell in row] for row in self.rows]
        body = [element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:])) for row in rows]
        inside = joined(head if any(self.head) else None, element("tbody", *body))
        return element("div", element("table", inside, class_=class_), class_="scroll", tabindex="0")

    def without_empty_columns(self) -> "Table":
        """Returns the table without its empty columns."""
        kept = [at for at in range(len(self.head)) if any(row[at] not in (None, numbers.NOTHING) for row in self.rows)]
        return Table([self.head[at] for at in kept], [[row[at] for at in kept] for row in self.rows])


def _written(cell: Value, form: str) -> str:
    if cell is None:
        return numbers.NOTHING
    return cell if isinstance(cell, str) else getattr(cell, form)()


def _ascii(text: str) -> str:
    return text.translate({ord(numbers.SPACE): " ", ord(numbers.DASH): "-", ord(numbers.MINUS): "-"})


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the arms' table.

    Attributes:
        name: The header.
        cell: Maps a group to the value of its cell.
        is_brief: Whether the table in the terminal has the column as well.
    """

    name: str
    cell: Callable[[Group], Value]
    is_brief: bool = False


_BEFORE = (
    Column("arm", lambda group: group.title, is_brief=True),
    Column("seeds", lambda group: numbers.count(len(group.arms)) if group.is_trained else None, is_brief=True),
    Column("images", lambda group: numbers.count(group.mean("size")), is_brief=True),
    Column("epochs", lambda group: numbers.short(group.mean("epochs")), is_brief=True),
)
_AFTER = (
    Column("steps", lambda group: numbers.count(group.mean("steps"))),
    Column("loss", lambda group: numbers.decimal(group.mean("loss"))),
    Column("training", lambda group: numbers.duration(group.mean("train_seconds") or None), is_brief=True),
)


def arms(groups: Sequence[Group], *, brief: bool = False, single: bool = False) -> Table:
    """Returns a table of arms: each accuracy with its 95 % interval, without empty columns.

    Args:
        groups: The arms, grouped over seeds or single.
        brief: Whether to keep only the columns for a terminal.
        single: Whether the arms are single and named as in the run's files.
    """
    measured = [
        Column(title, functools.partial(_measure, name), is_brief=name in PRIMARY)
        for name, title in titles(groups).items()
    ]
    columns = [column for column in (*_BEFORE, *measured, *_AFTER) if column.is_brief or not brief]
    rows = [[column.cell(group) for column in columns] for group in groups]
    for group, row in zip(groups, rows, strict=True):
        row[0] = Name(group.arms[0].name if single else group.title, group.selector.style)
    return Table([column.name for column in columns], rows).without_empty_columns()


def _measure(name: str, group: Group) -> Measure | None:
    return group.measures.get(name)


def differences(groups: Sequence[Group], found: Differences, names: Iterable[str], *, accuracies: bool = True) -> Table:
    """Returns a table of the differences of arms from random subsets of their size, and from all images.

    Args:
        groups: The arms, grouped over seeds.
        found: As returned by `differences.of_run`.
        names: The accuracies to show.
        accuracies: Whether to show the accuracies too, including those of arms without differences.
    """
    known = {name: title for name, title in titles(groups).items() if name in names}
    head, rows = ["arm"], []
    for title in known.values():
        versus = [f"vs {rival.name}" for rival in selectors.RIVALS]
        head += [title, *versus] if accuracies else [f"{title} {each}" for each in versus]
    for group in groups:
        row: list[Value] = [Name(group.title, group.selector.style)]
        for name in known:
            row += [group.measures.get(name)] if accuracies else []
            row += [found.get((group.kind, rival.name, name)) for rival in selectors.RIVALS]
        if any(row[1:]):
            rows.append(row)
    return Table(head, rows).without_empty_columns() if any(map(_is_difference, rows)) else Table(head, [])


def _is_difference(row: Sequence[Value]) -> bool:
    return any(isinstance(cell, Difference) for cell in row)
