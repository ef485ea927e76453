"""What more than one module of these tests needs."""

import numpy as np
import pytest


def replay(objective, similarity, picks, where=None):
    """Each pick's exact gain is within 1e-6 of the largest initial gain of the best candidate's; returns the gains."""
    similarity = similarity.astype(np.float64)
    n = len(similarity)
    available = np.ones(n, bool) if where is None else where.copy()
    coverage, cut = np.zeros(n), similarity.sum(0) - np.diagonal(similarity)
    largest, found = None, []
    for e in picks:
        if objective == "facility_location":
            gains = np.maximum(similarity - coverage[:, None], 0).sum(0)
        else:
            gains = cut if objective == "sas" else similarity.sum(0)
        largest = gains[available].max() if largest is None else largest
        assert available[e]
        assert gains[e] >= gains[available].max() - 1e-6 * largest
        found.append(gains[e])
        available[e] = False
        coverage, cut = np.maximum(coverage, similarity[:, e]), cut - 2 * similarity[:, e]
    return np.array(found)


@pytest.fixture(name="check_replay")
def fixture_check_replay():
    return replay
