"""Greedy on a few thousand examples, where last bits differ, against a greedy in float64."""

import numpy as np
import pytest

from sas_jax.selection import greedy

N = 2100  # several tiles of embeddings, the wider window for a matrix, and more rows than one listing holds


def products(z):
    """Returns the similarities of embeddings as greedy computes them, in float64."""
    found = np.clip(z.astype(np.float64) @ z.T.astype(np.float64), 0, 1)
    np.fill_diagonal(found, 1)
    return found


def lazy_greedy(objective, similarity, budget):
    """Returns picks and gains; old gains are upper bounds, so the largest one is the best if it does not change."""
    gains = similarity.sum(0) - (np.diagonal(similarity) if objective == "sas" else 0)
    picks, found, coverage = [], [], np.zeros(len(similarity))
    available = np.ones(len(similarity), bool)
    while len(picks) < budget:
        best = int(np.argmax(np.where(available, gains, -np.inf)))
        if objective == "facility_location":
            bound, gains[best] = gains[best], np.maximum(similarity[:, best] - coverage, 0).sum()
            if gains[best] < bound:
                continue
            coverage = np.maximum(coverage, similarity[:, best])
        picks.append(best)
        found.append(gains[best])
        available[best] = False
        if objective == "sas":
            gains = gains - 2 * similarity[:, best]
    return picks, found


@pytest.mark.parametrize("objective", ["facility_location", "sas", "similarity_sum"])
def test_lazy_greedy_is_greedy(objective, quantise, integer_greedy):
    z = np.random.default_rng(0).normal(size=(60, 5))
    units = quantise(products(z / np.linalg.norm(z, axis=1, keepdims=True)))
    picks, gains = lazy_greedy(objective, units.astype(np.float64), 60)
    assert (picks, gains) == integer_greedy(objective, units, 60)


@pytest.mark.parametrize(
    ("objective", "source"),
    [
        ("facility_location", "matrix"),
        ("facility_location", "embeddings"),
        ("sas", "matrix"),
        ("sas", "embeddings"),
        ("similarity_sum", "embeddings"),
    ],
)
def test_as_good_as_float64_on_a_mixture(objective, source, check_replay):
    """The value agrees to 1e-6 at 20 % and at 80 %, each pick is the best, and each gain is right."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(N, 32)) + 2 * rng.normal(size=(20, 32))[rng.integers(20, size=N)]
    # Norms as of means over views, and one image that occurs a hundred times.
    z *= rng.uniform(0.5, 1, (N, 1)) / np.linalg.norm(z, axis=1, keepdims=True)
    z[rng.permutation(N)[:100]] = z[7]
    z = z.astype(np.float32)
    similarity = products(z)
    given = {"similarity": similarity.astype(np.float32)} if source == "matrix" else {"embeddings": z}
    budget = N * 8 // 10
    picks, gains = getattr(greedy, objective)(**given, budget=budget)
    assert len(set(picks.tolist())) == budget
    assert (np.diff(gains) <= 0).all()
    exact = check_replay(objective, similarity, picks.tolist())
    np.testing.assert_allclose(gains, exact, atol=1e-6 * exact[0])
    _, best = lazy_greedy(objective, similarity, budget)
    for part in (N // 5, budget):
        # The gains of the first picks add up to the value of the objective.
        assert abs(sum(exact[:part]) - sum(best[:part])) <= 1e-6 * sum(best[:part])
