"""Exact sums without float64: similarities are integers, and a sum of them is two int32.

A similarity is rounded to a multiple of 2^-23 and held as an int32 in [0, 2^23]. A total is ``high * 2^16 + low`` of
those units with ``low`` in [0, 2^16), so it is exact, and the same in whatever order and on however many devices it
was summed, for up to 2^23 examples in a class. int64 is off in JAX, and float64 is not there on TPUs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.selection import collectives

ONE = 2**23
"""Similarity 1."""

LARGEST_SUM = 255
"""An int32 holds sums of up to so many similarities."""

_LOW_BITS = 16
_LOW = 2**_LOW_BITS - 1
_ONE_BITS = 0x3F800000  # of the float32 1


class Total(NamedTuple):
    """Exact totals, one an example."""

    high: jax.Array  # int32
    low: jax.Array  # int32 in [0, 2^16)

    def at(self, index: jax.Array) -> "Total":
        """The totals of some examples."""
        return Total(self.high[index], self.low[index])


def quantise(similarity: jax.Array) -> jax.Array:
    """Rounds similarities to the nearest int32 multiple of 2^-23; what is outside [0, 1] is brought back.

    The float32s from 1 to 2 are 2^-23 apart, and their bits count them. Rounding and converting, to whatever multiple,
    takes XLA:CPU longer than reading the similarity does.
    """
    return jax.lax.bitcast_convert_type(jnp.clip(similarity, 0, 1) + jnp.float32(1), jnp.int32) - _ONE_BITS


def zeros(n: int) -> Total:
    """Totals of nothing, of n examples."""
    return Total(jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.int32))


def add(total: Total, amount: jax.Array) -> Total:
    """Adds an int32 amount of either sign to each total, and carries."""
    return _carried(total.high + (amount >> _LOW_BITS), total.low + (amount & _LOW))


def plus(total: Total, other: Total) -> Total:
    """The sum of two totals each."""
    return _carried(total.high + other.high, total.low + other.low)


def minus(total: Total, other: Total) -> Total:
    """The difference of two totals each."""
    return _carried(total.high - other.high, total.low - other.low)


def summed(amounts: jax.Array) -> Total:
    """The exact sums over the last axis, of any length up to 2^23, of int32 similarities, each in [0, 1]."""
    *shape, length = amounts.shape
    part = min(length, LARGEST_SUM)
    parts = jnp.pad(amounts, [(0, 0)] * len(shape) + [(0, -length % part)]).reshape(*shape, -1, part)
    sums = jnp.sum(parts, axis=-1, dtype=jnp.int32)
    # Of what is above 2^16, a sum that fits an int32; of what is below, one that needs the 32nd bit.
    high = jnp.sum(sums >> _LOW_BITS, axis=-1, dtype=jnp.int32)
    low = jnp.sum(sums & _LOW, axis=-1, dtype=jnp.uint32)
    return Total(high + (low >> _LOW_BITS).astype(jnp.int32), (low & _LOW).astype(jnp.int32))


def over_devices(total: Total, axis: str | None) -> Total:
    """The sums over the devices of each one's totals."""
    if axis is None:
        return total
    return _carried(*collectives.total(total, axis))


def to_float(total: Total) -> jax.Array:
    """The totals as float32 similarities: rounded, and never in another order than the totals themselves.

    Where they are below 1 in size they are not even rounded.
    """
    # Where the upper half is itself rounded, the lower one added to it could carry a negative total past larger ones.
    low = jnp.where(jnp.abs(total.high) < 2**24, total.low, 0)
    return total.high.astype(jnp.float32) * 2.0 ** (_LOW_BITS - 23) + low.astype(jnp.float32) * 2.0**-23


def largest(total: Total, where: jax.Array, axis: str | None = None) -> jax.Array:
    """Which of the totals, of those where `where` is true (over all devices), are the largest: bool [n].

    Reductions, because XLA:CPU does a maximum in vector instructions and an argmax in a scalar loop, 10 times slower.
    """
    high = jnp.where(where, total.high, jnp.iinfo(jnp.int32).min)
    best = where & (high == collectives.largest(jnp.max(high), axis))
    low = jnp.where(best, total.low, -1)
    return best & (low == collectives.largest(jnp.max(low), axis))


def _carried(high: jax.Array, low: jax.Array) -> Total:
    return Total(high + (low >> _LOW_BITS), low & _LOW)
