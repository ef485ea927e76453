"""Which examples' labels are used: a few of them, and a part to choose a penalty by."""

import jax
import numpy as np

from sas_jax import settings
from sas_jax.errors import InputError


@settings.fixed
def few(key: jax.Array, labels: np.ndarray, *, fraction: float) -> np.ndarray:
    """Draws the examples whose labels are used: a fraction of all, in proportion, and at least one of each class.

    The draw is a function of the key and the labels, so that every arm of a comparison has the same one; what is drawn
    at a fraction lies in what is drawn at a larger one.

    Args:
        key: a typed PRNG key.
        labels: int [n], n at least 1.
        fraction: in (0, 1].

    Returns:
        int64 [k], ascending; k is round(fraction n), or the number of classes where that is more.

    Raises:
        InputError: the fraction is out of its range.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"`fraction` must be more than 0 and at most 1, got {fraction}. 0.01 is 1 %.")
    position, size = _places(key, labels)
    # One of each class, then by the share of its class that is taken: Webster's method, as subsets are budgeted.
    order = np.lexsort((labels, (position + 0.5) / size, position > 0))
    return np.sort(order[: max(round(fraction * len(labels)), np.count_nonzero(position == 0))])


@settings.fixed
def held_out(key: jax.Array, labels: np.ndarray, *, share: float = 0.2) -> np.ndarray:
    """Draws the part of labelled examples that a penalty is chosen by.

    Args:
        key: a typed PRNG key.
        labels: int [n].
        share: of each class, rounded; in [0, 1].

    Returns:
        bool [n]; each class keeps at least one example that is not held out.
    """
    position, size = _places(key, labels)
    return position < np.minimum(np.floor(share * size + 0.5), size - 1)


def _places(key: jax.Array, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each example: its place in a random order of its class, and the class's size; int64 [n]."""
    priority = np.asarray(jax.random.bits(key, (len(labels),)))
    order = np.lexsort((priority, labels))
    _, first, size = np.unique(labels[order], return_index=True, return_counts=True)
    position, sizes = np.empty((2, len(labels)), np.int64)
    position[order] = np.arange(len(labels)) - np.repeat(first, size)
    sizes[order] = np.repeat(size, size)
    return position, sizes
