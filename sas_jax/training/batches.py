"""The order of examples in an epoch, a function of (key, epoch) alone, computed on the device or on the host."""

import jax
import numpy as np


def pad_subset(subset: np.ndarray, n: int) -> np.ndarray:
    """Pads int [k] indices to int32 [n] with the value n, so that all subsets of a data set have the same shape."""
    padded = np.full(n, n, np.int32)
    padded[: len(subset)] = subset
    return padded


@jax.jit
def epoch_order(key: jax.Array, epoch: jax.Array, padded: jax.Array) -> jax.Array:
    """Returns the order of an epoch: a random permutation of the subset, then the padding.

    Args:
        key: the run's order key.
        epoch: int32 [].
        padded: int32 [n], from `pad_subset`.

    Returns:
        int32 [n]; the first k entries are the subset's k indices in random order.
    """
    bits = jax.random.bits(jax.random.fold_in(key, epoch), padded.shape)
    is_padding = (padded == padded.shape[0]).astype(jax.numpy.int32)
    return jax.lax.sort((is_padding, bits, padded), num_keys=2)[2]


def epoch_order_on_host(key: np.ndarray, epoch: int, subset: np.ndarray) -> np.ndarray:
    """Computes the order of `epoch_order` in NumPy, for worker processes that decode images and have no device.

    Args:
        key: uint32 [2], jax.random.key_data of a threefry key.
        epoch: the epoch.
        subset: int [k] indices, ascending.

    Returns:
        int32 [k].
    """
    folded = _threefry(key, np.zeros(1, np.uint32), np.array([epoch], np.uint32)).ravel()
    # The random bits of a position are the XOR of the two words of its block. `subset` comes first in the padded array,
    # so its positions are 0, 1, ...
    high, low = _threefry(folded, np.zeros(len(subset), np.uint32), np.arange(len(subset), dtype=np.uint32))
    return np.asarray(subset, np.int32)[np.argsort(high ^ low, kind="stable")]


def _threefry(key: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Threefry-2x32 with 20 rounds: uint32 key [2] and two counter words [n] -> uint32 [2, n].

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; jax.random's default generator.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = high + keys[0], low + keys[1]
    for block in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = x ^ y
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + np.uint32(block + 1)
    return np.stack([x, y])
