"""Reads pickled lists of integers without executing the pickles (`sas_jax.pickles`)."""

import numpy as np

from sas_jax import pickles


def loads(data: bytes) -> np.ndarray:
    """Returns the integers in a pickle.

    Args:
        data: a pickled list or tuple of Python or NumPy integers, or a pickled NumPy array of integers.

    Returns:
        An integer array of any shape; int64 [k] for a list.

    Raises:
        ValueError: the pickle has other contents, is truncated, or has an integer of more than 64 bits.
        Exception: any other error of the reader for a damaged pickle.
    """
    value, end = pickles.read(data, pickles.ARRAYS, kind="list of integers")
    if end != len(data):
        raise ValueError("there is data after its end")
    if isinstance(value, pickles.Array):
        return value.values()
    if not isinstance(value, list | tuple):
        raise ValueError(f"it holds {pickles.kind_of(value)}, expected a list")
    for entry in value:
        if type(entry) is not int:
            raise ValueError(f"its list holds {pickles.kind_of(entry)}, expected integers")
        if entry.bit_length() > 63:
            raise ValueError("an integer in it has more than 64 bits")
    return np.fromiter(value, np.int64, len(value))
