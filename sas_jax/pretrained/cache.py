"""Embeddings kept once they are made."""

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
    """Embeddings from a cache, or made and then kept there.

    Args:
        make: gives float32 [n, d].
        n: images.
        of: whose embeddings they are, in sentences.
        model: a model's file or folder, known by its contents, or a name, known by itself.
        source: a fingerprint of the images, as `Split.fingerprint()` gives it.
        cache: a path, local or remote, of an .npz file that this function writes. It is good for one model and one
            source, and is written anew for others.
        log: gets a sentence where they are in the cache.

    Returns:
        float32 [n, d].

    Raises:
        InputError: `cache` holds something else.
    """
    path, wanted = epath.Path(cache), fingerprint(f"{of} images", identity(model), source, n)
    if (found := _read(path, of, wanted, n)) is not None:
        log(f"{of}: the embeddings of {n:,} images are in {path}")
        return found
    embeddings = make()

    def write(aside: epath.Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, embeddings=embeddings, fingerprint=np.array(wanted))

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, write)
    return embeddings


def _read(path: epath.Path, of: str, wanted: str, n: int) -> np.ndarray | None:
    """The embeddings in a cache; None where there is none, or it is of another model or other images."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["fingerprint"]) != wanted:
                return None
            embeddings = archive["embeddings"]
        if embeddings.ndim != 2 or len(embeddings) != n or embeddings.dtype != np.float32:
            raise ValueError(f"it holds {embeddings.dtype} {list(embeddings.shape)}")
    except Exception as error:  # a damaged archive shows as whatever the library that reads it meets in it
        raise InputError(
            f"{path} must be a cache of {of} embeddings, got something else or a damaged file ({files.reason(error)}). "
            "Remove it, or give another path."
        ) from error
    return embeddings
