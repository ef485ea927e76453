"""The report's figures, each a `<figure>` with a caption and a text alternative; "" where there is nothing to show."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sas_jax.report import measures, numbers
from sas_jax.report.arms import FULL, UNTRAINED, Group
from sas_jax.report.axes import Axes, figure, percentage, plain
from sas_jax.report.markup import Markup

_STYLES = {"sas": "s1", "random": "s2", FULL: "s3", "random_balanced": "s4"}
_SPARE = ("s5", "s6", "s7", "s8")
_BARS = 200  # more latent classes than these are averaged into so many
_SPARSE = 2_000  # fewer dots of a map are drawn larger
CROWD = 6  # more lines than these are drawn fine


def styles(groups: Sequence[Group]) -> dict[str, str]:
    """A colour for each selector, the same in all figures."""
    spare, found = 0, {UNTRAINED: "s0"}
    for selector in dict.fromkeys(group.selector for group in groups if group.selector != UNTRAINED):
        if selector in _STYLES:
            found[selector] = _STYLES[selector]
        else:
            found[selector] = _SPARE[spare % len(_SPARE)]
            spare += 1
    return found


def accuracy(groups: Sequence[Group], measure: str, name: str) -> Markup:
    """Accuracy with its interval: against the fraction where a selector has several, else a row for each arm.

    Args:
      groups: The arms, seeds together.
      measure: "probe" or "knn".
      name: What the measure is called.
    """
    shown = [(group, found) for group in groups if (found := getattr(group, measure)) is not None]
    if not shown:
        return Markup()
    low = min(min(found.low, *found.seeds) for _, found in shown)
    high = max(max(found.high, *found.seeds) for _, found in shown)
    room = 0.04 * (high - low) or 0.02
    bounds = (max(0.0, low - room), min(1.0, high + room))
    summary = f"{name}: " + "; ".join(f"{group.title} {found}" for group, found in shown)
    base = next((found for group, found in shown if group.selector == UNTRAINED), None)
    trained = [(group, found) for group, found in shown if group.selector != UNTRAINED]
    fractions: dict[str, set[float]] = {}
    for group, _ in trained:
        fractions.setdefault(group.selector, set()).add(group.fraction or 0.0)
    palette = styles(groups)
    several = any(len(found.seeds) > 1 for _, found in shown)
    swept = max(map(len, fractions.values()), default=0) > 1
    caption = f"{name}, with 95 % intervals" + ("; rings are single seeds" if several and not swept else "")
    caption += ". The shaded band is the untrained encoder's interval." if base else "."
    if swept:
        axes = Axes((0.0, 1.0), bounds, x_label="fraction of the images", x_format=percentage, y_format=percentage)
        if base:
            axes.level(base.low, base.high, base.value)
        for index, (selector, style) in enumerate((s, palette[s]) for s in fractions):
            shift = 0.006 * (index - (len(fractions) - 1) / 2)  # so that intervals at one fraction stay apart
            mine = [(group.fraction or 0.0, found) for group, found in trained if group.selector == selector]
            at = np.array([fraction for fraction, _ in mine]) + shift
            axes.curve(at, np.array([found.value for _, found in mine]), style)
            for x, (_, found) in zip(at, mine, strict=True):
                axes.spread((x, x), (found.low, found.high), style)
                axes.point(x, found.value, style)
        return figure(axes.svg(summary), caption, [(palette[selector], selector) for selector in fractions])
    rows = len(shown)
    axes = Axes(
        bounds,
        (rows - 0.4, -0.6),
        x_label="accuracy",
        x_format=percentage,
        rows=[group.title for group, _ in shown],
        height=60 + 28 * rows,
    )
    if base:
        axes.strip(base.low, base.high, base.value)
    for row, (group, found) in enumerate(shown):
        style = palette[group.selector]
        axes.spread((found.low, found.high), (row, row), style)
        axes.point(found.value, row, style)
        for value in found.seeds if len(found.seeds) > 1 else ():
            axes.seed(value, row + 0.32, style)
    return figure(axes.svg(summary), caption)


def loss(title: str, curves: Sequence[tuple[str, str, list[dict[str, Any]]]], kind: str = "contrastive loss") -> Markup:
    """Training losses.

    Args:
      title: What was trained.
      curves: For each line its name, style and metric records. Lines of one name share their place in the legend.
      kind: Of loss.
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
    """How similar two images of one latent class are.

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


def gains(gain: np.ndarray) -> Markup:
    """The distribution of marginal gains.

    Args:
      gain: float [n]; those not finite are left out.
    """
    values = np.asarray(gain, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Markup()
    edges = np.histogram_bin_edges(values, bins=40)
    if edges[0] < 0 < edges[-1]:  # an edge at 0, so that no bar holds both signs
        width = edges[1] - edges[0]
        edges = np.arange(math.floor(edges[0] / width), math.ceil(edges[-1] / width) + 1) * width
    shares = np.histogram(values, edges)[0] / len(values)
    axes = Axes(
        (edges[0], edges[-1]), (0.0, shares.max() * 1.05), x_label="gain", y_label="share of picks", y_format=percentage
    )
    axes.bars(edges, shares, ["s2" if end <= 1e-9 * abs(edges[0]) and edges[0] < 0 else "s1" for end in edges[1:]])
    negative = numbers.percent(float((values < 0).mean()))
    summary = f"median {numbers.decimal(float(np.median(values)), 2)}, {negative} negative"
    return figure(
        axes.svg(f"Histogram of the gains of {numbers.count(len(values))} picks: {summary}"),
        f"Marginal gain of each pick when it was made: {summary}.",
    )


def _head(budgets: Sequence[float]) -> int:
    """Lines of text for the markers' names: the budgets, and the turning point."""
    return 1 if len(budgets) < 2 else 2


def _mark(axes: Axes, budgets: Sequence[float], turning: float | None) -> None:
    marks = [(fraction, numbers.fraction(fraction), "budget") for fraction in budgets]
    if turning is not None:
        marks.append((turning, f"turning point {100 * turning:.0f}\u00a0%", "turning"))
    for fraction, text, style in sorted(marks):
        axes.marker(fraction, text, style)


def gain_curve(curve: measures.Curve, budgets: Sequence[float], turning: float | None, classes: int) -> Markup:
    """The gain of the next pick against how much of its class is picked.

    Args:
      curve: Over the classes.
      budgets: Chosen fractions.
      turning: The fraction where gains become negative, or None.
      classes: How many the curve is the mean of.
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
    summary = f"Marginal gain, falling from {numbers.decimal(known[0], 2)} to {numbers.decimal(known[-1], 2)}"
    return figure(axes.svg(summary + _marks_in_words(budgets, turning)), caption)


def next_percents(shares: np.ndarray, budgets: Sequence[float], turning: float | None) -> Markup:
    """What each further percent of the images adds to the objective.

    Args:
      shares: float [100] of the largest value, as `measures.next_percent` returns them.
      budgets: Chosen fractions.
      turning: The fraction where gains become negative, or None.
    """
    known = shares[np.isfinite(shares)]
    if not len(known):
        return Markup()
    low, high = min(0.0, float(known.min())), max(0.0, float(known.max()))
    room = 0.05 * (high - low)
    axes = Axes((0.0, 1.0), (low - room if low < 0 else 0.0, high + room), x_label="fraction of the images picked",
                y_label="value of the next percent", x_format=percentage, y_format=percentage,
                head=_head(budgets))  # fmt: skip
    axes.bars(np.linspace(0.0, 1.0, 101), shares, ["s2" if share < 0 else "s1" for share in shares])
    axes.zero()
    _mark(axes, budgets, turning)
    here = [0.0, *(budget for budget in budgets if int(100 * budget + 1e-9) < len(known))]
    told = [
        f"{numbers.decimal(100 * shares[int(100 * at + 1e-9)], 2)} after "
        + (numbers.fraction(at) if at else "none of the images")
        for at in here
    ]
    caption = (
        f"What the next percent of the images adds to the objective, in percent of the largest value it reached: "
        f"{', '.join(told)}."
    )
    return figure(axes.svg(caption + _marks_in_words((), turning)), caption)


def cumulative(
    fractions: np.ndarray, values: np.ndarray, budgets: Sequence[float], turning: float | None, objective: str
) -> Markup:
    """The objective's value as the subset grows.

    Args:
      fractions: float [k], of all images.
      values: float [k], shares of the largest value.
      budgets: Chosen fractions.
      turning: The fraction where gains become negative, or None.
      objective: Its name.
    """
    if len(fractions) < 2:
        return Markup()
    kept = np.unique(np.linspace(0, len(fractions) - 1, 301).round().astype(int))
    low = min(0.0, float(values.min()))
    axes = Axes((0.0, 1.0), (low, 1.05), x_label="fraction of the images picked", y_label="objective, share of its "
                "largest", x_format=percentage, y_format=percentage, head=_head(budgets))  # fmt: skip
    axes.zero()
    _mark(axes, budgets, turning)
    axes.curve(fractions[kept], values[kept], "s1")
    reached = [
        f"{numbers.percent(float(np.interp(budget, fractions, values)))} at {numbers.fraction(budget)} of the images"
        for budget in budgets
        if budget <= fractions[-1]
    ]
    caption = f"The objective {objective} as the subset grows, as a share of the largest value it reached"
    caption += f": {', '.join(reached)}." if reached else "."
    return figure(axes.svg(caption + _marks_in_words((), turning)), caption)


def _marks_in_words(budgets: Sequence[float], turning: float | None) -> str:
    text = f"; chosen budgets {', '.join(map(numbers.fraction, budgets))}" if budgets else ""
    return text + (f"; turning point at {numbers.fraction(turning)}" if turning is not None else "")


def sizes(values: Sequence[int] | np.ndarray, shares: np.ndarray | None = None) -> Markup:
    """The latent classes' sizes, largest first, and how much of each has one label.

    Args:
      values: int [c].
      shares: float [c], of each class's most frequent label; None where labels are not known.
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
        legend = [("s1", "with the class's most frequent label"), ("s1 pale", "with another")]
        low, median, high = (numbers.percent(float(np.nanpercentile(shares, at)), 0) for at in (0, 50, 100))
        text += f"; of a class, {low} to {high} (median {median}) have its most frequent label"
    return figure(
        axes.svg(f"Sizes of {len(whole)} latent classes, {text}"), f"Sizes of the latent classes: {text}.", legend
    )


def silhouettes(tried: Sequence[int], values: Sequence[float], chosen: int | None) -> Markup:
    """The mean silhouette at each number of classes tried.

    Args:
      tried: Ascending.
      values: In [-1, 1], one for each.
      chosen: The number of classes; marked where it was tried.
    """
    if not tried or len(tried) != len(values) or min(tried) < 1:
        return Markup()
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05
    at = np.log2(np.asarray(tried, np.float64))
    axes = Axes((float(at[0]), float(at[-1])), (low - room, high + room), x_label="number of classes tried, doubling",
                y_label="mean silhouette", x_format=lambda tick: plain(round(2**tick)), height=210)  # fmt: skip
    axes.curve(at, np.asarray(values), "s1")
    for number, x, value in zip(tried, at, values, strict=True):
        axes.point(x, value, "s2" if number == chosen else "s1")
    told = "; ".join(f"{number}: {numbers.decimal(value, 2)}" for number, value in zip(tried, values, strict=True))
    return figure(
        axes.svg(f"Mean silhouette by number of classes: {told}"), f"Mean silhouette by number of classes: {told}."
    )


def cloud(points: np.ndarray, marked: np.ndarray, shares: np.ndarray, style: str, name: str) -> Markup:
    """A map of examples, some of them marked.

    Args:
      points: float [k, 2], principal components.
      marked: bool [k].
      shares: float [2], of the variance along each.
      style: Of the marked.
      name: What the marked are.
    """
    height = 330
    (left, low), (right, high) = points.min(axis=0), points.max(axis=0)
    # One unit is as long upwards as sideways.
    unit = max((right - left) / 340, (high - low) / (height - 75)) * 1.03
    middle, centre = (left + right) / 2, (low + high) / 2
    x, y = (middle - 170 * unit, middle + 170 * unit), (
        centre - (height - 75) / 2 * unit, centre + (height - 75) / 2 * unit)  # fmt: skip
    axes = Axes(x, y, x_label=f"first principal component, {numbers.percent(shares[0], 0)} of the variance",
                y_label=f"second principal component, {numbers.percent(shares[1], 0)}", height=height)  # fmt: skip
    sparse = " sparse" if len(points) < _SPARSE else ""
    axes.cloud(points[~marked], f"s0{sparse}")
    axes.cloud(points[marked], f"{style}{sparse}")
    caption = f"{numbers.count(marked.sum())} of {numbers.count(len(points))} images drawn: {name}"
    return figure(
        axes.svg(f"Map of the embeddings. {caption}"),
        f"{caption}.",
        [(f"{style} spot", name), ("s0 spot", "the others")],
    )
