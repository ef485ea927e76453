"""Measures the quantities of the paper's theory: alignment, class centres and the nearest-centre classifier.

By Theorem 1 of Huang et al., a contrastive encoder classifies well if the views of an example are close together
(alignment) and the centres of different classes are far apart (divergence). By Joshi & Mirzasoleiman, an encoder
trained on a subset does almost as well if the subset preserves both, that is, if its alignment equals that of the whole
data set and its class centres are near those of the whole. Everything is computed on unit vectors, in blocks, in one
pass over the views and one over the test features.

Source:
    Huang, Yi, Zhao and Jiang, "Towards the generalization of contrastive self-supervised learning" (arXiv 2111.00743;
    ICLR 2023), source of the equation numbers; Joshi & Mirzasoleiman, "Data-efficient contrastive self-supervised
    learning" (arXiv 2302.09195; ICML 2023), sections 3 and 4.
"""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sas_jax import settings
from sas_jax.errors import InputError
from sas_jax.evaluation import blocks
from sas_jax.evaluation.accuracy import Accuracy, accuracy


@dataclasses.dataclass(frozen=True)
class Centres:
    """The alignment and the class centres of a set of examples.

    Attributes:
        alignment: mean squared distance between two different views of an example, in [0, 4]; 0 is perfect. Over all
            examples of the set, labelled or not.
        vectors: float64 [c, d], the mean over a class's examples of the mean over their views; nan for an empty class.
        sizes: int64 [c], the number of examples of each class.
        n: number of examples, labelled or not.
    """

    alignment: float
    vectors: np.ndarray
    sizes: np.ndarray
    n: int


@settings.fixed
def centres(views: blocks.Rows, labels: np.ndarray, *, num_classes: int, where: np.ndarray | None = None) -> Centres:
    """Measures alignment and class centres.

    Args:
        views: [n, m, d] features of m >= 2 views of each example, of any scale, normalized here; anything that can be
            sliced by row.
        labels: int [n], below num_classes; -1 means unlabelled.
        num_classes: c.
        where: bool [n], the examples to measure; all by default.

    Raises:
        InputError: the arrays do not fit together, there is nothing to measure, or features are not finite.

    Source:
        Huang et al., equation (4) (alignment) and section 2 (class centres).
    """
    return _both(views, labels, num_classes, [np.ones(len(labels), bool) if where is None else where])[0]


def products(vectors: np.ndarray) -> np.ndarray:
    """Returns the inner products [c, c] of class centres [c, d]; small off-diagonal entries are good.

    Source:
        Huang et al., Theorem 1, equation (2): the classes can be separated if all are below a bound.
    """
    return vectors @ vectors.T


def largest_product(vectors: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Returns the largest inner product of two different classes' centres, and the two classes.

    Args:
        vectors: [c, d]; nan rows, of classes without examples, are left out.

    Returns:
        The product and the classes; nan and (-1, -1) if there are fewer than two centres.
    """
    found = products(vectors)
    found[np.tril_indices(len(found))] = np.nan
    if np.isnan(found).all():
        return math.nan, (-1, -1)
    first, second = np.unravel_index(np.nanargmax(found), found.shape)
    return float(found[first, second]), (int(first), int(second))


def distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the distance of each class's centre in a subset [c, d] from that in the whole [c, d], float64 [c].

    nan if the class has no example in one of them.

    Source:
        Joshi & Mirzasoleiman 2023, whose theorem on subsets bounds the error by this distance.
    """
    return np.linalg.norm(some - others, axis=1)


@settings.fixed
def nearest_centre(vectors: np.ndarray, features: blocks.Rows, labels: np.ndarray) -> Accuracy:
    """Returns the accuracy of the nearest-centre classifier; its error rate is 1 - accuracy.

    Args:
        vectors: [c, d] class centres; nan centres are never the nearest, so examples of their classes count as wrong.
        features: [t, d], of any scale, normalized here; anything that can be sliced by row.
        labels: int [t], in [0, c); examples labelled -1 (unlabelled) are left out.

    Raises:
        InputError: the arrays do not fit together, no example has a label, or features are not finite.

    Source:
        Huang et al., section 2 (the NN classifier and its error); Joshi & Mirzasoleiman 2023.
    """
    return _classified([vectors], features, labels)[0]


@dataclasses.dataclass(frozen=True)
class Part:
    """The geometry of the whole data set, or of the subset, in plain numbers.

    Attributes:
        n: number of examples, labelled or not.
        classes: number of classes with at least one example.
        alignment: see `Centres`.
        largest_product: the largest inner product of two different classes' centres; None if there are fewer than two.
        closest_classes: these two classes; None as above.
        mean_product: the mean over pairs of different classes; None as above.
        nearest_centre: the accuracy of the nearest-centre classifier with these centres on the test features; its error
            is 1 - value. None if no test features were given.
    """

    n: int
    classes: int
    alignment: float
    largest_product: float | None
    closest_classes: tuple[int, int] | None
    mean_product: float | None
    nearest_centre: Accuracy | None


@dataclasses.dataclass(frozen=True)
class Geometry:
    """An encoder's geometry on the whole data set and on the subset it was trained on.

    Attributes:
        whole: the geometry of all examples.
        subset: the geometry of the subset's examples; None if no subset was given.
        distances: the distance of each class's centre in the subset from that in the whole; None if the subset has no
            example of the class. Empty if no subset was given.
    """

    whole: Part
    subset: Part | None
    distances: tuple[float | None, ...]

    @property
    def largest_distance(self) -> float | None:
        """The largest of the distances; None if there are none."""
        return max((distance for distance in self.distances if distance is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields by name, as values that json can write."""
        return dataclasses.asdict(self) | {"largest_distance": self.largest_distance}


@settings.fixed
def geometry(
    views: blocks.Rows,
    labels: np.ndarray,
    *,
    num_classes: int,
    subset: np.ndarray | None = None,
    test: tuple[blocks.Rows, np.ndarray] | None = None,
) -> Geometry:
    """Measures an encoder's geometry on a whole data set and on a subset of it, reading each block of features once.

    Args:
        views: [n, m, d] features of m >= 2 views of each example; anything that can be sliced by row.
        labels: int [n], below num_classes; -1 means unlabelled.
        num_classes: c.
        subset: int [k], the indices of the subset; None to measure only the whole.
        test: features [t, d] and labels int [t] for the nearest-centre classifier.

    Returns:
        The geometry of the whole, and of the subset if one is given.

    Raises:
        InputError: the arrays do not fit together, there is nothing to measure, or features are not finite.
    """
    parts = [np.ones(len(labels), bool)]
    if subset is not None:
        parts.append(np.zeros(len(labels), bool))
        parts[1][subset] = True
    measured = _both(views, labels, num_classes, parts)
    tested = [None] * len(parts) if test is None else _classified([part.vectors for part in measured], *test)
    whole, *others = (_part(*each) for each in zip(measured, tested, strict=True))
    if not others:
        return Geometry(whole, None, ())
    away = distances(measured[1].vectors, measured[0].vectors)
    return Geometry(whole, others[0], tuple(None if math.isnan(each) else float(each) for each in away))


def _part(found: Centres, test: Accuracy | None) -> Part:
    there = int(np.count_nonzero(found.sizes))
    if there < 2:
        return Part(found.n, there, found.alignment, None, None, None, test)
    largest, pair = largest_product(found.vectors)
    off_diagonal = products(found.vectors[found.sizes > 0])[np.triu_indices(there, 1)]
    return Part(found.n, there, found.alignment, largest, pair, float(off_diagonal.mean()), test)


def _both(views: blocks.Rows, labels: np.ndarray, num_classes: int, parts: list[np.ndarray]) -> list[Centres]:
    """Measures several parts of the examples, each a mask bool [n], in one pass."""
    labels = np.asarray(labels)
    if len(views.shape) != 3 or views.shape[1] < 2 or labels.shape != tuple(views.shape[:1]):
        raise InputError(
            "`views` must be features [n, views, d] of two or more views, with `labels` [n], got "
            f"{list(views.shape)} and {list(labels.shape)}. Embed two views of each example and keep both."
        )
    _check_labels(labels, num_classes)
    if not all(part.any() for part in parts):
        raise InputError("Geometry must be measured on at least one example, got none. Check the subset.")
    n, m, d = views.shape
    rows = min(n, blocks.rows_a_block(m * d + num_classes))
    sums, squares = np.zeros((len(parts), num_classes, d)), np.zeros(len(parts))
    for these, block in blocks.in_blocks(views, rows):
        _check_finite(block)
        meant = np.stack([part[these] for part in parts])
        # Padding belongs to no part, and unlabelled examples to no class.
        weights = blocks.padded(meant.T.astype(np.float32), rows).T
        numbers = blocks.padded(labels[these].astype(np.int32), rows)
        found_here = _block_sums(blocks.padded(block, rows), numbers, weights, num_classes=num_classes)
        sums, squares = (
            total + np.asarray(here, np.float64) for total, here in zip((sums, squares), found_here, strict=True)
        )
    found = []
    for part, total, square in zip(parts, sums, squares, strict=True):
        sizes = np.bincount(labels[part & (labels >= 0)], minlength=num_classes)
        with np.errstate(invalid="ignore"):
            vectors = total / sizes[:, None]
        # The mean over pairs of different views is 2 / (m - 1) times the sum of squared distances from their mean.
        found.append(Centres(float(square) * 2 / (m - 1) / int(part.sum()), vectors, sizes, int(part.sum())))
    return found


def _classified(several: list[np.ndarray], features: blocks.Rows, labels: np.ndarray) -> list[Accuracy]:
    """Returns the accuracies of several sets of centres [c, d], in one pass."""
    labels = np.asarray(labels)
    shape = several[0].shape
    if len(features.shape) != 2 or features.shape[1:] != shape[1:] or labels.shape != tuple(features.shape[:1]):
        raise InputError(
            f"`test` must be features [t, {shape[1]}], of the same width as the centres, and labels [t], got "
            f"{list(features.shape)} and {list(labels.shape)}. Compute both with the same encoder."
        )
    _check_labels(labels, shape[0])
    rows = min(len(labels), blocks.rows_a_block(sum(shape)))
    right = np.zeros((len(several), len(labels)), bool)
    for these, block in blocks.in_blocks(features, rows):
        _check_finite(block)
        for number, vectors in enumerate(several):
            nearest = _nearest(jnp.asarray(vectors, jnp.float32), blocks.padded(block, rows))
            right[number, these] = np.asarray(nearest)[: len(block)] == labels[these]
    return [accuracy(each[labels >= 0]) for each in right]


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    if not np.issubdtype(labels.dtype, np.integer) or (len(labels) and labels.max() >= num_classes):
        found = labels.max() if len(labels) else "none"
        raise InputError(
            f"`labels` must be integers below {num_classes}, got {labels.dtype} up to {found}. Set num_classes to the "
            "highest label plus one."
        )


def _check_finite(block: np.ndarray) -> None:
    if not np.isfinite(block).all():
        raise InputError("Features must be finite, got NaN or infinity. Check whether the encoder's training diverged.")


@partial(jax.jit, static_argnames=("num_classes",))
def _block_sums(block, labels, weights, *, num_classes):
    """Returns mean unit views summed by class [p, c, d], and summed spreads [p], for each row of weights [p, b].

    The spread of an example is the sum of its unit views' squared distances from their mean.
    """
    unit = blocks.unit(block)
    mean = jnp.mean(unit, axis=1)
    spread = jnp.sum((unit - mean[:, None]) ** 2, axis=(1, 2))
    member = labels == jnp.arange(num_classes)[:, None]
    # A product instead of a scatter, which a GPU adds up in a different order each time.
    totals = [jnp.matmul(member * weight, mean, precision=lax.Precision.HIGHEST) for weight in weights]
    return jnp.stack(totals), jnp.sum(weights * spread, axis=1)


@jax.jit
def _nearest(vectors, block):
    """Returns the nearest of the centres [c, d] to each row of a block; ties go to the lowest."""
    there = ~jnp.isnan(vectors[:, 0])
    vectors = jnp.where(there[:, None], vectors, 0.0)
    # The squared distance minus the row's squared norm, which does not change the argmin.
    away = jnp.sum(vectors**2, axis=1) - 2 * jnp.matmul(blocks.unit(block), vectors.T, precision=lax.Precision.HIGHEST)
    return jnp.argmin(jnp.where(there, away, jnp.inf), axis=1)
