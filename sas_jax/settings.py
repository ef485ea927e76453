"""JAX's settings, which people keep in their shells and scripts, as this code needs them.

JAX_ENABLE_X64, JAX_NUMPY_DTYPE_PROMOTION, JAX_DEFAULT_PRNG_IMPL and others change what a program computes, or whether
it runs at all. What is public runs under the settings below, whatever the user's: `fixed` sets them for a function's
own time, and the user's other code keeps its own. A context rather than code that is right under each setting, because
optax, flax and orbax are not, and because a user would find the next line here that is not. Inside the user's own `jit`
or `vmap` the context is there while JAX traces, which is when most of these settings act.

Left alone are those that change speed or precision alone, as the user means: JAX_DEFAULT_MATMUL_PRECISION (what
selection rests on states its precision), JAX_DISABLE_JIT, JAX_PLATFORMS, JAX_NUM_CPU_DEVICES.
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
"""The implementation of every key here: its numbers are the same on every platform and number of devices."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OF_JITTED = ("lower", "trace", "eval_shape", "clear_cache", "_cache_size")


@contextlib.contextmanager
def context() -> Iterator[None]:
    """JAX's settings as this code needs them."""
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(False),
            jax.debug_nans(False),  # nan marks what was not picked, or not measured; training looks for its own
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
    """The function, run under `context`. Of a jitted one its methods stay, such as `lower`."""

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
    """The typed PRNG key of a seed; keys are made here alone, so that none is of the user's JAX_DEFAULT_PRNG_IMPL.

    Raises:
        InputError: it is not from 0 to 2^32 - 1, beyond which JAX gives the keys of other seeds again.
    """
    if not isinstance(seed, jax.Array):  # which has 32 bits
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
            raise InputError(
                f"A seed must be a whole number from 0 to {LARGEST_SEED:,}, got {shown(seed)}. Choose one."
            )
        seed = int(seed)
    return jax.random.key(seed, impl=PRNG)
