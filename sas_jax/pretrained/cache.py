"""A cache of embeddings."""

from collections.abc import Callable

import numpy as np
from etils import epath

from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.pretrained.hub import identity
from sas_jax.workdir import fingerprint


def cached(
    make: Callable[[], np.ndarray],
    n: int,
    *,
    of: str,
    model: str,
    source: str,
    cache: epath.PathLike,
    log: Callable[[str], None],
) -> np.ndarray:
    """Returns embeddings from a cache, or makes them and stores them there.

    Args:
        make: returns the embeddings, float32 [n, d].
        n: number of images.
        of: the name of the model, for messages and as part of the cache's fingerprint.
        model: a model's file or folder, identified by its contents, or its name.
        source: a fingerprint of the images, from `Split.fingerprint()`.
        cache: the path, local or remote, of the .npz file that this function writes. It is valid for one model and one
            source, and is overwritten for others.
        log: takes a message if the embeddings are in the cache.

    Returns:
        float32 [n, d].

    Raises:
        InputError: `cache` holds something else.
    """
    path, wanted = epath.Path(cache), fingerprint(f"{of} images", identity(model), source, n)
    if (found := _read(path, of, wanted, n)) is not None:
        log(f"{of}: using the cached embeddings of {n:,} images in {path}")
        return found
    embeddings = make()

    def write(aside: epath.Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, embeddings=embeddings, fingerprint=np.array(wanted))

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, write)
    return embeddings


def _read(path: epath.Path, of: str, wanted: str, n: int) -> np.ndarray | None:
    """Returns the embeddings in a cache; None if there is none, or if it is for another model or other images."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["fingerprint"]) != wanted:
                return None
            embeddings = archive["embeddings"]
        if embeddings.ndim != 2 or len(embeddings) != n or embeddings.dtype != np.float32:
            raise ValueError(f"it holds {embeddings.dtype} {list(embeddings.shape)}, expected float32 [{n}, d]")
    except Exception as error:  # a damaged archive can raise any error of the library that reads it
        raise InputError(
            f"{path} must be a cache of {of} embeddings, got something else or a damaged file ({files.reason(error)}). "
            "Remove it, or give another path."
        ) from error
    return embeddings
