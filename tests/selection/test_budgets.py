"""Webster's order against assigning seats one by one."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.selection import budgets


def webster(sizes, budget, candidates=None):
    """Gives each seat to the class with the smallest (seats + 1/2) / size, ties to the lower one: the definition."""
    seats = [0] * len(sizes)
    candidates = sizes if candidates is None else candidates
    for _ in range(budget):
        open_classes = [k for k in range(len(sizes)) if seats[k] < candidates[k]]
        seats[min(open_classes, key=lambda k: (Fraction(2 * seats[k] + 1, 2 * int(sizes[k])), k))] += 1
    return seats


def a_ranking(rng, sizes):
    classes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    position = np.zeros(len(classes), np.int32)
    for k in range(len(sizes)):
        position[classes == k] = rng.permutation(int(sizes[k]))
    return position, classes


def growing(seed, *, budgets_by):
    """Yields (class sizes, size of the subset, its number of examples per class) for every size of a subset.

    Each subset must have its size, be ascending, contain the one before, and be a prefix of each class's ranking.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, 6)
    position, classes = a_ranking(rng, sizes)
    before = set()
    for size in range(1, len(classes) + 1):
        subset = budgets.take(position, classes, size, budgets=budgets_by)
        assert len(subset) == size
        assert (np.diff(subset) > 0).all()
        assert before < set(subset.tolist())
        before = set(subset.tolist())
        counts = np.bincount(classes[subset], minlength=6)
        assert counts.tolist() == budgets.divide(sizes, sizes, size, budgets=budgets_by).tolist()
        assert all(sorted(position[subset[classes[subset] == k]]) == list(range(counts[k])) for k in range(6))
        yield sizes, size, counts


@pytest.mark.parametrize("seed", range(5))
def test_a_subset_is_websters(seed):
    for sizes, size, counts in growing(seed, budgets_by="proportional"):
        assert counts.tolist() == webster(sizes, size)


def test_equal_classes_tie_to_the_lower():
    sizes = np.array([5, 5, 5])
    assert budgets.divide(sizes, sizes, 1).tolist() == [1, 0, 0]
    assert budgets.divide(sizes, sizes, 5).tolist() == [2, 2, 1]
    # 1/2 of 3 and 3/2 of 9 are the same share.
    assert budgets.divide(np.array([9, 3]), np.array([9, 3]), 2).tolist() == [2, 0]
    assert budgets.divide(np.array([3, 9]), np.array([3, 9]), 2).tolist() == [1, 1]


def test_a_class_short_of_candidates_leaves_its_share_to_the_others():
    sizes, candidates = np.array([10, 10, 4]), np.array([2, 10, 4])
    for budget in range(1, 17):
        assert budgets.divide(sizes, candidates, budget).tolist() == webster(sizes, budget, candidates)


@pytest.mark.parametrize("fraction", [0.04, 0.2, 0.5, 0.99, 1.0])
def test_floor_is_of_each_class(fraction):
    rng = np.random.default_rng(7)
    sizes = rng.integers(25, 60, 5)
    position, classes = a_ranking(rng, sizes)
    subset = budgets.take_floor(position, classes, fraction)
    assert np.bincount(classes[subset], minlength=5).tolist() == [int(fraction * size) for size in sizes]
    assert all((position[subset] < np.floor(fraction * sizes)[classes[subset]]).tolist())


def test_errors():
    position, classes = np.array([0, 1, -1, 0]), np.array([0, 0, 0, 1])
    for size in (0, 4, 2.0, "2", True, None):
        message = f"number from 1 to 3, the number of ranked examples, got {size!r}. Correct it"
        with pytest.raises(InputError, match=message):
            budgets.take(position, classes, size)
    with pytest.raises(InputError, match="selects 3 examples of class 0, of which only 2 were ranked"):
        budgets.take_floor(position, classes, 1.0)
    with pytest.raises(InputError, match="at least one example of a class, got"):
        budgets.take_floor(position, classes, 0.1)
    for fraction in (0, 1.5, -1, float("nan")):
        for check in (budgets.check_fraction, lambda f: budgets.take_floor(position, classes, f)):
            with pytest.raises(InputError, match=f"more than 0 and at most 1, got {fraction}. Correct"):
                check(fraction)
    for fraction in ("0.2", None, [0.2], 1j, True):
        with pytest.raises(InputError, match="`fraction` must be a number, got"):
            budgets.size_of(fraction, 10)
    with pytest.raises(InputError, match=r"`fraction` must select at least one of 10 examples, got 0.04"):
        budgets.size_of(0.04, 10)
    assert budgets.size_of(0.25, 10) == 2


def test_labels_may_have_any_numbers():
    """A label is a name: its number costs no memory and determines nothing but the order."""
    rng = np.random.default_rng(8)
    sizes = rng.integers(5, 30, 4)
    position, classes = a_ranking(rng, sizes)
    labels = np.array([0, 70, 50_000_000, 100_000_000])[classes]
    tracemalloc.start()
    taken, floor = budgets.take(position, labels, 20), budgets.take_floor(position, labels, 0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert taken.tolist() == budgets.take(position, classes, 20).tolist()
    assert floor.tolist() == budgets.take_floor(position, classes, 0.3).tolist()
    with pytest.raises(InputError, match="examples of class 100000000, of which only 0 were ranked"):
        budgets.take_floor(np.where(labels == 100_000_000, -1, position), labels, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_budgets_take_the_same_number_of_each_class_as_far_as_it_has_so_many(seed):
    for sizes, size, counts in growing(seed, budgets_by="balanced"):
        short = counts < sizes  # they have more examples, so no other class is ahead by two
        assert counts.sum() == size
        assert not short.any() or counts.max() - counts[short].min() <= 1
