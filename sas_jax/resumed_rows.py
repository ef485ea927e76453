"""Saves the rows of a slow computation next to its output file, so that an interrupted call can be resumed."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from etils import epath

from sas_jax import files

_BATCH = struct.Struct("<III")  # a batch's header: rows, columns, and the checksum of its float32 values


def resumed_rows(
    output: epath.Path, of: str, make: Callable[[int], Iterator[np.ndarray]], *, log: Callable[[str], None]
) -> np.ndarray:
    """Computes an array batch by batch, resuming where an interrupted call stopped.

    Args:
        output: the array's file; the caller writes it and then calls `forget`.
        of: a fingerprint of everything that the rows depend on; an OUTPUT.partial with another one is overwritten.
        make: yields the batches from a given row on, each float32 [b, d].
        log: called with a message if the computation resumes.

    Returns:
        float32 [n, d].
    """
    if files.is_remote(output):  # object stores cannot append, so nothing is saved
        return np.concatenate(list(make(0)))
    path = _partial(output)
    found: list[np.ndarray] = []
    with open(path, "r+b" if path.exists() else "w+b") as file:
        if file.readline() == f"{of}\n".encode():
            found.extend(_batches(file))
        else:
            file.seek(0)
            file.write(f"{of}\n".encode())
        file.truncate()
        first = sum(map(len, found))
        if first:
            log(f"{path}: resumes at image {first:,}")
        for batch in make(first):
            numbers = batch.astype("<f4").tobytes()
            file.write(_BATCH.pack(*batch.shape, zlib.crc32(numbers)) + numbers)
            file.flush()
            found.append(batch)
    return np.concatenate(found)


def forget(output: epath.Path) -> None:
    """Removes the rows saved by `resumed_rows`."""
    if not files.is_remote(output):
        _partial(output).unlink(missing_ok=True)


def _partial(output: epath.Path) -> epath.Path:
    return files.beside(output, ".partial")


def _batches(file: BinaryIO) -> Iterator[np.ndarray]:
    """Yields the intact batches up to the first damaged one; then the file is at the end of the last."""
    while True:
        start = file.tell()
        header = file.read(_BATCH.size)
        if len(header) == _BATCH.size:
            rows, columns, checksum = _BATCH.unpack(header)
            size = 4 * rows * columns
            numbers = file.read(size) if size <= os.fstat(file.fileno()).st_size else b""
            if size and len(numbers) == size and zlib.crc32(numbers) == checksum:
                yield np.frombuffer(numbers, "<f4").reshape(rows, columns).astype(np.float32)
                continue
        file.seek(start)
        return
