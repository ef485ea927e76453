"""What CLIP and the other pretrained networks share: the hub, batches prepared ahead, embeddings kept once made."""

import contextlib
import hashlib
import importlib
import importlib.util
import socket
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from sas_jax import devices, files
from sas_jax.errors import InputError
from sas_jax.workdir import fingerprint

_CONNECT_SECONDS = 5.0


def check_installed(what: str, *packages: str, extra: str) -> None:
    """Finds out whether packages are there, without importing them.

    Raises:
        InputError: one is not.
    """
    if lacking := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"{what} must have {' and '.join(packages)} installed, got no {' and no '.join(lacking)}. Run pip install "
            f"'sas_jax[{extra}]'."
        )


@contextlib.contextmanager
def hub() -> Iterator[str]:
    """Models come from the hub's local cache alone if the hub cannot be reached; its client would retry for minutes.

    Yields:
        Why models that are not in the cache cannot be had; "" where the hub can be reached.
    """
    constants: Any = importlib.import_module("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname
    problem = f"it is not in the local cache, and {host} cannot be reached"
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield problem if constants.HF_HUB_OFFLINE else ""
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    """Whether something answers there, or behind a proxy might."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in urllib.request.getproxies():
        return True
    try:
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def in_batches(
    n: int,
    prepare: Callable[[np.ndarray], Any],
    forward: Callable[[Any], np.ndarray],
    *,
    batch_size: int,
    label: str,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """forward(prepare(indices)) of all batches in order, with a progress bar; all cores prepare a few batches ahead.

    Args:
        n: images.
        prepare: of int [b], the indices of a batch; called on several threads.
        forward: gives [b, d] of what was prepared.
        batch_size: images at a time, at least 1.
        label: of the progress bar.
        first: the image to begin with.
    """

    def prepared(start: int) -> Any:
        return prepare(np.arange(start, min(start + batch_size, n)))

    with tqdm(total=n, initial=first, desc=label, unit=" images", disable=None) as bar:
        for batch in _ahead(prepared, range(first, n, batch_size)):
            found = forward(batch)
            bar.update(len(found))
            yield found


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


def model_files(place: str) -> list[Path]:
    """The files of a network in a folder, or in a file; of ONNX the weights may be beside it. Else none."""
    path = Path(place).expanduser()
    if path.is_file():
        return [each for each in (path, Path(f"{path}.data")) if each.is_file()]
    return sorted(each for each in path.iterdir() if each.is_file()) if place and path.is_dir() else []


def identity(name: str) -> list[str]:
    """What a model is known by: its files and their contents, or the hub's name."""
    found = []
    for file in model_files(name):
        with file.open("rb") as opened:
            found += [file.name, hashlib.file_digest(opened, "blake2b").hexdigest()]
    return found or [name]


def _ahead(function: Callable[[int], Any], arguments: Iterable[int]) -> Iterator[Any]:
    """function(a) of each argument in order, computed by all cores a few ahead of where they are taken."""
    workers = devices.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Any] = deque()
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
