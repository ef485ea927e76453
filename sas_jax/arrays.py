"""Arrays as people have them: lists, columns of tables, arrays of other libraries; and what cannot be one."""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from sas_jax.errors import InputError

LARGEST_NORM = 1 + 1e-5  # of a mean of unit vectors in float32
BLOCK_ROWS = 16384  # are looked at or converted at a time, which needs little memory beside the input
_LARGEST_CLASS = np.iinfo(np.int32).max


class LazyRows:
    """Rows of an array that may be a mapped file, converted when they are asked for: what is not used is not read."""

    def __init__(self, source: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]):
        """`convert` gives float32 rows for some of the source's."""
        self.source = source
        self._convert = convert
        self.shape, self.ndim, self.dtype = source.shape, source.ndim, np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """float32, of some of the rows."""
        chosen = self.source[index]
        found = np.empty(chosen.shape, np.float32)
        for begin in range(0, len(chosen), BLOCK_ROWS):
            found[begin : begin + BLOCK_ROWS] = self._convert(chosen[begin : begin + BLOCK_ROWS])
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(np.float32 if dtype is None else dtype, copy=False)


Rows = np.ndarray | LazyRows


def on_disk(values: Any) -> bool:
    """Whether these are rows of a mapped file."""
    if isinstance(values, LazyRows):
        values = values.source
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap.mmap)


def array(what: str, values: Any) -> np.ndarray:
    """A NumPy array of anything that can be one: lists, arrays of other libraries, mapped files (which stay mapped)."""
    check_dense(what, values)
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists; another library's array that is not here
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"{what} must be an array, got a {type(values).__name__} that NumPy cannot convert ({reason}). Give an "
            "array in the host's memory, with rows of one length."
        ) from error


def check_dense(what: str, values: Any) -> None:
    """Raises InputError for a sparse matrix, and for masked entries, whose values mean nothing."""
    kind = type(values)
    if "sparse" in kind.__module__ and hasattr(values, "shape"):  # SciPy's, jax.experimental's, PyData's
        dense = "todense" if hasattr(values, "todense") else "toarray"
        raise InputError(
            f"{what} must be a dense array, got a sparse {kind.__name__} of the shape {list(values.shape)}. Give "
            f"numpy.asarray(x.{dense}()), where memory holds it."
        )
    if masked := int(np.ma.count_masked(values)) if isinstance(values, np.ma.MaskedArray) else 0:
        raise InputError(
            f"{what} must have a value everywhere, got {masked:,} masked of {values.size:,}. Fill them, or leave these "
            "examples out."
        )


def classes(what: str, values: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
    """Classes [n], each distinct value one, as int32; and their names, where they are text.

    Whole numbers of any type stay what they are, False and True are 0 and 1. Text is numbered from 0 in sorted order,
    so that a tie of the budgets goes to the class that is first in it.

    Raises:
        InputError: other types, a mixture of types, or numbers that are not whole, below 0 or beyond int32.
    """
    if values.dtype == object or values.dtype.kind == "T":  # as pandas gives its columns
        values = _of_one_type(what, values)
    if values.dtype.kind == "U":
        names, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int32), names.tolist()
    if values.dtype.kind not in "biuf":
        raise InputError(f"{what} must be whole numbers or text, got {values.dtype}. Convert them.")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float64 does not hold is no class
            values = values.astype(np.float64)  # since float16 does not hold the largest class
    bad = np.flatnonzero(~((values >= 0) & (values <= _LARGEST_CLASS) & (values == np.floor(values))))
    if bad.size:
        raise InputError(
            f"{what} must be text, or whole numbers from 0 to 2^31 - 1, got {values[bad[0]]} as entry {bad[0]}. Number "
            "them from 0, and leave out examples without a class."
        )
    return values.astype(np.int32), None


def shown(value: Any) -> str:
    """A value as a sentence can hold it."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def _of_one_type(what: str, values: np.ndarray) -> np.ndarray:
    """Objects as an array of text, of bools or of numbers; nothing else, and not a mixture."""
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
