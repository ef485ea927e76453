"""Contrastive losses, each as few large products."""

import chex
import jax
import jax.numpy as jnp


def nt_xent(z: jax.Array, *, temperature: float) -> jax.Array:
    """The normalised temperature-scaled cross entropy over all 2n views of a batch.

    Each view is asked to find the other view of its image among the 2n - 1 other views. One [2n, 2n] product; the
    memory is O(n^2 + n d).

    Args:
        z: float32 [n, 2, d], the outputs of the projection head: two views of each of n images; not normalised.
        temperature: > 0; divides the cosines.

    Returns:
        float32 [], the mean over the 2n views.

    Source: Chen et al. 2020 (arXiv 2002.05709), equation 1.
    """
    chex.assert_rank(z, 3)
    chex.assert_axis_dimension(z, 1, 2)
    n = z.shape[0]
    # Not by the norm: its gradient at a row of zeros is not a number.
    squares = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    u = (z * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))).reshape(2 * n, -1)
    logits = jnp.matmul(u, u.T, precision=jax.lax.Precision.HIGHEST) / temperature
    logits = jnp.where(jnp.eye(2 * n, dtype=bool), -jnp.inf, logits)
    pairs = u.reshape(n, 2, -1)
    positive = jnp.repeat(jnp.sum(pairs[:, 0] * pairs[:, 1], axis=-1), 2) / temperature
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - positive)
