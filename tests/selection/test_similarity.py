"""The two forms of similarity against each other, and the pair form against loops over pairs of views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.selection import fixed_point, similarity


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def slow_pairwise(views, kind, tau):
    """From the definitions, pair by pair of views."""
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


@pytest.mark.parametrize("kind", similarity.KINDS)
@pytest.mark.parametrize("num_devices", [1, 8])
def test_pair_form_is_the_mean_over_pairs_of_views(kind, num_devices):
    views = unit(np.random.default_rng(0), 13, 3, 5)
    found = similarity.pairwise(views, kind=kind, tau=0.7, mesh=devices.mesh(num_devices))
    np.testing.assert_allclose(found, slow_pairwise(views, kind, 0.7), atol=2e-6)


def test_gaussian_takes_views_that_are_not_unit():
    views = 0.5 * unit(np.random.default_rng(1), 6, 2, 4)
    np.testing.assert_allclose(
        similarity.pairwise(views, kind="gaussian", tau=0.3), slow_pairwise(views, "gaussian", 0.3), atol=2e-6
    )


def test_pair_form_in_several_chunks(monkeypatch):
    # 40 rows of 40 x 200 x 200 products are more than one step of the map takes.
    views = unit(np.random.default_rng(2), 40, 200, 2)
    found = similarity.pairwise(views)
    np.testing.assert_allclose(found, np.maximum(0, views.mean(1) @ views.mean(1).T), atol=2e-6)


def test_embeddings_equal_the_pair_form_of_cosine():
    views = unit(np.random.default_rng(3), 60, 4, 6)
    pairs = np.asarray(similarity.pairwise(views, kind="cosine")).copy()
    np.fill_diagonal(pairs, 1)
    rows = similarity.Embeddings(similarity.embed_views(views)).rows(jnp.arange(60))
    np.testing.assert_allclose(rows / fixed_point.ONE, pairs, atol=1e-6)


def forms(rng, n, self_similarity):
    z = unit(rng, n, 7)
    embeddings = similarity.Embeddings(jnp.asarray(z), self_similarity)
    full = np.maximum(0, z.astype(np.float64) @ z.T.astype(np.float64))
    np.fill_diagonal(full, self_similarity)
    matrix = similarity.Matrix.of(full.astype(np.float32), self_similarity=self_similarity)
    return full, {"matrix": matrix, "embeddings": embeddings, "embeddings' matrix": embeddings.matrix()}


@pytest.mark.parametrize("n", [1, 5, 64, 300])
@pytest.mark.parametrize("self_similarity", [0.0, 1.0])
def test_a_matrix_and_embeddings_do_the_same_operations(n, self_similarity):
    full, each = forms(np.random.default_rng(n), n, self_similarity)
    indices = jnp.asarray([0, n - 1, n // 2])
    for name, form in each.items():
        assert form.size == n
        np.testing.assert_allclose(form.rows(indices) / fixed_point.ONE, full[indices], atol=4e-7, err_msg=name)
        np.testing.assert_allclose(fixed_point.to_float(form.row_sums()), full.sum(0), rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(form.diagonal(), np.full(n, self_similarity * fixed_point.ONE), err_msg=name)


def test_row_sums_are_exact():
    values = np.random.default_rng(4).uniform(size=(201, 201)).astype(np.float32)
    matrix = similarity.Matrix.of((values + values.T) / 2)
    total = jax.jit(lambda matrix: matrix.row_sums())(matrix)
    expected = np.asarray(matrix.values, np.int64).sum(0)
    np.testing.assert_array_equal(np.asarray(total.high, np.int64) * 2**16 + np.asarray(total.low), expected)


def test_a_matrix_keeps_its_diagonal_unless_told():
    values = np.full((4, 4), 0.25, np.float32)
    np.testing.assert_array_equal(similarity.Matrix.of(values).diagonal(), np.full(4, 2**22))
    np.testing.assert_array_equal(similarity.Matrix.of(values, self_similarity=0.5).diagonal(), np.full(4, 2**23))


def test_a_matrix_may_be_of_half_precision():
    np.testing.assert_array_equal(similarity.Matrix.of(jnp.ones((2, 2), jnp.float16)).values, np.full((2, 2), 2**24))


def test_errors():
    views = unit(np.random.default_rng(5), 4, 2, 3)
    with pytest.raises(InputError, match=r"one of cosine, clipped_cosine, gaussian, and this is 'gausian'.*'gaussian'"):
        similarity.pairwise(views, kind="gausian")
    with pytest.raises(InputError, match=r"shape \[n, m, d\]"):
        similarity.pairwise(views[0])
