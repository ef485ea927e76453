"""Fixes JAX's settings for this package, whatever users set in their shells and scripts.

JAX_ENABLE_X64, JAX_NUMPY_DTYPE_PROMOTION, JAX_DEFAULT_PRNG_IMPL and others change what a program computes, or whether
it runs at all. Public functions run under the settings below: `fixed` sets them for the duration of a call, and the
user's other code keeps its own. A context is used, rather than code that works under every setting, because optax, flax
and orbax do not, and because users would keep finding lines here that do not. Inside the user's own `jit` or `vmap`,
the context is active while JAX traces, which is when most of these settings act.

Settings that only change speed or precision are left to the user: JAX_DEFAULT_MATMUL_PRECISION (selection sets its
precision explicitly), JAX_DISABLE_JIT, JAX_PLATFORMS, JAX_NUM_CPU_DEVICES.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import jax
import numpy as np

from sas_jax.errors import InputError, shown

LARGEST_SEED = 2**32 - 1
PRNG = "threefry2x32"
"""The PRNG implementation of all keys: its numbers are the same on every platform and number of devices."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OF_JITTED = ("lower", "trace", "eval_shape", "clear_cache", "_cache_size")


@contextlib.contextmanager
def context() -> Iterator[None]:
    """Sets JAX's settings as this package needs them."""
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(False),
            jax.debug_nans(False),  # nan marks values not picked or measured; training checks for nan itself
            jax.debug_infs(False),
            jax.numpy_rank_promotion("allow"),
            jax.numpy_dtype_promotion("standard"),
            jax.transfer_guard("allow"),
            jax.default_prng_impl(PRNG),
            jax.threefry_partitionable(True),
        ):
            stack.enter_context(setting)
        yield


def fixed(function: _Function) -> _Function:
    """Wraps a function to run under `context`; a jitted function keeps its methods, such as `lower`."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with context():
            return function(*arguments, **options)

    for name in _OF_JITTED:
        if hasattr(function, name):
            setattr(call, name, getattr(function, name))
    return cast(_Function, call)


@fixed
def key(seed: int | jax.Array) -> jax.Array:
    """Returns the typed PRNG key of a seed; all keys are made here, so none uses the user's JAX_DEFAULT_PRNG_IMPL.

    Raises:
        InputError: the seed is not from 0 to 2^32 - 1; beyond that, JAX repeats the keys of other seeds.
    """
    if not isinstance(seed, jax.Array):  # JAX's integers have 32 bits
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
            raise InputError(
                f"A seed must be a whole number from 0 to {LARGEST_SEED:,}, got {shown(seed)}. Choose one."
            )
        seed = int(seed)
    return jax.random.key(seed, impl=PRNG)
