"""NT-Xent against the definition, term by term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.training.losses import nt_xent


def slow_nt_xent(z, temperature):
    """Implements equation 1 of Chen et al. 2020, one view at a time in float64; image i has the rows 2i and 2i + 1."""
    views = np.asarray(z, np.float64).reshape(-1, z.shape[-1])
    views = views / np.linalg.norm(views, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(views)):
        partner = i + 1 if i % 2 == 0 else i - 1
        positive = np.exp(views[i] @ views[partner] / temperature)
        others = sum(np.exp(views[i] @ views[k] / temperature) for k in range(len(views)) if k != i)
        total -= np.log(positive / others)
    return total / len(views)


@pytest.mark.parametrize(("n", "d", "temperature"), [(2, 3, 0.5), (7, 16, 0.1), (16, 8, 1.0)])
def test_equals_the_definition(n, d, temperature):
    z = jax.random.normal(jax.random.key(n), (n, 2, d)) * 3
    expected = slow_nt_xent(z, temperature)
    np.testing.assert_allclose(nt_xent(z, temperature=temperature), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda z: nt_xent(z, temperature=temperature))(z), expected, rtol=1e-5)


def test_gradient_equals_finite_differences():
    z = jax.random.normal(jax.random.key(0), (4, 2, 5))
    gradient = jax.grad(lambda z: nt_xent(z, temperature=0.5))(z)
    direction = np.asarray(jax.random.normal(jax.random.key(1), z.shape), np.float64)
    z64, step = np.asarray(z, np.float64), 1e-5
    slope = (slow_nt_xent(z64 + step * direction, 0.5) - slow_nt_xent(z64 - step * direction, 0.5)) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-4)


def test_does_not_depend_on_the_scale_or_the_order_of_images():
    z = jax.random.normal(jax.random.key(0), (6, 2, 5))
    loss = nt_xent(z, temperature=0.5)
    np.testing.assert_allclose(nt_xent(z * 7.0, temperature=0.5), loss, rtol=1e-5)
    np.testing.assert_allclose(nt_xent(z[::-1], temperature=0.5), loss, rtol=1e-5)
    np.testing.assert_allclose(nt_xent(z[:, ::-1], temperature=0.5), loss, rtol=1e-5)


def test_falls_when_pairs_agree():
    a = jax.random.normal(jax.random.key(0), (8, 1, 16))
    b = jax.random.normal(jax.random.key(1), (8, 1, 16))
    agreeing = nt_xent(jnp.concatenate([a, a], 1), temperature=0.5)
    assert agreeing < nt_xent(jnp.concatenate([a, b], 1), temperature=0.5)


def test_a_zero_row_gives_a_finite_loss_and_gradient():
    z = jnp.ones((3, 2, 4)).at[0, 0].set(0.0)
    loss, gradient = jax.value_and_grad(lambda z: nt_xent(z, temperature=0.5))(z)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
