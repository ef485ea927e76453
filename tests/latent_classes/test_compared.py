"""The agreement of latent classes with labels."""

import itertools
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from sas_jax.errors import InputError
from sas_jax.latent_classes import agreement


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_agreement_equals_the_definitions(sizes):
    rng = np.random.default_rng(sum(sizes))
    classes, labels = (rng.integers(size, size=200) for size in sizes)
    # All one-to-one matchings: each part of the smaller side is matched with a different one of the larger side.
    small, large = (classes, labels) if sizes[0] <= sizes[1] else (labels, classes)
    matchings = itertools.permutations(range(max(sizes)), min(sizes))
    best = max(np.mean(np.asarray(matching)[small] == large) for matching in matchings)
    found = agreement(classes, labels)
    assert found["accuracy"] == pytest.approx(best)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, classes))
    purity = sum(np.bincount(labels[classes == c]).max() for c in range(sizes[0])) / 200
    assert found["purity"] == pytest.approx(purity)


def test_agreement_does_not_depend_on_names():
    labels = np.random.default_rng(0).integers(6, size=100)
    found = agreement(np.array([17, 3, 99, 0, 5, 41])[labels], labels)
    assert found == pytest.approx({"accuracy": 1.0, "nmi": 1.0, "purity": 1.0})
    assert agreement(np.zeros(9, int), np.zeros(9, int))["nmi"] == 1.0


def test_agreement_leaves_out_what_has_no_label():
    rng = np.random.default_rng(0)
    classes, labels = rng.integers(4, size=300), rng.integers(-1, 5, size=300)
    known = labels >= 0
    assert agreement(classes, labels) == agreement(classes[known], labels[known])
    with pytest.raises(InputError, match="got 9 classes and 9 labels, 0 known"):
        agreement(np.zeros(9, int), np.full(9, -1))


def test_agreement_of_a_thousand_classes_takes_little_memory_whatever_their_numbers():
    rng = np.random.default_rng(0)
    labels = rng.integers(1000, size=20_000)
    classes = rng.permutation(1000)[labels]
    tracemalloc.start()
    found = agreement(classes * 2_000_000, labels * 2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["accuracy"] == pytest.approx(1.0)
    assert peak < 10 * 1000 * 1000 * 8  # a few tables of 1,000 x 1,000


def test_agreement_wants_one_label_per_class():
    with pytest.raises(InputError, match="got 2 classes and 3 labels"):
        agreement(np.zeros(2, int), np.zeros(3, int))
