"""A common factor of similarities or weights changes no pick, and ranges that fixed point cannot hold are reported."""

import functools
import warnings

import jax
import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.selection import double_greedy, greedy
from sas_jax.selection.rank import rank

N = 40
OBJECTIVES = ["facility_location", "sas", "similarity_sum"]
WEIGHTED = ["facility_location", "similarity_sum"]


def units(seed, n=N, d=6):
    z = np.random.default_rng(seed).normal(size=(n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def matrix(seed):
    z = units(seed)
    found = np.maximum(z @ z.T, 0)
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1)
    return found


S = matrix(0)
Z = units(0).astype(np.float32)
WEIGHTS = np.random.default_rng(1).uniform(0.01, 1, N)


def same(found, expected, factor):
    """Checks for equal positions, and for gains times the factor as far as float32 holds them."""
    np.testing.assert_array_equal(found.position, expected.position)
    wanted = expected.gain.astype(np.float64) * factor
    np.testing.assert_allclose(found.gain, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max() + 1e-44)


@pytest.mark.parametrize("factor", [1 / 7.3, 1 / S.sum(), 1e-12, 3e-39, 1e-300])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_matrix_of_any_scale_is_ranked_alike(objective, factor):
    expected, found = rank(similarity=S, objective=objective), rank(similarity=S * factor, objective=objective)
    same(found, expected, factor)
    assert found.turning_points == expected.turning_points


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_classes_of_different_scales(objective):
    """Each class has its own scale."""
    classes = np.arange(N) % 2
    factors = np.where(classes, 1e-9, 1.0)
    expected = rank(similarity=S, classes=classes, objective=objective)
    found = rank(similarity=S * np.sqrt(np.outer(factors, factors)), classes=classes, objective=objective)
    same(found, expected, factors)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_jitted_functions_scale_by_themselves(objective):
    """Also under vmap, where each item of a batch has its own scale."""
    function = functools.partial(getattr(greedy, objective), budget=N)
    factors = np.array([1, 1 / 7.3, 1e-12, 1e-28])
    picks, gains = jax.jit(jax.vmap(function))((S * factors[:, None, None]).astype(np.float32))
    alone, alone_gains = function((S * factors[2]).astype(np.float32))
    assert picks.tolist() == [picks[0].tolist()] * 4
    assert alone.tolist() == picks[0].tolist()
    wanted = np.asarray(gains[0], np.float64) * factors[:, None]
    for found, expected in (*zip(gains, wanted, strict=True), (alone_gains, wanted[2])):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_a_diagonal_that_plays_no_part_sets_no_scale():
    others = S * 1e-9
    np.fill_diagonal(others, 1)
    picks = greedy.sas(S, budget=N)[0].tolist()
    assert greedy.sas(others, budget=N)[0].tolist() == picks
    picks = greedy.facility_location(S, budget=N, self_similarity=0.0)[0].tolist()
    assert greedy.facility_location(others, budget=N, self_similarity=0.0)[0].tolist() == picks


def test_embeddings_of_small_norms():
    """For `sas`; the other objectives compare with a self-similarity of 1, and warn if that hides everything else."""
    picks, gains = greedy.sas(embeddings=Z, budget=N)
    small, small_gains = greedy.sas(embeddings=Z * np.float32(2.0**-20), budget=N)
    assert small.tolist() == picks.tolist()
    np.testing.assert_allclose(small_gains, gains * 2.0**-40, rtol=1e-4)
    expected = rank(Z, objective="sas")
    same(rank(Z / 1000, objective="sas", normalize=False), expected, 1e-6)
    with pytest.warns(UserWarning, match=r"at most 1\.0e-06, but self-similarities are up to 1\.0e\+00"):
        rank(Z / 1000, objective="facility_location", normalize=False)


def test_cuts_of_any_scale():
    for cut in (double_greedy.double_greedy, double_greedy.turning_point):
        expected, found = cut(S), cut(S * 2.0**-30)
        np.testing.assert_array_equal(found.chosen, expected.chosen)
        np.testing.assert_allclose(found.value, expected.value * 2.0**-30, rtol=1e-6)


@pytest.mark.parametrize("factor", [3e-39, 1e-300, 1 / 7.3, 1e9, 1e36])
@pytest.mark.parametrize("objective", WEIGHTED)
def test_weights_times_any_factor(objective, factor):
    classes = np.arange(N) % 2
    expected = rank(Z, classes, objective=objective, weights=WEIGHTS)
    same(rank(Z, classes, objective=objective, weights=WEIGHTS * factor), expected, factor)
    expected, found = (rank(similarity=S, objective=objective, weights=WEIGHTS * by) for by in (1, factor))
    same(found, expected, factor)


@pytest.mark.parametrize("factor", [3e-39, 1e-30, 1e30])
def test_weights_of_the_jitted_functions_times_any_factor(factor):
    """XLA treats float32 values below 2^-126 as 0."""
    expected, found = (
        greedy.facility_location(S, budget=N, weights=(WEIGHTS * by).astype(np.float32))[0] for by in (1, factor)
    )
    assert found.tolist() == expected.tolist()


def test_weights_that_fixed_point_does_not_hold_are_refused():
    weights = WEIGHTS.copy()
    weights[3] = 1e9
    with pytest.raises(
        InputError,
        match=r"at least 1\.2e-07 times the largest of their class, got 39 smaller .* largest is 1e\+09. Inc",
    ):
        rank(Z, objective="facility_location", weights=weights)
    # In a separate class it hides no others.
    rank(Z, np.arange(N) == 3, objective="facility_location", weights=weights)
    weights[3] = 1e5
    with pytest.warns(UserWarning, match=r"of 40 weights are less than 1\.5e-05 times the largest of their class"):
        rank(Z, objective="facility_location", weights=weights)
    with pytest.raises(
        InputError, match=r"a sum of at most 3\.4e\+38, because gains are float32 .* got .*e\+39\. Divide all"
    ):
        rank(Z, objective="facility_location", weights=WEIGHTS * 3e38)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: np.fill_diagonal(s, 1e9 * s.max()), r"at most .*, but self-similarities are up to 1\.0e\+00"),
        (
            lambda s: s.__setitem__((slice(1, None), slice(1, None)), s[1:, 1:] * 1e-9),
            r"\d\d of 40 examples of a class",
        ),
    ],
)
def test_similarities_that_fixed_point_does_not_hold_are_told(change, message):
    given = np.where(np.eye(N) == 1, S, S * 0.5)
    change(given)
    given /= given.max()
    with pytest.warns(UserWarning, match=message):
        rank(similarity=given, objective="facility_location")


def test_nothing_is_told_of_ordinary_ranges():
    """Weights with long tails, and similarities that decay to 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel = np.exp(-((np.arange(N)[:, None] - np.arange(N)) ** 2.0))
        for objective in OBJECTIVES:
            rank(similarity=kernel, objective=objective)
        rank(Z, objective="facility_location", weights=np.r_[2e-5, np.linspace(0.001, 1, N - 2), 0.0])


def test_symmetry_is_relative_to_the_largest_similarity():
    given = S * 1e-9
    given[2, 5] *= 1.5
    with pytest.raises(InputError, match=r"`similarity` must be symmetric, got .* at row 2, column 5"):
        rank(similarity=given)
    given = S * 1e-9
    given[2, 5] = given[5, 2] = -1e-10
    with pytest.raises(InputError, match="from 0 to 1, got -1e-10 at row 2, column 5"):
        rank(similarity=given)
