"""Pickled lists of integers, read without running anything that is in them (`sas_jax.pickles`)."""

import numpy as np

from sas_jax import pickles


def loads(data: bytes) -> np.ndarray:
    """The integers of a pickle.

    Args:
        data: a list or tuple of Python's or NumPy's integers, or a NumPy array of integers, pickled.

    Returns:
        An array of integers of any shape; int64 [k] of a list.

    Raises:
        ValueError: it is something else, is cut short, or holds an integer of more than 64 bits.
        Exception: whatever else a damaged pickle leads the reader into.
    """
    value, end = pickles.read(data, pickles.ARRAYS, kind="list of integers")
    if end != len(data):
        raise ValueError("something stands behind its end")
    if isinstance(value, pickles.Array):
        return value.values()
    if not isinstance(value, list | tuple):
        raise ValueError(f"it holds {pickles.kind_of(value)}, and should hold a list")
    for entry in value:
        if type(entry) is not int:
            raise ValueError(f"its list holds {pickles.kind_of(entry)}, and should hold integers")
        if entry.bit_length() > 63:
            raise ValueError("an integer in it has more than 64 bits")
    return np.fromiter(value, np.int64, len(value))
