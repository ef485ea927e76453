"""What `rank` is given, checked value by value, with a sentence for each thing that cannot be used.

JAX is imported where it is needed: a `Ranking` is read and used without.
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
"""Similarities of which none is larger are scaled before they become float32s."""
_LARGEST_GAIN = float(np.finfo(np.float32).max)
# Beside the largest of its class, in fixed point: less than the last of 23 bits is lost; less than 2^-16 has two
# significant digits or fewer, which is told where it is true of more than a few examples.
_LOST = 2.0**-23
_COARSE = 2.0**-16
_FEW = 0.01


def choice(what: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is one of the known."""
    if isinstance(value, str) and value in known:
        return value
    nearest = difflib.get_close_matches(str(value), known, n=1)
    meant = f"Did you mean {nearest[0]!r}?" if nearest else "Choose one of them."
    raise InputError(f"The {what} must be one of {', '.join(known)}, got {shown(value)}. {meant}")


def embeddings(values: np.ndarray, *, normalize: bool) -> arrays.LazyRows:
    """Embeddings [n, d] or views [n, m, d] as float32 whose rows (or views) are unit vectors, or have norms <= 1.

    All are looked at, and converted when they are asked for.
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
        with np.errstate(over="ignore"):  # what float64 does not hold counts as infinite
            rows = np.asarray(values[begin : begin + arrays.BLOCK_ROWS], np.float64)
        finite = np.isfinite(rows)
        not_finite += (begin + np.flatnonzero(~finite.reshape(len(rows), -1).all(1))).tolist()
        if normalize:
            zero += (begin + np.flatnonzero((rows == 0).all(-1).reshape(len(rows), -1).any(1))).tolist()
            continue
        scaled, exponent = _scaled(np.where(finite, rows, 1))  # NumPy would warn of the norm of what is not finite
        with np.errstate(over="ignore"):
            extent = np.ldexp(np.linalg.norm(scaled, axis=-1, keepdims=True), exponent).reshape(len(rows), -1)
        long += (begin + np.flatnonzero((extent > arrays.LARGEST_NORM).any(1))).tolist()
    if not_finite:
        raise InputError(
            f"`embeddings` must be finite, got NaN or infinity in {_rows(not_finite)}. Leave them out or embed them "
            "again."
        )
    if normalize and zero:
        raise InputError(
            f"`embeddings` must have rows other than zero, got a norm of 0 in {_rows(zero)}. Leave them out, or pass "
            "normalize=False if the norms mean something."
        )
    if not normalize and long:
        raise InputError(
            f"`embeddings` must have norms of at most 1 with normalize=False, got more in {_rows(long)}. Pass "
            "normalize=True."
        )
    return arrays.LazyRows(values, _unit if normalize else lambda rows: np.asarray(rows, np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their norms, which are not 0."""
    scaled, _ = _scaled(np.ascontiguousarray(rows, np.float64))
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def _scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows divided by powers of two, which is exact, so that no square over- or underflows; and the exponents."""
    exponent = np.frexp(np.abs(rows).max(-1, keepdims=True))[1]
    return np.ldexp(rows, -exponent), exponent


def similarity(values: np.ndarray) -> np.ndarray:
    """A similarity matrix as it is, if it is square, symmetric and in [0, 1]."""
    values = array("A similarity matrix", values)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise InputError(
            f"`similarity` must be [n, n], one row and one column an example, got {_shape(values)}. Give the "
            "similarities of all pairs of the same examples."
        )
    floating("A similarity matrix", values)
    # Rounding is relative to the largest entry; matrices are of any scale below 1.
    largest = min(1.0, max(0.0, float(np.fmax.reduce(values, axis=None))))
    tolerance = 1e-6 * largest
    compared: Any = np.float32 if largest > SMALLEST_SCALE else np.float64
    step = max(1, arrays.BLOCK_ROWS * 1024 // len(values))
    for begin in range(0, len(values), step):
        with np.errstate(over="ignore"):  # infinity is outside as well
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
                f"A similarity matrix is symmetric, and row {begin + i}, column {j} is {rows[i, j]:.8g} where row {j}, "
                f"column {begin + i} is {float(values[j, begin + i]):.8g}; use (S + S.T) / 2 if that is meant."
            )
    return values


def classes(values: np.ndarray | None, n: int) -> tuple[np.ndarray, list[str] | None]:
    """Latent classes as int32 [n], zeros for None; and their names, where they were given as text."""
    if values is None:
        return np.zeros(n, np.int32), None
    return arrays.classes("Classes", _one_each("Classes", values, n))


def candidates(values: np.ndarray | None, n: int) -> np.ndarray:
    """The candidates as bool [n]; all of them for None."""
    if values is None:
        return np.ones(n, bool)
    values = array("where=", values)
    if values.shape != (n,) or values.dtype != bool:
        raise InputError(
            f"`where` must be bool [{n}], True for candidates, got {values.dtype} {_shape(values)}. Give one bool for "
            "each example."
        )
    if not values.any():
        raise InputError("`where` must mark at least one candidate, got none. Mark one or more.")
    return values.copy()  # it can be a mapped file


def initial(values: np.ndarray | None, n: int) -> np.ndarray:
    """The examples that are already chosen, as int64 [k] in the order given; none for None."""
    if values is None:
        return np.zeros(0, np.int64)
    values = array("initial=", values)
    if values.shape == (0,):  # NumPy's type of an empty list is float64
        return np.zeros(0, np.int64)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"`initial` must be integers [k], indices of examples already chosen, got {values.dtype} {_shape(values)}. "
            "For a mask, give numpy.flatnonzero(mask)."
        )
    bad = np.flatnonzero((values < 0) | (values >= n))
    if bad.size:
        raise InputError(
            f"`initial` must hold indices from 0 to {n - 1}, got {values[bad[0]]} as entry {bad[0]}. Do they belong to "
            "the same examples?"
        )
    if (index := _repeated(values)) is not None:
        raise InputError(
            f"`initial` must hold each index once, got {values[index]} more than once. Use numpy.unique if the order "
            "means nothing."
        )
    return values.astype(np.int64)


def weights(values: np.ndarray | None, n: int) -> np.ndarray | None:
    """The examples' weights as float64 [n], or None."""
    if values is None:
        return None
    values = _one_each("Weights", values, n)
    if not np.issubdtype(values.dtype, np.integer):
        floating("Weights", values)
    with np.errstate(over="ignore"):  # what float64 does not hold counts as infinite
        result = values.astype(np.float64)
    bad = np.flatnonzero(~((result >= 0) & (result <= _LARGEST_GAIN)))
    if bad.size:
        raise InputError(
            f"`weights` must be finite, 0 or more, got {values[bad[0]]} as entry {bad[0]}. Correct it, or scale them "
            "all."
        )
    if not result.any():
        raise InputError("`weights` must have an entry above 0, got none. Raise at least one.")
    if (total := result.sum()) > _LARGEST_GAIN:
        raise InputError(
            f"Gains are float32 and can reach the weights' sum, so that must be at most {_LARGEST_GAIN:.3g}, and it is "
            f"{total:.3g}; divide all weights by one number, which changes no pick."
        )
    return result


def weights_range(values: np.ndarray, of: np.ndarray) -> str:
    """What there is to warn of: too many weights are rounded away beside the largest of their class.

    Args:
        values: float64 [n], 0 or more.
        of: int [n], each example's class, from 0.

    Returns:
        A sentence or "".

    Raises:
        InputError: an example would count as 0.
    """
    largest = np.zeros(of.max() + 1)
    np.maximum.at(largest, of, values)
    share = values / np.where(largest[of] == 0, 1, largest[of])
    lost = np.flatnonzero((values > 0) & (share < _LOST))
    if lost.size:
        i = lost[np.argmin(share[lost])]
        raise InputError(
            f"`weights` of a class must be 0 or at least {_LOST:.1e} times its largest, got {lost.size:,} that are "
            f"less, such as entry {i}, {values[i]:.3g} beside {largest[of[i]]:.3g}. Raise them, or set them to 0."
        )
    coarse = (values > 0) & (share < _COARSE)
    if coarse.sum() <= _FEW * np.count_nonzero(values):
        return ""
    return (
        f"{coarse.sum():,} of {np.count_nonzero(values):,} weights are less than {_COARSE:.1e} times the largest of "
        f"their class (the least {share[coarse].min():.1e} times), and gains are summed in steps of {_LOST:.1e} times "
        f"it, so these examples count inexactly; raise them, or lower the largest."
    )


def largest_similarity(values: np.ndarray, self_similarity: float | None) -> tuple[float, str]:
    """The largest similarity that counts, and what there is to warn of: too many are rounded away beside it.

    Args:
        values: float [n, n], a class's matrix.
        self_similarity: what replaces its diagonal; None leaves it.

    Returns:
        The largest, and a sentence or "".
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
            f"{coarse.sum():,} of {n:,} examples of a class have no similarity above {counts[coarse].max():.1e} where "
            f"the largest is {largest:.1e}, and gains are summed in steps of {_LOST * largest:.1e}, so these examples "
            f"count inexactly or not at all; rank them as a class of their own, or put all on one scale."
        )
    return largest, warning


def self_similarity_warning(other: float, largest: float) -> str:
    """A sentence where similarities to other examples, at most `other`, are rounded away beside the largest; or ""."""
    if not 0 < other < _COARSE * largest:
        return ""
    return (
        f"Similarities to other examples are at most {other:.1e} beside self-similarities of up to {largest:.1e}, and "
        f"gains are summed in steps of {_LOST * largest:.1e}, so the others count inexactly or not at all; give "
        f"self_similarity=0, or put both on one scale."
    )


def budget(value: int | None, number: int) -> int:
    """The budget, at most the number of candidates; all of them for None."""
    if not number:
        raise InputError(
            "`where` must leave a candidate that is not in `initial`, got none. Mark others, or choose fewer."
        )
    if value is None:
        return number
    found = integer(value)
    if found is None or not 1 <= found <= number:
        raise InputError(
            f"`budget` must be a whole number from 1 to the {number} candidates, got {shown(value)}. Give as many as "
            "there are, or leave it out to rank all."
        )
    return found


def ids(values: np.ndarray | None, n: int) -> np.ndarray | None:
    """The examples' names as str [n], each of them once, or None."""
    if values is None:
        return None
    values = _one_each("Ids", values, n)
    if values.dtype.kind in "OT":  # Python's text, or NumPy's of variable width
        values = values.astype(object)
        bad = [index for index, name in enumerate(values) if not isinstance(name, str)]
        if bad:
            raise InputError(
                f"`ids` must be text, got {shown(values[bad[0]])} as entry {bad[0]}. Give every example a name."
            )
    elif values.dtype.kind not in "Uiu":  # text, or numbers that names are made of
        raise InputError(f"`ids` must be text, got {values.dtype}. Convert them to str.")
    values = values.astype(str)
    names = values.tolist()
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Ids are text that UTF-8 can hold, and one of them has the character {error.object[error.start]!r}, "
            f"which it cannot; rename that example."
        ) from error
    if len(set(names)) < n:
        index = _repeated(values)
        raise InputError(
            f"`ids` must be unique, got {names[index]!r} as entry {index} and before it. Rename one, or leave them out."
        )
    return values


def mesh(value: "Mesh | None") -> "Mesh | None":
    """The mesh, if it is one of a single axis, of this process's devices or of all processes'; or None."""
    import jax

    if value is None:
        return None
    if not isinstance(value, jax.sharding.Mesh) or len(value.axis_names) != 1:
        is_mesh = isinstance(value, jax.sharding.Mesh)
        found = f"one of the axes {', '.join(value.axis_names)}" if is_mesh else shown(value)
        raise InputError(
            f"`mesh` must be a jax.sharding.Mesh of one axis, got {found}. Make one with sas_jax.devices.mesh()."
        )
    processes, count = {each.process_index for each in value.devices.flat}, jax.process_count()
    if len(processes) < count and processes != {jax.process_index()}:
        raise InputError(
            f"`mesh` must hold devices of this process or of all {count}, got one of other {len(processes)}. Make one "
            "with sas_jax.devices.mesh()."
        )
    return value


def flag(what: str, value: bool) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{what} must be True or False, got {shown(value)}. Give one of the two.")
    return bool(value)


def integer(value: Any) -> int | None:
    """A whole number of any integer type, as Python's; None where it is none: a bool, a float, a text."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def number(what: str, value: Any) -> float:
    """A real number of any type, as Python's float; not a bool, a text or an array."""
    found = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's and JAX's scalars
    if isinstance(found, bool) or not isinstance(found, numbers.Real):
        raise InputError(f"{what} must be a number, got {shown(value)}. Give a number.")
    return float(found)


def unit_interval(what: str, value: float) -> float:
    """A number in [0, 1]."""
    found = number(what, value)
    if not 0 <= found <= 1:
        raise InputError(f"{what} must be from 0 to 1, got {shown(value)}. Give a number in between.")
    return found


def positive(what: str, value: float) -> float:
    """A finite number above 0."""
    found = number(what, value)
    if not 0 < found < float("inf"):
        raise InputError(f"{what} must be more than 0, got {shown(value)}. Give a finite number above 0.")
    return found


def floating(what: str, values: np.ndarray) -> None:
    """Raises InputError unless the array's type is floating point, bfloat16 included."""
    import jax.numpy as jnp  # NumPy does not know that bfloat16 is one

    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise InputError(f"{what} must be floating point, got {values.dtype}. Convert it to float32.")


def _one_each(what: str, values: Any, n: int) -> np.ndarray:
    values = array(what, values)
    if values.shape != (n,):
        raise InputError(
            f"{what} must have one entry for each example, so [{n}], got {_shape(values)}. Do they belong to the same "
            "examples?"
        )
    return values


def _repeated(values: np.ndarray) -> int | None:
    """The index of an entry that stands in the array before; None where all are different."""
    order = np.argsort(values, kind="stable")
    again = np.flatnonzero(values[order[1:]] == values[order[:-1]])
    return int(order[again[0] + 1]) if again.size else None


def _rows(indices: list[int]) -> str:
    listed = ", ".join(str(index) for index in indices[:5])
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    return f"row{'s' if len(indices) > 1 else ''} {listed}{more}"


def _shape(values: np.ndarray) -> str:
    return str(list(values.shape))
