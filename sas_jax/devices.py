"""The mesh, and where arrays live on it.

One mesh axis, ``data``. Training is plain ``jit`` over arrays sharded on the batch, so the same program runs on one
CPU, on eight simulated devices and on a TPU pod.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def mesh(num_devices: int | None = None) -> Mesh:
    """Returns the one-axis mesh over the first `num_devices` devices (all of them by default)."""
    devices = jax.devices()[:num_devices]
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: parameters, the data set, a permutation."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The sharding of what is split over the devices along its first axis: batches, rows of a similarity matrix."""
    return NamedSharding(mesh, PartitionSpec(AXIS))
