"""Greedy against a naive greedy that computes the objective again for every candidate, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.selection import greedy

OBJECTIVES = ["facility_location", "sas", "similarity_sum"]


def value(objective, similarity, picked):
    """The objectives from their definitions."""
    if not picked:
        return 0.0
    if objective == "facility_location":
        return similarity[:, picked].max(1).sum()
    if objective == "sas":
        rest = np.setdiff1d(np.arange(len(similarity)), picked)
        return similarity[np.ix_(rest, picked)].sum()
    return similarity[:, picked].sum()


def naive(objective, similarity, budget, where=None):
    """Picks and gains by trying every candidate at every step; ties to the lowest index."""
    similarity = similarity.astype(np.float64)
    candidates = list(range(len(similarity)) if where is None else np.flatnonzero(where))
    picked, gains = [], []
    for _ in range(min(budget, len(candidates))):
        before = value(objective, similarity, picked)
        each = {e: value(objective, similarity, [*picked, e]) - before for e in candidates if e not in picked}
        best = max(each.values())
        picked.append(min(e for e, gain in each.items() if gain >= best - 1e-12))
        gains.append(each[picked[-1]])
    return picked, gains


def embed(rng, n, d=8, clusters=4):
    z = rng.normal(size=(n, d)) + 2 * rng.normal(size=(clusters, d))[rng.integers(clusters, size=n)]
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def matrix(rng, n, **kwargs):
    """Similarities that are multiples of 2^-24, so that float64 and fixed point see the same numbers."""
    z = embed(rng, n, **kwargs).astype(np.float64)
    similarity = np.maximum(0, z @ z.T)
    np.fill_diagonal(similarity, 1)
    return (np.rint(np.clip(similarity, 0, 1) * 2**24) / 2**24).astype(np.float32)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("n", "budget"), [(1, 1), (30, 30), (40, 7)])
def test_greedy_is_the_naive_greedy(objective, n, budget):
    similarity = matrix(np.random.default_rng(n), n)
    picks, gains = getattr(greedy, objective)(similarity, budget=budget)
    expected, expected_gains = naive(objective, similarity, budget)
    assert picks.tolist() == expected
    assert (picks.dtype, gains.dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_allclose(gains, expected_gains, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_candidates_are_picked_and_all_are_represented(objective):
    rng = np.random.default_rng(1)
    similarity, where = matrix(rng, 40), rng.random(40) < 0.4
    picks, gains = getattr(greedy, objective)(similarity, budget=7, where=where)
    expected, expected_gains = naive(objective, similarity, 7, where)
    assert picks.tolist() == expected
    np.testing.assert_allclose(gains, expected_gains, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fewer_candidates_than_the_budget(objective):
    similarity, where = matrix(np.random.default_rng(2), 6), np.arange(6) % 2 == 0
    picks, gains = getattr(greedy, objective)(similarity, budget=8, where=where)
    assert sorted(picks[:3].tolist()) == [0, 2, 4]
    assert picks[3:].tolist() == [-1] * 5
    assert not np.isnan(gains[:3]).any()
    assert np.isnan(gains[3:]).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("source", ["matrix", "embeddings"])
def test_replay(objective, source, check_replay):
    """On sizes where last bits differ, gains are exact and each pick is the best, to 1e-6 of the first gain."""
    z = embed(np.random.default_rng(3), 400, d=32, clusters=9)
    similarity = np.maximum(0, z.astype(np.float64) @ z.T.astype(np.float64))
    np.fill_diagonal(similarity, 1)
    given = {"similarity": similarity.astype(np.float32)} if source == "matrix" else {"embeddings": z}
    picks, gains = getattr(greedy, objective)(**given, budget=400)
    assert sorted(picks.tolist()) == list(range(400))
    exact = check_replay(objective, similarity, picks.tolist())
    np.testing.assert_allclose(gains, exact, atol=1e-6 * exact[0])
    assert (np.diff(gains) <= 0).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ties_go_to_the_lowest_index(objective):
    """With every example four times over, and with nothing but equal similarities."""
    rng = np.random.default_rng(4)
    copies = rng.permutation(np.repeat(np.arange(8), 4)[:30])
    similarity = matrix(rng, 8)[np.ix_(copies, copies)]
    for case in (similarity, np.ones((30, 30), np.float32), np.eye(30, dtype=np.float32)):
        expected, _ = naive(objective, case, len(case))
        for mesh in (None, devices.mesh(8)):
            picks, _ = getattr(greedy, objective)(case, budget=len(case), mesh=mesh)
            assert picks.tolist() == expected


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_smaller_budgets_are_prefixes(objective):
    similarity = matrix(np.random.default_rng(5), 30)
    full = getattr(greedy, objective)(similarity, budget=30)
    for budget in (1, 20):
        part = getattr(greedy, objective)(similarity, budget=budget)
        assert part[0].tolist() == full[0][:budget].tolist()
        assert part[1].tolist() == full[1][:budget].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_picks_are_the_same_on_one_device_and_on_many(objective):
    """From a matrix, also where the devices do not divide the examples."""
    similarity, where = matrix(np.random.default_rng(6), 78), np.arange(78) % 5 != 0
    run = functools.partial(getattr(greedy, objective), similarity, budget=40, where=where)
    alone = run()
    for num_devices in (2, 8):
        picks, gains = run(mesh=devices.mesh(num_devices))
        assert picks.tolist() == alone[0].tolist()
        assert gains.tolist() == alone[1].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_embeddings_on_many_devices_pass_the_replay(objective, check_replay):
    z = embed(np.random.default_rng(7), 77)
    similarity = np.maximum(0, z.astype(np.float64) @ z.T.astype(np.float64))
    np.fill_diagonal(similarity, 1)
    picks, _ = getattr(greedy, objective)(embeddings=z, budget=77, mesh=devices.mesh(8))
    check_replay(objective, similarity, picks.tolist())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_under_jit_and_vmap(objective):
    rng = np.random.default_rng(8)
    function = functools.partial(getattr(greedy, objective), budget=9)
    batch = np.stack([matrix(rng, 20) for _ in range(3)])
    z, where = np.stack([embed(rng, 20) for _ in range(3)]), rng.random((3, 20)) < 0.5
    matrices = jax.jit(jax.vmap(function))(batch)
    embedded = jax.jit(jax.vmap(lambda z, where: function(embeddings=z, where=where)))(z, where)
    for k in range(3):
        for one, many in (
            (function(batch[k]), matrices),
            (function(embeddings=z[k], where=where[k]), embedded),
        ):
            assert one[0].tolist() == many[0][k].tolist()
            # A batch of products may have other last bits than one product.
            np.testing.assert_allclose(one[1], many[1][k], atol=2e-6)


@pytest.mark.parametrize("objective", ["facility_location", "similarity_sum"])
def test_self_similarity(objective):
    similarity = matrix(np.random.default_rng(9), 30)
    without = similarity.copy()
    np.fill_diagonal(without, 0)
    function = getattr(greedy, objective)
    expected, expected_gains = naive(objective, without, 30)
    for picks, gains in (function(similarity, budget=30, self_similarity=0.0), function(without, budget=30)):
        assert picks.tolist() == expected
        np.testing.assert_allclose(gains, expected_gains, rtol=2e-7, atol=1e-6)
    picks, _ = function(without, budget=30, self_similarity=1.0)
    assert picks.tolist() == naive(objective, similarity, 30)[0]


def test_embeddings_represent_themselves_by_self_similarity():
    z = np.eye(4, dtype=np.float32) * 0.5
    assert greedy.facility_location(embeddings=z, budget=1)[1].tolist() == [1.0]
    assert greedy.facility_location(embeddings=z, budget=1, self_similarity=0.25)[1].tolist() == [0.25]


def test_the_diagonal_plays_no_part_in_sas():
    similarity = matrix(np.random.default_rng(10), 30)
    without = similarity.copy()
    np.fill_diagonal(without, 0)
    one, other = greedy.sas(similarity, budget=30), greedy.sas(without, budget=30)
    assert one[0].tolist() == other[0].tolist()
    assert one[1].tolist() == other[1].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_changes_nothing(objective):
    similarity = matrix(np.random.default_rng(11), 30)
    function = getattr(greedy, objective)
    expected = function(similarity, budget=30)
    padded = function(np.pad(similarity, (0, 13)), budget=30, where=np.arange(43) < 30)
    assert padded[0].tolist() == expected[0].tolist()
    assert padded[1].tolist() == expected[1].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_steps_equals_at_once(objective):
    similarity = greedy.Matrix.of(matrix(np.random.default_rng(12), 30))
    advance = jax.jit(functools.partial(greedy.advance, objective=objective))
    state = whole = greedy.start(similarity, jnp.ones(30, bool), objective=objective, budget=20)
    for steps in (3, 0, 9, 100):
        state = advance(state, similarity, steps)
    whole = advance(whole, similarity, 20)
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    assert int(state.step) == 20


def test_compiles_once_for_a_shape():
    rng = np.random.default_rng(13)
    before = greedy.sas._cache_size()
    for _ in range(3):
        greedy.sas(matrix(rng, 21), budget=5)
    assert greedy.sas._cache_size() == before + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a similarity matrix or embeddings="),
        ({"similarity": np.eye(3), "embeddings": np.eye(3)}, "either a similarity matrix or embeddings="),
        ({"similarity": np.ones((3, 4))}, r"shape \[n, n\], and this one has \[3, 4\]"),
        ({"similarity": np.ones(3)}, r"shape \[n, n\], and this one has \[3\]"),
        ({"similarity": np.eye(3, dtype=int)}, "floating point, and this is int32"),
        ({"embeddings": np.ones((3, 2, 2))}, r"shape \[n, d\].*\[3, 2, 2\]"),
        ({"embeddings": np.ones((0, 2))}, r"shape \[n, d\].*\[0, 2\]"),
        ({"similarity": np.eye(3), "where": np.ones(2, bool)}, r"bool \[3\]; it is bool \[2\]"),
        ({"similarity": np.eye(3), "where": np.ones(3, np.int32)}, r"bool \[3\]; it is int32 \[3\]"),
        ({"similarity": np.eye(3), "budget": 0}, "1 or more, and is 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        greedy.sas(**{"budget": 2} | arguments)
