"""The update rules against their definitions, step by step, and the learning rate over a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from sas_jax.training import optimizer
from sas_jax.training.optimizer import Horizon

RATE, DECAY = 1e-2, 0.1
START = {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([0.4, -0.6])}


def settings(**fields):
    defaults = {
        "optimizer": "adam", "learning_rate": RATE, "weight_decay": DECAY, "schedule": "constant",
        "rate_scaling": "none", "batch_size": 512, "warmup_epochs": 0.0,
    }  # fmt: skip
    return ConfigDict(defaults | fields)


def gradient(t):
    return {"kernel": np.array([[0.3, -0.1], [0.0, 0.7]]) * t, "bias": np.array([0.2, -0.5]) * t}


def after(tx, steps, rate=RATE):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), START)
    state = tx.init(params)
    for t in range(1, steps + 1):
        given = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradient(t))
        updates, state = tx.update(given, state, params, learning_rate=jnp.float32(rate))
        params = optax.apply_updates(params, updates)
    return params


def slow_adam(p, gradients, *, in_gradient, beside):
    """Implements Adam, with decay added to the gradient, or separate from it."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = g + in_gradient * p
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - RATE * ((m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + beside * p)
    return p


def slow_lars(p, gradients, *, is_kernel):
    """Implements momentum on the gradient scaled by the trust ratio, for kernels only."""
    velocity = np.zeros_like(p)
    for g in gradients:
        if is_kernel:
            g = g + DECAY * p
            g = g * 0.001 * np.linalg.norm(p) / np.linalg.norm(g)
        velocity = 0.9 * velocity + RATE * g
        p = p - velocity
    return p


def slow_sgd(p, gradients):
    """Implements torch.optim.SGD: decay in the gradient, the rate outside of the momentum."""
    velocity = np.zeros_like(p)
    for g in gradients:
        velocity = 0.9 * velocity + g + DECAY * p
        p = p - RATE * velocity
    return p


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_equals_its_definition(name):
    found = after(optimizer.build(settings(optimizer=name)), 3)
    for part, start in START.items():
        gradients = [gradient(t)[part] for t in (1, 2, 3)]
        kernel = part == "kernel"
        if name == "lars":
            expected = slow_lars(start, gradients, is_kernel=kernel)
        elif name == "sgd":
            expected = slow_sgd(start, gradients)
        elif name == "adamw":
            expected = slow_adam(start, gradients, in_gradient=0, beside=DECAY if kernel else 0)
        else:
            expected = slow_adam(start, gradients, in_gradient=DECAY, beside=0)
        np.testing.assert_allclose(found[part], expected, rtol=1e-5)


def test_lars_is_optax_s():
    mask = {"kernel": True, "bias": False}
    theirs = optax.lars(RATE, DECAY, weight_decay_mask=mask, trust_ratio_mask=mask)
    found = after(optimizer.build(settings(optimizer="lars")), 4)
    expected = after(optax.with_extra_args_support(theirs), 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def rates(train, warmup, total):
    horizon = Horizon(jnp.int32(warmup), jnp.int32(total), jnp.int32(10))
    rate = jax.jit(optimizer.schedule(train))
    return np.array([rate(jnp.int32(step), horizon) for step in range(total)])


def test_a_constant_rate_rises_first_where_it_is_asked_to():
    np.testing.assert_allclose(rates(settings(), 0, 5), RATE)
    np.testing.assert_allclose(rates(settings(), 4, 6), RATE * np.array([0.25, 0.5, 0.75, 1, 1, 1]), rtol=1e-6)


def test_cosine_falls_from_the_peak_to_nothing():
    found = rates(settings(schedule="cosine"), 4, 24)
    np.testing.assert_allclose(found[:5], RATE * np.array([0.25, 0.5, 0.75, 1, 1]), rtol=1e-6)
    expected = 0.5 * RATE * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose(found[4:], expected, rtol=1e-5)
    np.testing.assert_allclose(
        found, optax.warmup_cosine_decay_schedule(RATE / 4, RATE, 4, 24)(np.arange(24)), atol=3e-3
    )


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 2), ("sqrt", 2**0.5)])
def test_the_rate_grows_with_the_batch(scaling, factor):
    np.testing.assert_allclose(rates(settings(rate_scaling=scaling), 0, 1), RATE * factor, rtol=1e-6)
