"""Which examples a step sees: device-resident epochs that are functions of (seed, epoch) alone."""

import jax
import jax.numpy as jnp
import numpy as np


def pad_subset(subset: np.ndarray, n: int) -> np.ndarray:
    """int [k] indices -> int32 [n], padded with n, so that every subset of a data set has one shape."""
    padded = np.full(n, n, np.int32)
    padded[: len(subset)] = subset
    return padded


@jax.jit
def epoch_order(key: jax.Array, epoch: jax.Array, padded: jax.Array) -> jax.Array:
    """The order of an epoch: a permutation of the subset, the padding last.

    Args:
        key: of the run.
        epoch: int32 [].
        padded: int32 [n], from `pad_subset`.

    Returns:
        int32 [n]; the first k entries are the subset's k indices in random order.
    """
    bits = jax.random.bits(jax.random.fold_in(key, epoch), padded.shape)
    is_padding = (padded == padded.shape[0]).astype(jnp.int32)
    return jax.lax.sort((is_padding, bits, padded), num_keys=2)[2]
