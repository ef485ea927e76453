"""The number of latent classes: the silhouette against scikit-learn's, and the number that the rule chooses."""

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from sas_jax.errors import InputError
from sas_jax.latent_classes import number

KEY = jax.random.key(2)


def groups(k, n, spread, d=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d))
    return centres[np.arange(n) % k] + spread * rng.normal(size=(n, d))


@pytest.mark.parametrize(("n", "k"), [(50, 2), (700, 9)])
def test_silhouette_equals_scikit_learns(monkeypatch, n, k):
    x = groups(k, n, 0.7) + 100
    labels = np.random.default_rng(0).permutation(np.arange(n) % k)
    labels[0] = k  # alone in its class: its silhouette is 0
    for block in (512, 64):  # the last block is incomplete
        monkeypatch.setattr(number, "_BLOCK", block)
        number._silhouette.clear_cache()
        assert number.silhouette(x, labels) == pytest.approx(silhouette_score(x, labels), abs=1e-4)
    number._silhouette.clear_cache()


def test_silhouette_of_equal_rows_is_zero():
    assert number.silhouette(np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1])) == 0


@pytest.fixture
def quick(monkeypatch):
    """Uses scikit-learn's k-means, which needs no compilation for each number of classes."""

    class Found:
        def __init__(self, key, x, *, num_classes, restarts, iterations):
            self.labels = KMeans(num_classes, n_init=restarts, max_iter=iterations, random_state=0).fit(x).labels_

    monkeypatch.setattr(number, "kmeans", Found)


def test_groups_that_stand_apart_are_counted():
    found = number.choose(KEY, groups(3, 200, 0.2), rows=100)
    assert found.num_classes == 3
    assert found.decided
    assert found.tried == (2, 3, 4)  # 100 rows, at least 20 per class
    assert len(found.silhouettes) == len(found.tried)
    assert max(found.silhouettes) == found.silhouettes[1] > 0.5
    assert number.choose(KEY, groups(3, 200, 0.2), rows=100) == found


def test_more_groups_are_counted(quick):
    found = number.choose(KEY, groups(8, 400, 0.2), rows=300)
    assert (found.num_classes, found.decided) == (8, True)
    assert found.tried == (2, 3, 4, 6, 8, 11)


def test_two_far_groups_are_two(quick):
    found = number.choose(KEY, groups(2, 100, 0.1))
    assert (found.num_classes, found.decided) == (2, True)


def test_without_groups_it_is_the_square_root_of_half(quick):
    found = number.choose(KEY, np.random.default_rng(0).normal(size=(180, 64)))
    assert not found.decided
    assert found.num_classes == 9
    # At most n / per_class.
    assert number.choose(KEY, np.random.default_rng(0).normal(size=(90, 64))).num_classes == 4


def test_too_few_rows():
    with pytest.raises(InputError, match=r"at least 40 rows .* got 39\. Set num_classes"):
        number.choose(KEY, np.eye(39))
