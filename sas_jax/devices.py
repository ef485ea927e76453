"""The mesh, and where arrays live on it.

One mesh axis, ``data``. Training is plain ``jit`` over arrays sharded on the batch, so the same program runs on one
CPU, on eight simulated devices and on a TPU pod.
"""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"

# XLA:CPU computes the gradient of a convolution's kernel on one core. Split over simulated devices, the parts of a
# batch are computed side by side, and fit the caches: a quarter-width ResNet-10 at 32 pixels trained 488 views/s on
# four, 330 on one (2 cores of an x86-64 server, jax 0.10.2, 2026-11-22). Eight were no faster.
CPU_DEVICES = 4


def split_cpu(*batch_sizes: int) -> None:
    """Makes the CPU as many devices as divide these batch sizes, at most `CPU_DEVICES`; before JAX's first call.

    The number depends on nothing else, so that a run has the same bits on every CPU machine. A number that the user
    has set (JAX_NUM_CPU_DEVICES) stays.
    """
    if jax.config.values["jax_num_cpu_devices"] < 0:
        jax.config.update("jax_num_cpu_devices", math.gcd(CPU_DEVICES, *batch_sizes))


def compute_dtype(name: str) -> str:
    """The dtype that a config's `compute_dtype` means here: "auto" is float32 on CPU, bfloat16 on accelerators."""
    auto = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return auto if name == "auto" else name


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
