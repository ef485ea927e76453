"""k-means on rows that do not fit in memory: Lloyd's iterations as passes over them, one block at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sas_jax import arrays, devices, settings
from sas_jax.errors import InputError
from sas_jax.latent_classes.kmeans import KMeans, Rows, assigned, kmeans, numbered
from sas_jax.progress import Progress

_BLOCK_NUMBERS = 1 << 22  # entries of a block of rows: 16 MiB, of which there are several copies
SAMPLE = 1 << 15  # minimum number of rows in the sample for the initial centres,
SAMPLE_PER_CLASS = 64  # and minimum number of them per class
ENOUGH = 1e-3  # passes end when one lowers the inertia by at most this fraction


def cluster(
    key: jax.Array, x: arrays.Rows, *, num_classes: int, restarts: int = 5, mesh: Mesh | None = None
) -> np.ndarray:
    """Runs k-means, in passes if the rows exceed a third of all accelerators' memory or, on disk, of the machine's.

    Args:
        key: a typed PRNG key.
        x: float [n, d].
        num_classes: in [1, n].
        restarts, mesh: see `kmeans`.

    Returns:
        The classes, int32 [n].
    """
    needed = 3 * 4 * math.prod(x.shape)  # float32: as read, on the device, and computed from it there
    one, count = devices.memory_of_one(), jax.local_device_count()
    most = min(one * count, devices.memory() if arrays.on_disk(x) else math.inf)
    if mesh is None and one < needed <= most:
        mesh = devices.mesh()
    if mesh is None and needed > most:
        return kmeans_by_passes(key, x, num_classes=num_classes, restarts=restarts).labels
    return kmeans(key, x, num_classes=num_classes, restarts=restarts, mesh=mesh).labels


@settings.fixed
def kmeans_by_passes(
    key: jax.Array, x: arrays.Rows, *, num_classes: int, restarts: int = 5, iterations: int = 100
) -> KMeans:
    """Partitions rows by k-means in passes; memory grows by only one label and one distance per row.

    `kmeans` runs k-means++ and the restarts on a random sample of SAMPLE_PER_CLASS rows per class, at least SAMPLE.
    From the best centres of the sample, each Lloyd iteration is one pass over all rows. A class that loses all its rows
    is reseeded at the row farthest from its centre.

    Args:
        key: a typed PRNG key; the result is a function of it and of `x`.
        x: [n, d], finite: an array, a memory-mapped file or `arrays.LazyRows`; read in blocks.
        num_classes: k, in [1, number of distinct rows of the sample].
        restarts: number of seedings on the sample, at least 1.
        iterations: maximum Lloyd iterations, on the sample and again in passes; the passes end earlier when one lowers
            the inertia by at most the fraction ENOUGH.

    Returns:
        The labels (each row's nearest centre), the centres and the inertia.

    Raises:
        InputError: `x` is not finite, or the sample has fewer distinct rows than `num_classes`.
    """
    n = len(x)
    size = min(n, max(SAMPLE, SAMPLE_PER_CLASS * num_classes))
    sample = np.asarray(x[np.sort(np.asarray(jax.random.permutation(jax.random.fold_in(key, 0), n)[:size]))])
    centres = kmeans(key, sample, num_classes=num_classes, restarts=restarts, iterations=iterations).centres
    # Distances are computed as |x|^2 - 2xc + |c|^2, which is most accurate if centred and of magnitude about 1.
    scale = np.float32(max(np.abs(sample).max(), np.finfo(np.float32).tiny))
    shift = (sample / scale).mean(axis=0, dtype=np.float64).astype(np.float32)
    del sample
    centres = centres / scale - shift
    labels, distances = np.zeros(n, np.int32), np.zeros(n, np.float32)
    before, done = np.inf, 0
    while True:
        with Progress(f"k-means, pass {done + 1}:") as progress:
            sums, counts = _pass(x, centres, scale, shift, labels, distances, progress)
        inertia = float(distances.sum(dtype=np.float64))
        empty = np.flatnonzero(counts == 0)
        if done >= iterations or (not len(empty) and before - inertia <= ENOUGH * inertia):
            break
        centres = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        if len(empty):
            farthest = np.argsort(-distances, kind="stable")[: len(empty)]
            centres[empty] = np.asarray(x[farthest]) / scale - shift
        before, done = inertia, done + 1
    for label in empty:  # float32 hardly distinguishes these rows; each class gets one anyway
        row = int(np.argmax(np.where(counts[labels] > 1, distances, -1)))
        counts[labels[row]] -= 1
        counts[label] = 1
        labels[row], distances[row] = label, 0
        centres[label] = np.asarray(x[row : row + 1])[0] / scale - shift
    inertia = float(distances.sum(dtype=np.float64))
    labels, centres = numbered(labels, centres)
    return KMeans(labels, (centres + shift) * scale, inertia * float(scale) ** 2)


def _pass(
    x: arrays.Rows,
    centres: np.ndarray,
    scale: np.float32,
    shift: np.ndarray,
    labels: np.ndarray,
    distances: np.ndarray,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each class's sum, float64 [k, d], and size; writes the labels and squared distances of all rows."""
    n, d = x.shape
    rows = max(1, _BLOCK_NUMBERS // d)
    sums, counts = np.zeros(centres.shape), np.zeros(len(centres), np.int64)
    computing: list = []

    def take() -> None:
        at, found = computing.pop()
        block_labels, block_distances, block_sums, block_counts, finite = map(np.asarray, found)
        if not finite:
            raise InputError(
                f"`x` must be finite in float32, got NaN, infinity or numbers beyond 3.4e38 in the rows {at.start} to "
                f"{at.stop - 1}. Correct those rows, or leave them out."
            )
        labels[at], distances[at] = block_labels, block_distances
        np.add(sums, block_sums, out=sums)
        np.add(counts, block_counts, out=counts)
        progress(at.stop, n)

    for start in range(0, n, rows):
        at = slice(start, min(start + rows, n))
        block = np.asarray(x[at], np.float32)  # read while the previous block is computed
        if computing:
            take()
        computing.append((at, _block(block, centres, scale, shift)))
    take()
    return sums, counts


@jax.jit
def _block(values: jax.Array, centres: jax.Array, scale: jax.Array, shift: jax.Array) -> tuple[jax.Array, ...]:
    found = assigned(Rows(values / scale - shift, values.shape[0]), centres)
    return *found, jnp.all(jnp.isfinite(values))
