"""Greedy on arbitrary input against greedy in NumPy's integers: the same picks and exactly the same gains."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax.selection import greedy

OBJECTIVES = ["facility_location", "sas", "similarity_sum"]
SIZES = [7, 130]  # smaller and larger than the window; a program is compiled for each size
CHOSEN = 3  # maximum number of initial examples

seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def symmetric(units):
    return np.maximum(units, units.T)


def from_levels(rng, n):
    """Makes similarities of few values: ties everywhere."""
    levels = rng.choice([0, 1, 2, 2**20, 2**22, 2**23 - 1, 2**23], rng.integers(1, 4))
    return symmetric(rng.choice(levels, (n, n)))


def nearly_equal(rng, n):
    """Makes gains that differ by less than float32 resolves, and by less and less as they fall."""
    base = rng.choice([2**21, 2**22, 2**23 - 8])
    return symmetric(base + rng.integers(0, rng.choice([2, 3, 8]), (n, n)))


def duplicates(rng, n):
    """Makes few distinct examples, with many copies each."""
    copies = rng.integers(rng.integers(1, 1 + n), size=n)
    return symmetric(rng.integers(0, 2**23 + 1, (n, n)))[np.ix_(copies, copies)]


def sparse(rng, n):
    """Makes mostly zero similarities; some examples are similar to none, with gains of 0."""
    units = rng.integers(0, 2**23 + 1, (n, n)) * (rng.random((n, n)) < rng.choice([0.01, 0.1]))
    return symmetric(units)


def clustered(rng, n):
    """Makes similarities of ordinary embeddings."""
    z = rng.normal(size=(n, 5)) + 2 * rng.normal(size=(4, 5))[rng.integers(4, size=n)]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return np.rint(np.clip(z @ z.T, 0, 1) * 2**23).astype(np.int64)


KINDS = [from_levels, nearly_equal, duplicates, sparse, clustered]


@dataclasses.dataclass(frozen=True)
class Example:
    """The parameters of an example. The arrays are made in the test, because Hypothesis expects fast draws."""

    seed: int
    kind: Callable
    n: int
    to_itself: int | None  # on the diagonal, in units; None keeps it
    excluded: float  # fraction of examples that are not candidates
    number: int  # number of initial examples

    def make(self):
        """Returns a matrix of multiples of 2^-23, the candidates, and the initial examples."""
        rng = np.random.default_rng(self.seed)
        units = self.kind(rng, self.n)
        if self.to_itself is not None:
            np.fill_diagonal(units, self.to_itself)
        similarity = (units / 2**23).astype(np.float32)
        return similarity, rng.random(self.n) >= self.excluded, rng.permutation(self.n)[: self.number]


def examples(sizes):
    return st.builds(
        Example,
        seed=seeds,
        kind=st.sampled_from(KINDS),
        n=st.sampled_from(sizes),
        to_itself=st.sampled_from([None, 0, 2**23]),
        excluded=shares,
        number=st.integers(0, CHOSEN),
    )


def run(problem, n, where, initial, steps):
    """Returns picks and gains, with one call per entry of `steps`."""
    initial = np.pad(initial, (0, CHOSEN - len(initial)), constant_values=-1).astype(np.int32)
    state = greedy.start(problem, budget=n, where=where, initial=initial)
    for more in steps:
        state = greedy.advance(problem, state, more)
    picks, gains = greedy.result(problem, state)
    picked = int(state.step)
    assert (np.asarray(picks[picked:]) == -1).all()
    assert np.isnan(gains[picked:]).all()
    return picks[:picked].tolist(), np.asarray(gains[:picked])


def in_float32(units):
    return (np.array(units, np.int64) * 2.0**-23).astype(np.float32)


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=80, deadline=None)
@given(examples(SIZES), st.lists(st.integers(1, 60), max_size=3))
def test_exactly_the_integer_greedy(objective, quantise, integer_greedy, example, steps):
    similarity, where, initial = example.make()
    n = len(similarity)
    problem = greedy.problem(similarity, objective=objective)
    picks, gains = run(problem, n, where, initial, steps)
    expected, expected_gains = integer_greedy(objective, quantise(similarity), sum(steps), where, initial)
    assert picks == expected
    np.testing.assert_array_equal(gains, in_float32(expected_gains))
    assert (np.diff(expected_gains) <= 0).all()


@pytest.mark.parametrize("objective", ["facility_location", "similarity_sum"])
@settings(max_examples=40, deadline=None)
@given(examples([130]), seeds, shares)
def test_exactly_the_integer_greedy_with_weights(objective, quantise, integer_greedy, example, seed, zeros):
    similarity, where, initial = example.make()
    rng = np.random.default_rng(seed)
    weights = rng.choice([rng.random(130), 2.0 ** rng.integers(-30, 30, 130), np.ones(130)]).astype(np.float32)
    weights[rng.random(130) < zeros] = 0
    problem = greedy.problem(similarity, objective=objective, weights=weights)
    picks, gains = run(problem, 130, where, initial, [130])
    scale, one = float(problem.scale), float(problem.similarity.one)
    largest = (similarity * (weights / np.float32(scale))[:, None]).max()
    assert one / 2 < largest <= one or (one == 1 and largest == 0)  # the smallest power of two that is large enough
    expected, expected_gains = integer_greedy(objective, quantise(similarity, weights, one), 130, where, initial)
    assert picks == expected
    np.testing.assert_array_equal(gains, in_float32(expected_gains) * np.float32(scale * one))


@pytest.mark.parametrize("objective", ["facility_location", "sas"])
@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([1, 7, 40, 130]), shares, st.booleans())
def test_exactly_the_integer_greedy_from_embeddings(objective, integer_greedy, seed, distinct, share, zeros):
    """With the similarities of the engine itself, which have the same bits everywhere; on a CPU."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(130, 6)) + rng.normal(size=6)
    z = (z / np.linalg.norm(z, axis=1, keepdims=True) * rng.uniform(0.2, 1, (130, 1))).astype(np.float32)
    z = z[rng.permutation(np.arange(130) % distinct)]
    if zeros:
        z[rng.random(130) < 0.3] = 0
    where = rng.random(130) >= share
    problem = greedy.problem(embeddings=z, objective=objective)
    picks, gains = run(problem, 130, where, np.zeros(0, int), [130])
    units = np.concatenate([covered(problem.similarity, k) for k in (0, 64, 128)])[:130, :130].astype(np.int64)
    expected, expected_gains = integer_greedy(objective, units, 130, where)
    assert picks == expected
    np.testing.assert_array_equal(gains, in_float32(expected_gains) * np.float32(problem.similarity.one))


@jax.jit
def covered(similarity, first):
    return similarity.covered(similarity.examples(first + jnp.arange(64)))
