"""A matrix and embeddings, in all their forms, against the same similarities in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.selection import similarity
from sas_jax.selection.similarity import Embeddings, Matrix

N = 100


def embed(rng):
    """Returns embeddings whose products are multiples of 2^-8, exact in any order of summation."""
    return (rng.integers(-4, 5, (N, 12)) / 16).astype(np.float32)


def full(z, self_similarity):
    products = np.clip(z.astype(np.float64) @ z.T.astype(np.float64), 0, 1)
    if self_similarity is not None:
        np.fill_diagonal(products, self_similarity)
    return products.astype(np.float32)


def forms(z, weights, self_similarity):
    """Returns all forms, for CPUs and for accelerators. The matrices' own diagonal differs and is replaced."""
    z, weights = jnp.asarray(z), None if weights is None else jnp.asarray(weights)
    values = jnp.asarray(full(np.asarray(z), 0.375))
    return {
        "matrix": Matrix(values, weights, self_similarity, block=16),
        "matrix, gathered": Matrix(values, weights, self_similarity, block=16, unroll=False),
        "embeddings": Embeddings(z, weights, self_similarity, block=16),
        "embeddings in tiles": Embeddings(z, weights, self_similarity, block=16, tile=N // 4),
    }


@jax.jit
def operations(form, index, local, bounds):
    examples, own = form.examples(index), form.own(local)
    return (
        form.covered(examples),
        # As facility location uses it, with one bound per example.
        form.summed(examples, lambda row, bound: jnp.clip(row - bound, 0, 2 * bound), bounds),
        form.summed(own, lambda row: row // 2),
        form.pairs(examples),
        own.index,
    )


@pytest.mark.parametrize(("weighted", "self_similarity"), [(False, 0.0), (True, 1.0)])
def test_a_matrix_and_embeddings_do_the_same_operations(weighted, self_similarity, quantise):
    rng = np.random.default_rng(0)
    z = embed(rng)
    weights = np.append(rng.random(N - 1), 1).astype(np.float32) if weighted else None
    represents = quantise(full(z, self_similarity), weights)
    index, local = rng.permutation(N)[:16], rng.integers(N, size=16)
    index[1], index[5] = 0, N - 1
    bounds = rng.integers(0, 2**21, 16).astype(np.int32)
    for name, form in forms(z, weights, self_similarity).items():
        assert (form.size, form.number) == (N, N)
        covered, clipped, halves, pairs, own = operations(form, index, local, bounds)
        np.testing.assert_array_equal(covered, represents[:, index].T, err_msg=name)
        rows = represents[index] - bounds[:, None]
        np.testing.assert_array_equal(clipped, np.clip(rows, 0, 2 * bounds[:, None]).sum(0), err_msg=name)
        np.testing.assert_array_equal(halves, (represents[local] // 2).sum(0), err_msg=name)
        np.testing.assert_array_equal(own, local, err_msg=name)
        apart = ~np.eye(16, dtype=bool)  # an example does not form a pair with itself
        unweighted = quantise(full(z, self_similarity))[np.ix_(index, index)]
        np.testing.assert_array_equal(np.asarray(pairs)[apart], unweighted[apart], err_msg=name)


def test_a_matrix_keeps_its_diagonal_unless_told():
    values = jnp.full((16, 16), 0.25)
    index = jnp.arange(16)
    for to_itself, expected in ((None, 2**21), (0.5, 2**22), (0.0, 0)):
        for unroll in (True, False):
            matrix = Matrix(values, None, to_itself, unroll=unroll)
            rows = np.asarray(matrix.covered(matrix.examples(index)))
            assert np.diagonal(rows).tolist() == [expected] * 16
            assert (rows[~np.eye(16, dtype=bool)] == 2**21).all()
            sums = matrix.summed(matrix.examples(index), lambda row: row)
            assert sums.tolist() == [15 * 2**21 + expected] * 16


@pytest.mark.parametrize("d", [3, 128])
def test_a_similarity_has_the_same_bits_wherever_it_is_computed(d):
    """For embeddings with rounded products on a CPU: duplicates and several devices rely on it."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(512, d))
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    form = Embeddings(jnp.asarray(z), self_similarity=0.0, tile=256)
    covered = jax.jit(lambda form, index: form.covered(form.examples(index)))

    def matrix(form):
        return np.concatenate([covered(form, jnp.arange(k, k + 64)) for k in range(0, 512, 64)])

    whole = matrix(form)
    np.testing.assert_array_equal(whole, whole.T)
    # At other places in other products.
    order = rng.permutation(512)
    moved = dataclasses.replace(form, values=jnp.asarray(z[order]))
    np.testing.assert_array_equal(matrix(moved), whole[np.ix_(order, order)])

    @jax.jit
    def others(form, index, real):
        examples = form.examples(index)
        return form.pairs(examples), form.summed(examples, lambda row, real: jnp.where(real, row, 0), real)

    index = jnp.asarray(rng.permutation(512)[:64])
    for k in (0, 31, 63):
        pairs, row = others(form, index, jnp.arange(64) == k)
        np.testing.assert_array_equal(row, whole[index[k]])
        different = np.arange(64) != k
        np.testing.assert_array_equal(pairs[k][different], whole[index[k], index][different])


def test_products_are_of_float32():
    """Not in TF32 or bf16, which would be wrong by 1e-3. On a CPU this always holds; run it on accelerators, too."""
    rng = np.random.default_rng(2)
    one, other = (rng.normal(size=(k, 64)).astype(np.float32) / 8 for k in (16, 24))
    found = jax.jit(similarity.products)(one, other)
    np.testing.assert_allclose(found, one.astype(np.float64) @ other.T.astype(np.float64), atol=1e-6)
    text = jax.jit(similarity.products).lower(one, other).as_text()
    assert "HIGHEST" in text
