"""Axes drawn as SVG with the page's colour variables, so that one drawing serves the light and the dark theme.

matplotlib would fix the colours and fonts when it draws. Here text stays text in the page's font, and a figure is a few
kB.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from sas_jax.results.markup import Markup, element, joined

WIDTH = 400  # fits a column of the page and a phone, so that text keeps its size
_CHARACTER = 6.3  # average width in a label


def ticks(low: float, high: float, number: int = 5) -> list[float]:
    """Returns about `number` round numbers in [low, high], with steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def plain(value: float) -> str:
    """Formats a tick's number with no more digits than it needs."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):.4g}"
    return text.replace("-", "\u2212")


def percentage(value: float) -> str:
    """Formats a tick's share as a percentage."""
    return f"{round(100 * value, 8):.4g}\u00a0%".replace("-", "\u2212")


class Axes:
    """One frame, which maps data coordinates to pixels and holds the parts drawn so far."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        x_label: str,
        y_label: str = "",
        x_format: Callable[[float], str] = plain,
        y_format: Callable[[float], str] = plain,
        rows: Sequence[str] = (),
        head: int = 0,
        height: int = 250,
    ) -> None:
        """Draws the frame.

        Args:
            x: The abscissa's range.
            y: The ordinate's range.
            x_label: The label under the axis.
            y_label: The label above the axis, written horizontally for easy reading.
            x_format: Formats a tick's number.
            y_format: The same for the ordinate.
            rows: Names at the ordinates 0, 1, ... from the top, in place of ticks.
            head: The number of text lines kept free above the frame, for `marker`.
            height: The height of the figure.
        """
        self._x, self._y = _widened(*x), _widened(*y)
        y_ticks = [] if rows else ticks(*self._y)
        names = list(rows) or [y_format(tick) for tick in y_ticks]
        self.left = min(170.0, 14 + _CHARACTER * max(map(len, names), default=0))
        self.right = WIDTH - 14.0
        self.top = 10.0 + 15 * head + (18 if y_label else 0)
        self.bottom = height - 42.0
        self.height = height
        self._head = head
        self._ends: list[float] = []  # where the text of each head line ends
        self._parts: list[Markup] = []
        if y_label:
            self._text(2, 13, y_label, class_="label")
        for tick in y_ticks:
            self._line(self.left, self.right, self.y(tick), self.y(tick), "grid")
        for at, name in zip(range(len(rows)) if rows else y_ticks, names, strict=True):
            self._text(self.left - 8, self.y(at) + 4, _cut(name, self.left - 8), text_anchor="end")
        for tick in ticks(*self._x):
            self._line(self.x(tick), self.x(tick), self.bottom, self.bottom + 4, "axis")
            self._text(self.x(tick), self.bottom + 18, x_format(tick), text_anchor="middle")
        self._line(self.left, self.right, self.bottom, self.bottom, "axis")
        self._text((self.left + self.right) / 2, height - 5, x_label, class_="label", text_anchor="middle")

    def x(self, value: float) -> float:
        """Converts an abscissa to pixels."""
        low, high = self._x
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Converts an ordinate to pixels."""
        low, high = self._y
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def curve(self, x: np.ndarray, y: np.ndarray, style: str) -> None:
        """Draws a line through the points; nan breaks it."""
        path, pen = [], "M"
        for one, two in zip(x, y, strict=True):
            if not (math.isfinite(one) and math.isfinite(two)):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(one):.1f} {self.y(two):.1f}")
            pen = "L"
        self._parts.append(element("path", d="".join(path), class_=f"line {style}"))

    def band(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, style: str) -> None:
        """Fills the area between two lines, over the points where both are finite."""
        here = np.isfinite(low) & np.isfinite(high)
        edge = [*zip(x[here], high[here], strict=True), *zip(x[here][::-1], low[here][::-1], strict=True)]
        points = " ".join(f"{self.x(one):.1f},{self.y(two):.1f}" for one, two in edge)
        self._parts.append(element("polygon", points=points, class_=f"band {style}"))

    def bars(self, edges: np.ndarray, heights: np.ndarray, styles: Sequence[str]) -> None:
        """Draws bars between neighbouring edges, from 0 upwards or, if negative, downwards; nan and 0 have none."""
        base = self.y(0)
        for begin, end, value, style in zip(edges, edges[1:], heights, styles, strict=False):
            if math.isfinite(value) and value != 0:
                left, right = self.x(begin), self.x(end)
                width = max(right - left - (1 if right - left > 3 else 0), 0.4)
                top = min(self.y(value), base)
                self._parts.append(
                    element("rect", x=left, y=top, width=width, height=abs(self.y(value) - base), class_=f"bar {style}")
                )

    def zero(self) -> None:
        """Draws a line at ordinate 0 if the range contains it."""
        if self._y[0] < 0 < self._y[1]:
            self._line(self.left, self.right, self.y(0), self.y(0), "axis")

    def strip(self, low: float, high: float, value: float) -> None:
        """Shades an interval of the abscissa over the whole height, and draws a line at its value."""
        left, right = self.x(low), self.x(high)
        self._rect(left, self.top, right - left, self.bottom - self.top)
        self._line(self.x(value), self.x(value), self.top, self.bottom, "reference")

    def level(self, low: float, high: float, value: float) -> None:
        """Shades an interval of the ordinate over the whole width, and draws a line at its value."""
        self._rect(self.left, self.y(high), self.right - self.left, self.y(low) - self.y(high))
        self._line(self.left, self.right, self.y(value), self.y(value), "reference")

    def spread(self, x: tuple[float, float], y: tuple[float, float], style: str) -> None:
        """Draws an interval as a thick line from one point to another."""
        self._line(self.x(x[0]), self.x(x[1]), self.y(y[0]), self.y(y[1]), f"whisker {style}")

    def point(self, x: float, y: float, style: str) -> None:
        """Draws a dot."""
        self._parts.append(element("circle", cx=self.x(x), cy=self.y(y), r=4, class_=f"dot {style}"))

    def seed(self, x: float, y: float, style: str) -> None:
        """Draws one seed's value as a small ring."""
        self._parts.append(element("circle", cx=self.x(x), cy=self.y(y), r=2.5, class_=f"ring {style}"))

    def marker(self, x: float, text: str, style: str) -> None:
        """Draws a vertical line with its name above the frame, on the first line of text that has room.

        Markers must be drawn in ascending order of x. A name without room on any line is left out.
        """
        at, width = self.x(x), _CHARACTER * len(text)
        start = min(max(at - width / 2, self.left), self.right - width)
        free = next((line for line, end in enumerate(self._ends) if start > end + 6), len(self._ends))
        self._line(at, at, self.top - 3, self.bottom, style)
        if free < self._head:
            if free == len(self._ends):
                self._ends.append(0.0)
            self._ends[free] = start + width
            self._text(start, self.top - 8 - 15 * free, text, class_=f"mark {style}")

    def svg(self, summary: str) -> Markup:
        """Returns the picture.

        Args:
            summary: The text alternative.
        """
        return element(
            "svg", *self._parts, viewBox=f"0 0 {WIDTH} {self.height}", role="img", aria_label=summary, focusable="false"
        )

    def _line(self, x1: float, x2: float, y1: float, y2: float, style: str) -> None:
        self._parts.append(element("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=style))

    def _rect(self, x: float, y: float, width: float, height: float) -> None:
        self._parts.append(element("rect", x=x, y=y, width=max(width, 0.5), height=max(height, 0.5), class_="shade"))

    def _text(self, x: float, y: float, text: str, **attributes: str) -> None:
        self._parts.append(element("text", text, x=float(x), y=float(y), **attributes))


def figure(picture: Markup, caption: object, legend: Sequence[tuple[str, str]] = ()) -> Markup:
    """Returns a picture with its caption and, between them, the legend.

    Args:
        picture: The SVG.
        caption: Text or markup.
        legend: Pairs of a style and a name.
    """
    keys = [element("li", element("span", class_=f"swatch {style}"), name) for style, name in legend]
    return element(
        "figure",
        picture,
        element("ul", *keys, class_="legend") if keys else None,
        element("figcaption", joined(caption)),
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """Returns the range, widened if it is empty."""
    if high != low:  # not high > low: rows count from the top, so their range is descending
        return low, high
    return low - (abs(low) or 1.0) * 0.5, low + (abs(low) or 1.0) * 0.5


def _cut(text: str, pixels: float) -> str:
    """Shortens a name to fit."""
    room = int(pixels / _CHARACTER)
    return text if len(text) <= room + 1 else text[: max(room - 1, 1)] + "…"
