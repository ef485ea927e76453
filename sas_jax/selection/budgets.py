"""Divides a budget among latent classes, and takes subsets of a given size from a ranking.

All ranked examples are sorted into one order, and a subset of size B is the first B. Smaller subsets are therefore
contained in larger ones. With V_k an example's class and its position in the ranking of that class, the sort key is:

- "proportional": (position + 1/2) / |V_k|. Each class gets its share to within about one example.
- "balanced": position. Each class contributes the same number, as long as it has enough.

Ties go to the lower class.

Sources: for "proportional" Webster's method (Sainte-Laguë), see Balinski & Young, Fair Representation (1982). For
"balanced" Vo et al., "Automatic data curation for self-supervised learning" (2024, arXiv 2405.15613), section 3.3, who
draw the same number from each cluster.
"""

import numpy as np

from sas_jax.errors import InputError
from sas_jax.selection import checks

PROPORTIONAL, BALANCED = BUDGETS = ("proportional", "balanced")


def order(position: np.ndarray, classes: np.ndarray, *, budgets: str = PROPORTIONAL) -> np.ndarray:
    """Returns the ranked examples in the order in which subsets grow.

    Args:
        position: int [n], the position in the class's ranking, -1 where not ranked.
        classes: int [n].
        budgets: one of BUDGETS.

    Returns:
        int64 [number ranked], indices.
    """
    ranked = np.flatnonzero(position >= 0)
    places, sizes = np.unique(classes, return_inverse=True, return_counts=True)[1:]
    # float64 compares quotients of integers below 2^25 exactly: different ones differ, equal ones are equal.
    share = (position[ranked] + 0.5) / (1 if budgets == BALANCED else sizes[places[ranked]])
    return ranked[np.lexsort((places[ranked], share))]


def check(budgets: str) -> None:
    """Raises InputError unless this is one of BUDGETS."""
    if budgets not in BUDGETS:
        raise InputError(
            f"`budgets` must be {' or '.join(map(repr, BUDGETS))}, got {checks.shown(budgets)}. Choose one."
        )


def divide(sizes: np.ndarray, candidates: np.ndarray, budget: int, *, budgets: str = PROPORTIONAL) -> np.ndarray:
    """Returns each class's part of a budget, int64 [K], given class sizes and numbers of candidates, int [K]."""
    classes = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    position = np.where(place < np.repeat(candidates, sizes), place, -1)
    return np.bincount(classes[order(position, classes, budgets=budgets)[:budget]], minlength=len(sizes))


def check_fraction(fraction: float) -> float:
    """Returns the fraction as a float; raises InputError unless 0 < fraction <= 1."""
    found = checks.number("`fraction`", fraction)
    if not 0 < found <= 1:
        raise InputError(f"`fraction` must be more than 0 and at most 1, got {checks.shown(fraction)}. Correct it.")
    return found


def size_of(fraction: float, n: int) -> int:
    """Returns the number of examples in a fraction of n, 1 or more.

    Raises:
        InputError: the fraction is not in (0, 1], or rounds to no example.
    """
    size = round(check_fraction(fraction) * n)
    if not size:
        raise InputError(f"`fraction` must select at least one of {n} examples, got {fraction}. Increase it.")
    return size


def take(position: np.ndarray, classes: np.ndarray, size: int, *, budgets: str = PROPORTIONAL) -> np.ndarray:
    """Returns the subset of the given size: int64 [size], ascending indices.

    Raises:
        InputError: the size is not from 1 to the number ranked.
    """
    ranked = int(np.count_nonzero(position >= 0))
    found = checks.integer(size)
    if found is None or not 1 <= found <= ranked:
        raise InputError(
            f"`size` must be a whole number from 1 to {ranked}, the number of ranked examples, got "
            f"{checks.shown(size)}. Correct it, or rank with a larger budget."
        )
    return np.sort(order(position, classes, budgets=budgets)[:found])


def take_floor(position: np.ndarray, classes: np.ndarray, fraction: float) -> np.ndarray:
    """Returns floor(fraction |V_k|) examples of each class, as the authors' code does: int64 [k], ascending indices.

    Raises:
        InputError: the fraction is not in (0, 1], exceeds what was ranked of a class, or takes no example of any class.
    """
    fraction = check_fraction(fraction)
    labels, places, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    wanted = np.floor(fraction * sizes).astype(np.int64)
    ranked = np.bincount(places[position >= 0], minlength=len(sizes))
    short = np.flatnonzero(wanted > ranked)
    if short.size:
        raise InputError(
            f"`fraction` must select ranked examples only, got {fraction}, which selects {wanted[short[0]]} examples "
            f"of class {labels[short[0]]}, of which only {ranked[short[0]]} were ranked. Reduce it, or rank with a "
            "larger budget."
        )
    if not wanted.any():
        raise InputError(f"`fraction` must select at least one example of a class, got {fraction}. Increase it.")
    return np.flatnonzero((position >= 0) & (position < wanted[places]))
