"""Exact totals against Python's integers."""

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.selection import fixed_point


def exact(total):
    return np.asarray(total.high, object) * 2**16 + np.asarray(total.low, object)


def test_totals_are_the_integers_they_stand_for():
    rng = np.random.default_rng(0)
    amounts = rng.integers(-(2**30), 2**30, (200, 50))
    total = fixed_point.zeros(50)
    for amount in amounts:
        total = fixed_point.add(total, jnp.asarray(amount, jnp.int32))
        assert int(jnp.min(total.low)) >= 0
        assert int(jnp.max(total.low)) < 2**16
    np.testing.assert_array_equal(exact(total), amounts.astype(object).sum(0))


def test_totals_hold_four_million_similarities_of_one():
    def add_block(_, total):
        return fixed_point.add(total, jnp.full(1, 64 * fixed_point.ONE))

    total = jax.jit(lambda: jax.lax.fori_loop(0, 2**22 // 64, add_block, fixed_point.zeros(1)))()
    assert exact(total)[0] == 2**22 * 2**24
    assert float(fixed_point.to_float(total)[0]) == 2**22


def test_quantise_rounds_to_the_nearest_multiple_and_stays_in_range():
    values = np.random.default_rng(1).uniform(size=1000).astype(np.float32)
    np.testing.assert_array_equal(fixed_point.quantise(values), np.rint(values.astype(np.float64) * 2**24))
    np.testing.assert_array_equal(fixed_point.quantise(np.float32([-1e-7, 1 + 1e-6, 0, 1])), [0, 2**24, 0, 2**24])


def test_floats_keep_the_order_of_the_totals():
    rng = np.random.default_rng(2)
    high = np.concatenate([rng.integers(-(2**30), 2**30, 500), np.full(500, 2**27 + 1), rng.integers(-5, 5, 500)])
    total = fixed_point.Total(jnp.asarray(high, jnp.int32), jnp.asarray(rng.integers(0, 2**16, 1500), jnp.int32))
    values, floats = exact(total).astype(np.float64) * 2.0**-24, np.asarray(fixed_point.to_float(total))
    assert (np.diff(floats[np.argsort(values)]) >= 0).all()
    np.testing.assert_allclose(floats, values, rtol=2e-7)


def test_argmax_is_the_least_index_of_the_largest():
    rng = np.random.default_rng(3)
    for _ in range(50):
        high, low, where = rng.integers(-2, 2, 30), rng.integers(0, 3, 30), rng.random(30) < 0.7
        total = fixed_point.Total(jnp.asarray(high, jnp.int32), jnp.asarray(low, jnp.int32))
        expected = max(np.flatnonzero(where), key=lambda i: (high[i], low[i], -i))
        assert fixed_point.argmax(total, jnp.asarray(where)) == expected
    assert fixed_point.argmax(total, jnp.zeros(30, bool)) == 30
