"""Converts labels from files, integers or text, to class indices."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from sas_jax.errors import InputError, shown

_MOST_CLASSES = 1_000_000


def class_names(given: Iterable[Any], *, root: str) -> tuple[str, ...] | None:
    """Derives class names from labels: the sorted texts, or the numbers from 0 to the largest.

    Args:
        given: the labels of all splits; None or -1 for an image without a label.
        root: where the labels are, for messages.

    Returns:
        The names; None if there are no labels.

    Raises:
        InputError: the labels are neither all integers nor all text, or an integer is out of range.
    """
    texts: set[str] = set()
    largest = -1
    for label in given:
        if isinstance(label, str):
            texts.add(label)
        elif label is not None:
            if type(label) is not int or not -1 <= label < _MOST_CLASSES:
                raise _no_label(root, label)
            largest = max(largest, label)
    if texts and largest >= 0:
        raise _no_label(root, min(texts))
    return tuple(sorted(texts)) or tuple(map(str, range(largest + 1))) or None


def _no_label(root: str, label: Any) -> InputError:
    return InputError(
        f"Labels in {root!r} must all be whole numbers from 0 to {_MOST_CLASSES - 1:,}, or all be text, got "
        f"{shown(label)}. Correct them."
    )


def numbered(given: Sequence[Any], names: Sequence[str], *, place: Callable[[int], str]) -> np.ndarray | None:
    """Converts labels to class indices, int32 [n], -1 for an image without a label; None if no image has one.

    Args:
        given: [n], each an index, a name or None.
        names: the class names.
        place: returns the location of an image, for messages.

    Raises:
        InputError: a label is not one of the classes.
    """
    number = {name: at for at, name in enumerate(names)}
    labels = np.full(len(given), -1, np.int32)
    for row, label in enumerate(given):
        at = number.get(label, -2) if isinstance(label, str) else label
        if at is None or at == -1:
            continue
        if type(at) is not int or not 0 <= at < len(names):
            raise InputError(
                f"A label in {place(row)!r} must be one of the {len(names)} classes, got {shown(label)}. Correct it."
            )
        labels[row] = at
    return labels if (labels >= 0).any() else None
