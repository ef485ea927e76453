"""Selectors that look at nothing: what every other selector is compared with."""

import jax
import numpy as np

from sas_jax.errors import InputError
from sas_jax.selection.ranking import Ranking


def random(key: jax.Array, n: int, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks n examples in a uniformly random order, as one class.

    Args:
      key: a typed PRNG key; the ranking is a function of it and n.
      n: how many examples, 1 or more.
      ids: str [n], the examples' names.

    Returns:
      A Ranking whose gains are nan.
    """
    return _ranking("random", key, np.zeros(n, np.int32), ids)


def random_balanced(key: jax.Array, classes: np.ndarray, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks each latent class in a uniformly random order, so that every subset keeps the classes' proportions.

    Args:
      key: a typed PRNG key; the ranking is a function of it and the classes.
      classes: int [n], the latent classes, 0 or more.
      ids: str [n], the examples' names.

    Returns:
      A Ranking whose gains are nan.
    """
    return _ranking("random_balanced", key, np.asarray(classes, np.int32), ids)


def _ranking(name: str, key: jax.Array, classes: np.ndarray, ids: np.ndarray | None) -> Ranking:
    n = len(classes)
    if n == 0:
        raise InputError("There is nothing to rank: a random ranking needs one example or more, and has 0.")
    # The order of a permutation, taken class by class.
    order = np.asarray(jax.random.permutation(key, n))
    order = order[np.argsort(classes[order], kind="stable")]
    sizes = np.bincount(classes)
    position = np.empty(n, np.int32)
    position[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Ranking(position, np.full(n, np.nan, np.float32), classes, ids, {"objective": name})
