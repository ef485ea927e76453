"""Labels as files have them, whole numbers or text, to numbers of classes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from sas_jax.errors import InputError, shown

_MOST_CLASSES = 1_000_000


def class_names(given: Iterable[Any], *, root: str) -> tuple[str, ...] | None:
    """Names for classes that have none: texts in their order, or the numbers.

    Args:
        given: labels of all splits; None where an image has none, and so has -1.
        root: where they stand, for messages.

    Returns:
        The names; None where there are no labels.

    Raises:
        InputError: labels are neither whole numbers nor text.
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
        f"Labels in {root!r} must be whole numbers from 0 to {_MOST_CLASSES:,}, or all of them text, got "
        f"{shown(label)}. Correct them."
    )


def numbered(given: Sequence[Any], names: Sequence[str], *, place: Callable[[int], str]) -> np.ndarray | None:
    """The classes' numbers, int32 [n], -1 where an image has no label; None where none has one.

    Args:
        given: [n], each a number, a name or None.
        names: of the classes.
        place: says where an image is, for messages.

    Raises:
        InputError: a label is none of the classes.
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
