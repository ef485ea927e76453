"""Features read a block at a time: arrays, memory-mapped .npy files, and whatever else gives slices of rows."""

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

# Of one block in float32: what is held of the features at a time, on the host and on the device.
BLOCK_BYTES = 1 << 26


class Rows(Protocol):
    """What is asked of features: a shape, a dtype, and rows by a slice; np.load(file, mmap_mode="r") has them."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, rows: Any) -> Any: ...


class Taken:
    """Some rows of features, which are read when they are asked for.

    Args:
        x: [n, ...], whose rows can be asked for by int [k].
        indices: int [k], ascending, so that a file is read in its order.
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
    """All rows in memory; arrays as they are."""
    return x if isinstance(x, np.ndarray | jax.Array) else x[:]


def rows_a_block(entries: int) -> int:
    """How many rows make a block where each row brings so many float32 numbers."""
    return max(1, BLOCK_BYTES // (4 * entries))


def in_blocks(x: Rows, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields which rows a block holds, and these rows as float32; the last block may have fewer."""
    for start in range(0, x.shape[0], rows):
        these = slice(start, min(start + rows, x.shape[0]))
        with np.errstate(over="ignore"):
            yield these, np.asarray(x[these], np.float32)


def padded(block: np.ndarray, rows: int) -> np.ndarray:
    """The block with zeros appended up to `rows` rows, so that all blocks share one compiled program."""
    return np.concatenate([block, np.zeros((rows - len(block), *block.shape[1:]), block.dtype)])


def unit(x: jax.Array) -> jax.Array:
    """Vectors divided by their norms; one of zeros stays."""
    # The largest entry goes first, so that no square over- or underflows.
    x = x / jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), jnp.finfo(x.dtype).tiny)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 0.5)
