"""Resolves a list of examples from a file to indices into a data set."""

import os
import re
from collections.abc import Callable

import numpy as np

from sas_jax.data.index_files import IndexList
from sas_jax.errors import InputError, shown

ORDERS = ("auto", "positions", "original", "ids")
_ID = re.compile(r"(?:(.*)_)?([0-9]{1,18})", re.DOTALL)


def resolve(
    listed: IndexList,
    ids: np.ndarray,
    *,
    order: str = "auto",
    split: str = "",
    drop: bool = False,
    root: str = "",
    log: Callable[[str], None] = print,
) -> np.ndarray:
    """Returns the examples in a list as indices into a data set.

    Args:
        listed: the list, as returned by `index_files.read`.
        ids: str [n], the unique ids of the data set's examples.
        order: how to interpret the list. "positions": as indices into the data set in its order here. "original": as
            indices into the published data set, where torchvision's index 16399 of CIFAR's train split is the example
            with the id `train_16399`, at any position. "ids": as ids. "auto": as ids unless they are plain integers,
            else as positions if both orders are equal or the data set's ids have no numbers, else InputError.
        split: for "original", the split that the list's indices refer to ("train"), or several joined in this order
            ("train+unlabelled"), of which all but the last must be complete; "" if the ids have only one split.
        drop: drop unknown entries and all but the first of repeated entries.
        root: the data set's folder, if it is a folder of images: entries may be paths that begin with it.
        log: called with a message if entries are dropped.

    Returns:
        int64 [k], ascending, unique.

    Raises:
        InputError: entries are repeated or unknown and `drop` is False; or all are unknown; or the order is ambiguous.
    """
    if order not in ORDERS:
        raise InputError(
            f"config.selection.file_order must be one of {', '.join(ORDERS)}, got {shown(order)}. Choose one."
        )
    chosen = _chosen(listed, ids) if order == "auto" else order
    if chosen == "ids":
        entries: np.ndarray | tuple[str, ...] = _names(listed)
        places = _places_of_ids(_names(listed), ids, root)
    else:
        if listed.indices is None:
            raise InputError(
                f"{listed.path} must list indices for config.selection.file_order={order}, got ids. Set it to ids."
            )
        entries = listed.indices
        numbers = np.arange(len(ids)) if chosen == "positions" else _original(ids, split)
        places = _places_of_numbers(listed.indices, numbers)
    return _checked(listed.path, entries, places, len(ids), drop=drop, log=log)


def row_numbers(ids: np.ndarray) -> np.ndarray | None:
    """Returns the numbers in ids of one split such as train_00042, int64 [n]; None for any other ids."""
    prefixes, numbers = _parsed(ids)
    return numbers if len(set(prefixes)) == 1 else None


def _chosen(listed: IndexList, ids: np.ndarray) -> str:
    if listed.ids is not None and (listed.indices is None or any(not _ID.fullmatch(n) or "_" in n for n in listed.ids)):
        return "ids"
    prefixes, numbers = _parsed(ids)
    if numbers is None:
        return "positions"
    if len(set(prefixes)) == 1 and np.array_equal(numbers, np.arange(len(ids))):
        return "positions"  # equal to the original order
    raise InputError(
        f"config.selection.file_order must be 'positions' or 'original' for the indices in {listed.path}, got 'auto', "
        f"which cannot tell them apart here (the first image is {shown(str(ids[0]), 40)}). Choose 'original' if they "
        "count in the published order, as torchvision does, or 'positions' if they count in the order of sas_jax."
    )


def _names(listed: IndexList) -> tuple[str, ...]:
    return tuple(map(str, listed.indices.tolist())) if listed.ids is None else listed.ids  # type: ignore[union-attr]


def _places_of_ids(names: tuple[str, ...], ids: np.ndarray, root: str) -> np.ndarray:
    """Returns the index of each name in `ids`, -1 if absent."""
    places = {name: k for k, name in enumerate(ids.tolist())}
    beginning = os.path.join(os.path.abspath(os.path.expanduser(root)), "") if root else ""
    found = (places.get(name, places.get(name.removeprefix(beginning), -1)) for name in names)
    return np.fromiter(found, np.int64, len(names))


def _places_of_numbers(wanted: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns the index of each wanted number in `numbers`, -1 if absent or negative."""
    by_number = np.argsort(numbers, kind="stable")
    ordered = numbers[by_number]
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where((wanted >= 0) & (ordered[at] == wanted), by_number[at], -1)


def _parsed(ids: np.ndarray) -> tuple[list[str], np.ndarray | None]:
    """Parses ids such as `train_16399` to splits and numbers; the numbers are None if an id has another form."""
    matches = [_ID.fullmatch(name) for name in ids.tolist()]
    if not all(matches):
        return [], None
    return [match[1] or "" for match in matches if match], np.array([int(match[2]) for match in matches if match])


def _original(ids: np.ndarray, split: str) -> np.ndarray:
    """Returns each example's index in the original order of `split`, -1 for examples of other splits."""
    prefixes, numbers = _parsed(ids)
    if numbers is None:
        other = next(name for name in ids.tolist() if not _ID.fullmatch(name))
        raise InputError(
            f"The ids of the images must have numbers, such as train_16399, for config.selection.file_order=original, "
            f"got {shown(other)}. Set it to positions or ids."
        )
    known = list(dict.fromkeys(prefixes))
    if not split and len(known) > 1:
        raise InputError(
            f"config.selection.file_split must name the split that the list's indices refer to, got '' with the splits "
            f"{', '.join(known)}. Name one, such as {known[0]}, or several as {'+'.join(known[:2])}."
        )
    wanted = split.split("+") if split else known
    if known == [""] and len(wanted) == 1:
        wanted = known  # ids of a single split may omit its name
    if strange := [name for name in wanted if name not in known]:
        names = ", ".join(name or "one without a name" for name in known)
        raise InputError(
            f"config.selection.file_split must name splits of the images ({names}), got {shown(strange[0])}. "
            f"Correct it."
        )
    found, first = np.full(len(ids), -1), 0
    of = np.array([known.index(name) for name in prefixes])
    for k, name in enumerate(wanted):
        own = np.flatnonzero(of == known.index(name))
        found[own] = first + numbers[own]
        complete = np.array_equal(np.sort(numbers[own]), np.arange(len(own)))
        if k < len(wanted) - 1 and not complete:
            raise InputError(
                f"The split {name!r} must be complete, because the numbers of {wanted[k + 1]!r} continue after it, got "
                f"only a part of it. Load the whole split, or list ids (config.selection.file_order=ids)."
            )
        first += len(own)
    used = found[found >= 0]
    if len(np.unique(used)) < len(used):
        raise InputError(
            "The numbers in the images' ids must be unique, got one that occurs twice. List ids "
            "(config.selection.file_order=ids)."
        )
    return found


def _checked(
    path: str,
    entries: np.ndarray | tuple[str, ...],
    places: np.ndarray,
    n: int,
    *,
    drop: bool,
    log: Callable[[str], None],
) -> np.ndarray:
    """Returns the sorted unique indices; raises InputError for bad entries unless they may be dropped."""
    unknown = np.flatnonzero(places < 0)
    known = places[places >= 0]
    kept, first = np.unique(known, return_index=True)
    wrong = []
    if len(unknown):
        wrong.append(
            f"{len(unknown):,} that name none of its {n:,} examples (the first is {_shown(entries, unknown[0])})"
        )
    if repeats := len(known) - len(kept):
        again = np.flatnonzero(places >= 0)[np.setdiff1d(np.arange(len(known)), first)[0]]
        wrong.append(f"{repeats:,} repeated (the first is {_shown(entries, again)})")
    if wrong:
        what = (
            f"The {len(places):,} entries of {path} must name different examples of the data set, got "
            f"{' and '.join(wrong)}"
        )
        if len(unknown) == len(places):
            raise InputError(f"{what}. Check that the list is for this data set, and which order its indices refer to.")
        if not drop:
            raise InputError(
                f"{what}. Check that the list is for this data set, correct it, or set config.selection.file_drop to "
                f"drop them."
            )
        log(f"{what}. These are dropped; {len(kept):,} remain.")
    return kept


def _shown(entries: np.ndarray | tuple[str, ...], at: int) -> str:
    entry = entries[at]
    return repr(entry if len(entry) <= 80 else f"{entry[:80]}...") if isinstance(entry, str) else str(entry)
