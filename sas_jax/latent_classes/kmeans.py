"""k-means in JAX: greedy k-means++ seeds, Lloyd's iterations, the best of several restarts.

One matrix [n, d] on the device is all that grows with n x d; the [rows, classes] scores are made a block of rows at a
time, so that no n x k matrix exists: 1.3 million x 512 into 1,000 classes take that matrix's 2.5 GiB and 0.1 GiB beside
it. Sums over a class are products with a one-hot matrix and not scatters: a scatter adds in any order on a GPU, and the
same key would then not always give the same classes.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from tqdm import tqdm

from sas_jax import arrays, settings
from sas_jax.errors import InputError

# Entries of a block's score matrix (4 MiB in float32: it stays in a CPU's cache), and the fewest rows of one: each
# block reads all centres and sums, which are more than its rows where there are very many classes.
_BLOCK_ENTRIES = 1 << 20
_BLOCK_ROWS = 128


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


@settings.fixed
def kmeans(key: jax.Array, x: ArrayLike, *, num_classes: int, restarts: int = 5, iterations: int = 100) -> KMeans:
    """Partitions rows by k-means, keeping the best of several restarts.

    Ties go to the lowest: a row between two centres to the lower one, equal inertias to the earlier restart. A class
    that loses all its rows starts again at the row farthest from its centre.

    Args:
        key: a typed PRNG key; the result is a function of it and of `x`.
        x: [n, d], finite, any real dtype; computed in float32.
        num_classes: k, in [1, number of different rows].
        restarts: seedings tried, at least 1.
        iterations: Lloyd's iterations per restart at most, at least 1; it stops earlier when no assignment changes.

    Returns:
        The labels, centres and inertia of the restart of least inertia.

    Raises:
        InputError: `x` is not a matrix of finite numbers, or has fewer different rows than `num_classes`.

    Source:
        Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding" (SODA 2007), section 2.2, and its
        greedy variant (the best of 2 + log k candidates for each seed), which is scikit-learn's.
    """
    x = arrays.array("The rows of k-means", x) if not isinstance(x, jax.Array) else x
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.number) or jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise InputError(
            f"k-means wants a matrix of real numbers [n, d] and was given {x.dtype} {list(x.shape)}: "
            "pass one row per example."
        )
    n = x.shape[0]
    for name, value in (("num_classes", num_classes), ("restarts", restarts), ("iterations", iterations)):
        if value < 1:
            raise InputError(f"k-means wants {name} of at least 1 and was given {value}: raise it.")
    if num_classes > n:
        raise InputError(
            f"k-means wants at least as many rows as classes, and num_classes={num_classes} is more than the "
            f"{n} rows given: lower num_classes."
        )
    with np.errstate(over="ignore"):
        rows = jnp.array(x, jnp.float32)  # a copy, which _to_unit_box may overwrite
    if bad := n - int(_finite_rows(rows)):
        raise InputError(
            f"k-means wants finite numbers, and {bad} of the {n} rows hold NaN, infinity or a number beyond float32: "
            "mend or leave out those rows."
        )

    points, scale, shift = _to_unit_box(rows)
    # min keeps the first of equals, and one run at a time is held beside it.
    keys = tqdm(jax.random.split(key, restarts), desc="k-means", unit=" restarts", delay=2, disable=None)
    runs = (solve(run, points, num_classes=num_classes, iterations=iterations) for run in keys)
    best = min(runs, key=lambda run: float(run[2]))
    labels, centres, inertia = np.array(best[0]), np.array(best[1]), float(best[2])
    if len(np.unique(labels)) < num_classes:
        labels, centres = _fill_empty(np.asarray(points), labels, centres)
        inertia = float(np.sum((np.asarray(points) - centres[labels]) ** 2))

    _, first = np.unique(labels, return_index=True)
    old_of_new = np.argsort(first)
    new_of_old = np.argsort(old_of_new).astype(np.int32)
    scale, shift = float(scale), np.asarray(shift)
    return KMeans(new_of_old[labels], (centres[old_of_new] + shift) * np.float32(scale), inertia * scale**2)


@settings.fixed
@partial(jax.jit, static_argnames=("num_classes",))
def solve(key: jax.Array, x: jax.Array, *, num_classes: int, iterations: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs one seeding and Lloyd's iterations from it.

    Args:
        key: a typed PRNG key.
        x: float32 [n, d], best centred and of magnitude about 1: distances are taken as |x|^2 - 2xc + |c|^2.
        num_classes: k, in [1, n], static.
        iterations: at most so many of Lloyd's iterations.

    Returns:
        Labels int32 [n], each row's nearest centre; centres float32 [k, d]; inertia float32 []. A class can be empty
        where iterations ran out, or where fewer than k rows differ.
    """
    return _finish(x, _lloyd(x, seeds(key, x, num_classes=num_classes), iterations))


@settings.fixed
@partial(jax.jit, static_argnames=("num_classes",))
def seeds(key: jax.Array, x: jax.Array, *, num_classes: int) -> jax.Array:
    """Chooses k rows as seeds by greedy k-means++.

    Args:
        key: a typed PRNG key.
        x: float32 [n, d].
        num_classes: k, in [1, n], static.

    Returns:
        float32 [k, d], rows of `x`. The [n, 2 + log k] distances to a step's candidates are the largest array made.
    """
    n = x.shape[0]
    candidates = 2 + int(math.log(num_classes))
    norms = jnp.sum(x * x, axis=1)

    def distances(indices: jax.Array) -> jax.Array:
        products = jnp.matmul(x, x[indices].T, precision=lax.Precision.HIGHEST)
        return jnp.maximum(norms[:, None] - 2 * products + norms[indices], 0.0)

    def step(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, closest = state
        cumulated = jnp.cumsum(closest)
        draws = jax.random.uniform(jax.random.fold_in(key, i), (candidates,)) * cumulated[-1]
        # "right": the first row whose cumulated share exceeds the draw, which is never a row of share 0.
        indices = jnp.minimum(jnp.searchsorted(cumulated, draws, side="right"), n - 1).astype(jnp.int32)
        after = jnp.minimum(closest[:, None], distances(indices))
        best = jnp.argmin(jnp.sum(after, axis=0))
        return chosen.at[i].set(indices[best]), after[:, best]

    first = jax.random.randint(jax.random.fold_in(key, 0), (1,), 0, n)
    chosen = jnp.zeros(num_classes, jnp.int32).at[0].set(first[0])
    chosen, _ = lax.fori_loop(1, num_classes, step, (chosen, distances(first)[:, 0]))
    return x[chosen]


@jax.jit
def _finite_rows(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.all(jnp.isfinite(x), axis=1))


@partial(jax.jit, donate_argnums=0)
def _to_unit_box(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns x / scale - shift with zero mean and entries at most 2, so that no square over- or underflows."""
    scale = jnp.maximum(jnp.max(jnp.abs(x)), jnp.finfo(x.dtype).tiny)
    shift = jnp.mean(x / scale, axis=0)
    return x / scale - shift, scale, shift


def block_rows(num_classes: int, features: int) -> int:
    """How many rows a block has."""
    return max(_BLOCK_ROWS, _BLOCK_ENTRIES // max(num_classes, features))


def _over_blocks(x, width, body, carry):
    """Folds body(carry, block, start, fresh) over blocks of rows whose [rows, width] matrix is bounded.

    The last block starts early enough to be whole; `fresh` is False on the rows that the block before has seen.
    """
    n, d = x.shape
    rows = min(n, block_rows(width, d))

    def step(i, carry):
        start = jnp.minimum(i * rows, n - rows)
        block = lax.dynamic_slice_in_dim(x, start, rows)
        return body(carry, block, start, start + jnp.arange(rows) >= i * rows)

    return lax.fori_loop(0, -(-n // rows), step, carry)


def _nearest(block, centres):
    """Returns each row's nearest centre, ties to the lowest, and the squared distance to it."""
    products = jnp.matmul(block, centres.T, precision=lax.Precision.HIGHEST)
    scores = jnp.sum(centres * centres, axis=1) - 2 * products
    distance = jnp.min(scores, axis=1) + jnp.sum(block * block, axis=1)
    return jnp.argmin(scores, axis=1).astype(jnp.int32), jnp.maximum(distance, 0.0)


def _lloyd(x, centres, iterations):
    """Moves centres to their rows' means until no assignment changes."""
    n = x.shape[0]
    k = centres.shape[0]

    def assign(centres):
        def body(carry, block, start, fresh):
            labels, distances, sums, counts = carry
            label, distance = _nearest(block, centres)
            mine = (label[:, None] == jnp.arange(k)) & fresh[:, None]
            sums += jnp.matmul(mine.astype(x.dtype).T, block, precision=lax.Precision.HIGHEST)
            counts += jnp.sum(mine, axis=0, dtype=jnp.int32)
            # A row seen before keeps the label it was summed under: its bits may differ in another block.
            label = jnp.where(fresh, label, lax.dynamic_slice_in_dim(labels, start, len(label)))
            return (
                lax.dynamic_update_slice_in_dim(labels, label, start, 0),
                lax.dynamic_update_slice_in_dim(distances, distance, start, 0),
                sums,
                counts,
            )

        zeros = (jnp.zeros(n, jnp.int32), jnp.zeros(n), jnp.zeros_like(centres), jnp.zeros(k, jnp.int32))
        return _over_blocks(x, k, body, zeros)

    def reseed(centres, distances, empty):
        farthest = lax.top_k(distances, k)[1]
        return jnp.where(empty[:, None], x[farthest[jnp.cumsum(empty) - 1]], centres)

    def step(state):
        i, centres, labels, _ = state
        new, distances, sums, counts = assign(centres)
        empty = counts == 0
        centres = sums / jnp.maximum(counts, 1)[:, None]
        centres = lax.cond(jnp.any(empty), reseed, lambda centres, *_: centres, centres, distances, empty)
        return i + 1, centres, new, jnp.any(new != labels) | jnp.any(empty)

    start = (0, centres, jnp.full(n, -1, jnp.int32), True)
    return lax.while_loop(lambda state: state[3] & (state[0] < iterations), step, start)[1]


def _finish(x, centres):
    """Returns each row's nearest centre, the centres, and the inertia from differences: no cancellation."""

    def body(carry, block, start, fresh):
        labels, inertia = carry
        label, _ = _nearest(block, centres)
        distance = jnp.sum((block - centres[label]) ** 2, axis=1)
        labels = lax.dynamic_update_slice_in_dim(labels, label, start, 0)
        return labels, inertia + jnp.sum(jnp.where(fresh, distance, 0.0))

    labels, inertia = _over_blocks(x, centres.shape[0], body, (jnp.zeros(x.shape[0], jnp.int32), jnp.float32(0)))
    return labels, centres, inertia


def _fill_empty(x: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives each class that is still empty the farthest row that is not alone in its class."""
    k = len(centres)
    different = len(np.unique(x, axis=0))
    if different < k:
        raise InputError(
            f"k-means wants at least as many different rows as classes, and only {different} of the {len(x)} rows "
            f"differ for num_classes={k}: lower num_classes, or look whether the encoder has collapsed."
        )
    for empty in np.setdiff1d(np.arange(k), labels):
        company = np.bincount(labels, minlength=k)[labels] > 1
        row = int(np.argmax(np.where(company, np.sum((x - centres[labels]) ** 2, axis=1), -1.0)))
        labels[row], centres[empty] = empty, x[row]
    return labels, centres
