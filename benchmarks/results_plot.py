"""Draws the json of `benchmarks.results`: accuracy against the fraction of the images, and differences to random."""

from collections.abc import Sequence
from typing import Any

from benchmarks.results_tables import RANDOM, SHORT_FRACTION, SHORT_SELECTOR, groups_of, short_rows, title
from sas_jax.report import axes as drawing
from sas_jax.report import plots
from sas_jax.report.axes import Axes
from sas_jax.results import numbers
from sas_jax.results.arms import main_setting, titles
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.selectors import Role

# An image does not know its page's theme, so it has its own background. The colours are from the palette of Okabe and
# Ito, which colour-blind readers can distinguish.
_STYLE = """
text { fill: #5c5c58; font: 11.5px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
.label, .name { fill: #1d1d1b; } .ground { fill: #fff; } .grid { stroke: #dcdcd7; } .axis { stroke: #5c5c58; }
.reference { stroke: #1d1d1b; stroke-width: 1.3; } .shade { fill: #75756f; opacity: .16; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .line.dashed { stroke-dasharray: 5 3; }
.whisker { stroke-width: 1.2; } .dot { r: 3px; }
"""
_COLOURS = {  # by the styles of `selectors`
    "s0": "#9a9a94",
    "s1": "#0072B2",
    "s2": "#D55E00",
    "s3": "#1d1d1b",
    "s4": "#E69F00",
    "s5": "#009E73",
    "s6": "#CC79A7",
    "s7": "#56B4E9",
    "s8": "#555555",
}
_HEIGHT, _KEY = 300, 16
_COLUMNS, _MARGIN = 2, 8
_ROW = 40  # height of a difference: its name and its interval


def accuracy(content: dict[str, Any]) -> str | None:
    """Draws a run's accuracy by the linear probe, or by kNN if there is no probe.

    Args:
        content: A json of `benchmarks.results`.

    Returns:
        An SVG file, the same bytes every time; None if no trained arm is measured.
    """
    groups = [group for group in main_setting(groups_of(content)) if group.is_trained]
    name, words = next(iter(titles(groups).items()), ("", ""))
    if not name:
        return None
    shown = [(group, group.measures[name]) for group in groups if name in group.measures]
    axes = Axes(
        (0.0, 1.0),
        plots.bounds([found for _, found in shown]),
        x_label="fraction of the images",
        y_label=words,
        x_format=drawing.percentage,
        y_format=drawing.percentage,
        height=_HEIGHT,
    )
    for group, found in shown:
        if group.kind.role == Role.WHOLE:
            axes.level(found.low, found.high, found.value)
    lines = plots.lines([group for group in groups if group.kind.role != Role.WHOLE], name)
    plots.draw(axes, lines, 0.013)
    summary = f"{title(content)}. {words}: " + "; ".join(f"{group.title} {found}" for group, found in shown)
    keys = [(line.style, line.name) for line in lines]
    keys += [
        (group.selector.style, f"{group.title}{numbers.SPACE}(band: its interval)")
        for group, _ in shown
        if group.kind.role == Role.WHOLE
    ]
    return _file(axes.svg(summary), _HEIGHT, *_names(keys))


def differences(contents: Sequence[dict[str, Any]]) -> str | None:
    """Draws the short table: the difference of chosen to random images, a row for each run and partition.

    Args:
        contents: The json of `benchmarks.results`.

    Returns:
        An SVG file, the same bytes every time; None if nothing can be compared yet.
    """
    rows = [(row, row.difference) for row in short_rows(contents)]
    if not rows:
        return None
    height = _ROW * len(rows) + 60
    low, high = min([0.0, *(each.low for _, each in rows)]), max([0.0, *(each.high for _, each in rows)])
    axes = Axes(
        (low, high),
        (len(rows) - 0.5, -0.5),
        x_label=f"linear probe: {SHORT_SELECTOR} minus {RANDOM} at {numbers.fraction(SHORT_FRACTION)}, points",
        x_format=lambda share: drawing.plain(100 * share),
        rows=[""] * len(rows),
        height=height,
    )
    names, zero = [], axes.x(0.0)
    for at, (row, each) in enumerate(rows):
        style = "s1" if each.sign > 0 else "s2" if each.sign < 0 else "s0"
        axes.spread((each.low, each.high), (at + 0.15, at + 0.15), style)
        axes.point(each.value, at + 0.15, style)
        name = f"{row.images}; {row.latent_classes}"
        names.append(element("text", name, x=axes.left, y=axes.y(at - 0.1), class_="name"))
        names.append(element("line", x1=zero, x2=zero, y1=axes.y(at), y2=axes.y(at + 0.3), class_="axis"))
    summary = "; ".join(f"{row.images}, {row.latent_classes}: {each}" for row, each in rows)
    return _file(axes.svg(summary), height, names, height)


def _names(keys: list[tuple[str, str]]) -> tuple[list[Markup], int]:
    """Returns the legend, to be placed below the picture, and the total height."""
    rows = -(-len(keys) // _COLUMNS)
    names = []
    for at, (style, name) in enumerate(keys):
        x, y = 50 + (drawing.WIDTH - 60) / _COLUMNS * (at // rows), float(_HEIGHT + _KEY * (at % rows) + 12)
        names.append(element("line", x1=x, x2=x + 24, y1=y - 4, y2=y - 4, class_=f"line {style}"))
        names.append(element("text", name, x=x + 32, y=y, class_="name"))
    return names, _HEIGHT + _KEY * rows + 8


def _file(picture: Markup, drawn: int, names: list[Markup], height: int) -> str:
    """Returns a standalone file: the picture, `drawn` high, and names in and below it."""
    width = drawing.WIDTH + 2 * _MARGIN
    # CSS variables are not used, because few programs other than browsers support them.
    colours = "".join(
        f".{name} {{ stroke: {colour}; }} .dot.{name} {{ fill: {colour}; stroke: none; }}\n"
        for name, colour in _COLOURS.items()
    )
    content = joined(
        element("style", Markup(_STYLE + colours)),
        element("rect", x=-_MARGIN, width=width, height=height, class_="ground"),
        element("svg", picture, width=drawing.WIDTH, height=drawn, overflow="visible"),
        *names,
    )
    size = {"width": 2 * width, "height": 2 * height, "viewBox": f"{-_MARGIN} 0 {width} {height}"}
    return element("svg", content, xmlns="http://www.w3.org/2000/svg", **size) + "\n"
