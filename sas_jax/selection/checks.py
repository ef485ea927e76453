"""Checks of the arguments of `rank`; the InputError for each invalid value says how to fix it.

JAX is imported lazily, so that a `Ranking` can be read and used without it.
"""

import difflib
import numbers
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from sas_jax import arrays
from sas_jax.arrays import array, shown
from sas_jax.errors import InputError

if TYPE_CHECKING:
    from jax.sharding import Mesh

SMALLEST_SCALE = 2.0**-64
"""Similarities whose largest is below this are scaled before they are converted to float32."""
_LARGEST_GAIN = float(np.finfo(np.float32).max)
# Limits relative to the largest value of the class, in fixed point of 23 bits. Values below _LOST are lost. Values
# below _COARSE have two significant digits or fewer, and cause a warning if more than the fraction _FEW of all are.
_LOST = 2.0**-23
_COARSE = 2.0**-16
_FEW = 0.01


def choice(what: str, value: str, known: tuple[str, ...]) -> str:
    """Returns the value, if it is one of `known`."""
    if isinstance(value, str) and value in known:
        return value
    nearest = difflib.get_close_matches(str(value), known, n=1)
    meant = f"Did you mean {nearest[0]!r}?" if nearest else "Choose one of them."
    raise InputError(f"The {what} must be one of {', '.join(known)}, got {shown(value)}. {meant}")


def embeddings(values: np.ndarray, *, normalize: bool) -> arrays.LazyRows:
    """Returns embeddings [n, d] or views [n, m, d] as float32, with rows (or views) of norm 1 or at most 1.

    All rows are checked now, and converted on access. `normalize` divides them by their norms.
    """
    values = array("Embeddings", values)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise InputError(
            f"`embeddings` must be [n, d], or [n, m, d] for m views of each example, got {list(values.shape)}. Give "
            "one row (or one set of views) for each example."
        )
    floating("Embeddings", values)
    not_finite, zero, long = [], [], []
    for begin in range(0, len(values), arrays.BLOCK_ROWS):
        with np.errstate(over="ignore"):  # values beyond float64 count as infinite
            rows = np.asarray(values[begin : begin + arrays.BLOCK_ROWS], np.float64)
        finite = np.isfinite(rows)
        not_finite += (begin + np.flatnonzero(~finite.reshape(len(rows), -1).all(1))).tolist()
        if normalize:
            zero += (begin + np.flatnonzero((rows == 0).all(-1).reshape(len(rows), -1).any(1))).tolist()
            continue
        scaled, exponent = _scaled(np.where(finite, rows, 1))  # NumPy would warn about norms of non-finite rows
        with np.errstate(over="ignore"):
            extent = np.ldexp(np.linalg.norm(scaled, axis=-1, keepdims=True), exponent).reshape(len(rows), -1)
        long += (begin + np.flatnonzero((extent > arrays.LARGEST_NORM).any(1))).tolist()
    if not_finite:
        raise InputError(
            f"`embeddings` must be finite, got NaN or infinity in {_rows(not_finite)}. Remove them, or embed them "
            "again."
        )
    if normalize and zero:
        raise InputError(
            f"`embeddings` must have no rows of zeros, got a norm of 0 in {_rows(zero)}. Remove them, or pass "
            "normalize=False if the norms are meaningful."
        )
    if not normalize and long:
        raise InputError(
            f"`embeddings` must have norms of at most 1 with normalize=False, got larger ones in {_rows(long)}. Pass "
            "normalize=True."
        )
    return arrays.LazyRows(values, _unit if normalize else lambda rows: np.asarray(rows, np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Divides rows by their norms, which must not be 0."""
    scaled, _ = _scaled(np.ascontiguousarray(rows, np.float64))
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def _scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divides rows by powers of two, exactly, so that no square over- or underflows; also returns the exponents."""
    exponent = np.frexp(np.abs(rows).max(-1, keepdims=True))[1]
    return np.ldexp(rows, -exponent), exponent


def similarity(values: np.ndarray) -> np.ndarray:
    """Returns a similarity matrix unchanged, if it is square, symmetric and in [0, 1]."""
    values = array("A similarity matrix", values)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise InputError(
            f"`similarity` must be [n, n], one row and one column per example, got {_shape(values)}. Give the "
            "similarities of all pairs of the same examples."
        )
    floating("A similarity matrix", values)
    # Rounding errors are relative to the largest entry, and a matrix may have any scale up to 1.
    largest = min(1.0, max(0.0, float(np.fmax.reduce(values, axis=None))))
    tolerance = 1e-6 * largest
    compared: Any = np.float32 if largest > SMALLEST_SCALE else np.float64
    step = max(1, arrays.BLOCK_ROWS * 1024 // len(values))
    for begin in range(0, len(values), step):
        with np.errstate(over="ignore"):  # infinity is out of range as well
            rows = np.asarray(values[begin : begin + step], compared)
            columns = np.asarray(values[:, begin : begin + step], compared).T
        outside = ~((rows >= -tolerance) & (rows <= 1 + 1e-6))
        if outside.any():
            i, j = (int(place[0]) for place in np.nonzero(outside))
            raise InputError(
                f"`similarity` must be from 0 to 1, got {rows[i, j]:.8g} at row {begin + i}, column {j}. Clip or scale "
                "the matrix."
            )
        differ = np.abs(rows - columns) > tolerance
        if differ.any():
            i, j = (int(place[0]) for place in np.nonzero(differ))
            raise InputError(
                f"`similarity` must be symmetric, got {rows[i, j]:.8g} at row {begin + i}, column {j} and "
                f"{float(values[j, begin + i]):.8g} at row {j}, column {begin + i}. Correct it, or use (S + S.T) / 2."
            )
    return values


def classes(values: np.ndarray | None, n: int) -> tuple[np.ndarray, list[str] | None]:
    """Returns latent classes as int32 [n] (zeros for None), and their names if they were given as text."""
    if values is None:
        return np.zeros(n, np.int32), None
    return arrays.classes("Classes", _one_each("Classes", values, n))


def candidates(values: np.ndarray | None, n: int) -> np.ndarray:
    """Returns the candidates as bool [n]; all if None."""
    if values is None:
        return np.ones(n, bool)
    values = array("`where`", values)
    if values.shape != (n,) or values.dtype != bool:
        raise InputError(
            f"`where` must be bool [{n}], True for candidates, got {values.dtype} {_shape(values)}. Give one bool for "
            "each example."
        )
    if not values.any():
        raise InputError("`where` must mark at least one candidate, got none. Mark one or more.")
    return values.copy()  # the input may be a mapped file


def initial(values: np.ndarray | None, n: int) -> np.ndarray:
    """Returns the indices of examples already chosen as int64 [k], in the given order; empty for None."""
    if values is None:
        return np.zeros(0, np.int64)
    values = array("`initial`", values)
    if values.shape == (0,):  # an empty list becomes float64
        return np.zeros(0, np.int64)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"`initial` must be integers [k], indices of examples already chosen, got {values.dtype} {_shape(values)}. "
            "For a mask, give numpy.flatnonzero(mask)."
        )
    bad = np.flatnonzero((values < 0) | (values >= n))
    if bad.size:
        raise InputError(
            f"`initial` must hold indices from 0 to {n - 1}, got {values[bad[0]]} as entry {bad[0]}. Check that "
            "they belong to the same examples."
        )
    if (index := _repeated(values)) is not None:
        raise InputError(
            f"`initial` must hold each index once, got {values[index]} more than once. Use numpy.unique if the order "
            "does not matter."
        )
    return values.astype(np.int64)


def weights(values: np.ndarray | None, n: int) -> np.ndarray | None:
    """Returns the examples' weights as float64 [n], or None."""
    if values is None:
        return None
    values = _one_each("Weights", values, n)
    if not np.issubdtype(values.dtype, np.integer):
        floating("Weights", values)
    with np.errstate(over="ignore"):  # values beyond float64 count as infinite
        result = values.astype(np.float64)
    bad = np.flatnonzero(~((result >= 0) & (result <= _LARGEST_GAIN)))
    if bad.size:
        raise InputError(
            f"`weights` must be from 0 to {_LARGEST_GAIN:.2g}, got {values[bad[0]]} as entry {bad[0]}. Correct it, or "
            "divide all weights by the same number."
        )
    if not result.any():
        raise InputError("`weights` must have at least one entry above 0, got none. Increase at least one.")
    if (total := result.sum()) > _LARGEST_GAIN:
        raise InputError(
            f"`weights` must have a sum of at most {_LARGEST_GAIN:.3g}, because gains are float32 and can reach it, "
            f"got {total:.3g}. Divide all weights by the same number, which does not change the picks."
        )
    return result


def no_weights(values: Any, objective: str) -> None:
    """Raises InputError if weights are given, for an objective that has none."""
    if values is not None:
        raise InputError(
            f"`weights` must be None for {objective}, a sum over pairs of a picked and an unpicked example, got "
            "some. Omit them, or use another objective."
        )


def weights_range(values: np.ndarray, of: np.ndarray) -> str:
    """Returns a warning if many weights lose precision beside the largest of their class.

    Args:
        values: float64 [n], 0 or more.
        of: int [n], each example's class, from 0.

    Returns:
        The warning or "".

    Raises:
        InputError: a positive weight is so small that its example would count as 0.
    """
    largest = np.zeros(of.max() + 1)
    np.maximum.at(largest, of, values)
    share = values / np.where(largest[of] == 0, 1, largest[of])
    lost = np.flatnonzero((values > 0) & (share < _LOST))
    if lost.size:
        i = lost[np.argmin(share[lost])]
        raise InputError(
            f"`weights` must be 0 or at least {_LOST:.1e} times the largest of their class, got {lost.size:,} smaller "
            f"ones, such as {values[i]:.3g} as entry {i}, where the largest is {largest[of[i]]:.3g}. Increase them, or "
            "set them to 0."
        )
    coarse = (values > 0) & (share < _COARSE)
    if coarse.sum() <= _FEW * np.count_nonzero(values):
        return ""
    return (
        f"{coarse.sum():,} of {np.count_nonzero(values):,} weights are less than {_COARSE:.1e} times the largest of "
        f"their class (the smallest is {share[coarse].min():.1e} times). Gains are summed in steps of {_LOST:.1e} "
        f"times the largest weight, so these examples count inexactly. Increase these weights, or reduce the largest."
    )


def largest_similarity(values: np.ndarray, self_similarity: float | None) -> tuple[float, str]:
    """Returns the largest similarity that counts, and a warning if many lose precision beside it.

    Args:
        values: float [n, n], a class's matrix.
        self_similarity: replaces the diagonal; None keeps it.

    Returns:
        The largest similarity, and the warning or "".
    """
    n = len(values)
    to_others = np.empty(n)
    step = max(1, arrays.BLOCK_ROWS * 1024 // n)
    for begin in range(0, n, step):
        rows = np.array(values[begin : begin + step])
        rows[np.arange(len(rows)), begin + np.arange(len(rows))] = 0
        to_others[begin : begin + step] = rows.max(1)
    to_itself = np.diagonal(values).astype(np.float64) if self_similarity is None else np.full(n, self_similarity)
    counts = np.maximum(to_others, to_itself)
    largest, other = float(counts.max()), float(to_others.max())
    coarse = (counts > 0) & (counts < _COARSE * largest)
    warning = self_similarity_warning(other, largest)
    if not warning and coarse.sum() > _FEW * n:
        warning = (
            f"{coarse.sum():,} of {n:,} examples of a class have no similarity above {counts[coarse].max():.1e}, but "
            f"the largest is {largest:.1e}. Gains are summed in steps of {_LOST * largest:.1e}, so these examples "
            f"count inexactly or not at all. Rank them as a separate class, or bring all similarities to one scale."
        )
    return largest, warning


def self_similarity_warning(other: float, largest: float) -> str:
    """Returns a warning if similarities to others, at most `other`, lose precision beside `largest`; else ""."""
    if not 0 < other < _COARSE * largest:
        return ""
    return (
        f"Similarities to other examples are at most {other:.1e}, but self-similarities are up to {largest:.1e}. Gains "
        f"are summed in steps of {_LOST * largest:.1e}, so similarities to other examples count inexactly or not at "
        f"all. Set self_similarity=0, or bring both to one scale."
    )


def budget(value: int | None, number: int) -> int:
    """Returns the budget, from 1 to the number of candidates; that number for None."""
    if not number:
        raise InputError(
            "`where` must mark at least one candidate that is not in `initial`, got none. Mark more, or shorten "
            "`initial`."
        )
    if value is None:
        return number
    found = integer(value)
    if found is None or not 1 <= found <= number:
        raise InputError(
            f"`budget` must be a whole number from 1 to the {number} candidates, got {shown(value)}. Correct it, "
            "or omit it to rank all candidates."
        )
    return found


def ids(values: np.ndarray | None, n: int) -> np.ndarray | None:
    """Returns the examples' names as unique str [n], or None."""
    if values is None:
        return None
    values = _one_each("Ids", values, n)
    if values.dtype.kind in "OT":  # Python's strings, or NumPy's of variable width
        values = values.astype(object)
        bad = [index for index, name in enumerate(values) if not isinstance(name, str)]
        if bad:
            raise InputError(
                f"`ids` must be text, got {shown(values[bad[0]])} as entry {bad[0]}. Give every example a name."
            )
    elif values.dtype.kind not in "Uiu":  # strings, or integers, which become names
        raise InputError(f"`ids` must be text, got {values.dtype}. Convert them to str.")
    values = values.astype(str)
    names = values.tolist()
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"`ids` must be text that UTF-8 can encode, got one with the character {error.object[error.start]!r}. "
            "Rename that example."
        ) from error
    if len(set(names)) < n:
        index = _repeated(values)
        raise InputError(
            f"`ids` must be unique, got {names[index]!r} as entry {index} and as an earlier one. Rename one, or omit "
            f"`ids`."
        )
    return values


def mesh(value: "Mesh | None") -> "Mesh | None":
    """Returns the mesh if it has one axis, and devices of this process or of all processes; or None."""
    import jax

    if value is None:
        return None
    if not isinstance(value, jax.sharding.Mesh) or len(value.axis_names) != 1:
        is_mesh = isinstance(value, jax.sharding.Mesh)
        found = f"one with the axes {', '.join(value.axis_names)}" if is_mesh else shown(value)
        raise InputError(
            f"`mesh` must be a jax.sharding.Mesh of one axis, got {found}. Make one with "
            "jax.make_mesh((jax.device_count(),), ('data',))."
        )
    processes, count = {each.process_index for each in value.devices.flat}, jax.process_count()
    if len(processes) < count and processes != {jax.process_index()}:
        raise InputError(
            f"`mesh` must hold devices of process {jax.process_index()} only, or of all {count} processes, got devices "
            f"of the processes {sorted(processes)}. Make it of jax.local_devices() or of jax.devices()."
        )
    return value


def flag(what: str, value: bool) -> bool:
    """Returns the value as a bool, if it is one."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{what} must be True or False, got {shown(value)}. Give one of the two.")
    return bool(value)


def integer(value: Any) -> int | None:
    """Returns a value of any integer type as int; None for others, such as a bool, a float or a string."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def number(what: str, value: Any) -> float:
    """Returns a real number of any type as float; raises InputError for a bool, a string or an array."""
    found = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's and JAX's scalars
    if isinstance(found, bool) or not isinstance(found, numbers.Real):
        raise InputError(f"{what} must be a number, got {shown(value)}. Give a number.")
    return float(found)


def unit_interval(what: str, value: float) -> float:
    """Returns a number in [0, 1] as float."""
    found = number(what, value)
    if not 0 <= found <= 1:
        raise InputError(f"{what} must be from 0 to 1, got {shown(value)}. Give a number in between.")
    return found


def positive(what: str, value: float) -> float:
    """Returns a finite number above 0 as float."""
    found = number(what, value)
    if not 0 < found < float("inf"):
        raise InputError(f"{what} must be more than 0, got {shown(value)}. Give a finite number above 0.")
    return found


def floating(what: str, values: np.ndarray) -> None:
    """Raises InputError unless the dtype is floating point, bfloat16 included."""
    import jax.numpy as jnp  # NumPy does not count bfloat16 as floating point

    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise InputError(f"{what} must be floating point, got {values.dtype}. Convert it to float32.")


def _one_each(what: str, values: Any, n: int) -> np.ndarray:
    values = array(what, values)
    if values.shape != (n,):
        raise InputError(
            f"{what} must have one entry for each example, shape [{n}], got {_shape(values)}. Check that they belong "
            "to the same examples."
        )
    return values


def _repeated(values: np.ndarray) -> int | None:
    """Returns the index of an entry that repeats an earlier one; None if all are distinct."""
    order = np.argsort(values, kind="stable")
    again = np.flatnonzero(values[order[1:]] == values[order[:-1]])
    return int(order[again[0] + 1]) if again.size else None


def _rows(indices: list[int]) -> str:
    listed = ", ".join(str(index) for index in indices[:5])
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    return f"row{'s' if len(indices) > 1 else ''} {listed}{more}"


def _shape(values: np.ndarray) -> str:
    return str(list(values.shape))
