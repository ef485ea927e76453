"""Statistics of a ranking, embeddings and labels for the report, in NumPy on the host."""

import dataclasses
from typing import Any

import numpy as np

_BLOCK = 10_000  # pairs at a time: 10 MB at 128 dimensions


@dataclasses.dataclass(frozen=True)
class Curve:
    """The marginal gain against the picked fraction of a class; nan where some class was not ranked that far."""

    fraction: np.ndarray  # [g], in [0, 1]
    mean: np.ndarray  # [g], over classes
    low: np.ndarray  # [g], 10th percentile over classes
    high: np.ndarray  # [g], 90th percentile


def similarities(embeddings: np.ndarray, classes: np.ndarray, *, pairs: int = 50_000, seed: int = 0) -> np.ndarray:
    """Returns the similarities max(0, z_i . z_j) of random pairs of different examples of one class.

    Args:
        embeddings: float [n, d]; rows longer than 1 are normalized to unit length.
        classes: int [n].
        pairs: The number of pairs drawn: an example uniformly, then another one of its class.
        seed: The seed of the draw.

    Returns:
        float64 [<= pairs], of the pairs with finite embeddings; empty if no class has two such examples.
    """
    rng = np.random.default_rng(seed)
    by_class = np.argsort(classes, kind="stable")
    starts, sizes = np.unique(classes[by_class], return_index=True, return_counts=True)[1:]
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    paired = np.flatnonzero(size > 1)
    if not len(paired):
        return np.zeros(0)
    at = rng.choice(paired, pairs)
    other = start[at] + (at - start[at] + rng.integers(1, size[at])) % size[at]
    found = []
    for begin in range(0, pairs, _BLOCK):
        one = _short(embeddings[by_class[at[begin : begin + _BLOCK]]])
        two = _short(embeddings[by_class[other[begin : begin + _BLOCK]]])
        found.append(np.einsum("ij,ij->i", one, two))
    values = np.concatenate(found)
    return np.clip(values[np.isfinite(values)], 0.0, 1.0)


def _short(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, 1.0)


def gain_curve(position: np.ndarray, gain: np.ndarray, classes: np.ndarray, *, points: int = 201) -> Curve:
    """Returns the gain of the next pick against the fraction of its class already picked, over classes.

    Args:
        position: int [n], -1 for examples that are not ranked.
        gain: float [n], nan if unknown.
        classes: int [n].
        points: The number of points of the curve.

    Returns:
        The curve.
    """
    grid = np.linspace(0.0, 1.0, points)
    rows = []
    ranked = np.flatnonzero((position >= 0) & np.isfinite(gain))
    ranked = ranked[np.lexsort((position[ranked], classes[ranked]))]
    sizes = dict(zip(*np.unique(classes, return_counts=True), strict=True))
    for members in np.split(ranked, np.flatnonzero(np.diff(classes[ranked])) + 1):
        if len(members):
            size = sizes[classes[members[0]]]
            row = np.interp(grid, (position[members] + 0.5) / size, gain[members])
            row[grid > (position[members[-1]] + 1) / size] = np.nan
            rows.append(row)
    if not rows:
        nothing = np.full(points, np.nan)
        return Curve(grid, nothing, nothing, nothing)
    stacked = np.stack(rows)
    # nan where any class has none, since a mean over fewer and fewer classes would bend where one ends
    low, high = np.percentile(stacked, (10, 90), axis=0)
    return Curve(grid, stacked.mean(axis=0), low, high)


def turning_points(position: np.ndarray, gain: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns float [<= c]: for each class whose gains become negative, the fraction picked before they do."""
    negative = np.flatnonzero((position >= 0) & (gain < 0))
    first: dict[int, int] = {}
    for index in negative:
        label = int(classes[index])
        first[label] = min(first.get(label, int(position[index])), int(position[index]))
    sizes = dict(zip(*np.unique(classes, return_counts=True), strict=True))
    return np.array([first[label] / sizes[label] for label in sorted(first)], np.float64)


def shown_classes(position: np.ndarray, classes: np.ndarray, *, number: int = 6) -> list[int]:
    """Returns up to `number` classes with at least two ranked examples, evenly spread from largest to smallest."""
    labels, sizes = np.unique(classes[position >= 0], return_counts=True)
    labels, sizes = labels[sizes > 1], sizes[sizes > 1]
    by_size = labels[np.argsort(-sizes, kind="stable")]
    chosen = np.unique(np.linspace(0, len(by_size) - 1, min(number, len(by_size))).round().astype(int))
    return [int(by_size[index]) for index in chosen]


def ends(position: np.ndarray, classes: np.ndarray, label: int, *, number: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Returns a class's first and last picks, in the order picked and without overlap.

    Args:
        position: int [n], -1 for examples that are not ranked.
        classes: int [n].
        label: The class.
        number: The number of picks at each end.

    Returns:
        Two int arrays of dataset indices.
    """
    members = np.flatnonzero((classes == label) & (position >= 0))
    members = members[np.argsort(position[members], kind="stable")]
    number = min(number, len(members) // 2)
    return members[:number], members[len(members) - number :]


def majority(labels: np.ndarray) -> tuple[int, float]:
    """Returns the most frequent label (the lowest one in a tie) and its share."""
    found, counts = np.unique(labels, return_counts=True)
    return int(found[counts.argmax()]), float(counts.max() / counts.sum())


def majorities(classes: np.ndarray, labels: np.ndarray) -> dict[int, tuple[int, float]]:
    """Returns the most frequent label and its share by latent class; unlabelled examples (-1) are left out.

    Args:
        classes: int [n].
        labels: int [n].
    """
    known = np.flatnonzero(labels >= 0)
    by_class = known[np.argsort(classes[known], kind="stable")]
    starts = np.flatnonzero(np.diff(classes[by_class])) + 1
    return {int(classes[part[0]]): majority(labels[part]) for part in np.split(by_class, starts) if len(part)}


def purity(classes: np.ndarray, labels: np.ndarray) -> float | None:
    """Returns the share of labelled examples with the most frequent label of their latent class; None without labels.

    Args:
        classes: int [n].
        labels: int [n], -1 for examples without a label.
    """
    found = majorities(classes, labels)
    counts = {int(c): int(n) for c, n in zip(*np.unique(classes[labels >= 0], return_counts=True), strict=True)}
    total = sum(counts.values())
    return sum(share * counts[label] for label, (_, share) in found.items()) / total if total else None


def losses(records: list[dict[str, Any]], unit: str, *, points: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Returns a stage's loss curve, thinned by averaging neighbours.

    Args:
        records: The records of one stage, in order; losses that are not finite are left out.
        unit: The field to use as abscissa, "epoch" or "step".
        points: The maximum number of points.

    Returns:
        The abscissa and the losses, float64 [<= points] each.
    """
    finite = [r for r in records if r.get("loss") is not None and np.isfinite(r["loss"])]
    table = np.array([(r[unit], r["loss"]) for r in finite], np.float64).reshape(-1, 2)
    parts = np.array_split(table, min(points, len(table))) if len(table) else []
    thinned = np.array([part.mean(axis=0) for part in parts]).reshape(-1, 2)
    return thinned[:, 0], thinned[:, 1]
