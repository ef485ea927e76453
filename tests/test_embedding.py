"""Embeddings: equal on one device and eight, the mean over views, and nothing that depends on the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    """What lets one [n, d] matrix stand for n x n x m x m comparisons: DESIGN section 2."""
    views, mean = embedded(images), embedded(images, keep_views=False)
    pairs = np.einsum("iad,jbd->ij", views, views, dtype=np.float64) / 9
    off = ~np.eye(21, dtype=bool)
    np.testing.assert_allclose(np.maximum(mean @ mean.T, 0)[off], np.maximum(pairs, 0)[off], atol=1e-5)
    # and the pair form agrees where no pair of views is clipped
    shifted = np.abs(views)
    clipped = np.asarray(pairwise(shifted, kind="clipped_cosine"))
    np.testing.assert_allclose(clipped[off], (shifted.mean(1) @ shifted.mean(1).T)[off], atol=1e-5)
