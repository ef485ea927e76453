"""Computes embeddings of images, with pmap over devices and vmap over views."""

import collections
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from tqdm import tqdm

from sas_jax import arrays, files, settings
from sas_jax.devices import gathered, is_writer
from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.views import Views, plain, view

Apply = Callable[[Any, jax.Array], jax.Array]  # (variables, float [b, s, s, 3]) -> float [b, d]


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


@functools.lru_cache(maxsize=8)
def compiled(
    apply: Apply, views: Views, num_views: int | None, keep_views: bool, devices: tuple[jax.Device, ...]
) -> Callable:
    """Returns the pmapped function of one batch per device; cached, so that all arms' encoders share one program."""

    def one_batch(variables: Any, images: jax.Array, examples: jax.Array, key: jax.Array) -> jax.Array:
        if num_views is None:
            return apply(variables, jax.vmap(functools.partial(plain, views=views))(images))

        def one_view(number: jax.Array) -> jax.Array:
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), number))(examples)
            seen = jax.vmap(functools.partial(view, views=views))(keys, images)
            return _unit(apply(variables, seen))

        seen = jax.vmap(one_view, out_axes=1)(jnp.arange(num_views))
        return seen if keep_views else jnp.mean(seen, axis=1)

    return jax.pmap(one_batch, in_axes=(None, 0, 0, None), devices=devices)


@settings.fixed
def embed(
    apply: Apply,
    variables: Any,
    images: Images,
    *,
    views: Views,
    batch_size: int,
    num_views: int | None = None,
    keep_views: bool = False,
    key: jax.Array | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    label: str = "embedding",
    whole: bool = True,
) -> np.ndarray:
    """Embeds images, one batch per device at a time; several processes divide the images among them.

    Args:
        apply: (variables, float [b, s, s, 3]) -> float [b, d], pure; pass the same object to reuse its program.
        variables: the encoder's parameters and statistics.
        images: uint8 [n, h, w, 3], on the host, or decoded on access.
        views: the augmentation; without `num_views`, only its size and normalisation are used.
        batch_size: images on one device at a time (times `num_views` views).
        num_views: number of random views per image; None embeds the image without augmentation.
        keep_views: return every view instead of their mean.
        key: key of the views, required with `num_views`; a view is a function of (key, example, view number).
        devices: devices of this process to use; all by default.
        label: label of the progress bar.
        whole: whether every process gets all rows. Otherwise each gets its part: parts are consecutive and of equal
            length, with the last image repeated beyond the end.

    Returns:
        float32 [n, d]: with `num_views`, the mean over views of the unit-normalised outputs, of norm at most 1
        ([n, num_views, d] with `keep_views`: each view's); otherwise the unnormalised outputs.
    """
    assert (num_views is None) == (key is None)
    devices = devices or tuple(jax.local_devices())
    function = compiled(apply, views, num_views, keep_views, devices)
    key = settings.key(0) if key is None else key
    n, processes = len(images), jax.process_count()
    batch_size = min(batch_size, -(-n // (len(devices) * processes)))
    stride = batch_size * len(devices)
    share = -(-n // processes)  # images per process; the last ones may have fewer
    first = share * jax.process_index()
    stop = min(first + share, n)
    out: list[np.ndarray] = []
    computing: collections.deque[jax.Array] = collections.deque()  # computed while the host decodes the next batch

    def fetch() -> None:
        result = computing.popleft()
        out.append(np.asarray(result).reshape(stride, *result.shape[2:]))

    with tqdm(total=stop - first, desc=label, unit=" images", disable=None) as bar:
        for start in range(first, first + share, stride):
            examples = np.minimum(np.arange(start, start + stride), n - 1)  # the last batch repeats the last image
            batch = images[examples].reshape(len(devices), batch_size, *images.shape[1:])
            numbers = examples.astype(np.int32).reshape(len(devices), batch_size)
            computing.append(function(variables, batch, numbers, key))
            if len(computing) > 1:
                fetch()
            bar.update(max(0, min(stride, stop - start)))
        while computing:
            fetch()
    part = np.concatenate(out)[:share].astype(np.float32)
    if not whole or processes == 1:
        return part
    found = np.empty((processes, *part.shape), np.float32)
    for begin, block in gathered(part):
        found[:, begin : begin + block.shape[1]] = block
    return found.reshape(-1, *part.shape[1:])[:n]


def write_parts(path: epath.Path, part: np.ndarray, n: int) -> None:
    """Writes the parts of all processes atomically to one .npy of n rows; process 0 writes, but all must call this.

    Args:
        path: path of the file.
        part: the result of `embed` with whole=False.
        n: total number of images.
    """
    blocks = gathered(part)

    def write(aside: epath.Path) -> None:
        file = np.lib.format.open_memmap(os.fspath(aside), mode="w+", dtype=part.dtype, shape=(n, *part.shape[1:]))
        with open(aside, "r+b") as opened:  # a full disk raises an error here, but a signal on writing a mapped page
            os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
        for first, block in blocks:
            for process, rows in enumerate(block):
                start = process * len(part) + first
                file[start : start + len(rows)] = rows[: max(0, n - start)]
        file.flush()

    if is_writer():
        files.write_whole(path, write)
    else:
        for _ in blocks:  # every process takes part in each collective
            pass


def read_embeddings(path: epath.PathLike, *, n: int, field: str, log: Callable[[str], None]) -> np.ndarray:
    """Reads embeddings computed elsewhere, to use instead of a run's own.

    Args:
        path: a .npy file, float [n, d], or [n, m, d] with m views of each example.
        n: expected number of examples.
        field: the field of the config that names the file, for messages.
        log: called with a message about the normalisation.

    Returns:
        float32, in the file's shape. If all rows [n, d] have norm at most 1, they are means of unit vectors, like a
        run's own embeddings.npy, and are unchanged; otherwise each vector is divided by its norm.

    Raises:
        InputError: the file cannot be read, or has other contents.
    """
    where = f"{field} ({path})"
    try:
        vectors = files.array(path)
    except Exception as error:  # a damaged header can make Python's parser raise any exception
        raise InputError(
            f"{where} must be a .npy file of floats, got one that cannot be read ({files.reason(error)}). "
            "Check the path, or write the file with numpy.save."
        ) from error
    if vectors.ndim not in (2, 3) or len(vectors) != n or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(
            f"{where} must hold floats [{n}, d] or [{n}, m, d], one row per image, got {vectors.dtype} "
            f"{list(vectors.shape)}. Embed exactly these images in their order."
        )
    return unit_rows(vectors, where=where, log=log)


def unit_rows(vectors: np.ndarray, *, where: str, log: Callable[[str], None], means: bool = True) -> np.ndarray:
    """Validates and normalises embeddings computed elsewhere, as `read_embeddings` does.

    Args:
        vectors: float [n, d] or [n, m, d], one or m vectors per example.
        where: their source, for messages.
        means: whether rows [n, d] of norm at most 1 are means of unit vectors, which are unchanged.
        log: called with a message about the normalisation.

    Raises:
        InputError: a vector is not finite, or is zero.
    """
    n = len(vectors)
    with np.errstate(over="ignore", invalid="ignore"):  # float32 overflow gives infinity
        vectors = vectors.astype(np.float32)
        norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).reshape(n, -1).all(axis=1)
    if bad.any():
        raise InputError(
            f"{where} must hold finite, nonzero vectors, got NaN, infinity or zero vectors in {int(bad.sum())} of {n} "
            f"rows, the first in row {int(bad.argmax())}. Check how they were computed."
        )
    if means and vectors.ndim == 2 and norms.max() <= arrays.LARGEST_NORM:
        log(f"{where}: all norms are at most 1, so the rows are used unchanged, as means of unit vectors")
        return vectors
    log(f"{where}: normalised each vector to unit length")
    return vectors / norms


def mean_embeddings(path: epath.PathLike, *, n: int, field: str, log: Callable[[str], None]) -> np.ndarray:
    """Reads embeddings like `read_embeddings`, averaged over the views of each example: float32 [n, d]."""
    vectors = read_embeddings(path, n=n, field=field, log=log)
    return vectors if vectors.ndim == 2 else vectors.mean(axis=1, dtype=np.float32)
