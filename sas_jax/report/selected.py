"""How the subset came about: similarities, gains, the first and last picks, the latent classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sas_jax.images import Images
from sas_jax.report import measures, numbers, plots
from sas_jax.report.arms import FULL, Group
from sas_jax.report.markup import Markup, element
from sas_jax.report.parts import figures, note, section
from sas_jax.report.pictures import thumbnail


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
    drawn = [
        plots.gain_curve(measures.gain_curve(position, gain, classes), budgets, turning, len(np.unique(classes))),
        plots.cumulative(*measures.cumulative_gain(position, gain, classes), budgets, turning, objective),
        plots.gains(gain[ranked]),
    ]
    notes = []
    if embeddings is not None and len(embeddings):
        rows = np.asarray(embeddings)
        rows = rows.mean(axis=1) if rows.ndim == 3 else rows
        kind = chosen.get("similarity", "cosine")
        other = "" if kind == "cosine" else f" The ranking itself used the kind {kind}."
        values = measures.similarities(rows, classes)
        drawn.append(plots.similarity(values, other))
        if not len(values):
            notes.append("No similarity is shown: no latent class has two images with finite embeddings.")
    else:
        notes.append("The embeddings are not at hand, so no similarity is shown.")
    if not ranked.all():
        notes.append(
            f"Ranked: {numbers.count(ranked.sum())} of {numbers.plural(len(position), 'image')}; the others lie beyond "
            "the budget."
        )
    if not np.isfinite(gain[ranked]).any():
        notes.append("The ranking has no gains, so their curve is not shown.")
    else:
        notes.append(_turning(objective, turning, measures.turning_points(position, gain, classes)))
    return section("Selection", *map(note, notes), figures(drawn))


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


def picks(ranking: Any, images: Images | None, labels: np.ndarray | None, class_names: Sequence[str] | None) -> Markup:
    title = "First and last picks"
    if ranking is None:
        return Markup()
    if images is None or not len(images):
        return section(title, note("The images are not at hand, so no picks are shown."))
    position, classes = np.asarray(ranking.position), np.asarray(ranking.classes)
    shown = measures.shown_classes(position, classes)
    if not shown:
        return section(title, note("No latent class has two ranked images."))
    blocks = []
    for label in shown:
        members = classes == label
        size = int(members.sum())
        about = numbers.plural(size, "image")
        if labels is not None:
            name, share = measures.majority(np.asarray(labels)[members])
            about += f", {numbers.percent(share, 0)} labelled {_name(name, class_names)}"
        rows = []
        for end, indices in zip(("first", "last"), measures.ends(position, classes, label), strict=True):
            pictures = []
            for index in indices:
                says = f"image {index}, pick {position[index] + 1} of {size} in latent class {label}"
                if labels is not None:
                    says += f", labelled {_name(int(labels[index]), class_names)}"
                pictures.append(thumbnail(images[index], says))
            rows.append(element("div", element("span", end, class_="soft"), element("div", *pictures), class_="row"))
        heading = element("h3", f"Latent class {label} ", element("span", about))
        blocks.append(element("div", heading, *rows, class_="picks"))
    total = len(np.unique(classes))
    text = "The images that the ranking took first and last in each class"
    text += "." if len(shown) == total else f", for {len(shown)} of {total} classes, from the largest to the smallest."
    if (position < 0).any():
        text += " Last means last of those ranked: the images beyond the budget are not shown."
    return section(title, note(text), *blocks)


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return str(class_names[label]) if class_names is not None and 0 <= label < len(class_names) else str(label)


def latent_classes(results: Mapping[str, Any], ranking: Any, labels: np.ndarray | None) -> Markup:
    latent = results.get("latent_classes") or {}
    sizes = latent.get("sizes") or (np.unique(ranking.classes, return_counts=True)[1] if ranking is not None else [])
    notes = []
    if ranking is not None and labels is not None and len(labels) == len(ranking.classes):
        pure = measures.purity(np.asarray(ranking.classes), np.asarray(labels))
        notes.append(f"{numbers.percent(pure)} of the images carry the most frequent label of their latent class.")
    agreement = latent.get("agreement") or {}
    if agreement:
        facts = [f"{key.replace('_', ' ')} {numbers.decimal(value)}" for key, value in agreement.items()
                 if isinstance(value, int | float)]  # fmt: skip
        notes.append(f"Agreement with the labels: {', '.join(facts)}.")
    return section("Latent classes", *map(note, notes), plots.sizes(sizes))
