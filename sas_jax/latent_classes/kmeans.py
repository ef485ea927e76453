"""k-means in JAX: greedy k-means++ seeds, Lloyd's iterations, the best of several restarts.

The only array of size n x d is one matrix on the device. The [rows, classes] scores are computed one block of rows at a
time, so that no n x k matrix exists: 1.3 million x 512 into 1,000 classes take 2.5 GiB for the matrix and another 0.1
GiB. On accelerators, class sums are products with a one-hot matrix instead of scatters: a GPU scatters in arbitrary
order, and the same key would not always give the same classes.

With a mesh, of one process or of several, the rows are sharded, padded to equal parts, and the centres are replicated.
The same functions then exchange sums, a few drawn rows and their indices (see collectives.py).
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from tqdm import tqdm

from sas_jax import arrays, collectives, devices, settings
from sas_jax.errors import InputError

# Entries of a block's score matrix (4 MiB in float32: it stays in a CPU's cache), and the minimum number of rows: each
# block reads all centres and sums, which are larger than the block if there are very many classes.
_BLOCK_ENTRIES = 1 << 20
_BLOCK_ROWS = 128

# A CPU scatters in order, and an iteration with 100 to 2,000 classes takes 0.5 to 0.65 of the time of one-hot products
# (AMD EPYC, 2 cores, 2026-11-27). With few classes the product is faster.
_FEWEST_SCATTERED = 64


class KMeans(NamedTuple):
    """A partition of n rows into k classes, none of them empty.

    Attributes:
        labels: int32 [n], in [0, k). Classes are numbered by their first row (row 0 is in class 0), so that equal
            partitions have equal labels.
        centres: float32 [k, d], in the coordinates of the rows given.
        inertia: the sum over the rows of the squared distance to their class's centre.
    """

    labels: np.ndarray
    centres: np.ndarray
    inertia: float


class Rows(NamedTuple):
    """Rows sharded over the devices."""

    values: jax.Array  # float32 [local rows, d], zero-padded after the last of all rows
    number: int  # n, over all devices
    axis: str | None = None  # the mesh axis, inside `jax.shard_map`; None: not sharded

    @property
    def here(self) -> int:
        """The number of local rows, padding included."""
        return self.values.shape[0]

    def real(self, first: jax.Array | int, rows: int) -> jax.Array:
        """Returns bool [rows]: which of the local rows from `first` on are not padding."""
        if self.axis is None:
            return jnp.ones(rows, bool)
        return collectives.place(self.axis) * self.here + first + jnp.arange(rows) < self.number


@settings.fixed
def kmeans(
    key: jax.Array,
    x: ArrayLike | arrays.LazyRows,
    *,
    num_classes: int,
    restarts: int = 5,
    iterations: int = 100,
    mesh: Mesh | None = None,
) -> KMeans:
    """Partitions rows by k-means, keeping the best of several restarts.

    Ties go to the lowest: a row between two centres to the lower one, equal inertias to the earlier restart. A class
    that loses all its rows is reseeded at the row farthest from its centre.

    Args:
        key: a typed PRNG key; the result is a function of it and of `x`.
        x: [n, d], finite, any real dtype; computed in float32.
        num_classes: k, in [1, number of distinct rows].
        restarts: number of seedings, at least 1.
        iterations: maximum Lloyd iterations per restart, at least 1; stops earlier when no assignment changes.
        mesh: a mesh with one axis, over which the rows are sharded; None for one device. If it spans several processes,
            all of them call this with the same arguments, each reads its own devices' rows of `x`, and all get the
            result. The order of summation, and so the last digits, depend on the number of devices.

    Returns:
        The labels, centres and inertia of the restart with the lowest inertia.

    Raises:
        InputError: `x` is not a matrix of finite numbers, or has fewer distinct rows than `num_classes`.

    Source:
        Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding" (SODA 2007), section 2.2, and its
        greedy variant (the best of 2 + log k candidates for each seed), which is scikit-learn's.
    """
    x = x if isinstance(x, jax.Array | arrays.LazyRows) else arrays.array("The rows of k-means", x)
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.number) or jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise InputError(
            f"`x` must be real numbers [n, d], got {x.dtype} {list(x.shape)}. Give one row for each example."
        )
    n = x.shape[0]
    for name, value in (("num_classes", num_classes), ("restarts", restarts), ("iterations", iterations)):
        if value < 1:
            raise InputError(f"`{name}` must be 1 or more, got {value}. Raise it.")
    if num_classes > n:
        raise InputError(f"`num_classes` must be at most the {n} rows of `x`, got {num_classes}. Lower it.")
    with np.errstate(over="ignore"):
        if mesh is None:
            rows = jnp.array(x, jnp.float32)  # a copy, which _to_unit_box may overwrite
        else:
            rows = devices.split(lambda part: np.asarray(x[part]), n, (n + -n % mesh.size, x.shape[1]), mesh)
    if bad := rows.shape[0] - int(_finite_rows(rows)):
        raise InputError(
            f"`x` must be finite in float32, got NaN, infinity or numbers beyond 3.4e38 in {bad} of {n} rows. "
            "Correct those rows, or leave them out."
        )

    points, scale, shift = _to_unit_box(rows, number=n)
    # min keeps the first of equals, and only one other run is in memory at a time.
    keys = tqdm(jax.random.split(key, restarts), desc="k-means", unit=" restarts", delay=2, disable=None)
    runs = (solve(run, points, num_classes=num_classes, iterations=iterations, number=n, mesh=mesh) for run in keys)
    best = min(runs, key=lambda run: float(run[2]))
    labels, centres, inertia = devices.whole(best[0])[:n], np.array(best[1]), float(best[2])
    if len(np.unique(labels)) < num_classes:
        given = devices.whole(points)[:n]
        labels, centres = _fill_empty(given, labels, centres)
        inertia = float(np.sum((given - centres[labels]) ** 2))

    labels, centres = numbered(labels, centres)
    scale, shift = float(scale), np.asarray(shift)
    return KMeans(labels, (centres + shift) * np.float32(scale), inertia * scale**2)


def numbered(labels: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Renumbers classes, none of them empty, by their first row; returns the new labels and centres."""
    _, first = np.unique(labels, return_index=True)
    old_of_new = np.argsort(first)
    return np.argsort(old_of_new).astype(np.int32)[labels], centres[old_of_new]


@settings.fixed
@partial(jax.jit, static_argnames=("num_classes", "number", "mesh"))
def solve(
    key: jax.Array,
    x: jax.Array,
    *,
    num_classes: int,
    iterations: int,
    number: int | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs one seeding and Lloyd's iterations from it.

    Args:
        key: a typed PRNG key.
        x: float32 [n, d], preferably centred and of magnitude about 1: distances are computed as |x|^2 - 2xc + |c|^2.
        num_classes: k, in [1, n], static.
        iterations: maximum number of Lloyd iterations.
        number: rows before the padding at the end, which is only allowed with a mesh; static. None for all n.
        mesh: the mesh over which `x` is sharded; static.

    Returns:
        Labels int32 [n], each row's nearest centre; centres float32 [k, d]; inertia float32 []. A class can be empty
        if the iterations ran out or fewer than k rows are distinct.
    """

    def run(key, x, iterations):
        rows = Rows(x, x.shape[0] if number is None else number, None if mesh is None else mesh.axis_names[0])
        return _finish(rows, _lloyd(rows, seeds(key, rows, num_classes=num_classes), iterations))

    if mesh is None:
        return run(key, x, iterations)
    split, whole = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
    # Replicated values are computed identically on all devices, from exchanged values; check_vma cannot infer that
    # inside loops.
    in_specs, out_specs = (whole, split, whole), (split, whole, whole)
    return jax.shard_map(run, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)(key, x, iterations)


def seeds(key: jax.Array, rows: Rows, *, num_classes: int) -> jax.Array:
    """Chooses k rows as seeds by greedy k-means++.

    Args:
        key: a typed PRNG key.
        rows: the n rows to choose from.
        num_classes: k, in [1, n], static.

    Returns:
        The chosen rows, float32 [k, d]. The largest intermediate array is the [n, 2 + log k] distances to a step's
        candidates.
    """
    x, n, axis = rows
    candidates = 2 + int(math.log(num_classes))
    norms = jnp.sum(x * x, axis=1)

    def distances(indices: jax.Array) -> jax.Array:
        chosen = collectives.taken(x, indices, axis)
        products = jnp.matmul(x, chosen.T, precision=lax.Precision.HIGHEST)
        found = jnp.maximum(norms[:, None] - 2 * products + collectives.taken(norms, indices, axis), 0.0)
        return jnp.where(rows.real(0, rows.here)[:, None], found, 0.0)

    def step(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, closest = state
        indices = _drawn(jax.random.uniform(jax.random.fold_in(key, i), (candidates,)), closest, axis)
        indices = jnp.minimum(indices, n - 1).astype(jnp.int32)
        after = jnp.minimum(closest[:, None], distances(indices))
        best = jnp.argmin(collectives.total(jnp.sum(after, axis=0), axis))
        return chosen.at[i].set(indices[best]), after[:, best]

    first = jax.random.randint(jax.random.fold_in(key, 0), (1,), 0, n)
    chosen = jnp.zeros(num_classes, jnp.int32).at[0].set(first[0])
    chosen, _ = lax.fori_loop(1, num_classes, step, (chosen, distances(first)[:, 0]))
    return collectives.taken(x, chosen, axis)


def _drawn(uniform: jax.Array, shares: jax.Array, axis: str | None) -> jax.Array:
    """Maps uniform numbers in [0, 1) to global row indices, drawn in proportion to the shares on all devices."""
    cumulated = jnp.cumsum(shares)
    # "right" gives the first row whose cumulative share exceeds the draw, which is never a row with share 0.
    if axis is None:
        return jnp.searchsorted(cumulated, uniform * cumulated[-1], side="right")
    ends = jnp.cumsum(collectives.gathered(cumulated[-1:], axis))
    draws = uniform * ends[-1]
    place = collectives.place(axis)

    def first_beyond(ends: jax.Array, draws: jax.Array) -> jax.Array:
        # Draws that rounding puts beyond the end go to the last entry with a share.
        return jnp.minimum(jnp.searchsorted(ends, draws, side="right"), jnp.sum(ends < ends[-1]))

    local = first_beyond(cumulated, draws - jnp.append(0.0, ends)[place])
    return collectives.total(jnp.where(first_beyond(ends, draws) == place, place * len(shares) + local, 0), axis)


@jax.jit
def _finite_rows(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.all(jnp.isfinite(x), axis=1))


@partial(jax.jit, donate_argnums=0, static_argnames="number")
def _to_unit_box(x: jax.Array, *, number: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns x / scale - shift with zero mean and entries at most 2, so that no square over- or underflows.

    `number` is the number of rows without padding; padding rows are zero on input.
    """
    scale = jnp.maximum(jnp.max(jnp.abs(x)), jnp.finfo(x.dtype).tiny)
    shift = jnp.sum(x / scale, axis=0) / number
    return x / scale - shift, scale, shift


def block_rows(num_classes: int, features: int) -> int:
    """Returns the number of rows in a block."""
    return max(_BLOCK_ROWS, _BLOCK_ENTRIES // max(num_classes, features))


def _over_blocks(rows, width, body, carry):
    """Folds body(carry, block, start, fresh) over blocks of rows whose [size, width] matrix is bounded.

    The last block starts early enough to be full; `fresh` is False on the rows that the previous block has seen, and on
    padding.
    """
    n, d = rows.values.shape
    size = min(n, block_rows(width, d))

    def step(i, carry):
        start = jnp.minimum(i * size, n - size)
        block = lax.dynamic_slice_in_dim(rows.values, start, size)
        return body(carry, block, start, (start + jnp.arange(size) >= i * size) & rows.real(start, size))

    return lax.fori_loop(0, -(-n // size), step, carry)


def _nearest(block, centres):
    """Returns each row's nearest centre, ties to the lowest, and the squared distance to it."""
    products = jnp.matmul(block, centres.T, precision=lax.Precision.HIGHEST)
    scores = jnp.sum(centres * centres, axis=1) - 2 * products
    distance = jnp.min(scores, axis=1) + jnp.sum(block * block, axis=1)
    return jnp.argmin(scores, axis=1).astype(jnp.int32), jnp.maximum(distance, 0.0)


def _lloyd(rows, centres, iterations):
    """Moves centres to their rows' means until no assignment changes."""
    k, axis = centres.shape[0], rows.axis

    def reseed(centres, distances, empty):
        here = jnp.where(rows.real(0, rows.here), distances, -1.0)
        local = lax.top_k(here, min(k, rows.here))[1]
        if axis is not None:
            listed = local + collectives.place(axis) * rows.here
            far, listed = collectives.gathered((here[local], listed), axis)
            local = listed[lax.top_k(far, k)[1]]
        farthest = collectives.taken(rows.values, local, axis)
        return jnp.where(empty[:, None], farthest[jnp.cumsum(empty) - 1], centres)

    def step(state):
        i, centres, labels, _ = state
        new, distances, sums, counts = assigned(rows, centres)
        sums, counts = collectives.total((sums, counts), axis)
        empty = counts == 0
        centres = sums / jnp.maximum(counts, 1)[:, None]
        centres = lax.cond(jnp.any(empty), reseed, lambda centres, *_: centres, centres, distances, empty)
        changed = collectives.largest(jnp.any(new != labels), axis)
        return i + 1, centres, new, changed | jnp.any(empty)

    start = (0, centres, jnp.full(rows.here, -1, jnp.int32), True)
    return lax.while_loop(lambda state: state[3] & (state[0] < iterations), step, start)[1]


def assigned(rows, centres):
    """Returns each local row's nearest centre and its squared distance, and each class's local sum [k, d] and count."""
    k = centres.shape[0]

    def body(carry, block, start, fresh):
        labels, distances, sums, counts = carry
        label, distance = _nearest(block, centres)
        added = _added_by_class(block, jnp.where(fresh, label, k), k)
        sums, counts = sums + added[0], counts + added[1]
        # A row already seen keeps the label it was summed under: rounding may differ between blocks.
        label = jnp.where(fresh, label, lax.dynamic_slice_in_dim(labels, start, len(label)))
        return (
            lax.dynamic_update_slice_in_dim(labels, label, start, 0),
            lax.dynamic_update_slice_in_dim(distances, distance, start, 0),
            sums,
            counts,
        )

    zeros = (jnp.zeros(rows.here, jnp.int32), jnp.zeros(rows.here), jnp.zeros_like(centres), jnp.zeros(k, jnp.int32))
    return _over_blocks(rows, k, body, zeros)


def _added_by_class(block, labels, k):
    """Returns the sum [k, d] and the number int32 [k] of the rows of each class; rows with the label k are ignored."""

    def by_product():
        one_hot = labels[:, None] == jnp.arange(k)
        sums = jnp.matmul(one_hot.astype(block.dtype).T, block, precision=lax.Precision.HIGHEST)
        return sums, jnp.sum(one_hot, axis=0, dtype=jnp.int32)

    def by_scatter():
        sums = jnp.zeros((k, block.shape[1]), block.dtype).at[labels].add(block, mode="drop")
        return sums, jnp.zeros(k, jnp.int32).at[labels].add(1, mode="drop")

    if k < _FEWEST_SCATTERED:
        return by_product()
    return lax.platform_dependent(cpu=by_scatter, default=by_product)


def _finish(rows, centres):
    """Returns each row's nearest centre, the centres, and the inertia, from differences to avoid cancellation."""

    def body(carry, block, start, fresh):
        labels, inertia = carry
        label, _ = _nearest(block, centres)
        distance = jnp.sum((block - centres[label]) ** 2, axis=1)
        labels = lax.dynamic_update_slice_in_dim(labels, label, start, 0)
        return labels, inertia + jnp.sum(jnp.where(fresh, distance, 0.0))

    labels, inertia = _over_blocks(rows, centres.shape[0], body, (jnp.zeros(rows.here, jnp.int32), jnp.float32(0)))
    return labels, centres, collectives.total(inertia, rows.axis)


def _fill_empty(x: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves to each empty class the row farthest from its centre, among rows that are not alone in their class."""
    k = len(centres)
    different = len(np.unique(x, axis=0))
    if different < k:
        raise InputError(
            f"`num_classes` must be at most the {different} distinct rows of `x`, got {k} for {len(x)} rows. "
            "Lower it, or check whether the encoder has collapsed."
        )
    for empty in np.setdiff1d(np.arange(k), labels):
        company = np.bincount(labels, minlength=k)[labels] > 1
        row = int(np.argmax(np.where(company, np.sum((x - centres[labels]) ** 2, axis=1), -1.0)))
        labels[row], centres[empty] = empty, x[row]
    return labels, centres
