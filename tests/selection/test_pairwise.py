"""The pairwise form of similarity against loops over pairs of views."""

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.selection import pairwise, similarity


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def slow_pairwise(views, kind, tau):
    """Implements the definitions, one pair of views at a time."""
    views = views.astype(np.float64)
    n, m, _ = views.shape
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            each = []
            for a in range(m):
                for b in range(m):
                    cosine = views[i, a] @ views[j, b]
                    square = ((views[i, a] - views[j, b]) ** 2).sum()
                    each.append(
                        {"cosine": cosine, "clipped_cosine": max(0, cosine), "gaussian": np.exp(-square / tau)}[kind]
                    )
            result[i, j] = max(0, np.mean(each))
    return result


@pytest.mark.parametrize("kind", pairwise.KINDS)
@pytest.mark.parametrize("num_devices", [1, 8])
def test_pair_form_is_the_mean_over_pairs_of_views(kind, num_devices):
    views = unit(np.random.default_rng(0), 13, 3, 5)
    found = pairwise.pairwise(views, kind=kind, tau=0.7, mesh=devices.mesh(num_devices))
    np.testing.assert_allclose(found, slow_pairwise(views, kind, 0.7), atol=2e-6)


@pytest.mark.parametrize("kind", pairwise.KINDS)
@pytest.mark.parametrize(("n", "m"), [(96, 2), (200, 2), (70, 4)])
def test_the_bits_do_not_depend_on_the_number_of_devices(kind, n, m):
    """Otherwise the picks would: greedy breaks near ties by the last bit."""
    views = unit(np.random.default_rng(n), n, m, 16)
    one = np.asarray(pairwise.pairwise(views, kind=kind, mesh=devices.mesh(1)))
    for number in (2, 4, 8):
        other = np.asarray(pairwise.pairwise(views, kind=kind, mesh=devices.mesh(number)))
        np.testing.assert_array_equal(one, other)


def test_gaussian_takes_views_that_are_not_unit():
    views = 0.5 * unit(np.random.default_rng(1), 6, 2, 4)
    np.testing.assert_allclose(
        pairwise.pairwise(views, kind="gaussian", tau=0.3), slow_pairwise(views, "gaussian", 0.3), atol=2e-6
    )


def test_pair_form_in_several_chunks():
    # 40 rows of 40 x 200 x 200 products are more than one step of the map computes.
    views = unit(np.random.default_rng(2), 40, 200, 2)
    found = pairwise.pairwise(views)
    np.testing.assert_allclose(found, np.maximum(0, views.mean(1) @ views.mean(1).T), atol=2e-6)


def test_embeddings_equal_the_pair_form_of_cosine():
    views = unit(np.random.default_rng(3), 60, 4, 6)
    pairs = np.asarray(pairwise.pairwise(views, kind="cosine")).copy()
    np.fill_diagonal(pairs, 1)
    embeddings = similarity.Embeddings(pairwise.embed_views(views))
    found = embeddings.covered(embeddings.examples(jnp.arange(60)))
    np.testing.assert_allclose(found / 2**23, pairs, atol=1e-6)


def test_errors():
    views = unit(np.random.default_rng(5), 4, 2, 3)
    with pytest.raises(InputError, match=r"one of cosine, clipped_cosine, gaussian, got 'gausian'.*'gaussian'"):
        pairwise.pairwise(views, kind="gausian")
    with pytest.raises(InputError, match=r"`views` must be \[n, m, d\], m views of each example, got \(2, 3\)"):
        pairwise.pairwise(views[0])
