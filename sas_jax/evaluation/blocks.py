"""Reads features one block at a time: arrays, memory-mapped .npy files, and anything that can be sliced by row."""

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

# The size of one float32 block, the part of the features held at a time, on the host and on the device.
BLOCK_BYTES = 1 << 26


class Rows(Protocol):
    """The protocol of features: shape, dtype and slices of rows, as np.load(file, mmap_mode="r") has them."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, rows: Any) -> Any: ...


class Taken:
    """Selected rows of features, read on access.

    Args:
        x: [n, ...], which can be indexed by int [k].
        indices: int [k], ascending, so that a file is read in order.
    """

    def __init__(self, x: Rows, indices: np.ndarray):
        self._x = x
        self._indices = indices
        self.shape = (len(indices), *x.shape[1:])
        self.dtype = x.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, rows: Any) -> Any:
        return self._x[self._indices[rows]]


def whole(x: Any) -> Any:
    """Reads all rows into memory; returns arrays unchanged."""
    return x if isinstance(x, np.ndarray | jax.Array) else x[:]


def rows_a_block(entries: int) -> int:
    """Returns the number of rows per block if each row takes `entries` float32 numbers."""
    return max(1, BLOCK_BYTES // (4 * entries))


def in_blocks(x: Rows, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields each block's slice and its rows as float32; the last block may be smaller."""
    for start in range(0, x.shape[0], rows):
        these = slice(start, min(start + rows, x.shape[0]))
        with np.errstate(over="ignore"):
            yield these, np.asarray(x[these], np.float32)


def padded(block: np.ndarray, rows: int) -> np.ndarray:
    """Pads a block with zeros to `rows` rows, so that all blocks share one compiled program."""
    return np.concatenate([block, np.zeros((rows - len(block), *block.shape[1:]), block.dtype)])


def unit(x: jax.Array) -> jax.Array:
    """Normalizes vectors to unit length; zero vectors stay zero."""
    # Divided by the largest entry first, so that no square over- or underflows.
    x = x / jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), jnp.finfo(x.dtype).tiny)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 0.5)
