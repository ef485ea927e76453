"""Exact sums without float64: similarities are int32 integers, and a total is two int32.

A similarity is rounded to a multiple of 2^-23 and held as an int32 in [0, 2^23]. A total is ``high * 2^16 + low`` of
those units with ``low`` in [0, 2^16). It is exact for up to 2^23 examples in a class, so it depends neither on the
order of summation nor on the number of devices. JAX disables int64 by default, and TPUs have no float64.

If all similarities are small, the unit is 2^-23 times a smaller power of two, `one`, that none of them exceeds. The
picks do not depend on a common factor, and the gains are multiplied by `one` at the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax import collectives

ONE = 2**23
"""The integer that represents similarity 1, or `one`."""

SMALLEST_ONE = 2.0**-100
"""The smallest `one`: 2^-23 times it is a float32 that XLA does not flush to 0."""

LARGEST_SUM = 255
"""The largest number of similarities whose sum fits an int32."""

_LOW_BITS = 16
_LOW = 2**_LOW_BITS - 1


class Total(NamedTuple):
    """Exact totals, one per example."""

    high: jax.Array  # int32
    low: jax.Array  # int32 in [0, 2^16)

    def at(self, index: jax.Array) -> "Total":
        """Returns the totals of the examples at `index`."""
        return Total(self.high[index], self.low[index])


def power_of_two(largest: jax.Array) -> jax.Array:
    """Returns the smallest power of two that is at least `largest` (0 or more), float32 []; 1 for 0."""
    mantissa, exponent = jnp.frexp(largest.astype(jnp.float32))
    return jnp.ldexp(jnp.float32(1), jnp.clip(exponent - (mantissa == 0.5), -126, 127))  # exp2 is not exact


def normalised(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Divides weights, float32 [n] of 0 or more, exactly by `power_of_two` of the largest; also returns that power."""
    # XLA flushes float32s below 2^-126 to 0; their bits, read as integers, count multiples of 2^-149.
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)
    raised = jnp.where(bits < 2**23, bits.astype(jnp.float32) * 2.0**-49, weights * 2.0**100)
    small = jnp.max(weights) < 2.0**-80
    weights = jnp.where(small, raised, weights)
    scale = power_of_two(jnp.max(weights))
    return weights / scale, jnp.where(small, scale * 2.0**-100, scale)


def one_of(largest: jax.Array) -> jax.Array:
    """Returns the `one` of similarities whose maximum is `largest`: from `SMALLEST_ONE` to 1."""
    return jnp.clip(power_of_two(largest), SMALLEST_ONE, 1)


def quantise(similarity: jax.Array, one: jax.Array | float = 1.0) -> jax.Array:
    """Rounds similarities to the nearest int32 multiple of 2^-23 `one`, after clipping them to [0, one].

    The float32s from 1 to 2 are 2^-23 apart, and their bits, read as integers, count them; likewise from any power of
    two to the next. Explicit rounding and conversion takes XLA:CPU longer than reading the similarity.
    """
    one = jnp.float32(one)
    raised = jnp.clip(similarity, 0, one) + one
    return jax.lax.bitcast_convert_type(raised, jnp.int32) - jax.lax.bitcast_convert_type(one, jnp.int32)


def zeros(n: int) -> Total:
    """Returns totals of 0 for n examples."""
    return Total(jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.int32))


def add(total: Total, amount: jax.Array) -> Total:
    """Adds an int32 amount of either sign to each total, and carries."""
    return _carried(total.high + (amount >> _LOW_BITS), total.low + (amount & _LOW))


def minus(total: Total, other: Total) -> Total:
    """Returns the elementwise differences of two totals."""
    return _carried(total.high - other.high, total.low - other.low)


def summed(amounts: jax.Array) -> Total:
    """Returns exact sums of int32 similarities, each in [0, 1], over the last axis, of up to 2^23 entries."""
    *shape, length = amounts.shape
    part = 128 if length % 128 == 0 else min(length, LARGEST_SUM)  # without padding, if possible
    parts = jnp.pad(amounts, [(0, 0)] * len(shape) + [(0, -length % part)]).reshape(*shape, -1, part)
    sums = jnp.sum(parts, axis=-1, dtype=jnp.int32)
    # The sum of the upper bits fits an int32; that of the lower 16 bits needs the 32nd bit.
    high = jnp.sum(sums >> _LOW_BITS, axis=-1, dtype=jnp.int32)
    low = jnp.sum(sums & _LOW, axis=-1, dtype=jnp.uint32)
    return Total(high + (low >> _LOW_BITS).astype(jnp.int32), (low & _LOW).astype(jnp.int32))


def over_devices(total: Total, axis: str | None) -> Total:
    """Returns the totals summed over the devices."""
    if axis is None:
        return total
    return _carried(*collectives.total(total, axis))


def to_float(total: Total) -> jax.Array:
    """Converts totals to float32 similarities; rounding keeps their order.

    Totals below 1 in magnitude are converted exactly.
    """
    # If the upper half is itself rounded, adding the lower half could move a negative total past larger ones.
    low = jnp.where(jnp.abs(total.high) < 2**24, total.low, 0)
    return total.high.astype(jnp.float32) * 2.0 ** (_LOW_BITS - 23) + low.astype(jnp.float32) * 2.0**-23


def largest(total: Total, index: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the place of the largest total where `where` is true, ties to the lowest index, and whether there is one.

    It is a single reduction, because the greedy loop makes one per pick: several small ones take longer, and each is a
    kernel on an accelerator.

    Args:
        total: of n examples.
        index: int32 [n], distinct.
        where: bool [n].
    """
    limits = jnp.iinfo(jnp.int32)
    high, low = jnp.where(where, total.high, limits.min), jnp.where(where, total.low, -1)

    def better(one, other):
        more = (other[0] > one[0]) | ((other[0] == one[0]) & (other[1] > one[1]))
        same = (other[0] == one[0]) & (other[1] == one[1])
        take = more | (same & (other[2] < one[2]))
        return tuple(jnp.where(take, b, a) for a, b in zip(one, other, strict=True))

    places = jnp.arange(index.shape[0], dtype=jnp.int32)
    nothing = tuple(map(jnp.int32, (limits.min, -1, limits.max, 0)))
    _, found, _, place = jax.lax.reduce((high, low, index, places), nothing, better, (0,))
    return place, found >= 0


def _carried(high: jax.Array, low: jax.Array) -> Total:
    return Total(high + (low >> _LOW_BITS), low & _LOW)
