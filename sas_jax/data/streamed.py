"""Images that stay encoded, in their files, and are decoded when they are asked for."""

import abc
from typing import Any, SupportsIndex

import numpy as np

from sas_jax import devices


class StreamedImages(abc.ABC):
    """Looks like uint8 [n, size, size, 3], and decodes anew whatever is taken out of it.

    Several threads may ask at a time; they share this process's cores. It pickles to what it takes to open the files
    again, so that other processes may ask as well.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, count: int, size: int):
        self.shape = (count, size, size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """What all of them would take in memory."""
        return memory(len(self), self.shape[1])

    def __getitem__(self, indices: SupportsIndex | slice | np.ndarray) -> np.ndarray:
        """Decodes some.

        Args:
            indices: an integer, a slice, int [k] in any order, or bool [n].

        Returns:
            uint8 [size, size, 3] for an integer, [k, size, size, 3] for several.

        Raises:
            InputError: a file is damaged, or no longer there.
            IndexError: there are not so many.
        """
        wanted = _rows(indices, len(self))
        out = np.empty((wanted.size, *self.shape[1:]), np.uint8)
        self._decode(wanted.ravel(), out)
        return out.reshape(*wanted.shape, *self.shape[1:])

    @abc.abstractmethod
    def _decode(self, indices: np.ndarray, out: np.ndarray) -> None:
        """int [k], each in [0, n), to uint8 [k, size, size, 3]; on all cores."""


def memory(count: int, size: int) -> int:
    """Bytes of so many images of `size` pixels a side in memory."""
    return count * size * size * 3


def is_streamed(placement: str, num_bytes: int) -> bool:
    """Whether images stay in their files: where that was asked for, or with "auto" they would fill half the memory.

    Args:
        placement: "auto", "device", "host" or "stream", as config.data.placement.
        num_bytes: what the images would take.
    """
    return placement == "stream" or (placement == "auto" and num_bytes > devices.free_memory() // 2)


def _rows(indices: Any, count: int) -> np.ndarray:
    """What NumPy's indexing of a first axis would take, as integers in [0, count)."""
    if isinstance(indices, slice):
        return np.arange(*indices.indices(count))
    rows = np.asarray(indices)
    if rows.dtype == bool and rows.shape == (count,):
        return np.flatnonzero(rows)
    if rows.ndim > 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise IndexError(
            f"Indices must be an integer, a slice, int [k] or bool [{count}], got {rows.dtype} {list(rows.shape)}. "
            "Convert them."
        )
    rows = rows.astype(np.int64)
    if ((rows < -count) | (rows >= count)).any():
        raise IndexError(f"Indices must be below {count}, got {np.abs(rows).max()}. Correct them.")
    return np.where(rows < 0, rows + count, rows)
