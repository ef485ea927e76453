"""Double greedy against its definition on sets, in integers, and against the best set of all."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.selection.double_greedy import double_greedy, turning_point

UNITS = 2**20  # fixed point represents multiples of 1 / UNITS exactly
FORMS = [double_greedy, turning_point]


def units(rng, n, density=1.0):
    """Returns a symmetric similarity in units of 1 / UNITS, int64, with a diagonal of 1."""
    similarity = np.triu(rng.integers(0, UNITS, size=(n, n)) * (rng.random((n, n)) < density), 1)
    return similarity + similarity.T + np.eye(n, dtype=np.int64) * UNITS


def as_float(similarity):
    return (similarity / UNITS).astype(np.float32)


def cut(similarity, chosen):
    """Returns the sum of s_ij over i not chosen and j chosen."""
    return similarity[np.ix_(~chosen, chosen)].sum()


def mask(members, n):
    return np.isin(np.arange(n), list(members))


def slow(similarity, draws=None):
    """Returns the sets X and Y of the paper and the gain of each chosen example; exact, in integers."""
    n = len(similarity)
    x, y, gains = set(), set(range(n)), {}
    for u in range(n):
        a = cut(similarity, mask(x | {u}, n)) - cut(similarity, mask(x, n))
        b = cut(similarity, mask(y - {u}, n)) - cut(similarity, mask(y, n))
        if draws is None:
            joins = a >= b
        else:
            a_positive, b_positive = max(a, 0), max(b, 0)
            probability = a_positive / (a_positive + b_positive) if a_positive + b_positive else 1.0
            joins = draws[u] < probability
        if joins:
            x, gains[u] = x | {u}, a
        else:
            y = y - {u}
    assert x == y
    return mask(x, n), gains


def check(found, expected, similarity):
    chosen, gains = expected
    n = len(similarity)
    assert found.chosen.tolist() == chosen.tolist()
    assert (found.chosen.dtype, found.gains.dtype) == (bool, jnp.float32)
    exact = np.array([gains.get(u, np.nan) for u in range(n)]) / UNITS
    np.testing.assert_allclose(found.gains, exact, rtol=2e-7, atol=1e-7)
    assert found.size == chosen.sum()
    np.testing.assert_allclose(found.value, cut(similarity, chosen) / UNITS, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 30, 75])
def test_deterministic(n):
    similarity = units(np.random.default_rng(n), n)
    check(double_greedy(as_float(similarity)), slow(similarity), similarity)


@pytest.mark.parametrize("n", [1, 2, 30, 75])
def test_randomised(n):
    similarity, key = units(np.random.default_rng(n), n, density=0.3), jax.random.key(n)
    expected = slow(similarity, np.asarray(jax.random.uniform(key, (n,))))
    check(double_greedy(as_float(similarity), key=key), expected, similarity)


@pytest.mark.parametrize("key", [None, jax.random.key(0)])
def test_ties(key):
    """If all similarities are equal or 0, joining and leaving both add nothing, and an example joins."""
    draws = None if key is None else np.asarray(jax.random.uniform(key, (12,)))
    for similarity in (np.full((12, 12), UNITS), np.zeros((12, 12), np.int64), np.eye(12, dtype=np.int64) * UNITS):
        check(double_greedy(as_float(similarity), key=key), slow(similarity, draws), similarity)


def test_embeddings_are_their_matrix():
    """The embeddings are multiples of 1/16, whose products are exact."""
    z = np.random.default_rng(3).integers(-6, 7, size=(75, 6)).astype(np.float32) / 16
    similarity = np.maximum(0, z @ z.T)
    for form in (*FORMS, lambda *given, **kwargs: double_greedy(*given, key=jax.random.key(0), **kwargs)):
        one, other = form(embeddings=z), form(similarity)
        assert one.chosen.tolist() == other.chosen.tolist()
        np.testing.assert_array_equal(one.gains, other.gains)


def best(similarity):
    """Returns the largest cut of all sets."""
    n = len(similarity)
    return max(cut(similarity, np.array(chosen)) for chosen in itertools.product([False, True], repeat=n))


def graphs():
    """Dense and sparse graphs, and a bipartite one that can be cut completely but whose order misleads."""
    for seed in range(6):
        yield units(np.random.default_rng(seed), 9, density=(1, 0.3)[seed % 2])
    sides = np.array([0, 0, 1, 1, 0, 1, 0, 1, 1])
    weights = np.random.default_rng(9).integers(1, UNITS, size=(9, 9))
    yield np.where(sides[:, None] != sides, np.minimum(weights, weights.T), 0)


def test_deterministic_is_at_least_half_of_the_best():
    for similarity in graphs():
        value = double_greedy(as_float(similarity)).value * UNITS
        assert value >= np.triu(similarity, 1).sum() / 2 * (1 - 1e-6)
        assert value >= best(similarity) / 2 * (1 - 1e-6)


def expectation(similarity):
    """Returns the mean cut of the randomised form, from the probability of each of its 2^n outcomes."""
    n = len(similarity)

    def of(u, x, y):
        if u == n:
            return cut(similarity, mask(x, n))
        a = max(0, cut(similarity, mask(x | {u}, n)) - cut(similarity, mask(x, n)))
        b = max(0, cut(similarity, mask(y - {u}, n)) - cut(similarity, mask(y, n)))
        p = a / (a + b) if a + b else 1.0
        joined = p * of(u + 1, x | {u}, y) if p > 0 else 0.0
        return joined + ((1 - p) * of(u + 1, x, y - {u}) if p < 1 else 0.0)

    return of(0, frozenset(), frozenset(range(n)))


def test_randomised_has_the_expectation_of_the_paper_and_at_least_half_of_the_best():
    keys = jax.random.split(jax.random.key(1), 4000)
    many = jax.jit(jax.vmap(lambda similarity, key: double_greedy(similarity, key=key), (None, 0)))
    for similarity in [*graphs()][-3:]:
        values = many(as_float(similarity), keys).value * UNITS
        expected = expectation(similarity)
        assert expected >= best(similarity) / 2
        error = values.std() / np.sqrt(len(values))
        np.testing.assert_allclose(values.mean(), expected, atol=4 * error + 1e-6 * expected)


def test_vmap_over_matrices():
    rng = np.random.default_rng(2)
    similarity = np.stack([as_float(units(rng, 30)) for _ in range(3)])
    together = jax.vmap(double_greedy)(similarity)
    assert together.value.shape == together.size.shape == (3,)
    for k in range(3):
        alone = double_greedy(similarity[k])
        assert together.chosen[k].tolist() == alone.chosen.tolist()
        assert together.value[k] == alone.value


@pytest.mark.parametrize("n", [1, 2, 30])
def test_turning_point_is_the_best_prefix_of_the_ranking(n):
    """It is the longest prefix with the largest cut of a naive greedy run to the end."""
    similarity = units(np.random.default_rng(n), n, density=0.5)
    order, gains, values = [], {}, [0]
    for _ in range(n):
        each = {e: cut(similarity, mask([*order, e], n)) - values[-1] for e in range(n) if e not in order}
        order.append(min(each, key=lambda e: (-each[e], e)))
        gains[order[-1]] = each[order[-1]]
        values.append(values[-1] + each[order[-1]])
    size = max(k for k in range(n + 1) if values[k] == max(values))
    found = turning_point(as_float(similarity))
    check(found, (mask(order[:size], n), {e: gains[e] for e in order[:size]}), similarity)
    assert found.size == size


def test_turning_point_of_a_ranking_without_a_negative_gain():
    found = turning_point(np.eye(30, dtype=np.float32))
    assert found.size == 30
    assert found.value == 0


def test_no_n_by_n_is_made_of_embeddings():
    n = 8192
    compiled = double_greedy.lower(embeddings=jax.ShapeDtypeStruct((n, 4), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of `similarity` and `embeddings`"),
        ({"similarity": np.eye(3), "embeddings": np.eye(3)}, "Exactly one of `similarity` and `embeddings`"),
        ({"similarity": np.ones((3, 2))}, r"`similarity` must be \[n, n\], got \[3, 2\]"),
        ({"similarity": np.eye(3, dtype=int)}, "floating point, got int"),
        ({"embeddings": np.ones(3)}, r"`embeddings` must be \[n, d\].*\[3\]"),
        ({"embeddings": np.ones((0, 3))}, r"`embeddings` must be \[n, d\].*\[0, 3\]"),
    ],
)
def test_input_errors(form, arguments, message):
    with pytest.raises(InputError, match=message):
        form(**arguments)
