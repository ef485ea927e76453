"""Images that stay encoded in their files and are decoded on access."""

import abc
from typing import Any, SupportsIndex

import numpy as np

from sas_jax import devices


class StreamedImages(abc.ABC):
    """An array-like uint8 [n, size, size, 3] that decodes images at every access.

    Several threads may access it concurrently; they share this process's cores. Pickles contain only what is needed to
    open the files again, so other processes can access it as well.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, count: int, size: int):
        self.shape = (count, size, size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all decoded images."""
        return memory(len(self), self.shape[1])

    def __getitem__(self, indices: SupportsIndex | slice | np.ndarray) -> np.ndarray:
        """Decodes images.

        Args:
            indices: an integer, a slice, int [k] in any order, or bool [n].

        Returns:
            uint8 [size, size, 3] for an integer, [k, size, size, 3] for several.

        Raises:
            InputError: a file is damaged or missing.
            IndexError: an index is out of range or not an integer.
        """
        wanted = _rows(indices, len(self))
        out = np.empty((wanted.size, *self.shape[1:]), np.uint8)
        self._decode(wanted.ravel(), out)
        return out.reshape(*wanted.shape, *self.shape[1:])

    @abc.abstractmethod
    def _decode(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Decodes the images at `indices`, int [k] in [0, n), into `out`, uint8 [k, size, size, 3], on all cores."""


def memory(count: int, size: int) -> int:
    """Returns the bytes of `count` decoded images of `size` x `size` pixels."""
    return count * size * size * 3


def is_streamed(placement: str, num_bytes: int) -> bool:
    """Whether to stream images: with "stream", or with "auto" if they exceed half of the free memory.

    Args:
        placement: "auto", "device", "host" or "stream", as config.data.placement.
        num_bytes: bytes of the decoded images.
    """
    return placement == "stream" or (placement == "auto" and num_bytes > devices.free_memory() // 2)


def _rows(indices: Any, count: int) -> np.ndarray:
    """Converts NumPy indices of the first axis to integers in [0, count)."""
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
    wrong = rows[(rows < -count) | (rows >= count)]
    if wrong.size:
        raise IndexError(f"Indices must be in [{-count}, {count}), got {wrong[0]}. Correct them.")
    rows = rows.astype(np.int64)
    return np.where(rows < 0, rows + count, rows)
