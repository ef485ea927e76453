"""Selectors that look at nothing: what every other selector is compared with."""

import jax
import numpy as np

from sas_jax.errors import InputError
from sas_jax.selection import checks
from sas_jax.selection.ranking import Ranking


def random(key: jax.Array, n: int, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks n examples in a uniformly random order, as one class.

    Args:
      key: a typed PRNG key; the ranking is a function of it and n.
      n: how many examples, 1 or more.
      ids: str [n], the examples' names.

    Returns:
      A Ranking whose gains are nan.

    Raises:
      InputError: n is not a whole number of 1 or more, or the ids are not n different texts.
    """
    found = checks.integer(n)
    if found is None or found < 1:
        raise InputError(f"A random ranking is of 1 example or more, and n is {checks.shown(n)}; give their number.")
    return _ranking("random", key, np.zeros(found, np.int32), ids)


def random_balanced(key: jax.Array, classes: np.ndarray, *, ids: np.ndarray | None = None) -> Ranking:
    """Ranks each latent class in a uniformly random order, so that every subset keeps the classes' proportions.

    Args:
      key: a typed PRNG key; the ranking is a function of it and the classes.
      classes: int [n], the latent classes, 0 or more.
      ids: str [n], the examples' names.

    Returns:
      A Ranking whose gains are nan.

    Raises:
      InputError: the classes are not integers of 0 or more, or none, or the ids are not n different texts.
    """
    classes = checks.array("Classes", classes)
    if not classes.size:
        raise InputError("A random ranking is of 1 example or more, and there are no classes; give one an example.")
    return _ranking("random_balanced", key, checks.classes(classes, len(np.atleast_1d(classes))), ids)


def _ranking(name: str, key: jax.Array, classes: np.ndarray, ids: np.ndarray | None) -> Ranking:
    n = len(classes)
    # The order of a permutation, taken class by class.
    order = np.asarray(jax.random.permutation(key, n))
    order = order[np.argsort(classes[order], kind="stable")]
    sizes = np.unique(classes, return_counts=True)[1]
    position = np.empty(n, np.int32)
    position[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Ranking(position, np.full(n, np.nan, np.float32), classes, ids, {"objective": name})
