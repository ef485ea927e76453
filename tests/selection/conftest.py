"""Shared by several of these test modules: slow, obvious forms of greedy, in float64 and in integers."""

import numpy as np
import pytest

ONE = 2**23


def replay(objective, similarity, picks, where=None):
    """Checks that each pick's exact gain is the best to 1e-6 of the largest first gain; returns the gains."""
    similarity = similarity.astype(np.float64)
    available = np.ones(len(similarity), bool) if where is None else where.copy()
    coverage, found, tolerance = np.zeros(len(similarity)), [], None
    gains = similarity.sum(0) - (np.diagonal(similarity) if objective == "sas" else 0)
    for e in picks:
        if objective == "facility_location":
            # Gains only fall, so an old gain is an upper bound, and candidates with a low enough bound are skipped.
            gains[e] = np.maximum(similarity[:, e] - coverage, 0).sum()
            above = np.flatnonzero(available & (gains > gains[e]))
            gains[above] = np.maximum(similarity[:, above] - coverage[:, None], 0).sum(0)
        tolerance = 1e-6 * gains[available].max() if tolerance is None else tolerance
        assert available[e]
        assert gains[e] >= gains[available].max() - tolerance
        found.append(gains[e])
        available[e] = False
        coverage = np.maximum(coverage, similarity[:, e])
        if objective == "sas":
            gains = gains - 2 * similarity[:, e]
    return np.array(found)


def quantise(similarity, weights=None, one=1.0):
    """Returns how well example j represents example i as the engine sees it: int64 [n, n], in units of 2^-23 `one`."""
    represents = np.clip(np.asarray(similarity, np.float32), 0, 1)
    if weights is not None:
        mantissa, exponent = np.frexp(np.float32(np.max(weights)))
        scale = np.ldexp(np.float32(1), exponent - (mantissa == 0.5))  # the next power of two
        represents = represents * (np.asarray(weights, np.float32) / scale)[:, None]
    return np.rint(represents.astype(np.float64) / one * ONE).astype(np.int64)


def integer_greedy(objective, units, budget, where=None, initial=()):
    """Returns exact picks and gains, from all gains at every step; units [i, j] say how well j represents i."""
    chosen, picks, found = list(initial), [], []
    available = np.ones(len(units), bool) if where is None else where.copy()
    available[chosen] = False
    while len(picks) < budget and available.any():
        if objective == "facility_location":
            gains = np.maximum(units - units[:, chosen].max(1, initial=0)[:, None], 0).sum(0)
        elif objective == "sas":
            gains = units.sum(0) - np.diagonal(units) - 2 * units[chosen].sum(0)
        else:
            gains = units.sum(0)
        best = int(np.argmax(np.where(available, gains, np.iinfo(np.int64).min)))  # the first of the largest gains
        picks.append(best)
        found.append(int(gains[best]))
        chosen.append(best)
        available[best] = False
    return picks, found


@pytest.fixture(name="check_replay", scope="session")
def fixture_check_replay():
    return replay


@pytest.fixture(name="quantise", scope="session")
def fixture_quantise():
    return quantise


@pytest.fixture(name="integer_greedy", scope="session")
def fixture_integer_greedy():
    return integer_greedy
