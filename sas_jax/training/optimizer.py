"""The optimizer and the learning rate schedule of a training section of the config.

The learning rate is an argument of the update instead of part of it, because the number of steps depends on the subset,
and all subsets share one compiled step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

OPTIMIZERS = ("adam", "adamw", "lars", "sgd")
SCHEDULES = ("constant", "cosine")
RATE_SCALINGS = ("none", "linear", "sqrt")
REFERENCE_BATCH = 256  # the batch size at which scaling leaves the learning rate unchanged (Goyal et al. 2017, SimCLR)


class Horizon(NamedTuple):
    """The length of a run in steps, int32 [] each, on the device."""

    warmup: jax.Array
    total: jax.Array
    per_epoch: jax.Array


def build(train: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer; its `update` requires `learning_rate=`.

    "adam" and "sgd" (momentum 0.9) apply weight decay to all parameters as in torch.optim: the L2 term is added to the
    gradient. "adamw" and "lars" decay only kernels, not biases or BatchNorm's scales, and LARS adapts only their rates.

    Args:
        train: `optimizer`, one of `OPTIMIZERS`, and `weight_decay` >= 0.

    Source: Kingma & Ba 2015 (arXiv 1412.6980); Loshchilov & Hutter 2019 (arXiv 1711.05101); You et al. 2017 (arXiv
        1708.03888), with the momentum 0.9, the trust coefficient 0.001 and the exclusions of Chen et al. 2020 (arXiv
        2002.05709).
    """
    adam = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)
    if train.optimizer == "adam":
        parts = [optax.add_decayed_weights(train.weight_decay), adam, _scale_by_rate()]
    elif train.optimizer == "adamw":
        parts = [adam, optax.add_decayed_weights(train.weight_decay, mask=_kernels), _scale_by_rate()]
    elif train.optimizer == "sgd":
        parts = [optax.add_decayed_weights(train.weight_decay), optax.trace(decay=0.9), _scale_by_rate()]
    else:
        parts = [
            optax.add_decayed_weights(train.weight_decay, mask=_kernels),
            optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), mask=_kernels),
            _scale_by_rate(),
            optax.trace(decay=0.9),
        ]
    return optax.chain(*parts)


def schedule(train: ConfigDict) -> Callable[[jax.Array, Horizon], jax.Array]:
    """Returns the learning rate, float32 [], as a function of (completed steps, horizon).

    Args:
        train: `schedule`, `learning_rate` > 0, `rate_scaling` and `batch_size`. The peak is the learning rate, times
            batch_size / 256 with "linear", times its square root with "sqrt". The rate rises linearly to the peak over
            the horizon's warm-up; then it is constant, or decays to 0 by half a cosine.
    """
    ratio = train.batch_size / REFERENCE_BATCH
    peak = train.learning_rate * {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[train.rate_scaling]

    def rate(step: jax.Array, horizon: Horizon) -> jax.Array:
        rising = (step + 1) / jnp.maximum(horizon.warmup, 1)
        done = (step - horizon.warmup) / jnp.maximum(horizon.total - horizon.warmup, 1)
        after = 0.5 * (1 + jnp.cos(jnp.pi * done)) if train.schedule == "cosine" else 1.0
        return (peak * jnp.where(step < horizon.warmup, rising, after)).astype(jnp.float32)

    return rate


def _scale_by_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the learning rate passed to `update`."""

    def update(updates: Any, state: Any, params: Any = None, *, learning_rate: jax.Array, **_: Any) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def _kernels(params: Any) -> Any:
    """Returns a mask that is True for parameters of more than one dimension."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
