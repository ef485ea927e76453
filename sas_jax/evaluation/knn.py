"""The weighted nearest-neighbour classifier on frozen features: an evaluation that nothing is fitted for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from sas_jax.errors import InputError
from sas_jax.evaluation.accuracy import Accuracy, accuracy
from sas_jax.logistic import check_widths, checked_examples

# Entries of a block's similarity matrix (64 MiB in float32).
_BLOCK_ENTRIES = 1 << 24


def knn(
    train_x: ArrayLike,
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
        train_x: [n, d] float.
        train_y: int [n], in [0, num_classes).
        test_x: [t, d] float.
        test_y: int [t], in [0, num_classes).
        num_classes: c.
        k: neighbours, at least 1; n where n is less.
        temperature: over 0; a neighbour's vote weighs exp(cosine / temperature).

    Raises:
        InputError: features and labels do not fit together or are not finite, or an option is out of its range.

    Source:
        Wu et al., "Unsupervised feature learning via non-parametric instance discrimination" (CVPR 2018), section 3.4.
    """
    if k < 1 or not 0 < temperature < np.inf:
        raise InputError(
            f"kNN wants k of at least 1 and a temperature over 0, and was given k={k} and temperature={temperature}: "
            "200 and 0.1 are the usual ones."
        )
    train_x, train_y = checked_examples(train_x, train_y, num_classes=num_classes, what="kNN's training set")
    test_x, test_y = checked_examples(test_x, test_y, num_classes=num_classes, what="kNN's test set")
    check_widths(train_x, test_x, what="kNN")
    predicted = predict(train_x, train_y, test_x, temperature, num_classes=num_classes, k=min(k, train_x.shape[0]))
    return accuracy(np.asarray(predicted == test_y))


@partial(jax.jit, static_argnames=("num_classes", "k"))
def predict(
    train_x: jax.Array,
    train_y: jax.Array,
    test_x: jax.Array,
    temperature: float | jax.Array,
    *,
    num_classes: int,
    k: int,
) -> jax.Array:
    """Returns the class of the largest summed vote for each test row.

    Among equally similar training rows the lowest index is the nearer; among equal votes the lowest class wins. A row
    of zeros has similarity 0 to every row: a dead encoder scores as chance, and stops no run.

    Args:
        train_x: float32 [n, d].
        train_y: int32 [n], in [0, num_classes).
        test_x: float32 [t, d], t at least 1. A block of its rows is compared at a time.
        temperature: over 0.
        num_classes: c, static.
        k: in [1, n], static.

    Returns:
        int32 [t].
    """
    train_x, test_x = _unit_rows(train_x), _unit_rows(test_x)

    def classify(row):
        similarity = jnp.matmul(train_x, row, precision=lax.Precision.HIGHEST)
        nearest, indices = lax.top_k(similarity, k)
        # Divided by the largest vote: exp(1 / temperature) overflows at small temperatures.
        votes = jnp.exp((nearest - nearest[0]) / temperature)
        mine = train_y[indices][:, None] == jnp.arange(num_classes)
        return jnp.argmax(jnp.sum(jnp.where(mine, votes[:, None], 0.0), axis=0)).astype(jnp.int32)

    rows = max(1, _BLOCK_ENTRIES // max(train_x.shape[0], k * num_classes))
    return lax.map(classify, test_x, batch_size=min(rows, test_x.shape[0]))


def _unit_rows(x):
    # The largest entry goes first, so that no square over- or underflows.
    x = x / jnp.maximum(jnp.max(jnp.abs(x), axis=1, keepdims=True), jnp.finfo(x.dtype).tiny)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 0.5)
