"""The methods' losses, each computed as a few large matrix products, and a measure of collapse."""

import chex
import jax
import jax.numpy as jnp


def nt_xent(z: jax.Array, *, temperature: float) -> jax.Array:
    """The normalised temperature-scaled cross entropy over all 2n views of a batch.

    Each view is classified among the 2n - 1 other views, and the other view of its image is the correct class. The
    computation is one [2n, 2n] product with O(n^2 + n d) memory.

    Args:
        z: float32 [n, 2, d], the projection head's outputs for two views of each of n images; not normalised.
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
    """The cross entropy of classifying each query's key among this key and the keys of a queue.

    Args:
        query: float32 [n, d], not normalised.
        key: float32 [n, d], unit vectors: the positive of each query.
        queue: float32 [k, d], unit vectors: the negatives of all queries.
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
    """The mean of -cos over pairs of rows; no gradient flows through `wanted`.

    Args:
        predicted: float32 [n, d], not normalised.
        wanted: float32 [n, d], not normalised.

    Returns:
        float32 [], in [-1, 1].

    Source: Chen & He 2021 (arXiv 2011.10566), equations 1 and 3.
    """
    return -jnp.mean(jnp.sum(unit(predicted) * jax.lax.stop_gradient(unit(wanted)), axis=-1))


def spread(outputs: jax.Array) -> jax.Array:
    """The standard deviation of each feature of the normalised outputs, averaged over features, times sqrt(d).

    Args:
        outputs: float [n, d].

    Returns:
        float32 []: 1 if the outputs are uniform on the sphere, 0 if they have collapsed to a point.

    Source: Chen & He 2021 (arXiv 2011.10566), section 4.1 and figure 2.
    """
    units = unit(jax.lax.stop_gradient(outputs).astype(jnp.float32))
    return jnp.mean(jnp.std(units, axis=0)) * units.shape[-1] ** 0.5


def unit(z: jax.Array) -> jax.Array:
    """Normalises rows to unit length; zero rows stay zero.

    Args:
        z: float [..., d].

    Returns:
        float [..., d].
    """
    # Avoids the norm itself, whose gradient at a zero row is NaN.
    squares = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    return z * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))
