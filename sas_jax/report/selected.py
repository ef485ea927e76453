"""How the subset came about: gains and similarities, the map of the embeddings, the latent classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sas_jax.report import measures, numbers, plots
from sas_jax.report.arms import FULL, Group
from sas_jax.report.markup import Markup, element
from sas_jax.report.parts import figures, label_name, note, section, table

_DRAWN = 5_000  # dots of a map
_LISTED = 300  # latent classes in the table of them


def selection(
    results: Mapping[str, Any], groups: Sequence[Group], ranking: Any, embeddings: np.ndarray | None
) -> Markup:
    chosen = results.get("selection") or {}
    if ranking is None:
        return section("Selection", note("The run ended before the ranking."))
    objective = chosen.get("objective", "the objective")
    position, gain, classes = (np.asarray(part) for part in (ranking.position, ranking.gain, ranking.classes))
    budgets = sorted({g.fraction for g in groups if g.selector != FULL and g.fraction and g.fraction < 1})
    turning = chosen.get("turning_fraction")
    turning = turning if numbers.known(turning) else None
    ranked = position >= 0
    fractions, values = measures.cumulative_gain(position, gain, classes)
    shares = measures.next_percent(fractions, values)
    drawn = [
        plots.gain_curve(measures.gain_curve(position, gain, classes), budgets, turning, len(np.unique(classes))),
        plots.next_percents(shares, budgets, turning),
        plots.cumulative(fractions, values, budgets, turning, objective),
        plots.gains(gain[ranked]),
    ]
    notes, maps = [], None
    rows = _rows(embeddings, len(position))
    if rows is not None:
        kind = chosen.get("similarity", "cosine")
        other = "" if kind == "cosine" else f" The ranking itself used the kind {kind}."
        similar = measures.similarities(rows, classes)
        drawn.append(plots.similarity(similar, other))
        if not len(similar):
            notes.append("No similarity is shown: no latent class has two images with finite embeddings.")
        maps = _maps(rows, position, classes, budgets[0] if budgets else 0.2)
    else:
        notes.append("The embeddings are not at hand, so no similarity and no map is shown.")
    if not ranked.all():
        notes.append(
            f"Ranked: {numbers.count(ranked.sum())} of {numbers.plural(len(position), 'image')}; the others lie beyond "
            "the budget."
        )
    if not np.isfinite(gain[ranked]).any():
        notes.append("The ranking has no gains, so their curve is not shown.")
    else:
        notes.append(_turning(objective, turning, measures.turning_points(position, gain, classes)))
    return section("Selection", *map(note, notes), figures(drawn), maps)


def _rows(embeddings: np.ndarray | None, n: int) -> np.ndarray | None:
    """float [n, d], one row an image; None where there are none, or of other images."""
    if embeddings is None or not len(embeddings) or len(embeddings) != n:
        return None
    rows = np.asarray(embeddings)
    return rows.mean(axis=1) if rows.ndim == 3 else rows


def _maps(rows: np.ndarray, position: np.ndarray, classes: np.ndarray, fraction: float) -> Markup | None:
    """The first and the last of the ranking on a map of the embeddings."""
    finite = np.flatnonzero(np.isfinite(rows).all(axis=1))
    points, shares = measures.principal_components(rows if len(finite) == len(rows) else rows[finite])
    if not len(points):
        return None
    drawn = np.arange(len(finite))
    if len(finite) > _DRAWN:
        drawn = np.sort(np.random.default_rng(0).choice(len(finite), _DRAWN, replace=False))
    kept = finite[drawn]
    first = measures.subset(position, classes, fraction)
    last = ~measures.subset(position, classes, 1 - fraction) & (position >= 0)
    part = numbers.fraction(fraction)
    pictures = [
        plots.cloud(points[drawn], first[kept], shares, "s1", f"the first {part} of the ranking")
        if first[kept].any()
        else Markup(),
        plots.cloud(points[drawn], last[kept], shares, "s2", f"the last {part}")
        if (position >= 0).all() and last[kept].any()
        else Markup(),
    ]
    text = (
        "Each dot is an image: its embedding on the two directions in which the embeddings vary most (PCA). What lies "
        "together here may lie apart in the other directions."
    )
    if len(finite) > _DRAWN:
        text += f" Drawn are {numbers.count(_DRAWN)} images at random of {numbers.count(len(finite))}."
    both = figures(pictures)
    return element("div", element("h3", "Map of the embeddings"), note(text), both) if both else None


def _turning(objective: str, turning: float | None, points: np.ndarray) -> str:
    if turning is None and not len(points):
        return f"There is no turning point: no gain of {objective} is negative in what was ranked."
    text = "Beyond the turning point a further pick lowers the objective; a larger budget is filled all the same."
    if len(points):
        text += (
            f" Gains first become negative after {numbers.percent(float(np.median(points)), 0)} of a class (median of "
            f"{numbers.plural(len(points), 'class', 'classes')}; from {numbers.percent(points.min(), 0)} to "
            f"{numbers.percent(points.max(), 0)})."
        )
    return text


def latent_classes(
    results: Mapping[str, Any], ranking: Any, labels: np.ndarray | None, class_names: Sequence[str] | None
) -> Markup:
    latent = results.get("latent_classes") or {}
    notes, listed, shares = _origin(latent), None, None
    sizes = latent.get("sizes") or []
    if ranking is not None:
        classes = np.asarray(ranking.classes)
        names, sizes = np.unique(classes, return_counts=True)
        if labels is not None and len(labels) == len(classes):
            labels = np.asarray(labels)
            majorities = measures.majorities(classes, labels)
            if (pure := measures.purity(classes, labels)) is not None:
                some = "" if (labels >= 0).all() else "labelled "
                notes.append(
                    f"{numbers.percent(pure)} of the {some}images carry the most frequent label of their latent class."
                )
                shares = np.array([majorities.get(int(name), (0, np.nan))[1] for name in names])
                listed = _listed(names, sizes, majorities, class_names)
    agreement = latent.get("agreement") or {}
    if agreement:
        facts = [f"{key.replace('_', ' ')} {numbers.decimal(value)}" for key, value in agreement.items()
                 if isinstance(value, int | float)]  # fmt: skip
        notes.append(f"Agreement with the labels: {', '.join(facts)}.")
    choice = latent.get("chosen") or {}
    drawn = [
        plots.sizes(sizes, shares),
        plots.silhouettes(
            choice.get("tried") or (),
            choice.get("silhouettes") or (),
            latent.get("num_classes") if choice.get("decided") else None,
        ),
    ]
    return section("Latent classes", *map(note, notes), figures(drawn), listed)


def _origin(latent: Mapping[str, Any]) -> list[str]:
    """How the partition was made, as far as that is more than its method's name."""
    notes = []
    if few := latent.get("few_labels"):
        text = f"They were spread from {numbers.plural(few.get('num_labelled') or 0, 'labelled image')}"
        if numbers.known(few.get("accuracy")):
            text += f", right for {numbers.percent(few['accuracy'])} of those held out in cross-validation"
        if numbers.known(few.get("l2")):
            text += f" (L2 {few['l2']:.0e})"
        notes.append(f"{text}.")
    if chosen := latent.get("chosen"):
        number = numbers.count(latent.get("num_classes"))
        notes.append(
            f"Their number, {number}, has the largest mean silhouette of those tried."
            if chosen.get("decided")
            else f"Their number, {number}, is the root of half the number of images: the silhouettes decided nothing."
        )
    return notes


def _listed(
    names: np.ndarray, sizes: np.ndarray, majorities: Mapping[int, tuple[int, float]], class_names: Sequence[str] | None
) -> Markup:
    """Each latent class with its size and its most frequent label, behind a click."""
    falling = np.argsort(-sizes, kind="stable")[:_LISTED]
    rows = []
    for at in falling:
        label, share = majorities.get(int(names[at]), (None, None))
        rows.append(
            (
                numbers.count(names[at]),
                numbers.count(sizes[at]),
                numbers.NOTHING if label is None else label_name(label, class_names),
                numbers.percent(share, 0),
            )
        )
    summary = "Each latent class"
    if len(names) > _LISTED:
        summary = f"The {_LISTED} largest of {numbers.count(len(names))} latent classes"
    head = ("latent class", "images", "most frequent label", "its share")
    return element("details", element("summary", summary), table(head, rows))
