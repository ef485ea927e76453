"""k-means by passes over a file finds the classes of k-means in memory if they are distinct, with any block size."""

import math

import jax
import numpy as np
import pytest

from sas_jax.arrays import LazyRows
from sas_jax.errors import InputError
from sas_jax.latent_classes import kmeans, passes

KEY = jax.random.key(3)


@pytest.fixture
def small(monkeypatch):
    """Blocks of 64 rows of 8 numbers, and a sample of 200 rows."""
    monkeypatch.setattr(passes, "_BLOCK_NUMBERS", 64 * 8)
    monkeypatch.setattr(passes, "SAMPLE", 200)
    monkeypatch.setattr(passes, "SAMPLE_PER_CLASS", 1)


def mixture(n=500, d=8, k=6, apart=8.0):
    rng = np.random.default_rng(0)
    return (apart * rng.normal(size=(k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(np.float32) + 5


def test_classes_far_apart_are_those_of_kmeans_in_memory(small):
    x = mixture()
    expected = kmeans(KEY, x, num_classes=6)
    found = passes.kmeans_by_passes(KEY, LazyRows(x / 2, lambda rows: 2 * rows), num_classes=6, restarts=2)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.centres, expected.centres, atol=1e-4)
    np.testing.assert_allclose(found.inertia, expected.inertia, rtol=1e-4)


def test_passes_improve_on_the_sample_and_every_row_is_in_its_nearest_class(small):
    x = mixture(apart=0.5)
    found = [passes.kmeans_by_passes(KEY, x, num_classes=6, restarts=1, iterations=i) for i in (1, 100)]
    for each in found:
        distances = ((x[:, None] - each.centres) ** 2).sum(-1)
        np.testing.assert_array_equal(each.labels, distances.argmin(1))
        np.testing.assert_allclose(each.inertia, distances.min(1).sum(), rtol=1e-4)
    assert found[1].inertia < found[0].inertia
    assert found[1].inertia < 1.05 * kmeans(KEY, x, num_classes=6).inertia


def test_a_class_that_has_no_rows_starts_again_at_the_farthest(small, monkeypatch):
    x = mixture()

    def far(*_, num_classes, **__):
        centres = np.concatenate([x[:1], np.full((num_classes - 1, 8), 1e3, np.float32)])
        return passes.KMeans(np.zeros(1, np.int32), centres, 0.0)

    monkeypatch.setattr(passes, "kmeans", far)
    found = passes.kmeans_by_passes(KEY, x, num_classes=6)
    assert set(found.labels.tolist()) == set(range(6))
    np.testing.assert_array_equal(found.labels[np.sort(np.unique(found.labels, return_index=True)[1])], np.arange(6))


def test_what_is_not_finite_beyond_the_sample_is_found(small):
    x = mixture()
    rows = np.asarray(jax.random.permutation(jax.random.fold_in(KEY, 0), 500))[:200]
    bad = int(np.setdiff1d(np.arange(500), rows)[-1])
    x[bad, 3] = np.nan
    with pytest.raises(InputError, match=rf"must be finite in float32, .* in the rows {bad // 64 * 64} to \d+"):
        passes.kmeans_by_passes(KEY, x, num_classes=6, restarts=1)


def test_passes_end_where_float32_tells_rows_apart_and_their_distances_do_not(small):
    """As in `kmeans`, an empty class is given a row."""
    near = np.nextafter(np.float32(1), np.float32(2), dtype=np.float32)
    values = np.array([1, near, np.nextafter(near, np.float32(2)), -3, 5], np.float32)
    x = np.stack([values[np.arange(200) % 5], np.ones(200, np.float32)], axis=1)
    found = passes.kmeans_by_passes(KEY, x, num_classes=5, restarts=1, iterations=4)
    assert np.unique(found.labels).tolist() == [0, 1, 2, 3, 4]
    assert found.inertia < 1e-3


@pytest.mark.parametrize(("file", "memory", "of_one", "how"), [
    (True, 1e9, math.inf, "one"), (True, 1000, math.inf, "passes"), (False, 1000, math.inf, "one"),
    (False, 1e9, 1000, "all"), (False, 1e9, 200, "passes"), (True, 1000, 1000, "passes"),
])  # fmt: skip
def test_passes_are_for_what_no_memory_holds(tmp_path, monkeypatch, file, memory, of_one, how):
    """2,400 bytes: on one of the eight devices, on all of them, or by passes."""
    np.save(tmp_path / "E.npy", np.zeros((50, 4), np.float32))
    monkeypatch.setattr(passes, "kmeans", lambda *_, mesh, **__: passes.KMeans("all" if mesh else "one", None, 0.0))
    monkeypatch.setattr(passes, "kmeans_by_passes", lambda *_, **__: passes.KMeans("passes", None, 0.0))
    monkeypatch.setattr(passes.devices, "memory", lambda: memory)
    monkeypatch.setattr(passes.devices, "memory_of_one", lambda: of_one)
    x = np.load(tmp_path / "E.npy", mmap_mode="r" if file else None)
    assert passes.cluster(KEY, x, num_classes=2) == how
