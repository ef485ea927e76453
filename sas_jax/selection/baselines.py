"""Baseline selectors: random ones, and simple ones from other papers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import settings
from sas_jax.errors import InputError
from sas_jax.selection import checks, classwise, columns
from sas_jax.selection.ranking import Ranking, fingerprint

_ROWS = 1024  # rows per block of cosines


@settings.fixed
def random(key: jax.Array, n: int, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks n examples in a uniformly random order, as one class.

    Args:
        key: a typed PRNG key; the ranking is a function of it and n.
        n: the number of examples, 1 or more.
        ids: str [n], the examples' names.

    Returns:
        A Ranking whose gains are nan.

    Raises:
        InputError: n is not a whole number of 1 or more, or the ids are not n distinct strings.
    """
    found = checks.integer(n)
    if found is None or found < 1:
        raise InputError(
            f"`n` must be a whole number of 1 or more, got {checks.shown(n)}. Give the number of examples."
        )
    return _ranking("random", key, np.zeros(found, np.int32), None, ids)


@settings.fixed
def random_balanced(key: jax.Array, classes: np.ndarray, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks each latent class in a uniformly random order, so that every subset keeps the class proportions.

    Args:
        key: a typed PRNG key; the ranking is a function of it and the classes.
        classes: int [n], the latent classes, 0 or more, or str [n].
        ids: str [n], the examples' names.

    Returns:
        A Ranking whose gains are nan.

    Raises:
        InputError: the classes are empty, or neither integers of 0 or more nor text, or the ids are not n distinct
            strings.
    """
    classes = checks.array("Classes", classes)
    if not classes.size:
        raise InputError("`classes` must have at least one entry, got none. Give one for each example.")
    return _ranking("random_balanced", key, *checks.classes(classes, len(np.atleast_1d(classes))), ids)


@settings.fixed
def prototypes(
    embeddings: np.ndarray, classes: np.ndarray | None = None, *, hard: bool = False, ids: np.ndarray | None = None
) -> Ranking:
    """Ranks the examples of each latent class by their cosine to its prototype, the mean of its unit embeddings.

    Args:
        embeddings: float [n, d]; the rows are divided by their norms.
        classes: int [n], the latent classes, 0 or more, or str [n]. None: all are one class.
        hard: rank the examples furthest from their prototype first, instead of the nearest ("easy").
        ids: str [n], the examples' names.

    Returns:
        A Ranking; its gains are the cosines, or 1 - cosine for `hard`. Ties go to the lowest index.

    Raises:
        InputError: an argument is invalid; the message says which one and how to fix it.

    Source: Sorscher et al., Beyond neural scaling laws: beating power law scaling via data pruning (NeurIPS 2022),
      section 5: their self-supervised metric, with our latent classes in place of k-means on the embeddings.
    """

    def order(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cosines = _to_prototype(units)
        values = 1 - cosines if hard else cosines
        picks = np.argsort(-values, kind="stable")
        return picks, values[picks]

    return _by_class("prototypes_hard" if hard else "prototypes_easy", order, embeddings, classes, ids)


@settings.fixed
def k_center(embeddings: np.ndarray, classes: np.ndarray | None = None, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks each latent class farthest first: each pick is the example furthest from its nearest earlier pick.

    This is the greedy 2-approximation of the k-center problem: the smallest radius at which k picks cover their class.
    The first pick is the example nearest to the class mean.

    Args:
        embeddings: float [n, d]; the rows are divided by their norms.
        classes: int [n], the latent classes, 0 or more, or str [n]. None: all are one class.
        ids: str [n], the examples' names.

    Returns:
        A Ranking; its gains are the Euclidean distances to the nearest earlier pick, which never increase; the first
        pick's is 2, the diameter of the sphere. Ties go to the lowest index.

    Raises:
        InputError: an argument is invalid; the message says which one and how to fix it.

    Source: Gonzalez, Clustering to minimize the maximum intercluster distance (1985); as active learning's core-set,
      Sener & Savarese, Active learning for convolutional neural networks: a core-set approach (ICLR 2018), algorithm 1.
    """

    def order(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = len(units)
        size = classwise.padded(k)
        first = int(np.argmax(_to_prototype(units)))
        picks, gains = _farthest_first(np.pad(units, ((0, size - k), (0, 0))), np.arange(size) < k, first)
        return np.asarray(picks)[:k], np.asarray(gains)[:k]

    return _by_class("k_center", order, embeddings, classes, ids)


@settings.fixed
def semdedup(embeddings: np.ndarray, classes: np.ndarray | None = None, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks each latent class by redundancy, the least redundant examples first.

    Within a class, examples are ordered by their cosine to the prototype, the least typical first. SemDeDup keeps the
    first of a group of near duplicates in this order. The redundancy of an example is its largest cosine to the
    examples before it. A fraction therefore replaces SemDeDup's threshold, class by class.

    Args:
        embeddings: float [n, d]; the rows are divided by their norms.
        classes: int [n], the latent classes, 0 or more, or str [n]. None: all are one class.
        ids: str [n], the examples' names.

    Returns:
        A Ranking; its gains are 1 minus that largest cosine, and 2 for each class's first example. Ties go to the
        lowest index.

    Raises:
        InputError: an argument is invalid; the message says which one and how to fix it.

    Source: Abbas et al., SemDeDup: data-efficient learning at web-scale through semantic deduplication (2023, arXiv
      2303.09540), which finds its classes by k-means.
    """

    def order(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        typical_last = np.argsort(_to_prototype(units), kind="stable")
        gains = np.full(len(units), 2.0, np.float32)
        for start in range(0, len(units), _ROWS):
            rows = typical_last[start : start + _ROWS]
            cosines = units[rows] @ units[typical_last[: start + len(rows)]].T
            before = np.arange(start + len(rows)) < np.arange(start, start + len(rows))[:, None]
            gains[rows] = 1 - np.max(cosines, axis=1, where=before, initial=-1.0)
        picks = np.argsort(-gains, kind="stable")
        return picks, gains[picks]

    return _by_class("semdedup", order, embeddings, classes, ids)


@jax.jit
def _farthest_first(units: jax.Array, available: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the farthest-first order of units float32 [n, d], unavailable ones last, and the distances."""
    n = len(units)

    def pick(
        step: jax.Array, state: tuple[jax.Array, jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        distances, left, picks, gains = state
        chosen = jnp.where(step == 0, first, jnp.argmax(jnp.where(left, distances, -1.0)))
        products = jnp.matmul(units, units[chosen], precision=jax.lax.Precision.HIGHEST)
        # The distance of unit vectors; rounding can make its square negative.
        reached = jnp.sqrt(jnp.maximum(2 - 2 * products, 0.0))
        return (
            jnp.minimum(distances, reached),
            left.at[chosen].set(False),
            picks.at[step].set(chosen),
            gains.at[step].set(distances[chosen]),
        )

    start = (jnp.full(n, 2.0), available, jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.float32))
    return jax.lax.fori_loop(0, n, pick, start)[2:]


def _to_prototype(units: np.ndarray) -> np.ndarray:
    """Returns the cosines float32 [k] of unit vectors float32 [k, d] to their mean; 0 if the mean is 0."""
    mean = units.mean(axis=0, dtype=np.float64)
    return (units @ (mean / max(float(np.linalg.norm(mean)), 1e-12))).astype(np.float32)


def _by_class(
    name: str,
    order: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    embeddings: np.ndarray,
    classes: np.ndarray | None,
    ids: np.ndarray | None,
) -> Ranking:
    """Ranks each class by `order`, which maps unit embeddings [k, d] to picks int [k] and gains [k]."""
    given = checks.array("Embeddings", embeddings)
    if given.ndim != 2:
        raise InputError(
            f"`embeddings` must be [n, d] for {name}, got {list(given.shape)}. Give one row for each example."
        )
    units = np.asarray(checks.embeddings(given, normalize=True))
    classes, names = checks.classes(classes, len(units))
    position = np.empty(len(units), np.int32)
    gain = np.empty(len(units), np.float32)
    for members in classwise.divide(classes)[1]:
        picks, gains = order(units[members])
        position[members[picks]] = np.arange(len(members))
        gain[members[picks]] = gains
    return Ranking(position, gain, classes, ids, _metadata(name, names) | {"fingerprint": fingerprint(given)})


def _ranking(
    name: str, key: jax.Array, classes: np.ndarray, class_names: list[str] | None, ids: np.ndarray | None
) -> Ranking:
    n = len(classes)
    # Each class keeps the order of one permutation of all examples.
    order = np.asarray(jax.random.permutation(key, n))
    order = order[np.argsort(classes[order], kind="stable")]
    sizes = np.unique(classes, return_counts=True)[1]
    position = np.empty(n, np.int32)
    position[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Ranking(position, np.full(n, np.nan, np.float32), classes, ids, _metadata(name, class_names))


def _metadata(name: str, class_names: list[str] | None) -> dict[str, Any]:
    return {"objective": name} | ({} if class_names is None else {columns.CLASS_NAMES: class_names})
