"""The report's figures, each a `<figure>` with a caption and a text alternative; "" if there is nothing to show."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sas_jax.report import measures
from sas_jax.report.axes import Axes, figure, percentage, plain
from sas_jax.results import numbers
from sas_jax.results.arms import Group, Measure
from sas_jax.results.markup import Markup

_BARS = 200  # the maximum number of bars; more latent classes are averaged
CROWD = 6  # more lines than this are drawn fine


@dataclasses.dataclass(frozen=True)
class Line:
    """Accuracies by the fraction of the images.

    Attributes:
        name: The name in the legend.
        style: The style of the line and its intervals.
        points: Pairs of a fraction and an accuracy.
        dots: The style of its points.
    """

    name: str
    style: str
    points: Sequence[tuple[float, Measure]]
    dots: str

    def draw(self, axes: Axes, shift: float) -> None:
        """Draws the line, shifted sideways so that the intervals of lines at one fraction stay apart."""
        at = np.array([fraction for fraction, _ in self.points]) + shift
        axes.curve(at, np.array([found.value for _, found in self.points]), self.style)
        for x, (_, found) in zip(at, self.points, strict=True):
            axes.spread((x, x), (found.low, found.high), self.style)
            axes.point(x, found.value, self.dots)


def draw(axes: Axes, lines: Sequence[Line], gap: float) -> None:
    """Draws lines side by side, each shifted by `gap` from the previous one."""
    for at, line in enumerate(lines):
        line.draw(axes, gap * (at - (len(lines) - 1) / 2))


def lines(groups: Sequence[Group], measure: str) -> list[Line]:
    """Returns an accuracy of trained groups, as one line for each selector and setting."""
    found: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        if group.is_trained and measure in group.measures and group.fraction is not None:
            found.setdefault((group.kind.who, group.kind.setting), []).append(group)
    return [
        Line(
            name=f"{who} ({setting})" if setting else who,
            style=members[0].selector.style,
            points=[(group.fraction or 0.0, group.measures[measure]) for group in members],
            dots=members[0].selector.style,
        )
        for (who, setting), members in found.items()
    ]


def bounds(measures: Sequence[Measure]) -> tuple[float, float]:
    """Returns the range of an axis that shows these accuracies with their intervals and seeds."""
    low = min(min(found.low, *found.seeds) for found in measures)
    high = max(max(found.high, *found.seeds) for found in measures)
    room = 0.04 * (high - low) or 0.02
    return max(0.0, low - room), min(1.0, high + room)


def accuracy(groups: Sequence[Group], measure: str, name: str) -> Markup:
    """Plots accuracy with its interval: against the fraction if a selector has several, else one row per arm.

    Args:
        groups: The arms, grouped over seeds.
        measure: The accuracy.
        name: The accuracy's title.
    """
    shown = [(group, group.measures[measure]) for group in groups if measure in group.measures]
    if not shown:
        return Markup()
    limits = bounds([found for _, found in shown])
    summary = f"{name}: " + "; ".join(f"{group.title} {found}" for group, found in shown)
    base = next((found for group, found in shown if not group.is_trained), None)
    drawn = lines(groups, measure)
    swept = any(len(line.points) > 1 for line in drawn)
    several = any(len(found.seeds) > 1 for _, found in shown)
    caption = f"{name}, with 95 % intervals" + ("; rings are single seeds" if several and not swept else "")
    caption += ". The shaded band is the untrained encoder's interval." if base else "."
    if swept:
        axes = Axes((0.0, 1.0), limits, x_label="fraction of the images", x_format=percentage, y_format=percentage)
        if base:
            axes.level(base.low, base.high, base.value)
        draw(axes, drawn, 0.006)
        return figure(axes.svg(summary), caption, [(line.style, line.name) for line in drawn])
    rows = len(shown)
    axes = Axes(
        limits,
        (rows - 0.4, -0.6),
        x_label="accuracy",
        x_format=percentage,
        rows=[group.title for group, _ in shown],
        height=60 + 28 * rows,
    )
    if base:
        axes.strip(base.low, base.high, base.value)
    for row, (group, found) in enumerate(shown):
        style = group.selector.style
        axes.spread((found.low, found.high), (row, row), style)
        axes.point(found.value, row, style)
        for value in found.seeds if len(found.seeds) > 1 else ():
            axes.seed(value, row + 0.32, style)
    return figure(axes.svg(summary), caption)


def loss(title: str, curves: Sequence[tuple[str, str, list[dict[str, Any]]]], kind: str = "contrastive loss") -> Markup:
    """Plots training losses.

    Args:
        title: What was trained.
        curves: The name, style and metric records of each line. Lines with the same name share a legend entry.
        kind: The kind of loss.
    """
    unit = "epoch" if all(r.get("epoch") is not None for *_, records in curves for r in records) else "step"
    drawn = []
    for name, style, records in curves:
        x, y = measures.losses(records, unit)
        if len(x):
            drawn.append((name, style, x, y))
    if not drawn:
        return Markup()
    low = min(y.min() for *_, y in drawn)
    high = max(y.max() for *_, y in drawn)
    room = 0.05 * (high - low)
    axes = Axes((0.0, max(x.max() for *_, x, _ in drawn)), (low - room, high + room), x_label=unit, y_label=kind)
    crowded = len(drawn) > CROWD
    for _, style, x, y in drawn:
        axes.curve(x, y, f"{style} fine" if crowded else style)
        if len(x) == 1:
            axes.point(x[0], y[0], style)
    ends = "; ".join(f"{name} from {numbers.decimal(y[0])} to {numbers.decimal(y[-1])}" for name, *_, y in drawn)
    legend = list(dict.fromkeys((style, name) for name, style, *_ in drawn)) if len(drawn) > 1 else []
    return figure(axes.svg(f"{title}, {kind} by {unit}: {ends}"), f"{title}.", legend)


def similarity(values: np.ndarray, note: str = "") -> Markup:
    """Plots the histogram of the similarity of two images of one latent class.

    Args:
        values: float [p], in [0, 1].
        note: Added to the caption.
    """
    if not len(values):
        return Markup()
    counts, edges = np.histogram(values, bins=40, range=(0.0, 1.0))
    shares = counts / len(values)
    axes = Axes(
        (0.0, 1.0), (0.0, shares.max() * 1.05), x_label="similarity", y_label="share of pairs", y_format=percentage
    )
    axes.bars(edges, shares, ["s1"] * len(shares))
    low, median, high = np.percentile(values, (10, 50, 90))
    summary = (
        f"median {numbers.decimal(median, 2)}, 80 % of pairs between {numbers.decimal(low, 2)} and "
        f"{numbers.decimal(high, 2)}"
    )
    caption = f"Similarity of two images of one latent class, max(0, z_i·z_j): {summary} ({numbers.count(len(values))} "
    caption += f"random pairs; {numbers.percent(float((values == 0).mean()))} at zero).{note}"
    return figure(axes.svg(f"Histogram of similarity within a class: {summary}"), caption)


def _head(budgets: Sequence[float]) -> int:
    """Returns the number of text lines for the markers' names: the budgets and the turning point."""
    return 1 if len(budgets) < 2 else 2


def _mark(axes: Axes, budgets: Sequence[float], turning: float | None) -> None:
    marks = [(fraction, numbers.fraction(fraction), "budget") for fraction in budgets]
    if turning is not None:
        marks.append((turning, f"turning point {100 * turning:.0f}\u00a0%", "turning"))
    for fraction, text, style in sorted(marks):
        axes.marker(fraction, text, style)


def gain_curve(curve: measures.Curve, budgets: Sequence[float], turning: float | None, classes: int) -> Markup:
    """Plots the gain of the next pick against the picked fraction of its class.

    Args:
        curve: The curve over the classes.
        budgets: Chosen fractions.
        turning: The fraction where gains become negative, or None.
        classes: The number of classes that the curve is the mean of.
    """
    if not np.isfinite(curve.mean).any():
        return Markup()
    low, high = float(np.nanmin(curve.low)), float(np.nanmax(curve.high))
    room = 0.05 * (high - low)
    bounds = (min(0.0, low - room) if low < 0 else 0.0, high + room)
    axes = Axes((0.0, 1.0), bounds, x_label="fraction of the class picked", y_label="marginal gain",
                x_format=percentage, head=_head(budgets))  # fmt: skip
    axes.zero()
    _mark(axes, budgets, turning)
    if classes > 1:
        axes.band(curve.fraction, curve.low, curve.high, "s1")
    axes.curve(curve.fraction, curve.mean, "s1")
    known = curve.mean[np.isfinite(curve.mean)]
    caption = "Gain of the next pick, " + (
        f"mean over {numbers.plural(classes, 'latent class', 'latent classes')}"
        + (", band from the 10th to the 90th percentile." if classes > 1 else ".")
    )
    first, last = (numbers.rounded(float(known[at]), 2) for at in (0, -1))
    course = "" if first == last else "falling " if first > last else "rising "
    summary = f"Marginal gain, {course}from {numbers.decimal(first, 2)} to {numbers.decimal(last, 2)}"
    return figure(axes.svg(summary + _marks_in_words(budgets, turning)), caption)


def _marks_in_words(budgets: Sequence[float], turning: float | None) -> str:
    text = f"; chosen budgets {', '.join(map(numbers.fraction, budgets))}" if budgets else ""
    return text + (f"; turning point at {numbers.fraction(turning)}" if turning is not None else "")


def sizes(values: Sequence[int] | np.ndarray, shares: np.ndarray | None = None) -> Markup:
    """Plots the latent classes' sizes, largest first, and the part of each with its most frequent label.

    Args:
        values: int [c].
        shares: float [c], the share of each class's most frequent label; None if labels are unknown.
    """
    if not len(values):
        return Markup()
    falling = np.argsort(-np.asarray(values, np.float64), kind="stable")
    whole = np.asarray(values, np.float64)[falling]
    parts = np.array_split(np.arange(len(whole)), min(len(whole), _BARS))
    edges = np.array([0, *(part[-1] + 1 for part in parts)], np.float64)
    axes = Axes((0.0, float(len(whole))), (0.0, whole[0] * 1.05), x_label="latent classes, largest first",
                y_label="images", height=210)  # fmt: skip
    pale = "s1" if shares is None else "s1 pale"
    axes.bars(edges, np.array([whole[part].mean() for part in parts]), [pale] * len(parts))
    text = f"from {numbers.count(whole[-1])} to {numbers.count(whole[0])} images"
    text += f", median {numbers.count(float(np.median(whole)))}"
    legend = []
    if shares is not None:
        pure = whole * np.nan_to_num(np.asarray(shares, np.float64))[falling]
        axes.bars(edges, np.array([pure[part].mean() for part in parts]), ["s1"] * len(parts))
        legend = [("s1", "with the class's most frequent label"), ("s1 pale", "with another label")]
        low, median, high = (numbers.percent(float(np.nanpercentile(shares, at)), 0) for at in (0, 50, 100))
        text += f"; {low} to {high} (median {median}) of a class have its most frequent label"
    return figure(
        axes.svg(f"Sizes of {len(whole)} latent classes, {text}"), f"Sizes of the latent classes: {text}.", legend
    )


def silhouettes(tried: Sequence[int], values: Sequence[float], chosen: int | None) -> Markup:
    """Plots the mean silhouette at each number of classes tried.

    Args:
        tried: The numbers of classes, ascending.
        values: Their mean silhouettes, in [-1, 1].
        chosen: The chosen number of classes; marked if it was tried.
    """
    if not tried or len(tried) != len(values) or min(tried) < 1:
        return Markup()
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05
    at = np.log2(np.asarray(tried, np.float64))
    axes = Axes((float(at[0]), float(at[-1])), (low - room, high + room), x_label="number of classes tried (log scale)",
                y_label="mean silhouette", x_format=lambda tick: plain(round(2**tick)), height=210)  # fmt: skip
    axes.curve(at, np.asarray(values), "s1")
    for number, x, value in zip(tried, at, values, strict=True):
        axes.point(x, value, "s2" if number == chosen else "s1")
    told = "; ".join(f"{number}: {numbers.decimal(value, 2)}" for number, value in zip(tried, values, strict=True))
    return figure(
        axes.svg(f"Mean silhouette by number of classes: {told}"), f"Mean silhouette by number of classes: {told}."
    )
