"""Exact sums without float64: similarities are integers, and a sum of them is two int32.

A similarity is rounded to a multiple of 2^-23 and held as an int32 in [0, 2^23]. A total is ``high * 2^16 + low`` of
those units with ``low`` in [0, 2^16), so it is exact, and the same in whatever order and on however many devices it
was summed, for up to 2^23 examples in a class. int64 is off in JAX, and float64 is not there on TPUs.

Where all similarities are small, the integers count multiples of 2^-23 of a smaller power of two, `one`, that none of
them exceeds: the picks do not depend on a common factor, and the gains are multiplied by `one` in the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax import collectives

ONE = 2**23
"""Similarity 1, or `one`."""

SMALLEST_ONE = 2.0**-100
"""2^-23 of it is still a float32 that XLA does not flush to 0."""

LARGEST_SUM = 255
"""An int32 holds sums of up to so many similarities."""

_LOW_BITS = 16
_LOW = 2**_LOW_BITS - 1


class Total(NamedTuple):
    """Exact totals, one an example."""

    high: jax.Array  # int32
    low: jax.Array  # int32 in [0, 2^16)

    def at(self, index: jax.Array) -> "Total":
        """The totals of some examples."""
        return Total(self.high[index], self.low[index])


def power_of_two(largest: jax.Array) -> jax.Array:
    """float32 (): the smallest power of two that is not below `largest`, which is at least 0; 1 for 0."""
    mantissa, exponent = jnp.frexp(largest.astype(jnp.float32))
    return jnp.ldexp(jnp.float32(1), jnp.clip(exponent - (mantissa == 0.5), -126, 127))  # exp2 is not exact


def normalised(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 weights [n], 0 or more, divided by the power of two from the largest on, exactly; and that power."""
    # XLA takes what is below 2^-126 for 0; as integers its bits count multiples of 2^-149.
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)
    raised = jnp.where(bits < 2**23, bits.astype(jnp.float32) * 2.0**-49, weights * 2.0**100)
    small = jnp.max(weights) < 2.0**-80
    weights = jnp.where(small, raised, weights)
    scale = power_of_two(jnp.max(weights))
    return weights / scale, jnp.where(small, scale * 2.0**-100, scale)


def one_of(largest: jax.Array) -> jax.Array:
    """The `one` of similarities of which `largest` is the largest: from `SMALLEST_ONE` to 1."""
    return jnp.clip(power_of_two(largest), SMALLEST_ONE, 1)


def quantise(similarity: jax.Array, one: jax.Array | float = 1.0) -> jax.Array:
    """Rounds similarities to the nearest int32 multiple of 2^-23 `one`; what is outside [0, one] is brought back.

    The float32s from 1 to 2 are 2^-23 apart, and their bits count them; so do those from any power of two to the next.
    Rounding and converting, to whatever multiple, takes XLA:CPU longer than reading the similarity does.
    """
    one = jnp.float32(one)
    raised = jnp.clip(similarity, 0, one) + one
    return jax.lax.bitcast_convert_type(raised, jnp.int32) - jax.lax.bitcast_convert_type(one, jnp.int32)


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
