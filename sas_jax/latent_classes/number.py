"""Chooses the number of latent classes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm import tqdm

from sas_jax import settings
from sas_jax.errors import InputError
from sas_jax.latent_classes.kmeans import kmeans

# A silhouette above this means that "a reasonable structure has been found": Kaufman & Rousseeuw, "Finding groups in
# data" (1990), chapter 2, table 4.
SEPARATE = 0.5

PER_CLASS = 20  # minimum average number of rows per class
FEWEST = 2 * PER_CLASS  # minimum number of rows to choose a number of classes from

# Rows of a block of distances [_BLOCK, rows]: 20 MB at 10,000 rows.
_BLOCK = 512


class Choice(NamedTuple):
    """The chosen number of classes, and the silhouettes behind the choice.

    Attributes:
        num_classes: the number in `tried` with the largest silhouette, ties to the larger; sqrt(n / 2) if the
            silhouettes are not decisive.
        decided: whether the silhouettes are decisive.
        tried: the numbers of classes tried, ascending.
        silhouettes: the mean silhouette for each number, in [-1, 1].
    """

    num_classes: int
    decided: bool
    tried: tuple[int, ...]
    silhouettes: tuple[float, ...]


@settings.fixed
def choose(key: jax.Array, x: np.ndarray, *, rows: int = 10_000, per_class: int = PER_CLASS) -> Choice:
    """Chooses the number of classes by the silhouette of k-means, or as sqrt(n / 2) if that is not decisive.

    On a sample of the rows, k-means is run from two seedings with 2, 3, 4, 6, 8, 11, 16, ... classes (rounded powers of
    the square root of two), as long as a class has `per_class` rows on average. The number with the largest mean
    silhouette is chosen if it is neither the first nor the last number tried, or if it is the first and its silhouette
    is above SEPARATE. Otherwise no number stands out, and it is sqrt(n / 2), at most n / `per_class`.

    Args:
        key: a typed PRNG key.
        x: [n, d], finite, any real dtype; n at least 2 * `per_class`.
        rows: maximum size of the sample; the time grows with its square.
        per_class: minimum average number of rows per class, at least 2.

    Returns:
        The choice, and the silhouettes behind it.

    Raises:
        InputError: there are too few rows, or `kmeans` rejects them.

    Source:
        Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis" (1987),
        for the largest silhouette; Mardia, Kent & Bibby, "Multivariate analysis" (1979), for the
        square root.
    """
    n = len(x)
    if n < 2 * per_class:
        raise InputError(
            f"`x` must have at least {2 * per_class} rows to choose the number of classes, got {n}. Set num_classes."
        )
    if n > rows:
        x = x[np.sort(np.asarray(jax.random.permutation(jax.random.fold_in(key, 0), n)[:rows]))]
    largest = len(x) // per_class
    powers = range(2, 2 * int(math.log2(largest)) + 2)
    tried = tuple(k for k in (round(2 ** (power / 2)) for power in powers) if k <= largest)
    found = []
    for k in tqdm(tried, desc="number of classes", unit=" tried", delay=2, disable=None):
        labels = kmeans(jax.random.fold_in(key, k), x, num_classes=k, restarts=2, iterations=30).labels
        found.append(silhouette(x, labels))
    best = len(found) - 1 - int(np.argmax(found[::-1]))
    decided = 0 < best < len(found) - 1 or (best == 0 and found[0] > SEPARATE)
    number = tried[best] if decided else min(round(math.sqrt(n / 2)), n // per_class)
    return Choice(number, decided, tried, tuple(found))


@settings.fixed
def silhouette(x: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean silhouette of a partition: how much closer rows are to their own class than to the next.

    Args:
        x: [n, d], finite, any real dtype.
        labels: int [n], in [0, k), k at least 2, no class empty.

    Returns:
        The mean over the rows of (b - a) / max(a, b), in [-1, 1]: a is the mean Euclidean distance to the other rows of
        the same class, b the smallest mean distance to another class. A row that is alone in its class counts as 0.

    Source:
        Rousseeuw 1987, as in `choose`. No n x n matrix is made.
    """
    return float(_silhouette(jnp.asarray(x, jnp.float32), jnp.asarray(labels), jnp.bincount(labels)))


@jax.jit
def _silhouette(x: jax.Array, labels: jax.Array, counts: jax.Array) -> jax.Array:
    n, k = len(x), len(counts)
    x = x - jnp.mean(x, axis=0)
    norms = jnp.sum(x * x, axis=1)
    member = (labels[:, None] == jnp.arange(k)).astype(x.dtype)

    def block(start: jax.Array) -> jax.Array:
        at = start + jnp.arange(min(_BLOCK, n))
        here = jnp.minimum(at, n - 1)
        products = jnp.matmul(x[here], x.T, precision=lax.Precision.HIGHEST)
        distances = jnp.sqrt(jnp.maximum(norms[here][:, None] - 2 * products + norms, 0.0))
        distances = jnp.where(here[:, None] == jnp.arange(n), 0.0, distances)  # exactly 0 to itself
        sums = jnp.matmul(distances, member, precision=lax.Precision.HIGHEST)
        own = labels[here]
        company = counts[own] - 1
        a = jnp.take_along_axis(sums, own[:, None], axis=1)[:, 0] / jnp.maximum(company, 1)
        b = jnp.min(jnp.where(jnp.arange(k) == own[:, None], jnp.inf, sums / counts), axis=1)
        values = (b - a) / jnp.maximum(jnp.maximum(a, b), jnp.finfo(x.dtype).tiny)
        return jnp.sum(jnp.where((at < n) & (company > 0), values, 0.0))

    return jnp.sum(lax.map(block, jnp.arange(0, n, _BLOCK))) / n
