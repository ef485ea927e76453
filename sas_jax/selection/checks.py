"""What `rank` is given, checked value by value, with a sentence for each thing that cannot be used."""

import difflib

import jax.numpy as jnp
import numpy as np

from sas_jax.errors import InputError

_ROWS = 16384  # a block of rows for the checks, so that they need little memory beside the input


def choice(what: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is one of the known."""
    if value in known:
        return value
    nearest = difflib.get_close_matches(str(value), known, n=1)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else "; choose one of them."
    raise InputError(f"The {what} is one of {', '.join(known)}, and this is {value!r}{meant}")


def embeddings(values: np.ndarray, *, normalize: bool) -> np.ndarray:
    """Embeddings [n, d] or views [n, m, d] as float32 whose rows (or views) are unit vectors, or have norms <= 1."""
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise InputError(
            f"Embeddings have the shape [n, d], or [n, m, d] for m views of each example, and these have "
            f"{list(values.shape)}."
        )
    _floating("Embeddings", values)
    result = np.empty(values.shape, np.float32)
    not_finite, zero, long = [], [], []
    for begin in range(0, len(values), _ROWS):
        rows = np.asarray(values[begin : begin + _ROWS], np.float64)
        finite = np.isfinite(rows).reshape(len(rows), -1).all(1)
        # No norm is taken of what is not finite, which NumPy would warn of.
        norms = np.linalg.norm(np.where(np.isfinite(rows), rows, 1), axis=-1, keepdims=True)
        extent = norms.reshape(len(rows), -1)
        not_finite += (begin + np.flatnonzero(~finite)).tolist()
        zero += (begin + np.flatnonzero((extent == 0).any(1))).tolist()
        long += (begin + np.flatnonzero((extent > 1 + 1e-5).any(1))).tolist()
        rows = rows / np.where(norms == 0, 1, norms) if normalize else rows
        with np.errstate(over="ignore", invalid="ignore"):  # of rows that are refused below
            result[begin : begin + _ROWS] = rows
    if not_finite:
        raise InputError(
            f"Embeddings must be finite, and NaN or infinity stands in {_rows(not_finite)}; leave them out or embed "
            f"them again."
        )
    if normalize and zero:
        raise InputError(
            f"Rows are divided by their norm, and it is 0 in {_rows(zero)}; leave them out, or pass normalize=False "
            f"if the norms mean something."
        )
    if not normalize and long:
        raise InputError(
            f"With normalize=False the norm of every row is at most 1, and it is more in {_rows(long)}; pass "
            f"normalize=True."
        )
    return result


def similarity(values: np.ndarray) -> np.ndarray:
    """A similarity matrix as it is, if it is square, symmetric and in [0, 1]."""
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise InputError(f"A similarity matrix is square, one row and one column an example; this is {_shape(values)}.")
    _floating("A similarity matrix", values)
    step = max(1, _ROWS * 1024 // len(values))
    for begin in range(0, len(values), step):
        rows = np.asarray(values[begin : begin + step], np.float32)
        outside = ~((rows >= -1e-6) & (rows <= 1 + 1e-6))
        if outside.any():
            i, j = (int(place[0]) for place in np.nonzero(outside))
            raise InputError(
                f"Similarities are from 0 to 1, and at row {begin + i}, column {j} stands {rows[i, j]:.8g}; clip or "
                f"scale the matrix."
            )
        differ = np.abs(rows - np.asarray(values[:, begin : begin + step], np.float32).T) > 1e-6
        if differ.any():
            i, j = (int(place[0]) for place in np.nonzero(differ))
            raise InputError(
                f"A similarity matrix is symmetric, and row {begin + i}, column {j} is {rows[i, j]:.8g} where row {j}, "
                f"column {begin + i} is {float(values[j, begin + i]):.8g}; use (S + S.T) / 2 if that is meant."
            )
    return values


def classes(values: np.ndarray | None, n: int) -> np.ndarray:
    """Latent classes as int32 [n]; zeros for None."""
    if values is None:
        return np.zeros(n, np.int32)
    values = np.asarray(values)
    if values.ndim != 1 or len(values) != n:
        raise InputError(
            f"Classes have one entry an example, so [{n}], and these have {_shape(values)}; check that they belong to "
            f"the same examples."
        )
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"Classes are integers, 0 or more, and these are {values.dtype}; convert them.")
    bad = np.flatnonzero((values < 0) | (values > np.iinfo(np.int32).max))
    if bad.size:
        raise InputError(
            f"Classes are integers from 0 to 2^31 - 1, and entry {bad[0]} is {values[bad[0]]}; number them from 0."
        )
    return values.astype(np.int32)


def candidates(values: np.ndarray | None, n: int) -> np.ndarray:
    """The candidates as bool [n]; all of them for None."""
    if values is None:
        return np.ones(n, bool)
    values = np.asarray(values)
    if values.shape != (n,) or values.dtype != bool:
        raise InputError(
            f"where= marks the candidates, bool [{n}], and this is {values.dtype} {_shape(values)}; give one bool an "
            f"example."
        )
    if not values.any():
        raise InputError("where= marks the candidates, and there is none; mark one or more.")
    return values


def budget(value: int | None, number: int) -> int:
    """The budget, at most the number of candidates; all of them for None."""
    if value is None:
        return number
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= number:
        raise InputError(
            f"The budget is a whole number from 1 to the {number} candidates, and this is {value!r}; ask for as many "
            f"as there are, or leave it out to rank all."
        )
    return int(value)


def ids(values: np.ndarray | None, n: int) -> np.ndarray | None:
    """The examples' names as str [n], or None."""
    if values is None:
        return None
    values = np.asarray(values, str)
    if values.shape != (n,):
        raise InputError(f"Ids have one entry an example, so [{n}], and these have {_shape(values)}.")
    return values


def unit_interval(what: str, value: float) -> float:
    """A number in [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"{what} is from 0 to 1, and this is {value}.")
    return float(value)


def positive(what: str, value: float) -> float:
    """A finite number above 0."""
    if not 0 < value < float("inf"):
        raise InputError(f"{what} is more than 0, and this is {value}.")
    return float(value)


def _floating(what: str, values: np.ndarray) -> None:
    # jnp's, because NumPy does not know that bfloat16 is one.
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise InputError(f"{what} must be floating point, and the type is {values.dtype}; convert it to float32.")


def _rows(indices: list[int]) -> str:
    shown = ", ".join(str(index) for index in indices[:5])
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    return f"row{'s' if len(indices) > 1 else ''} {shown}{more}"


def _shape(values: np.ndarray) -> str:
    return str(list(values.shape))
