"""Embeddings: equal on one device and eight, means over views, and independent of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from sas_jax import devices, embedding
from sas_jax.embedding import embed
from sas_jax.selection.pairwise import pairwise
from sas_jax.views import Views, plain, view

VIEWS = Views(size=6)
WEIGHTS = jax.random.normal(jax.random.key(9), (6 * 6 * 3, 5))


def apply(variables, images):
    return jnp.tanh(images.reshape(len(images), -1) @ variables)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (21, 8, 8, 3), np.uint8)


def embedded(images, **kwargs):
    settings = {"views": VIEWS, "batch_size": 4, "num_views": 3, "key": jax.random.key(1), "keep_views": True} | kwargs
    return embed(apply, WEIGHTS, images, **settings)


def test_equals_view_after_view(images):
    """Against a loop over examples and views with the same keys."""
    one = jax.jit(lambda key, image: view(key, image, VIEWS))
    expected = np.empty((21, 3, 5))
    for i in range(21):
        for v in range(3):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), i), v)
            out = np.asarray(apply(WEIGHTS, one(key, images[i])[None])[0], np.float64)
            expected[i, v] = out / np.linalg.norm(out)
    found = embedded(images)
    assert (found.shape, found.dtype) == ((21, 3, 5), np.float32)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_one_device_equals_eight_and_no_batch_matters(images):
    one = embedded(images, devices=(jax.devices()[0],), batch_size=7)
    np.testing.assert_allclose(one, embedded(images), atol=1e-5)


def test_without_keeping_views_it_is_their_mean(images):
    mean = embedded(images, keep_views=False)
    np.testing.assert_allclose(mean, embedded(images).mean(1), atol=1e-6)
    assert np.linalg.norm(mean, axis=1).max() <= 1 + 1e-5


def test_without_views_it_is_the_output_for_the_image(images):
    found = embed(apply, WEIGHTS, images, views=VIEWS, batch_size=4)
    expected = apply(WEIGHTS, jnp.stack([plain(image, VIEWS) for image in images]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_mean_over_all_pairs_of_views_is_the_product_of_embeddings(images):
    """So one [n, d] matrix replaces n x n x m x m comparisons: DESIGN section 2."""
    views, mean = embedded(images), embedded(images, keep_views=False)
    pairs = np.einsum("iad,jbd->ij", views, views, dtype=np.float64) / 9
    off = ~np.eye(21, dtype=bool)
    np.testing.assert_allclose(np.maximum(mean @ mean.T, 0)[off], np.maximum(pairs, 0)[off], atol=1e-5)
    # and the pairwise form agrees if no pair of views is clipped
    shifted = np.abs(views)
    clipped = np.asarray(pairwise(shifted, kind="clipped_cosine"))
    np.testing.assert_allclose(clipped[off], (shifted.mean(1) @ shifted.mean(1).T)[off], atol=1e-5)


def test_the_next_batch_is_decoded_while_the_devices_compute(monkeypatch):
    happened = []

    class Slow:
        """Images that are decoded on access."""

        shape = (6, 4, 4, 3)

        def __len__(self):
            return 6

        def __getitem__(self, indices):
            happened.append(("decode", int(indices[0])))
            return np.zeros((len(indices), 4, 4, 3), np.uint8)

    class Result:
        """A device's result, which is waited for when it is read."""

        shape = (1, 2, 1)

        def __init__(self, first):
            self.first = first

        def __array__(self, dtype=None, copy=None):
            happened.append(("read", self.first))
            return np.full(self.shape, self.first, np.float32)

    def compute(variables, batch, examples, key):
        happened.append(("compute", int(examples[0, 0])))
        return Result(int(examples[0, 0]))

    monkeypatch.setattr(embedding, "compiled", lambda *_: compute)
    found = embedding.embed(None, {}, Slow(), views=None, batch_size=2, devices=tuple(jax.devices()[:1]))
    assert found.ravel().tolist() == [0, 0, 2, 2, 4, 4]
    assert happened == [
        ("decode", 0), ("compute", 0), ("decode", 2), ("compute", 2), ("read", 0),
        ("decode", 4), ("compute", 4), ("read", 2), ("read", 4),
    ]  # fmt: skip


def test_parts_of_several_processes_are_written_as_one_by_blocks(monkeypatch, tmp_path):
    sizes = []

    def gather(block):
        sizes.append(len(block))
        return np.stack([block, block + 100])

    monkeypatch.setattr(devices.multihost_utils, "process_allgather", gather)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(devices, "_GATHERED_AT_ONCE", 2 * 3 * 4)  # four rows of three numbers, in two processes
    part = np.arange(30, dtype=np.float32).reshape(10, 3)
    embedding.write_parts(epath.Path(tmp_path / "e.npy"), part, 19)
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), np.concatenate([part, part + 100])[:19])
    assert sizes == [4, 4, 2]
