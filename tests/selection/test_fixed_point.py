"""Exact totals against Python's integers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from sas_jax import devices
from sas_jax.selection import fixed_point


def exact(total):
    return np.asarray(total.high, object) * 2**16 + np.asarray(total.low, object)


def total_of(values):
    values = np.asarray(values, np.int64)
    return fixed_point.Total(jnp.asarray(values >> 16, jnp.int32), jnp.asarray(values & 0xFFFF, jnp.int32))


def assert_carried(total):
    assert int(jnp.min(total.low)) >= 0
    assert int(jnp.max(total.low)) < 2**16


def test_totals_are_the_integers_they_stand_for():
    rng = np.random.default_rng(0)
    amounts = rng.integers(-(2**30), 2**30, (200, 50))
    total = fixed_point.zeros(50)
    for amount in amounts:
        total = fixed_point.add(total, jnp.asarray(amount, jnp.int32))
        assert_carried(total)
    np.testing.assert_array_equal(exact(total), amounts.astype(object).sum(0))


@pytest.mark.parametrize("amount", [2**31 - 1, -(2**31)])
def test_any_int32_can_be_added(amount):
    total = fixed_point.add(total_of([0, 65535, -1]), jnp.full(3, amount, jnp.int32))
    assert exact(total).tolist() == [amount, 65535 + amount, amount - 1]
    assert_carried(total)


def test_differences_of_totals():
    rng = np.random.default_rng(1)
    one, other = rng.integers(-(2**45), 2**45, (2, 1000))
    difference = fixed_point.minus(total_of(one), total_of(other))
    np.testing.assert_array_equal(exact(difference), one - other)
    assert_carried(difference)


def test_totals_hold_eight_million_similarities_of_one():
    def add_block(_, total):
        return fixed_point.add(total, jnp.full(1, 64 * fixed_point.ONE))

    total = jax.jit(lambda: jax.lax.fori_loop(0, 2**23 // 64, add_block, fixed_point.zeros(1)))()
    assert exact(total)[0] == 2**46
    assert float(fixed_point.to_float(total)[0]) == 2**23
    # The cut subtracts a gain twice.
    fallen = fixed_point.minus(fixed_point.minus(total, total), total)
    assert exact(fallen)[0] == -(2**46)


@pytest.mark.parametrize("shape", [(1,), (126,), (255,), (256,), (3, 1000)])
def test_summed_is_the_exact_sum(shape):
    amounts = np.random.default_rng(2).integers(0, fixed_point.ONE + 1, shape)
    total = fixed_point.summed(jnp.asarray(amounts, jnp.int32))
    np.testing.assert_array_equal(exact(total), amounts.astype(object).sum(-1))
    assert_carried(total)


@pytest.mark.parametrize("amount", [2**23, 2**23 - 1, 257])
def test_summed_holds_as_many_as_it_says(amount):
    """With 255 amounts of 257, the lower half is full (65,535): no other amount has larger sums of lower halves."""
    total = jax.jit(lambda: fixed_point.summed(jnp.full(2**23, amount, jnp.int32)))()
    assert exact(total) == 2**23 * amount
    assert_carried(total)


def test_quantise_rounds_to_the_nearest_multiple_and_stays_in_range():
    values = np.random.default_rng(3).uniform(size=1000).astype(np.float32)
    values[:200] *= np.float32(2.0**-16)
    halves = ((np.arange(100) + 0.5) * 2.0**-23).astype(np.float32)  # to the even neighbour, as rint does
    values = np.concatenate([values, halves])
    np.testing.assert_array_equal(fixed_point.quantise(values), np.rint(values.astype(np.float64) * 2**23))
    edges = np.float32([-1e-7, -1, 1 + 1e-6, 7, 0, -0.0, 1, 1 - 2**-23, 1e-45])
    found = fixed_point.quantise(edges)
    assert found.tolist() == [0, 0, 2**23, 2**23, 0, 0, 2**23, 2**23 - 1, 0]
    assert found.dtype == jnp.int32


def test_floats_keep_the_order_of_the_totals():
    """Around all powers of two of both signs, where float32 begins to round and where its step doubles."""
    rng = np.random.default_rng(4)
    offsets = np.concatenate([np.arange(-99, 100), rng.integers(-(2**18), 2**18, 2000)])
    powers = np.concatenate([2 ** np.arange(47), -(2 ** np.arange(47))])
    values = np.unique(np.concatenate([(powers[:, None] + offsets).ravel(), rng.integers(-(2**46), 2**46, 10_000)]))
    floats = np.asarray(fixed_point.to_float(total_of(values)))
    assert (np.diff(floats) >= 0).all()
    # Up to 2^17 they are the nearest float32. The windows rely on values below 1 not being rounded.
    nearest = (values.astype(np.float64) * 2.0**-23).astype(np.float32)
    small = np.abs(values) <= 2**40 - 2**16
    np.testing.assert_array_equal(floats[small], nearest[small])
    np.testing.assert_allclose(floats, nearest, rtol=2e-7)
    below_one = np.abs(values) < 2**23
    np.testing.assert_array_equal(floats[below_one].astype(np.float64) * 2**23, values[below_one])


def test_largest_is_the_first_of_the_largest():
    rng = np.random.default_rng(4)
    for _ in range(50):
        values, where = rng.integers(-2, 2, 30) * 2**16 + rng.integers(0, 3, 30), rng.random(30) < 0.7
        index = rng.permutation(100)[:30]
        place, found = fixed_point.largest(total_of(values), jnp.asarray(index, jnp.int32), jnp.asarray(where))
        tied = np.flatnonzero(where & (values == values[where].max()))
        assert found
        assert place == tied[np.argmin(index[tied])]
    place, found = fixed_point.largest(total_of(values), jnp.asarray(index, jnp.int32), jnp.zeros(30, bool))
    assert not found
    assert 0 <= place < 30


def test_over_devices_as_on_one():
    rng = np.random.default_rng(5)
    mesh, split = devices.mesh(8), PartitionSpec("data")
    values = rng.integers(-3, 1, 40) * 2**40 + rng.integers(-2, 3, 40)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=split, out_specs=split)
    def found(total):
        return fixed_point.over_devices(total, "data")

    sums = found(total_of(values))
    np.testing.assert_array_equal(exact(sums), np.tile(values.reshape(8, 5).sum(0), 8))
    assert_carried(sums)
    alone = fixed_point.over_devices(total_of(values), None)
    np.testing.assert_array_equal(exact(alone), values)
