"""Converts lists, columns of tables and arrays of other libraries to NumPy arrays, or says why it cannot."""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from sas_jax.errors import InputError

LARGEST_NORM = 1 + 1e-5  # of a mean of unit vectors in float32
BLOCK_ROWS = 16384  # checked or converted at a time, which needs little memory beside the input
_LARGEST_CLASS = np.iinfo(np.int32).max


class LazyRows:
    """Rows of an array, which may be a memory-mapped file, read and converted on access."""

    def __init__(self, source: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]):
        """`convert` maps some rows of the source to float32 rows."""
        self.source = source
        self._convert = convert
        self.shape, self.ndim, self.dtype = source.shape, source.ndim, np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Returns some of the rows as float32."""
        chosen = self.source[index]
        found = np.empty(chosen.shape, np.float32)
        for begin in range(0, len(chosen), BLOCK_ROWS):
            found[begin : begin + BLOCK_ROWS] = self._convert(chosen[begin : begin + BLOCK_ROWS])
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(np.float32 if dtype is None else dtype, copy=False)


Rows = np.ndarray | LazyRows


def on_disk(values: Any) -> bool:
    """Returns whether these are rows of a mapped file."""
    if isinstance(values, LazyRows):
        values = values.source
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap.mmap)


def array(what: str, values: Any) -> np.ndarray:
    """Converts lists, arrays of other libraries and mapped files (which stay mapped) to a NumPy array."""
    check_dense(what, values)
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists; arrays not in host memory
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"{what} must be an array, got a {type(values).__name__} that NumPy cannot convert ({reason}). Give an "
            "array in host memory, with rows of equal length."
        ) from error


def check_dense(what: str, values: Any) -> None:
    """Raises InputError for a sparse matrix, and for masked entries, whose values are meaningless."""
    kind = type(values)
    if "sparse" in kind.__module__ and hasattr(values, "shape"):  # SciPy's, jax.experimental's, PyData's
        dense = "todense" if hasattr(values, "todense") else "toarray"
        raise InputError(
            f"{what} must be a dense array, got a sparse {kind.__name__} of shape {list(values.shape)}. Give "
            f"numpy.asarray(x.{dense}()), if memory allows."
        )
    if masked := int(np.ma.count_masked(values)) if isinstance(values, np.ma.MaskedArray) else 0:
        raise InputError(
            f"{what} must have no masked entries, got {masked:,} masked of {values.size:,}. Fill them, or leave these "
            "examples out."
        )


def classes(what: str, values: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
    """Returns classes [n], one per distinct value, as int32, and their names if they are text.

    Whole numbers of any type are kept, False and True are 0 and 1. Text is numbered from 0 in sorted order, so budget
    ties go to the class that sorts first.

    Raises:
        InputError: the type is another one or mixed, or numbers are not whole, below 0 or beyond int32.
    """
    if values.dtype == object or values.dtype.kind == "T":  # as in pandas columns
        values = _of_one_type(what, values)
    if values.dtype.kind == "U":
        names, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int32), names.tolist()
    if values.dtype.kind not in "biuf":
        raise InputError(f"{what} must be whole numbers or text, got {values.dtype}. Convert them.")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # values beyond float64 are rejected below
            values = values.astype(np.float64)  # because float16 cannot hold the largest class
    bad = np.flatnonzero(~((values >= 0) & (values <= _LARGEST_CLASS) & (values == np.floor(values))))
    if bad.size:
        raise InputError(
            f"{what} must be text, or whole numbers from 0 to 2^31 - 1, got {values[bad[0]]} as entry {bad[0]}. Number "
            "them from 0, and leave out examples without a class."
        )
    return values.astype(np.int32), None


def shown(value: Any) -> str:
    """Formats a value for an error message."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def _of_one_type(what: str, values: np.ndarray) -> np.ndarray:
    """Converts objects to an array of text, bools or numbers, which must all be of one type."""
    listed = values.tolist()
    for kind in (str, bool, (int, float, np.integer, np.floating)):
        if isinstance(listed[0], kind):
            other = [i for i, each in enumerate(listed) if not isinstance(each, kind)]
            if not other:
                return np.array(listed)
            break
    else:
        other = [0]
    first = f", and {shown(listed[0])} as entry 0" if other[0] else ""
    raise InputError(
        f"{what} must be text or whole numbers, all of one type, got {shown(listed[other[0]])} as entry {other[0]}"
        f"{first}. Convert them, and leave out examples without one."
    )
