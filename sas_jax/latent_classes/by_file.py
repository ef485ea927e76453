"""Latent classes read from a file."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.latent_classes.method import Given, Inputs, Known, Made, Method, checked

NAME = "file"


def from_file(file: epath.PathLike, *, n: int) -> np.ndarray:
    """Reads latent classes from a .npy file.

    Args:
        file: the path, local or remote, of an array [n] of whole numbers, at least 0, or of text.
        n: the number of examples.

    Returns:
        int32 [n].

    Raises:
        InputError: the file is missing or unreadable, or does not hold one class for each example.
    """
    path = files.expanded(file)
    try:
        classes = files.array(path)
    except FileNotFoundError:
        raise InputError(
            f"The file of latent classes must be a .npy file, got {path}, which does not exist. Write it with "
            f"numpy.save, one class per example."
        ) from None
    except Exception as error:  # a damaged header can raise any error of Python's own parser
        raise InputError(
            f"The file of latent classes must be a .npy file of one class per example, got {path}, which cannot be "
            f"read ({files.reason(error)}). Write it with numpy.save."
        ) from error
    return checked(classes, n, str(path))


def _check(section: ConfigDict, known: Known) -> None:
    from_file(section.file, n=known.n)


def _inputs(section: Mapping[str, Any], known: Inputs) -> tuple[Any, ...]:
    return known.images, known.file(section["file"])


def _make(key: jax.Array, section: ConfigDict, given: Given) -> Made:
    del key
    return Made(from_file(section.file, n=len(given.dataset.train)))


METHOD = Method(("file",), _check, _inputs, _make, needs="file")
