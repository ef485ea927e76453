"""What the paper's theory is about, measured: alignment, class centres, and the nearest-centre classifier.

A contrastive encoder classifies well where the views of an example lie together (alignment) and the centres of
different classes lie apart (divergence), says Theorem 1 of Huang et al.; and what is trained on a subset does almost as
well where the subset keeps both, says Joshi & Mirzasoleiman: where its alignment is that of the whole and its class
centres are near those of the whole. Everything here is computed on unit vectors, in blocks, in one pass over the
views and one over what is classified.

Source:
    Huang, Yi, Zhao and Jiang, "Towards the generalization of contrastive self-supervised learning" (arXiv 2111.00743;
    ICLR 2023), whose equation numbers these are; Joshi & Mirzasoleiman, "Data-efficient contrastive self-supervised
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
    """Where the classes of some examples lie.

    Attributes:
        alignment: mean squared distance of two different views of an example, in [0, 4]; 0 is perfect. Of all of these
            examples, labelled or not.
        vectors: float64 [c, d], the mean over a class's examples of the mean over their views; nan where it has none.
        sizes: int64 [c], the examples of each class.
        n: the examples, labelled or not.
    """

    alignment: float
    vectors: np.ndarray
    sizes: np.ndarray
    n: int


@settings.fixed
def centres(views: blocks.Rows, labels: np.ndarray, *, num_classes: int, where: np.ndarray | None = None) -> Centres:
    """Measures alignment and class centres.

    Args:
        views: [n, m, d] features of m >= 2 views of each example, of any scale, each of which is made a unit vector;
            anything that gives rows by slice.
        labels: int [n], below num_classes; -1 is no label.
        num_classes: c.
        where: bool [n], the examples meant; all by default.

    Raises:
        InputError: the arrays do not fit together, there is nothing to measure, or features are not finite.

    Source:
        Huang et al., equation (4) (alignment) and section 2 (class centres).
    """
    return _both(views, labels, num_classes, [np.ones(len(labels), bool) if where is None else where])[0]


def products(vectors: np.ndarray) -> np.ndarray:
    """Returns the inner products [c, c] of class centres [c, d]; off the diagonal small ones are good.

    Source:
        Huang et al., Theorem 1, equation (2): the classes are told apart where all are below a bound.
    """
    return vectors @ vectors.T


def largest_product(vectors: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Returns the largest inner product of two different classes' centres, and the two classes.

    Args:
        vectors: [c, d]; rows of nan, classes without examples, are left out.

    Returns:
        nan and (-1, -1) where there are not two centres.
    """
    found = products(vectors)
    found[np.tril_indices(len(found))] = np.nan
    if np.isnan(found).all():
        return math.nan, (-1, -1)
    first, second = np.unravel_index(np.nanargmax(found), found.shape)
    return float(found[first, second]), (int(first), int(second))


def distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the distance of each class's centre in a subset [c, d] from that in the whole [c, d], float64 [c].

    nan where the class has no example in one of them.

    Source:
        Joshi & Mirzasoleiman 2023: the theorem on subsets bounds the error by it.
    """
    return np.linalg.norm(some - others, axis=1)


@settings.fixed
def nearest_centre(vectors: np.ndarray, features: blocks.Rows, labels: np.ndarray) -> Accuracy:
    """Classifies by the nearest class centre; the error rate is 1 less the accuracy.

    Args:
        vectors: [c, d] class centres; those of nan are never the nearest, so their class's examples count as wrong.
        features: [t, d], of any scale, each of which is made a unit vector; anything that gives rows by slice.
        labels: int [t], in [0, c); examples of -1, no label, are left out.

    Raises:
        InputError: the arrays do not fit together, no example has a label, or features are not finite.

    Source:
        Huang et al., section 2 (the NN classifier and its error); Joshi & Mirzasoleiman 2023.
    """
    return _classified([vectors], features, labels)[0]


@dataclasses.dataclass(frozen=True)
class Part:
    """The geometry of the whole, or of the subset, in plain numbers.

    Attributes:
        n: examples, labelled or not.
        classes: how many classes have one.
        alignment: see `Centres`.
        largest_product: of two different classes' centres; None where there are not two.
        closest_classes: these two.
        mean_product: over pairs of different classes; None as above.
        nearest_centre: the nearest-centre classifier with these centres on test features; its error is 1 less the
            value. None where none were given.
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
        whole: of all examples.
        subset: of the subset's; None where it was not asked for.
        distances: of each class's centre in the subset from that in the whole; None where the subset has no example of
            the class. Empty where no subset was asked for.
    """

    whole: Part
    subset: Part | None
    distances: tuple[float | None, ...]

    @property
    def largest_distance(self) -> float | None:
        """The largest of the distances; None where there is none."""
        return max((distance for distance in self.distances if distance is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields by name, with nothing in them that json does not take."""
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
    """Measures an encoder's geometry on a whole data set and on a subset of it, each block of features read once.

    Args:
        views: [n, m, d] features of m >= 2 views of each example; anything that gives rows by slice.
        labels: int [n], below num_classes; -1 is no label.
        num_classes: c.
        subset: int [k], the indices of the subset; None for the whole alone.
        test: features [t, d] and labels int [t] for the nearest-centre classifier.

    Returns:
        The geometry of the whole, and of the subset where one is given.

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
    """The centres of several parts of the examples, each bool [n], in one pass."""
    labels = np.asarray(labels)
    if len(views.shape) != 3 or views.shape[1] < 2 or labels.shape != tuple(views.shape[:1]):
        raise InputError(
            "`views` must be features [n, views, d] of two views or more, with a label for each of the n, got "
            f"{list(views.shape)} and {list(labels.shape)}. Embed with two views and keep both."
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
        # Padding is of no part, and what has no label of no class.
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
        # The mean over pairs of different views is 2 / (m - 1) times the squared distances from their mean.
        found.append(Centres(float(square) * 2 / (m - 1) / int(part.sum()), vectors, sizes, int(part.sum())))
    return found


def _classified(several: list[np.ndarray], features: blocks.Rows, labels: np.ndarray) -> list[Accuracy]:
    """The accuracies of several sets of centres [c, d], in one pass."""
    labels = np.asarray(labels)
    shape = several[0].shape
    if len(features.shape) != 2 or features.shape[1:] != shape[1:] or labels.shape != tuple(features.shape[:1]):
        raise InputError(
            f"`test` must be features [t, {shape[1]}], as wide as the centres, and a label for each of the t, got "
            f"{list(features.shape)} and {list(labels.shape)}. Make all with one encoder."
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
        raise InputError("Features must be finite, got NaN or infinity. Did the encoder's training diverge?")


@partial(jax.jit, static_argnames=("num_classes",))
def _block_sums(block, labels, weights, *, num_classes):
    """For each row of weights [p, b]: the examples' mean unit views summed by class [p, c, d], and their spread [p].

    The spread of an example is the sum of its unit views' squared distances from their mean.
    """
    unit = blocks.unit(block)
    mean = jnp.mean(unit, axis=1)
    spread = jnp.sum((unit - mean[:, None]) ** 2, axis=(1, 2))
    member = labels == jnp.arange(num_classes)[:, None]
    # A product and not a scatter: a GPU adds what it scatters in another order each time.
    totals = [jnp.matmul(member * weight, mean, precision=lax.Precision.HIGHEST) for weight in weights]
    return jnp.stack(totals), jnp.sum(weights * spread, axis=1)


@jax.jit
def _nearest(vectors, block):
    """The nearest of the centres [c, d] to each row of a block; the lowest of equally near ones."""
    there = ~jnp.isnan(vectors[:, 0])
    vectors = jnp.where(there[:, None], vectors, 0.0)
    # Squared distance less the row's own square, which moves no minimum.
    away = jnp.sum(vectors**2, axis=1) - 2 * jnp.matmul(blocks.unit(block), vectors.T, precision=lax.Precision.HIGHEST)
    return jnp.argmin(jnp.where(there, away, jnp.inf), axis=1)
