"""The methods' losses, each as few large products, and what tells of a collapse."""

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
    u = unit(z).reshape(2 * n, -1)
    logits = jnp.matmul(u, u.T, precision=jax.lax.Precision.HIGHEST) / temperature
    logits = jnp.where(jnp.eye(2 * n, dtype=bool), -jnp.inf, logits)
    pairs = u.reshape(n, 2, -1)
    positive = jnp.repeat(jnp.sum(pairs[:, 0] * pairs[:, 1], axis=-1), 2) / temperature
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - positive)


def info_nce(query: jax.Array, key: jax.Array, queue: jax.Array, *, temperature: float) -> jax.Array:
    """The cross entropy of finding each query's key among it and the keys of a queue.

    Args:
        query: float32 [n, d], not normalised.
        key: float32 [n, d], unit vectors: the positive of each.
        queue: float32 [k, d], unit vectors: the negatives of all.
        temperature: > 0; divides the cosines.

    Returns:
        float32 [], the mean over the queries.

    Source: He et al. 2020 (arXiv 1911.05722), equation 1.
    """
    query = unit(query)
    positive = jnp.sum(query * key, axis=-1) / temperature
    negative = jnp.matmul(query, queue.T, precision=jax.lax.Precision.HIGHEST) / temperature
    return jnp.mean(jax.nn.logsumexp(jnp.concatenate([positive[:, None], negative], axis=1), axis=1) - positive)


def negative_cosine(predicted: jax.Array, wanted: jax.Array) -> jax.Array:
    """The mean of -cos over pairs of rows; no gradient goes through what is wanted.

    Args:
        predicted: float32 [n, d], not normalised.
        wanted: float32 [n, d], not normalised.

    Returns:
        float32 [], in [-1, 1].

    Source: Chen & He 2021 (arXiv 2011.10566), equations 1 and 3.
    """
    return -jnp.mean(jnp.sum(unit(predicted) * jax.lax.stop_gradient(unit(wanted)), axis=-1))


def spread(outputs: jax.Array) -> jax.Array:
    """The standard deviation of the normalised outputs, the mean over features, times the root of their number.

    Args:
        outputs: float [n, d].

    Returns:
        float32 []: 1 where the outputs lie evenly around the sphere, 0 where they have collapsed to a point.

    Source: Chen & He 2021 (arXiv 2011.10566), section 4.1 and figure 2.
    """
    units = unit(jax.lax.stop_gradient(outputs).astype(jnp.float32))
    return jnp.mean(jnp.std(units, axis=0)) * units.shape[-1] ** 0.5


def unit(z: jax.Array) -> jax.Array:
    """Divides rows by their norms; rows of zeros stay.

    Args:
        z: float [..., d].

    Returns:
        float [..., d].
    """
    # Not by the norm: its gradient at a row of zeros is not a number.
    squares = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    return z * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))
