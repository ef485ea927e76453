"""Greedy against a naive greedy that recomputes the objective for every candidate from its definition."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.selection import double_greedy, fixed_point, greedy, similarity

OBJECTIVES = ["facility_location", "sas", "similarity_sum"]
WEIGHTED = ["facility_location", "similarity_sum"]
N = 40  # most tests use this size, because a program is compiled for each shape


def value(objective, represents, picked):
    """Implements the objectives' definitions; represents [i, j] is the similarity times the weight of i."""
    if not picked:
        return 0
    if objective == "facility_location":
        return represents[:, picked].max(1).sum()
    if objective == "sas":
        rest = np.setdiff1d(np.arange(len(represents)), picked)
        return represents[np.ix_(rest, picked)].sum()
    return represents[:, picked].sum()


def naive(objective, represents, budget, where=None, initial=()):
    """Finds picks and gains by trying every candidate at every step; near ties go to the lowest index."""
    candidates = np.flatnonzero(np.ones(len(represents), bool) if where is None else where)
    picked, gains = list(initial), []
    while len(gains) < budget and not set(candidates) <= set(picked):
        before = value(objective, represents, picked)
        each = {e: value(objective, represents, [*picked, e]) - before for e in candidates if e not in picked}
        best = max(each.values())
        picked.append(min(int(e) for e, gain in each.items() if gain >= best - 1e-12))
        gains.append(each[picked[-1]])
    return picked[len(initial) :], gains


def embed(rng, n, d=8, clusters=4):
    z = rng.normal(size=(n, d)) + 2 * rng.normal(size=(clusters, d))[rng.integers(clusters, size=n)]
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def products(z):
    """Returns the similarities of embeddings as greedy computes them, in float64."""
    found = np.clip(z.astype(np.float64) @ z.T.astype(np.float64), 0, 1)
    np.fill_diagonal(found, 1)
    return found


def matrix(rng, n=N, bits=23, **kwargs):
    """Makes similarities that are multiples of 2^-bits, exact in float32, float64 and (up to 23 bits) fixed point."""
    return (np.rint(products(embed(rng, n, **kwargs)) * 2**bits) / 2**bits).astype(np.float32)


def in_full(objective, given, where=None, initial=(), weights=None, budget=N):
    """Returns picks and gains, step by step and with all optional arguments, so that few programs serve most tests."""
    problem = greedy.problem(given, objective=objective, weights=weights)
    initial = np.pad(np.array(initial, np.int32), (0, 4 - len(initial)), constant_values=-1)
    where = np.ones(len(given), bool) if where is None else where
    state = greedy.start(problem, budget=len(given), where=where, initial=initial)
    picks, gains = greedy.result(problem, greedy.advance(problem, state, budget))
    assert (picks.dtype, gains.dtype) == (jnp.int32, jnp.float32)
    picked = int(np.sum(picks >= 0))
    assert picks[picked:].tolist() == [-1] * (len(given) - picked)
    np.testing.assert_array_equal(np.isnan(gains), picks < 0)
    return picks[:picked].tolist(), np.asarray(gains[:picked])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_greedy_is_the_naive_greedy(objective):
    given = matrix(np.random.default_rng(0))
    picks, gains = getattr(greedy, objective)(given, budget=N)
    expected, expected_gains = naive(objective, given.astype(np.float64), N)
    assert picks.tolist() == expected
    assert (picks.dtype, gains.dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(gains, np.array(expected_gains, np.float32))
    assert (np.diff(gains) <= 0).all()
    assert (objective == "sas") == (min(gains) < 0)
    assert in_full(objective, given)[0] == expected


@pytest.mark.parametrize(("objective", "gain"), [("facility_location", 0.75), ("sas", 0)])
def test_a_single_example(objective, gain):
    picks, gains = getattr(greedy, objective)(np.full((1, 1), 0.75), budget=1)
    assert picks.tolist() == [0]
    assert gains.tolist() == [gain]


def test_a_smaller_budget_is_a_prefix():
    given = matrix(np.random.default_rng(1))
    picks, gains = greedy.sas(given, budget=7)
    full, full_gains = greedy.sas(given, budget=N)
    assert picks.tolist() == full[:7].tolist()
    assert gains.tolist() == full_gains[:7].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_candidates_are_picked_and_all_are_represented(objective):
    rng = np.random.default_rng(2)
    given, where = matrix(rng), rng.random(N) < 0.4
    picks, gains = in_full(objective, given, where)
    expected, expected_gains = naive(objective, given.astype(np.float64), N, where)
    assert len(picks) == where.sum()  # there are fewer candidates than the budget
    assert picks == expected
    np.testing.assert_array_equal(gains, np.array(expected_gains, np.float32))


def test_no_candidates():
    assert in_full("facility_location", matrix(np.random.default_rng(3)), np.zeros(N, bool))[0] == []


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_picks_go_on_after_what_is_chosen_already(objective):
    """The initial examples are bad choices in no order, and one is not a candidate."""
    rng = np.random.default_rng(4)
    given, where = matrix(rng), rng.random(N) < 0.8
    worst = np.argsort(given.sum(0))[:3]
    where[worst] = [True, False, True]
    initial = worst[[2, 0, 1]]
    for candidates in (where, np.ones(N, bool)):
        picks, gains = in_full(objective, given, candidates, initial)
        expected, expected_gains = naive(objective, given.astype(np.float64), N, candidates, initial.tolist())
        assert picks == expected
        assert sorted([*picks, *initial[candidates[initial]]]) == np.flatnonzero(candidates).tolist()
        np.testing.assert_array_equal(gains, np.array(expected_gains, np.float32))
    # The order of the initial examples does not matter, and they do not count in the budget.
    assert in_full(objective, given, initial=worst, budget=9)[0] == picks[:9]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_first_picks_as_initial_are_followed_by_the_rest(objective):
    given = matrix(np.random.default_rng(5))
    full, full_gains = in_full(objective, given)
    for k in (1, 4):
        picks, gains = in_full(objective, given, initial=full[:k])
        assert picks == full[k:]
        assert gains.tolist() == full_gains[k:].tolist()


@pytest.mark.parametrize("objective", WEIGHTED)
def test_weights(objective):
    rng = np.random.default_rng(6)
    given, weights = matrix(rng), rng.uniform(0, 9, N).astype(np.float32)
    weights[rng.permutation(N)[:8]] = 0
    where, initial = rng.random(N) < 0.8, [3, 30]
    picks, gains = in_full(objective, given, where, initial, weights)
    expected, expected_gains = naive(objective, given * weights[:, None].astype(np.float64), N, where, initial)
    assert picks == expected
    np.testing.assert_allclose(gains, expected_gains, rtol=1e-6, atol=1e-6 * max(expected_gains))
    assert picks != naive(objective, given.astype(np.float64), N, where, initial)[0]


@pytest.mark.parametrize("objective", WEIGHTED)
def test_whole_weights_are_as_many_copies_to_represent(objective):
    """An example of weight 0 has no copies, but may be picked."""
    rng = np.random.default_rng(7)
    # Multiples of 2^-20 stay exact when they are divided by the largest weight, 4.
    given, where = matrix(rng, bits=20), rng.random(N) < 0.9
    weights = rng.permutation(np.repeat([0, 1, 2, 4], N // 4))
    picks, gains = in_full(objective, given, where, weights=weights.astype(np.float32))
    repeated = given[np.repeat(np.arange(N), weights)].astype(np.float64)
    expected, expected_gains = naive(objective, repeated, N, where)
    assert np.isin(np.flatnonzero(weights == 0), picks).any()
    assert picks == expected
    np.testing.assert_array_equal(gains, np.array(expected_gains, np.float32))


@pytest.mark.parametrize("objective", WEIGHTED)
def test_the_scale_of_weights_is_that_of_the_gains(objective):
    rng = np.random.default_rng(8)
    given, weights = matrix(rng), rng.random(N).astype(np.float32)
    picks, gains = in_full(objective, given, weights=weights)
    for scale in (2.0**-100, 1024):
        scaled = in_full(objective, given, weights=weights * np.float32(scale))
        assert scaled[0] == picks
        np.testing.assert_array_equal(scaled[1], gains * np.float32(scale))
    # Equal weights that are a power of two have no effect.
    alike = in_full(objective, given, weights=np.full(N, 4, np.float32))
    unweighted = in_full(objective, given)
    assert alike[0] == unweighted[0]
    np.testing.assert_array_equal(alike[1], 4 * unweighted[1])


@pytest.mark.parametrize("objective", WEIGHTED)
def test_where_nothing_counts_all_candidates_are_alike(objective):
    picks, gains = in_full(objective, matrix(np.random.default_rng(9)), weights=np.zeros(N, np.float32))
    assert picks == list(range(N))
    assert not gains.any()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ties_go_to_the_lowest_index(objective):
    """With five copies of every example, and with only equal similarities, large and small."""
    rng = np.random.default_rng(10)
    copies = rng.permutation(np.repeat(np.arange(8), 5))
    duplicates = matrix(rng, 8)[np.ix_(copies, copies)]
    same, apart = np.ones((N, N), np.float32), np.eye(N, dtype=np.float32)
    for case in (duplicates, same, apart, 2.0**-23 * same, 0 * same):
        picks, gains = in_full(objective, case)
        expected, expected_gains = naive(objective, case.astype(np.float64), N)
        assert picks == expected
        np.testing.assert_array_equal(gains, np.array(expected_gains, np.float32))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_changes_nothing(objective):
    given = matrix(np.random.default_rng(11), 30)
    padded = in_full(objective, np.pad(given, (0, 10)), np.arange(N) < 30)
    expected, expected_gains = naive(objective, given.astype(np.float64), 30)
    assert padded[0] == expected
    np.testing.assert_array_equal(padded[1], np.array(expected_gains, np.float32))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_steps_equals_at_once(objective):
    rng = np.random.default_rng(12)
    given, where = matrix(rng), rng.random(N) < 0.9
    problem = greedy.problem(given, objective=objective)
    state = begun = greedy.start(problem, budget=N, where=where, initial=np.array([1, 2, -1, -1], np.int32))
    for steps, picked in ((3, 3), (0, 3), (-1, 3), (9, 12), (1, 13)):
        state = greedy.advance(problem, state, steps)
        assert int(state.step) == picked
    picks, gains = greedy.result(problem, state)
    assert (np.asarray(picks[:13]) >= 0).all()
    assert picks[13:].tolist() == [-1] * (N - 13)
    assert np.isnan(gains[13:]).all()
    # A state may be saved and restored as NumPy arrays.
    state = greedy.advance(problem, jax.tree.map(np.asarray, state), N)
    whole = greedy.advance(problem, begun, N)
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    left = where.copy()
    left[[1, 2]] = False
    assert int(whole.step) == left.sum()


def test_under_jit_and_vmap():
    """With contents, candidates, initial examples and weights all batched, the picks are those of separate calls."""
    rng = np.random.default_rng(13)
    batch, weights = np.stack([matrix(rng) for _ in range(3)]), rng.random((3, N)).astype(np.float32)
    where, initial = rng.random((3, N)) < [[0.2], [0.5], [0.9]], np.array([[0, 1], [7, -1], [39, 5]], np.int32)

    @jax.jit
    @jax.vmap
    def each(given, where, initial, weights):
        return greedy.facility_location(given, budget=N, where=where, initial=initial, weights=weights)

    picks, gains = each(batch, where, initial, weights)
    for k in range(3):
        one = in_full("facility_location", batch[k], where[k], initial[k], weights[k])
        number = len(one[0])
        assert picks[k, :number].tolist() == one[0]
        assert gains[k, :number].tolist() == one[1].tolist()
        assert picks[k, number:].tolist() == [-1] * (N - number)
        assert np.isnan(gains[k, number:]).all()


def test_embeddings_under_jit_and_vmap(check_replay):
    """The last bits of a batch of products may differ from those of single products."""
    rng = np.random.default_rng(14)
    z, where = np.stack([embed(rng, N) for _ in range(3)]), rng.random((3, N)) < [[0.2], [0.5], [0.9]]
    picks, _ = jax.jit(jax.vmap(lambda z, where: greedy.sas(embeddings=z, where=where, budget=N)))(z, where)
    for k in range(3):
        number = where[k].sum()
        assert sorted(picks[k, :number].tolist()) == np.flatnonzero(where[k]).tolist()
        check_replay("sas", products(z[k]), picks[k, :number].tolist(), where[k])


def test_compiles_once_for_a_shape():
    rng = np.random.default_rng(15)
    greedy.sas(matrix(rng), budget=N)
    before = greedy.sas._cache_size()
    steps = greedy.start._cache_size(), greedy.advance._cache_size()
    for k in range(3):
        greedy.sas(matrix(rng), budget=N)
        in_full("sas", matrix(rng), rng.random(N) < 0.5, initial=range(k), budget=k)
    assert greedy.sas._cache_size() == before
    # At most one more each: none has been compiled yet if only this test runs.
    assert greedy.start._cache_size() <= steps[0] + 1
    assert greedy.advance._cache_size() <= steps[1] + 1


def test_self_similarity():
    """With 0, an example must be represented by another one."""
    rng = np.random.default_rng(16)
    given = matrix(rng)
    without = given.copy()
    np.fill_diagonal(without, 0)
    picks, gains = greedy.facility_location(given, budget=N, self_similarity=0.0)
    expected, expected_gains = naive("facility_location", without.astype(np.float64), N)
    assert picks.tolist() == expected != naive("facility_location", given.astype(np.float64), N)[0]
    np.testing.assert_array_equal(gains, np.array(expected_gains, np.float32))


@pytest.mark.parametrize("objective", WEIGHTED)
@pytest.mark.parametrize(("self_similarity", "of_matrix", "of_embeddings"), [(None, 0.5, 1), (0.25, 0.25, 0.25)])
def test_self_similarity_from_a_matrix_and_from_embeddings(objective, self_similarity, of_matrix, of_embeddings):
    """None keeps a matrix's diagonal, and means 1 for embeddings; here the first gains contain nothing else."""
    for given, expected in (({"similarity": np.eye(4) * 0.5}, of_matrix), ({"embeddings": np.eye(4)}, of_embeddings)):
        problem = greedy.problem(**given, objective=objective, self_similarity=self_similarity)
        gains = greedy.start(problem, budget=1).gains
        np.testing.assert_array_equal(fixed_point.to_float(gains)[:4] * problem.similarity.one, expected)


def test_where_jax_has_64_bits(check_replay):
    """With jax_enable_x64, sums of int32 are int64 by default."""
    rng = np.random.default_rng(22)
    z, weights, where = embed(rng, N), rng.random(N), rng.random(N) < 0.7
    with jax.enable_x64(True):
        picks, gains = greedy.facility_location(embeddings=z, weights=weights, where=where, budget=int(where.sum()))
    assert (picks.dtype, gains.dtype) == (jnp.int32, jnp.float32)
    check_replay("facility_location", products(z) * weights[:, None], picks.tolist(), where)


def test_the_diagonal_plays_no_part_in_sas():
    given = matrix(np.random.default_rng(17))
    without = given.copy()
    np.fill_diagonal(without, 0)
    one, other = in_full("sas", given), in_full("sas", without)
    assert one[0] == other[0]
    assert one[1].tolist() == other[1].tolist()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_other_floating_point_types(dtype):
    values = np.rint(matrix(np.random.default_rng(18)) * 64) / 64  # exact in all of them
    assert in_full("sas", values.astype(dtype))[0] == in_full("sas", values)[0]


def test_a_matrix_that_is_not_quite_symmetric_is_ranked(check_replay):
    """Within rounding, as `rank` accepts it; here, gains computed in a window fall below those outside."""
    given = np.full((N, N), 0.5, np.float32)
    given[0] -= 2**-22
    given[1] += 2**-22
    picks, _ = in_full("facility_location", given)
    assert sorted(picks) == list(range(N))
    check_replay("facility_location", given, picks)


def test_as_accelerators_do_it():
    """The block sizes and gathers of accelerators, on this platform: they do not change the result."""
    given = matrix(np.random.default_rng(21))
    problem = greedy.problem(given, objective="facility_location")
    there = dataclasses.replace(problem.similarity, unroll=False, block=64)
    problem = dataclasses.replace(problem, similarity=there)
    state = greedy.advance(problem, greedy.start(problem, budget=N), N)
    picks, gains = greedy.result(problem, state)
    here = in_full("facility_location", given)
    assert picks.tolist() == here[0]
    assert gains.tolist() == here[1].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of `similarity` and `embeddings`"),
        ({"similarity": np.eye(3), "embeddings": np.eye(3)}, "Exactly one of `similarity` and `embeddings`"),
        ({"similarity": np.ones((3, 4))}, r"`similarity` must be \[n, n\], got \[3, 4\]"),
        ({"similarity": np.ones(3)}, r"`similarity` must be \[n, n\], got \[3\]"),
        ({"similarity": np.ones((0, 0))}, r"`similarity` must be \[n, n\], got \[0, 0\]"),
        ({"similarity": np.eye(3, dtype=int)}, "floating point, got int32"),
        ({"embeddings": np.ones((3, 2, 2))}, r"`embeddings` must be \[n, d\].*\[3, 2, 2\]"),
        ({"embeddings": np.ones((0, 2))}, r"`embeddings` must be \[n, d\].*\[0, 2\]"),
        ({"embeddings": np.ones((3, 2), bool)}, "floating point, got bool"),
        ({"similarity": np.eye(3), "where": np.ones(2, bool)}, r"bool \[3\], .* got bool \[2\]"),
        ({"similarity": np.eye(3), "where": np.ones(3, np.int32)}, r"bool \[3\], .* got int32 \[3\]"),
        ({"similarity": np.eye(3), "initial": np.ones(3, bool)}, r"integers \[k\], .* got bool \[3\]"),
        ({"similarity": np.eye(3), "initial": np.ones((1, 2), int)}, r"integers \[k\], .* got int32 \[1, 2\]"),
        ({"similarity": np.eye(3), "initial": np.ones(2)}, r"integers \[k\], .* got float32 \[2\]"),
        ({"similarity": np.eye(3), "weights": np.ones(2)}, r"float \[3\], got float32 \[2\]"),
        ({"similarity": np.eye(3), "weights": np.ones(3, int)}, r"float \[3\], got int32 \[3\]"),
        ({"similarity": np.eye(3), "budget": 0}, "whole number of picks, 1 or more, got 0"),
        ({"similarity": np.eye(3), "budget": 1.5}, "whole number of picks, 1 or more, got 1.5"),
        ({"similarity": np.eye(3), "budget": None}, "whole number of picks, 1 or more, got None"),
        ({"similarity": np.eye(3), "budget": "3"}, "whole number of picks, 1 or more, got '3'"),
        ({"similarity": np.eye(3), "mesh": 3}, "a jax.sharding.Mesh of one axis, got 3"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(InputError, match=message) as found:
        greedy.facility_location(**{"budget": 2} | arguments)
    assert "\n" not in str(found.value)


def test_sas_has_no_weights():
    with pytest.raises(InputError, match=r"must be None for sas"):
        greedy.problem(np.eye(3), objective="sas", weights=np.ones(3))


def test_the_forms_of_similarity():
    """Checks the parts of a problem on a CPU, which the other tests assume."""
    of_matrix = greedy.problem(np.eye(5), objective="sas").similarity
    assert isinstance(of_matrix, similarity.Matrix)
    assert of_matrix.unroll
    of_embeddings = greedy.problem(embeddings=np.eye(5), objective="sas").similarity
    assert isinstance(of_embeddings, similarity.Embeddings)
    assert of_embeddings.size % of_embeddings.tile == 0


def test_an_unknown_objective_names_the_known():
    with pytest.raises(InputError, match=r"sas, facility_location, similarity_sum, got 'sass'\. Did you mean 'sas'"):
        greedy.problem(np.eye(3), objective="sass")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("argument", ["similarity", "embeddings", "weights"])
def test_a_derivative_is_refused(objective, argument):
    """It would be 0, because gains are sums of integers."""
    given = {"similarity": jnp.eye(4)} if argument == "weights" else {}
    function = functools.partial(getattr(greedy, objective), budget=2)
    if (objective, argument) == ("sas", "weights"):
        function = functools.partial(double_greedy.double_greedy)
        given, argument = {}, "similarity"

    def total(x):
        gains = function(**given | {argument: x})[1]
        return jnp.nansum(gains)

    x = jnp.ones(4) if argument == "weights" else jnp.eye(4)
    for derive in (jax.grad(total), jax.jit(jax.grad(total)), lambda x: jax.jvp(total, (x,), (x,))):
        with pytest.raises(InputError, match=r"no derivative, .* pass jax\.lax\.stop_gradient of"):
            derive(x)
    assert not jax.grad(lambda x: total(jax.lax.stop_gradient(x)))(x).any()
