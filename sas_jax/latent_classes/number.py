"""How many latent classes, where nobody knows."""

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

# From here on a silhouette says that "a reasonable structure has been found": Kaufman & Rousseeuw, "Finding groups in
# data" (1990), chapter 2, table 4.
SEPARATE = 0.5

PER_CLASS = 20  # rows that a class should have on average, at least
FEWEST = 2 * PER_CLASS  # rows that a number can be chosen from

# Distances [_BLOCK, rows] are made at a time: 20 MB at 10,000 rows.
_BLOCK = 512


class Choice(NamedTuple):
    """A number of classes, and what it was chosen from.

    Attributes:
        num_classes: the number of `tried` with the largest silhouette, ties to the larger; sqrt(n / 2) where the
            silhouettes decide nothing.
        decided: whether they did.
        tried: the numbers of classes tried, ascending.
        silhouettes: the mean silhouette at each, in [-1, 1].
    """

    num_classes: int
    decided: bool
    tried: tuple[int, ...]
    silhouettes: tuple[float, ...]


@settings.fixed
def choose(key: jax.Array, x: np.ndarray, *, rows: int = 10_000, per_class: int = PER_CLASS) -> Choice:
    """Chooses the number of classes by the silhouette of k-means, and where that decides nothing by the square root.

    Tries 2, 3, 4, 6, 8, 11, 16, ... (rounded powers of the root of two) as long as a class has `per_class` rows on
    average, on a sample of the rows: k-means from two seedings, and the mean silhouette of its classes. The largest
    decides where it is neither at the first nor at the last number tried, or at the first and over SEPARATE. Else no
    number of classes stands out, and the number is sqrt(n / 2), at most n / `per_class`.

    Args:
        key: a typed PRNG key.
        x: [n, d], finite, any real dtype; n at least 2 * `per_class`.
        rows: of the sample, at most; the time grows with its square.
        per_class: at least 2.

    Returns:
        The choice, and the silhouettes it rests on.

    Raises:
        InputError: there are too few rows, or `kmeans` cannot use them.

    Source:
        Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis" (1987),
        for the largest silhouette; Mardia, Kent & Bibby, "Multivariate analysis" (1979), for the
        square root.
    """
    n = len(x)
    if n < 2 * per_class:
        raise InputError(
            f"`x` must have at least {2 * per_class} rows for the number of classes to be chosen, got {n}. Set "
            "num_classes."
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
    """The mean silhouette of a partition: how much nearer rows are to their own class than to the next.

    Args:
        x: [n, d], finite, any real dtype.
        labels: int [n], in [0, k), k at least 2, none of them empty.

    Returns:
        The mean over the rows of (b - a) / max(a, b): a the mean Euclidean distance to the others of the row's class,
        b the least mean distance to another class; 0 for a row that is alone in its class. In [-1, 1].

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
        distances = jnp.where(here[:, None] == jnp.arange(n), 0.0, distances)  # to itself, exactly
        sums = jnp.matmul(distances, member, precision=lax.Precision.HIGHEST)
        own = labels[here]
        company = counts[own] - 1
        a = jnp.take_along_axis(sums, own[:, None], axis=1)[:, 0] / jnp.maximum(company, 1)
        b = jnp.min(jnp.where(jnp.arange(k) == own[:, None], jnp.inf, sums / counts), axis=1)
        values = (b - a) / jnp.maximum(jnp.maximum(a, b), jnp.finfo(x.dtype).tiny)
        return jnp.sum(jnp.where((at < n) & (company > 0), values, 0.0))

    return jnp.sum(lax.map(block, jnp.arange(0, n, _BLOCK))) / n
