"""The weighted nearest-neighbour classifier on frozen features: an evaluation without fitting."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from sas_jax import arrays, settings
from sas_jax.errors import InputError
from sas_jax.evaluation import blocks
from sas_jax.evaluation.accuracy import Accuracy, accuracy
from sas_jax.logistic import check_labels, check_widths, checked_examples

# Entries of a block's similarity matrix (64 MiB in float32).
_BLOCK_ENTRIES = 1 << 24
# Bytes of float32 training features on the device at a time: CIFAR fits in one block, which is fastest.
_TRAIN_BYTES = 1 << 28


@settings.fixed
def knn(
    train_x: Any,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    *,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.1,
) -> Accuracy:
    """Classifies test features by their nearest training features and returns the accuracy.

    Args:
        train_x: [n, d] float; also a memory-mapped .npy or anything that can be sliced by row, read one block at a
            time.
        train_y: int [n], in [0, num_classes).
        test_x: [t, d] float.
        test_y: int [t], in [0, num_classes).
        num_classes: c.
        k: number of neighbours, at least 1; capped at n.
        temperature: positive; a neighbour's vote weighs exp(cosine / temperature).

    Returns:
        The share of test examples classified correctly, with its 95 % interval.

    Raises:
        InputError: features and labels do not fit together or are not finite, or an option is out of range.

    Source:
        Wu et al., "Unsupervised feature learning via non-parametric instance discrimination" (CVPR 2018), section 3.4.
    """
    if k < 1 or not 0 < temperature < np.inf:
        raise InputError(
            f"`k` must be 1 or more and `temperature` more than 0, got {k} and {temperature}. Typical "
            "values are 200 and 0.1."
        )
    arrays.check_dense("kNN's training set", train_x)
    train_x, train_y = train_x if hasattr(train_x, "shape") else np.asarray(train_x), np.asarray(train_y)
    check_labels(train_x, train_y, num_classes=num_classes, what="kNN's training set")
    test_x, test_y = checked_examples(test_x, test_y, num_classes=num_classes, what="kNN's test set")
    check_widths(train_x, test_x, what="kNN")
    n, d = train_x.shape
    k = min(k, n)
    found = none_yet(len(test_x), k)
    for these, block in blocks.in_blocks(train_x, min(n, max(1, _TRAIN_BYTES // (4 * d)))):
        x, y = checked_examples(block, train_y[these], num_classes=num_classes, what="kNN's training set")
        found = nearer(found, x, y, test_x)
    predicted = vote(found, temperature, num_classes=num_classes)
    return accuracy(np.asarray(predicted == test_y))


class Nearest(NamedTuple):
    """The nearest training rows found so far for each test row, nearest first.

    Attributes:
        similarity: float32 [t, k]; -inf where there is no row yet.
        label: int32 [t, k].
    """

    similarity: jax.Array
    label: jax.Array


@settings.fixed
def none_yet(t: int, k: int) -> Nearest:
    """Returns the initial state for t test rows: no neighbours."""
    return Nearest(jnp.full((t, k), -jnp.inf), jnp.zeros((t, k), jnp.int32))


@settings.fixed
@jax.jit
def nearer(found: Nearest, train_x: jax.Array, train_y: jax.Array, test_x: jax.Array) -> Nearest:
    """Updates the nearest neighbours with further training rows.

    Among equally similar rows the earlier one counts as nearer. A zero row has similarity 0 to every row, so that a
    dead encoder scores at chance level instead of stopping the run.

    Args:
        found: the neighbours among the previous training rows.
        train_x: float32 [n, d].
        train_y: int32 [n].
        test_x: float32 [t, d], t at least 1. Its rows are compared one block at a time.

    Returns:
        The k nearest of the previous and these rows.
    """
    train_x, test_x = blocks.unit(train_x), blocks.unit(test_x)
    k = found.label.shape[1]

    def search(row_and_found):
        row, (similarity, label) = row_and_found
        here, at = lax.top_k(jnp.matmul(train_x, row, precision=lax.Precision.HIGHEST), min(k, len(train_x)))
        # Earlier rows come first, because top_k takes the first of equals.
        best, which = lax.top_k(jnp.concatenate([similarity, here]), k)
        return Nearest(best, jnp.concatenate([label, train_y[at]])[which])

    rows = max(1, _BLOCK_ENTRIES // max(len(train_x), 2 * k))
    return lax.map(search, (test_x, found), batch_size=min(rows, len(test_x)))


@settings.fixed
@partial(jax.jit, static_argnames=("num_classes",))
def vote(found: Nearest, temperature: float | jax.Array, *, num_classes: int) -> jax.Array:
    """Returns the class with the largest summed vote for each test row, int32 [t]; ties go to the lowest."""

    def classify(nearest):
        similarity, label = nearest
        # Divided by the largest vote: exp(1 / temperature) overflows at small temperatures.
        votes = jnp.exp((similarity - similarity[0]) / temperature)
        mine = label[:, None] == jnp.arange(num_classes)
        return jnp.argmax(jnp.sum(jnp.where(mine, votes[:, None], 0.0), axis=0)).astype(jnp.int32)

    t, k = found.label.shape
    return lax.map(classify, found, batch_size=min(max(1, _BLOCK_ENTRIES // (k * num_classes)), t))
