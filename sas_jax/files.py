"""The files that commands are given, with a sentence for each that cannot be used."""

import pathlib

import numpy as np

from sas_jax.errors import InputError

_MAGIC = b"\x93NUMPY"
_ZIP = b"PK"


def mapped(path: str) -> np.ndarray:
    """The array of a .npy file, mapped into memory: what is not used is not read.

    Args:
      path: of a local file.

    Returns:
      A read-only array of one dimension or more.

    Raises:
      InputError: there is no such file, or it is cut short or no .npy file, or holds Python objects or a single value.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_MAGIC))
        if start != _MAGIC:
            kind = "an archive of arrays, as numpy.savez writes it" if start.startswith(_ZIP) else "something else"
            raise ValueError(f"it is {kind if start else 'empty'}")
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header shows as whatever Python's own parser meets in it
        raise InputError(
            f"{path} cannot be read as a .npy file ({_reason(error)}); write it with numpy.save."
        ) from error
    if values.ndim == 0:
        raise InputError(f"{path} holds one value, and should hold an array with one row an example; write that.")
    return values


def lines(path: str) -> list[str]:
    """The lines of a text file, UTF-8, without their ends.

    Raises:
      InputError: there is no such file, or it is not such text.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as lines of UTF-8 ({_reason(error)}); check the path.") from error
    return text.removesuffix("\n").split("\n")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error).split("\n")[0]).rstrip(".")
