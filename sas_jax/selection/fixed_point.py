"""Exact sums without float64: similarities are integers, and a sum of them is two int32.

A similarity is rounded to a multiple of 2^-24 and held as an int32 in [0, 2^24]. A total is ``high * 2^16 + low`` of
those units with ``low`` in [0, 2^16), so it is exact, and the same in whatever order and on however many devices it
was summed, for up to 2^22 examples in a class. int64 is off in JAX, and float64 is not there on TPUs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

ONE = 2**24
"""Similarity 1. An int32 holds sums of up to 127 similarities, so whatever is added to a `Total` must be of fewer."""

_LOW_BITS = 16


class Total(NamedTuple):
    """Exact totals, one an example."""

    high: jax.Array  # int32
    low: jax.Array  # int32 in [0, 2^16)


def quantise(similarity: jax.Array) -> jax.Array:
    """Rounds similarities in [0, 1] to int32 multiples of 2^-24; what rounding pushed outside is brought back."""
    return jnp.round(jnp.clip(similarity, 0, 1) * ONE).astype(jnp.int32)


def zeros(n: int) -> Total:
    """Totals of nothing, of n examples."""
    return Total(jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.int32))


def add(total: Total, amount: jax.Array) -> Total:
    """Adds an int32 amount of either sign to each total, and carries."""
    low = total.low + (amount & (2**_LOW_BITS - 1))
    high = total.high + (amount >> _LOW_BITS) + (low >> _LOW_BITS)
    return Total(high, low & (2**_LOW_BITS - 1))


def to_float(total: Total) -> jax.Array:
    """The totals as float32 similarities: rounded, and never in another order than the totals themselves."""
    return total.high.astype(jnp.float32) * 2.0 ** (_LOW_BITS - 24) + total.low.astype(jnp.float32) * 2.0**-24


def argmax(total: Total, where: jax.Array) -> jax.Array:
    """The least index, among those where `where` is true, of the largest total; n where there is none.

    Three reductions, because XLA:CPU does a maximum in vector instructions and an argmax in a scalar loop, 10 times
    slower.
    """
    n = where.shape[0]
    high = jnp.where(where, total.high, jnp.iinfo(jnp.int32).min)
    best = where & (high == jnp.max(high))
    low = jnp.where(best, total.low, -1)
    best &= low == jnp.max(low)
    return jnp.min(jnp.where(best, jnp.arange(n, dtype=jnp.int32), n))
