"""Checks of the columns of a ranking, whether they were given, computed or read from a file."""

from typing import Any

import numpy as np

from sas_jax.errors import InputError
from sas_jax.selection import checks

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""position int32 [n], gain float32 [n], classes int32 [n], ids str [n] or None."""

CLASS_NAMES = "class_names"
"""Metadata key of the names of classes 0, 1, ..., present if classes were given as text."""


def check(position: Any, gain: Any, classes: Any, ids: Any) -> tuple[Columns, list[str] | None]:
    """Returns the columns with the types of `Columns`, and the class names if the classes are text.

    Raises:
        InputError: dtypes or lengths are wrong; the positions of a class are not 0, 1, 2, ... each once (and -1 where
            not ranked); or gains are not finite where ranked and nan elsewhere (or nan everywhere).
    """
    position = checks.array("Positions", position)
    gain = checks.array("Gains", gain)
    classes = checks.array("Classes", classes)
    ids = None if ids is None else checks.array("Ids", ids)
    if position.ndim != 1 or not len(position):
        raise InputError(
            f"`position` must be [n], at least one entry, got {list(position.shape)}. Give one for each example."
        )
    for name, values in (("gain", gain), ("classes", classes), ("ids", ids)):
        if values is not None and values.shape != position.shape:
            raise InputError(
                f"`{name}` must have one entry for each example, as `position` has ({list(position.shape)}), got "
                f"{list(values.shape)}. Give columns of the same examples."
            )
    n = len(position)
    classes, names = checks.classes(classes, n)
    position = _positions(position, classes)
    return (position, _gains(gain, position), classes, checks.ids(ids, n)), names


def _positions(position: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns positions as int32, if each class has 0, 1, 2, ... each once."""
    # Tables hold integers as floats once a value was missing.
    whole = position.dtype.kind == "f" and (position == np.floor(position)).all()
    if not whole and position.dtype.kind not in "iu":
        raise InputError(f"`position` must be integers, -1 where not ranked, got {position.dtype}. Convert it.")
    # Values beyond these limits are invalid, and may not fit into int64.
    given, position = position, np.clip(position.astype(np.float64), -2, len(position)).astype(np.int64)
    labels, places = np.unique(classes, return_inverse=True)
    ranked = position >= 0
    counts = np.bincount(places[ranked], minlength=len(labels))
    bad = np.flatnonzero((position < -1) | (ranked & (position >= counts[places])))
    if bad.size:
        k = counts[places[bad[0]]]
        ranks = f"0 to {k - 1}, each once, for the {k} ranked examples of class {classes[bad[0]]}, and " if k else ""
        raise InputError(
            f"`position` must be {ranks}-1 for examples that are not ranked, got {given[bad[0]]} as entry {bad[0]}. "
            "Rank the examples again."
        )
    first = np.cumsum(counts) - counts
    times = np.bincount(first[places[ranked]] + position[ranked], minlength=int(counts.sum()))
    if (times > 1).any():
        slot = int(np.argmax(times > 1))
        place = int(np.searchsorted(first, slot, side="right")) - 1
        raise InputError(
            f"`position` must be 0 to {counts[place] - 1}, each once, in class {labels[place]}, got "
            f"{slot - first[place]}, which occurs {times[slot]} times. Rank the examples again."
        )
    return position.astype(np.int32, copy=False)


def _gains(gain: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Returns gains as float32, if they are finite exactly where ranked, or nan everywhere."""
    if not np.issubdtype(gain.dtype, np.integer) and not np.issubdtype(gain.dtype, np.floating):
        raise InputError(f"`gain` must be floating point, nan where not ranked, got {gain.dtype}. Convert it.")
    with np.errstate(over="ignore"):  # values beyond float32 count as infinite
        gain = gain.astype(np.float32, copy=False)
    ranked, known = position >= 0, ~np.isnan(gain)
    # Random selectors rank without gains.
    bad = np.flatnonzero(np.isinf(gain) | ((ranked != known) & known.any()))
    if bad.size:
        i = bad[0]
        raise InputError(
            f"`gain` must be finite where an example is ranked and nan elsewhere (or nan everywhere, for a selector "
            f"without gains), got {gain[i]} as entry {i} at position {position[i]}. Rank the examples again."
        )
    return gain
