"""Draws labelled examples: a small fraction to train on, and a held-out part to choose a penalty with."""

import jax
import numpy as np

from sas_jax import settings
from sas_jax.errors import InputError


@settings.fixed
def few(key: jax.Array, labels: np.ndarray, *, fraction: float) -> np.ndarray:
    """Draws a fraction of all examples, proportionally by class and at least one of each class.

    The draw depends only on the key and the labels, so that every arm of a comparison gets the same one. The examples
    drawn at one fraction are a subset of those drawn at a larger one.

    Args:
        key: a typed PRNG key.
        labels: int [n], n at least 1.
        fraction: in (0, 1].

    Returns:
        int64 [k], ascending; k is round(fraction n), or the number of classes if that is larger.

    Raises:
        InputError: the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"`fraction` must be more than 0 and at most 1, got {fraction}. For example, 0.01 is 1 %.")
    position, size = _places(key, labels)
    # First one of each class, then by the share of the class taken so far: Webster's method, as for subset budgets.
    order = np.lexsort((labels, (position + 0.5) / size, position > 0))
    return np.sort(order[: max(round(fraction * len(labels)), np.count_nonzero(position == 0))])


@settings.fixed
def held_out(key: jax.Array, labels: np.ndarray, *, share: float = 0.2) -> np.ndarray:
    """Draws the labelled examples to hold out for choosing a penalty.

    Args:
        key: a typed PRNG key.
        labels: int [n].
        share: the share of each class, rounded; in [0, 1].

    Returns:
        bool [n], True where held out; each class keeps at least one example that is not.
    """
    position, size = _places(key, labels)
    return position < np.minimum(np.floor(share * size + 0.5), size - 1)


def _places(key: jax.Array, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each example's position in a random order of its class, and its class's size; int64 [n]."""
    priority = np.asarray(jax.random.bits(key, (len(labels),)))
    order = np.lexsort((priority, labels))
    _, first, size = np.unique(labels[order], return_index=True, return_counts=True)
    position, sizes = np.empty((2, len(labels)), np.int64)
    position[order] = np.arange(len(labels)) - np.repeat(first, size)
    sizes[order] = np.repeat(size, size)
    return position, sizes
