"""Collectives over a mesh axis inside `jax.shard_map`; with `axis` None, there is one device and no communication.

Each function takes the value of one device and returns the result, which all devices then hold.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def total(values: Tree, axis: str | None) -> Tree:
    """Returns the sums over the devices."""
    return values if axis is None else jax.lax.psum(values, axis)


def largest(values: Tree, axis: str | None) -> Tree:
    """Returns the maxima over the devices."""
    return values if axis is None else jax.lax.pmax(values, axis)


def gathered(values: Tree, axis: str | None) -> Tree:
    """Concatenates the devices' arrays along their first axis."""
    return values if axis is None else jax.lax.all_gather(values, axis, tiled=True)


def joined(values: Tree, numbers: jax.Array, length: int, axis: str | None) -> Tree:
    """Concatenates the first `numbers` (int32 [devices]) entries of each device, padded with zeros to `length`."""
    listed = jax.tree.leaves(values)[0].shape[0]
    if axis is None:
        return jax.tree.map(lambda x: jnp.pad(x, [(0, length - listed)] + [(0, 0)] * (x.ndim - 1)), values)
    ends = jnp.cumsum(numbers)
    slots = jnp.arange(length, dtype=jnp.int32)
    device = jnp.sum(slots[:, None] >= ends, axis=1, dtype=jnp.int32)  # of each slot; len(numbers) beyond the last
    first = jnp.append(ends - numbers, 0)
    index = jnp.where(slots < ends[-1], device * listed + slots - first[device], len(numbers) * listed)
    return jax.tree.map(lambda x: x.at[index].get(mode="fill", fill_value=0), gathered(values, axis))


def number(axis: str | None) -> int:
    """Returns the number of devices."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def place(axis: str | None) -> jax.Array | int:
    """Returns the axis index of this device."""
    return 0 if axis is None else jax.lax.axis_index(axis)


def taken(values: jax.Array, index: jax.Array, axis: str | None) -> jax.Array:
    """Returns the entries at the global `index` of values [n, ...] that are sharded along the first axis."""
    if axis is None:
        return values[index]
    size = values.shape[0]
    local = index - jax.lax.axis_index(axis) * size
    here = (local >= 0) & (local < size)
    mine = values[jnp.clip(local, 0, size - 1)]
    return jax.lax.psum(jnp.where(here.reshape(-1, *[1] * (mine.ndim - 1)), mine, 0), axis)
