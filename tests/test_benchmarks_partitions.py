"""Comparing partitions with labels, on rankings that can be checked by hand."""

import numpy as np
import pytest

from benchmarks import partitions, pretrained
from sas_jax import Ranking


def ranking(position, classes):
    return Ranking(position, np.full(len(position), np.nan), classes)


@pytest.fixture(scope="module")
def compared():
    labels = np.repeat([0, 1], 10)
    order = np.tile(np.arange(10), 2)
    halves = np.tile(np.repeat([0, 1], 5), 2)  # five images of each label in each class
    within_halves = np.array([0, 1, 2, 3, 4] * 2 + [5, 6, 7, 8, 9] * 2)
    rankings = {
        ("sas", ""): ranking(within_halves, halves),
        ("sas", "labels"): ranking(order, labels),
        ("sas", "reversed"): ranking(9 - order, labels),
        ("k_center", "reversed"): ranking(9 - order, labels),
    }
    return partitions.compare(rankings, labels)


def test_a_subset_is_compared_with_the_one_within_the_labels(compared):
    at = {name: fractions["0.2"] for name, fractions in compared["rankings"].items()}
    assert at["sas@labels"] == {"shared": 1.0, "fewest": 2, "most": 2}
    assert at["sas@reversed"] == {"shared": 0.0, "fewest": 2, "most": 2}
    assert at["k_center@reversed"]["shared"] is None, "there is no k_center within the labels"
    # Two of each half, all with label 0; images 0 and 1 are also in the other subset.
    assert at["sas"] == {"shared": 0.5, "fewest": 0, "most": 4}
    assert compared["partitions"]["labels"]["accuracy"] == 1
    assert compared["partitions"][""]["purity"] == 0.5
    assert [compared["partitions"][""][name] for name in ("classes", "smallest", "largest")] == [2, 10, 10]


def test_the_table_has_a_row_for_each_ranking(compared):
    lines = partitions.table(compared).splitlines()
    assert len(lines) == 2 + 4
    assert lines[2] == "| sas | 2 | 10 to 10 | 0.50 | 0.50 | 0.00 | 50% | 0 to 4 |"


def test_principal_components_are_those_of_the_singular_vectors():
    x = np.random.default_rng(0).normal(size=(50, 6)) * [5, 4, 3, 1, 0.5, 0.1] + 7
    found = pretrained.principal(x, 3)
    left, values, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    wanted = (left * values)[:, :3]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-5)
