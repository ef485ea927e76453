"""Image features from a pretrained network: timm/NAME, hf/NAME or onnx/FILE. Requires the extra [pretrained].

Each kind of network has its own preprocessing. PyTorch, timm, transformers and ONNX Runtime are imported when a
network is loaded.
"""

import contextlib
import os
import re
from collections.abc import Callable

import numpy as np
from etils import epath

from sas_jax import files
from sas_jax.embedding import unit_rows
from sas_jax.errors import InputError, shown
from sas_jax.images import Images
from sas_jax.pretrained import by_hf, by_onnx, by_timm
from sas_jax.pretrained.cache import cached
from sas_jax.pretrained.hub import asked_if_reachable, check_installed
from sas_jax.pretrained.model import Model, RandomViews

__all__ = ["KINDS", "Model", "RandomViews", "check", "embed_images", "is_model", "load", "path_of"]

KINDS = {each.NAME: each.KIND for each in (by_timm, by_hf, by_onnx)}
"""The kinds of networks, by the first part of a name."""


def is_model(name: str) -> bool:
    """Returns whether a field or an argument names a pretrained network, not a .npy file."""
    kind, slash, _ = name.partition("/")
    return kind in KINDS and bool(slash) and not name.endswith(".npy")


def path_of(name: str) -> str:
    """Returns the file or folder that holds the network; "" if only its name is known."""
    place = os.path.expanduser(name.partition("/")[2])
    return place if os.path.exists(place) else ""


def check(name: str, *, field: str) -> None:
    """Checks whether a network can be loaded, as far as possible without loading it.

    Args:
        name: "timm/NAME", "hf/NAME", "onnx/FILE", or a folder in place of NAME.
        field: the argument or field that holds the name.

    Raises:
        InputError: there is no such name or file, or the extra is not installed.
    """
    kind, _, rest = name.partition("/")
    if kind not in KINDS or not rest:
        raise InputError(
            f"{field} must be timm/NAME or hf/NAME (NAME may be a folder) or onnx/FILE, got {shown(name)}. Correct it."
        )
    check_installed(f"{field} {kind}/...", *KINDS[kind].packages, extra="pretrained")
    KINDS[kind].check(rest, field)


def load(name: str, *, field: str) -> Model:
    """Loads a pretrained network, on a GPU if the library finds one.

    Args:
        name, field: see `check`.

    Raises:
        InputError: as for `check`, or the weights cannot be loaded.
    """
    check(name, field=field)
    kind, _, rest = name.partition("/")
    with contextlib.nullcontext("") if path_of(name) else asked_if_reachable() as problem:
        try:
            return KINDS[kind].load(name, os.path.expanduser(rest))
        except Exception as error:  # the hub's, the network's and damaged files' errors have no common type
            raise InputError(
                f"{field} must name a model that can be loaded, got {shown(name)}, which cannot be "
                f"loaded ({problem or files.reason(error)[:200]}). {KINDS[kind].fix}"
            ) from error


def embed_images(
    name: str,
    images: Images,
    *,
    source: str,
    folder: epath.PathLike,
    field: str,
    batch_size: int = 64,
    log: Callable[[str], None] = print,
) -> np.ndarray:
    """Returns the features of images from a pretrained network, in place of a run's own embeddings.

    Args:
        name, field: see `check`.
        images: uint8 [n, h, w, 3].
        source: see `cached`.
        folder: a path, local or remote, where the features are cached in a file named after the network.
        batch_size: images per batch, at least 1.
        log: takes progress messages.

    Returns:
        float32 [n, d], rows of norm 1.

    Raises:
        InputError: the network cannot be used, or its file in `folder` holds something else.
    """

    def make() -> np.ndarray:
        model = load(name, field=field)
        log(f"{name}: embedding {len(images):,} images on {model.device}")
        return np.concatenate(list(model.images(images, batch_size=batch_size)))

    cache = epath.Path(folder) / f"pretrained-{re.sub('[^A-Za-z0-9._]+', '-', name)[-100:]}.npz"
    vectors = cached(make, len(images), of=name, model=path_of(name) or name, source=source, cache=cache, log=log)
    return unit_rows(vectors, where=f"{field} ({name})", log=log, means=False)
