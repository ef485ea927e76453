"""How a budget is divided among latent classes, and which examples a subset of a size holds.

All ranked examples stand in one order, and a subset of size B is the first B. Every smaller subset therefore lies in
every larger one. V_k is an example's class, and its position the place in that class's ranking:

- "proportional": by (position + 1/2) / |V_k|. Each class gets its share to within one example or so.
- "balanced": by position. Each class gives the same number, as far as it has so many.

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
    """The ranked examples in the order in which subsets grow.

    Args:
        position: int [n], the place in the class's ranking, -1 where not ranked.
        classes: int [n].
        budgets: one of BUDGETS.

    Returns:
        int64 [number ranked], indices.
    """
    ranked = np.flatnonzero(position >= 0)
    places, sizes = np.unique(classes, return_inverse=True, return_counts=True)[1:]
    # Two different quotients of integers under 2^25 are different in float64, and two equal ones equal.
    share = (position[ranked] + 0.5) / (1 if budgets == BALANCED else sizes[places[ranked]])
    return ranked[np.lexsort((places[ranked], share))]


def check(budgets: str) -> None:
    """Raises InputError unless this is one of BUDGETS."""
    if budgets not in BUDGETS:
        raise InputError(f"budgets must be {' or '.join(map(repr, BUDGETS))}, got {checks.shown(budgets)}. Choose one.")


def divide(sizes: np.ndarray, candidates: np.ndarray, budget: int, *, budgets: str = PROPORTIONAL) -> np.ndarray:
    """How many of a budget fall to each class: int64 [K], from sizes and numbers of candidates, int [K]."""
    classes = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    position = np.where(place < np.repeat(candidates, sizes), place, -1)
    return np.bincount(classes[order(position, classes, budgets=budgets)[:budget]], minlength=len(sizes))


def check_fraction(fraction: float) -> float:
    """The fraction as a float; raises InputError unless 0 < fraction <= 1."""
    found = checks.number("A fraction", fraction)
    if not 0 < found <= 1:
        raise InputError(
            f"`fraction` must be more than 0 and at most 1, got {checks.shown(fraction)}. Give such a number."
        )
    return found


def size_of(fraction: float, n: int) -> int:
    """How many of n examples a fraction is, 1 or more.

    Raises:
        InputError: the fraction is not more than 0 and at most 1, or so small that it is none of them.
    """
    size = round(check_fraction(fraction) * n)
    if not size:
        raise InputError(f"`fraction` must take at least one example of {n}, got {fraction}. Give a larger one.")
    return size


def take(position: np.ndarray, classes: np.ndarray, size: int, *, budgets: str = PROPORTIONAL) -> np.ndarray:
    """The subset of a size: int64 [size], ascending indices.

    Raises:
        InputError: the size is not from 1 to the number ranked.
    """
    ranked = int(np.count_nonzero(position >= 0))
    found = checks.integer(size)
    if found is None or not 1 <= found <= ranked:
        raise InputError(
            f"`size` must be a whole number from 1 to {ranked}, as many as were ranked, got {checks.shown(size)}. Give "
            "another, or rank with a larger budget."
        )
    return np.sort(order(position, classes, budgets=budgets)[:found])


def take_floor(position: np.ndarray, classes: np.ndarray, fraction: float) -> np.ndarray:
    """The subset of floor(fraction |V_k|) of each class, as the authors' code does: int64 [k], ascending indices.

    Raises:
        InputError: not a fraction, or a class has fewer ranked than that, or no class has any.
    """
    fraction = check_fraction(fraction)
    labels, places, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    wanted = np.floor(fraction * sizes).astype(np.int64)
    ranked = np.bincount(places[position >= 0], minlength=len(sizes))
    short = np.flatnonzero(wanted > ranked)
    if short.size:
        raise InputError(
            f"`fraction` must take no more than was ranked, got {fraction}, which takes {wanted[short[0]]} examples of "
            f"class {labels[short[0]]}, of which {ranked[short[0]]} were ranked. Give a smaller one, or rank with a "
            "larger budget."
        )
    if not wanted.any():
        raise InputError(f"`fraction` must take at least one example of a class, got {fraction}. Give a larger one.")
    return np.flatnonzero((position >= 0) & (position < wanted[places]))
