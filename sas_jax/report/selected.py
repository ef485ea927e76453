"""How the subset was selected: gains, similarities, and the latent classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sas_jax.report import measures, plots
from sas_jax.report.parts import figures, folded, label_name, note, section
from sas_jax.results import numbers
from sas_jax.results.arms import Group
from sas_jax.results.markup import Markup
from sas_jax.results.schema import LatentClasses, Results
from sas_jax.results.tables import Table

_LISTED = 300  # the maximum number of latent classes in their table


def selection(results: Results, groups: Sequence[Group], ranking: Any, embeddings: np.ndarray | None) -> Markup:
    chosen = results.selection
    if ranking is None:
        return section("Selection", note("The run ended before the ranking."))
    objective = chosen.objective or "the objective"
    position, gain, classes = (np.asarray(part) for part in (ranking.position, ranking.gain, ranking.classes))
    budgets = sorted({group.fraction for group in groups if group.fraction and group.fraction < 1})
    turning = chosen.turning_fraction if numbers.known(chosen.turning_fraction) else None
    ranked = position >= 0
    curve = measures.gain_curve(position, gain, classes)
    drawn = [plots.gain_curve(curve, budgets, turning, len(np.unique(classes)))]
    notes = []
    rows = _rows(embeddings, len(position))
    if rows is not None:
        kind = chosen.similarity or "cosine"
        other = "" if kind == "cosine" else f" The ranking used {kind} similarity."
        similar = measures.similarities(rows, classes)
        drawn.append(plots.similarity(similar, other))
        if not len(similar):
            notes.append("No similarity is shown: no latent class has two images with finite embeddings.")
    else:
        notes.append("No similarity is shown: the embeddings are not available.")
    if not ranked.all():
        notes.append(
            f"Ranked: {numbers.count(ranked.sum())} of {numbers.plural(len(position), 'image')}; the others are "
            "beyond the budget."
        )
    if not np.isfinite(gain[ranked]).any():
        notes.append("The ranking has no gains, so their curve is not shown.")
    else:
        notes.append(_turning(objective, turning, measures.turning_points(position, gain, classes)))
    return section("Selection", *map(note, notes), figures(drawn))


def _rows(embeddings: np.ndarray | None, n: int) -> np.ndarray | None:
    """Returns float [n, d], one row per image; None if there are no embeddings, or not one for each image."""
    if embeddings is None or not len(embeddings) or len(embeddings) != n:
        return None
    rows = np.asarray(embeddings)
    return rows.mean(axis=1) if rows.ndim == 3 else rows


def _turning(objective: str, turning: float | None, points: np.ndarray) -> str:
    if turning is None and not len(points):
        return f"There is no turning point: no gain of {objective} is negative among the ranked images."
    text = "Beyond the turning point, each further pick lowers the objective; larger budgets are filled nevertheless."
    if len(points):
        text += (
            f" Gains first become negative after {numbers.percent(float(np.median(points)), 0)} of a class (median of "
            f"{numbers.plural(len(points), 'class', 'classes')}; from {numbers.percent(points.min(), 0)} to "
            f"{numbers.percent(points.max(), 0)})."
        )
    return text


def latent_classes(
    results: Results, ranking: Any, labels: np.ndarray | None, class_names: Sequence[str] | None
) -> Markup:
    latent = results.latent_classes
    notes, listed, shares = _origin(latent), None, None
    sizes: Any = latent.sizes
    if ranking is not None:
        classes = np.asarray(ranking.classes)
        names, sizes = np.unique(classes, return_counts=True)
        if labels is not None and len(labels) == len(classes):
            labels = np.asarray(labels)
            majorities = measures.majorities(classes, labels)
            if (pure := measures.purity(classes, labels)) is not None:
                some = "" if (labels >= 0).all() else "labelled "
                notes.append(
                    f"{numbers.percent(pure)} of the {some}images have the most frequent label of their latent class."
                )
                shares = np.array([majorities.get(int(name), (0, np.nan))[1] for name in names])
                listed = _listed(names, sizes, majorities, class_names)
    if latent.agreement:
        facts = [f"{key.replace('_', ' ')} {numbers.decimal(value)}" for key, value in latent.agreement.items()
                 if isinstance(value, int | float)]  # fmt: skip
        notes.append(f"Agreement with the labels: {', '.join(facts)}.")
    drawn = [plots.sizes(sizes, shares)]
    if choice := latent.chosen:
        number = latent.num_classes if choice.decided else None
        drawn.append(plots.silhouettes(choice.tried, choice.silhouettes, number))
    return section("Latent classes", *map(note, notes), figures(drawn), listed)


def _origin(latent: LatentClasses) -> list[str]:
    """Returns how the partition was made, if there is more to say than its method's name."""
    notes = []
    if few := latent.few_labels:
        text = f"They were predicted from {numbers.plural(few.num_labelled or 0, 'labelled image')}"
        if numbers.known(few.accuracy):
            text += f", with an accuracy of {numbers.percent(few.accuracy)} in cross-validation"
        if few.l2 is not None and numbers.known(few.l2):
            text += f" (L2 {few.l2:.0e})"
        notes.append(f"{text}.")
    if chosen := latent.chosen:
        number = numbers.count(latent.num_classes)
        notes.append(
            f"Their number, {number}, has the largest mean silhouette of those tried."
            if chosen.decided
            else f"Their number, {number}, is the square root of half the number of images, because the silhouettes "
            "were inconclusive."
        )
    return notes


def _listed(
    names: np.ndarray, sizes: np.ndarray, majorities: Mapping[int, tuple[int, float]], class_names: Sequence[str] | None
) -> Markup:
    """Returns a folded table of the latent classes, with their sizes and most frequent labels."""
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
    return folded(summary, Table(head, rows).html())
