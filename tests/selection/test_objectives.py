"""How the objectives choose and update their gains, against exact integer gains from their definitions."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.selection import greedy, windows
from sas_jax.selection.objectives import OBJECTIVES, Sizes
from sas_jax.selection.similarity import Embeddings, Matrix

N = 300

# Lists of changed rows have 112, 300, 128 and 64 entries: one part or several.
FORMS = {
    "matrix": Sizes(window=8, changed=100, top_k=True),
    "matrix, gathered": Sizes(window=8, changed=300, top_k=False),
    "embeddings in tiles": Sizes(window=8, changed=100, top_k=True),
    "embeddings": Sizes(window=8, changed=1, top_k=False),
}


def examples(rng):
    """Returns embeddings whose products are exact and mostly nonzero, and their similarities."""
    z = (rng.integers(-1, 5, (N, 12)) / 16).astype(np.float32)
    similarity = np.clip(z.astype(np.float64) @ z.T.astype(np.float64), 0, 1)
    np.fill_diagonal(similarity, 1)
    return z, similarity.astype(np.float32)


def source(form, z, similarity, weights, objective):
    weights = None if weights is None else jnp.asarray(weights)
    to_itself = 0.0 if objective == "sas" else 1.0
    if form.startswith("matrix"):
        return Matrix(jnp.asarray(similarity), weights, to_itself, block=16, unroll=form == "matrix")
    tile = N // 3 if form.endswith("tiles") else None
    return Embeddings(jnp.asarray(z), weights, to_itself, block=64, tile=tile)


def exact(total):
    return np.asarray(total.high, np.int64) * 2**16 + np.asarray(total.low, np.int64)


def gains_of(objective, units, chosen):
    """Returns the gain of each example that is not chosen, by definition; units [i, j] say how well j represents i."""
    chosen = list(chosen)
    if objective == "facility_location":
        before = units[:, chosen].max(1, initial=0)
        return np.maximum(units, before[:, None]).sum(0) - before.sum()
    if objective == "similarity_sum":
        return units.sum(0)
    found = np.zeros(N, np.int64)
    rest = np.setdiff1d(np.arange(N), chosen)
    before = units[np.ix_(rest, chosen)].sum()
    for e in rest:
        after = np.setdiff1d(rest, [e])
        found[e] = units[np.ix_(after, [*chosen, e])].sum() - before
    return found


@functools.partial(jax.jit, static_argnames="objective")
def start(similarity, initial, *, objective):
    return OBJECTIVES[objective].start(similarity, initial)


@functools.partial(jax.jit, static_argnames=("objective", "sizes"))
def pick(similarity, gains, memory, available, limit, *, objective, sizes):
    window = windows.best(gains, available, sizes.window, similarity)
    chosen, after = OBJECTIVES[objective].choose(similarity, memory, window, limit, sizes)
    gains = OBJECTIVES[objective].update(similarity, gains, memory, after, window, chosen, sizes)
    index = window.examples.index[chosen.slots]
    return gains, after, jnp.where(jnp.arange(sizes.window) < chosen.number, index, -1), chosen.gains


CASES = [
    ("facility_location", "matrix", False),
    ("facility_location", "matrix", True),
    ("facility_location", "matrix, gathered", True),
    ("facility_location", "embeddings in tiles", False),
    ("facility_location", "embeddings in tiles", True),
    ("facility_location", "embeddings", False),
    ("sas", "matrix", False),
    ("sas", "matrix, gathered", False),
    ("sas", "embeddings in tiles", False),
    ("similarity_sum", "matrix", True),
    ("similarity_sum", "embeddings", False),
]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("objective", "form", "weighted"), CASES)
def test_gains_stay_exact(objective, form, weighted, begun, quantise, integer_greedy):
    """From the first gains on, with and without initial examples, with windows of good and of bad candidates."""
    rng = np.random.default_rng(0)
    z, similarity = examples(rng)
    weights = rng.random(N).astype(np.float32) if weighted else None
    if weighted:
        weights[::7], weights[0] = 0, 1
    units = quantise(similarity, weights)
    given = source(form, z, similarity, weights, objective)
    initial = np.array([5, -1, 120, N - 1, -1]) if begun else np.full(5, -1)  # -1 stands for no example
    chosen = initial[initial >= 0].tolist()
    gains, memory = start(given, initial, objective=objective)
    free = np.ones(N, bool)
    free[chosen] = False
    np.testing.assert_array_equal(exact(gains)[free], gains_of(objective, units, chosen)[free])
    some = rng.random(N) < 0.5
    for limit, candidates in ((1, some), (8, exact(gains) < np.median(exact(gains))), (8, free)):
        available = candidates & free
        gains, memory, picks, found = pick(
            given, gains, memory, jnp.asarray(available), jnp.int32(limit), objective=objective, sizes=FORMS[form]
        )
        picks = [int(e) for e in picks if e >= 0]
        assert 1 <= len(picks) <= limit
        if not chosen:
            # More rows change than most forms list at a time: the gains would be wrong without the rest of the list.
            assert (units[:, picks[0]] > 0).sum() > 240
        expected, expected_gains = integer_greedy(objective, units, len(picks), available, chosen)
        assert picks == expected
        np.testing.assert_array_equal(found[: len(picks)], (np.array(expected_gains) * 2.0**-23).astype(np.float32))
        chosen += picks
        free[picks] = False
        np.testing.assert_array_equal(exact(gains)[free], gains_of(objective, units, chosen)[free])


def test_sums_of_rows_do_not_overflow():
    """All examples are alike, so every gain falls by 300 at the first pick; an int32 can hold 255."""
    given = source("matrix, gathered", None, np.ones((N, N)), np.ones(N, np.float32), "facility_location")
    gains, memory = start(given, np.full(5, -1), objective="facility_location")
    np.testing.assert_array_equal(exact(gains), N * 2**23)
    gains, memory, picks, found = pick(
        given,
        gains,
        memory,
        jnp.ones(N, bool),
        jnp.int32(8),
        objective="facility_location",
        sizes=FORMS["matrix, gathered"],
    )
    assert picks.tolist() == [0] + [-1] * 7  # the other gains equal the bar, and are above 1
    assert float(found[0]) == N
    np.testing.assert_array_equal(exact(gains), 0)


def test_an_initial_of_length_none(quantise):
    z, similarity = examples(np.random.default_rng(1))
    for objective in OBJECTIVES:
        given = source("embeddings in tiles", z, similarity, None, objective)
        found, _ = start(given, jnp.zeros(0, jnp.int32), objective=objective)
        np.testing.assert_array_equal(exact(found), gains_of(objective, quantise(similarity), []))


@pytest.mark.parametrize(("objective", "sums"), [("similarity_sum", 1), ("sas", 2), ("facility_location", 2)])
def test_xla_reads_rows_of_a_matrix_once_per_sum(objective, sums):
    problem = greedy.problem(jnp.eye(64), objective=objective)
    run = jax.jit(lambda problem: greedy.advance(problem, greedy.start(problem, budget=8), 8))
    program = run.lower(problem).compile().as_text()
    assert len(re.findall(r"f32\[1,64\]\S* dynamic-slice\(", program)) == sums * problem.similarity.block
