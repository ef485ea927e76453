"""Draws the json of `benchmarks.results`: accuracy against the fraction of the images, a line for each selector."""

from typing import Any

import numpy as np

from benchmarks.results_tables import groups_of, main_setting, title
from sas_jax.report import axes as drawing
from sas_jax.report import numbers
from sas_jax.report.arms import FULL, UNTRAINED, Group, Measure
from sas_jax.report.axes import Axes
from sas_jax.report.markup import Markup, element, joined
from sas_jax.report.words import MEASURES, measure_name

STYLES = {
    "sas": "blue",
    "facility_location": "green",
    "facility_location_self0": "green dashed",
    "similarity_sum": "purple",
    "random": "orange",
    "random_balanced": "orange dashed",
    "prototypes_easy": "sky",
    "prototypes_hard": "sky dashed",
    "k_center": "grey",
    "file": "grey dashed",
}
"""A selector's look, the same in all plots; what is alike shares a colour."""

# A picture on a page knows nothing of the page's theme: it has its own ground. The colours are Okabe and Ito's, which
# colour-blind readers can tell apart.
_STYLE = """
text { fill: #5c5c58; font: 11.5px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
.label, .name { fill: #1d1d1b; } .ground { fill: #fff; } .grid { stroke: #dcdcd7; } .axis { stroke: #5c5c58; }
.reference { stroke: #1d1d1b; stroke-width: 1.3; } .shade { fill: #75756f; opacity: .16; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .line.dashed { stroke-dasharray: 5 3; }
.whisker { stroke-width: 1.2; } .dot { r: 3px; }
"""
_COLOURS = {
    "blue": "#0072B2",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#D55E00",
    "sky": "#56B4E9",
    "grey": "#555555",
    "full": "#1d1d1b",
}
_HEIGHT, _KEY = 300, 16
_COLUMNS, _MARGIN = 2, 8


def accuracy(content: dict[str, Any]) -> str | None:
    """Draws one run; the linear probe, or kNN where it was not made.

    Args:
      content: A json of `benchmarks.results`.

    Returns:
      An SVG file, the same bytes every time; None where no trained arm is measured.
    """
    groups = [group for group in main_setting(groups_of(content)) if group.selector != UNTRAINED]
    name = measure_name(groups)
    if name is None:
        return None
    shown = [(group, found) for group in groups if (found := getattr(group, name)) is not None]
    low, high = min(found.low for _, found in shown), max(found.high for _, found in shown)
    room = 0.04 * (high - low) or 0.02
    axes = Axes(
        (0.0, 1.0),
        (max(0.0, low - room), min(1.0, high + room)),
        x_label="fraction of the images",
        y_label=MEASURES[name],
        x_format=drawing.percentage,
        y_format=drawing.percentage,
        height=_HEIGHT,
    )
    lines: dict[str, list[tuple[Group, Measure]]] = {}
    for group, found in shown:
        if group.selector == FULL:
            axes.level(found.low, found.high, found.value)
        else:
            lines.setdefault(group.selector, []).append((group, found))
    for index, (selector, points) in enumerate(lines.items()):
        shift = 0.013 * (index - (len(lines) - 1) / 2)  # so that intervals at one fraction stay apart
        at = np.array([group.fraction or 0.0 for group, _ in points]) + shift
        axes.curve(at, np.array([found.value for _, found in points]), STYLES[selector])
        for x, (_, found) in zip(at, points, strict=True):
            axes.spread((x, x), (found.low, found.high), STYLES[selector])
            axes.point(x, found.value, STYLES[selector])
    summary = f"{title(content)}. {MEASURES[name]}: " + "; ".join(f"{group.title} {found}" for group, found in shown)
    keys = [(STYLES[selector], selector) for selector in lines]
    if any(group.selector == FULL for group, _ in shown):
        keys.append(("full", f"full{numbers.SPACE}(band: its interval)"))
    return _file(axes.svg(summary), keys)


def _file(picture: Markup, keys: list[tuple[str, str]]) -> str:
    """A file that stands alone: the picture, below it the names of its lines."""
    rows = -(-len(keys) // _COLUMNS)
    width, height = drawing.WIDTH + 2 * _MARGIN, _HEIGHT + _KEY * rows + 8
    names = []
    for at, (style, name) in enumerate(keys):
        x, y = 50 + (drawing.WIDTH - 60) / _COLUMNS * (at // rows), float(_HEIGHT + _KEY * (at % rows) + 12)
        names.append(element("line", x1=x, x2=x + 24, y1=y - 4, y2=y - 4, class_=f"line {style}"))
        names.append(element("text", name, x=x + 32, y=y, class_="name"))
    # Not by a variable of CSS, which most programs but browsers do not know.
    colours = "".join(
        f".{name} {{ stroke: {colour}; }} .dot.{name} {{ fill: {colour}; stroke: none; }}\n"
        for name, colour in _COLOURS.items()
    )
    content = joined(
        element("style", Markup(_STYLE + colours)),
        element("rect", x=-_MARGIN, width=width, height=height, class_="ground"),
        element("svg", picture, width=drawing.WIDTH, height=_HEIGHT, overflow="visible"),
        *names,
    )
    size = {"width": 2 * width, "height": 2 * height, "viewBox": f"{-_MARGIN} 0 {width} {height}"}
    return element("svg", content, xmlns="http://www.w3.org/2000/svg", **size) + "\n"
