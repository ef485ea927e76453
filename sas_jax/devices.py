"""The mesh, the shardings of arrays on it, and the processes that share it.

One mesh axis, ``data``. Training is plain ``jit`` over arrays sharded on the batch, so the same program runs on one
CPU, on eight simulated devices and on a TPU pod, where every host runs one process of it.
"""

import math
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jaxlib.version
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sas_jax.errors import InputError

AXIS = "data"

# Numbers that each device holds while the processes' parts are gathered. malloc retains the memory of larger blocks.
_GATHERED_AT_ONCE = 2**20
_Scalar = TypeVar("_Scalar", bool, int)
_Value = TypeVar("_Value")

# A CPU is split into simulated devices, so that each core processes parts of a batch that fit its caches, one after the
# other. A quarter-width ResNet-10 at 32 pixels and batch 128 trained at 620 views/s on four devices, 720 on eight, 580
# on sixteen; ResNet-18 at batch 32 at 36 on two, 29 on eight, because every device updates all parameters (2 cores of
# an AMD EPYC, jax 0.10.2, 2026-11-26). Small images leave less work between two exchanges of BatchNorm's statistics: at
# 16 pixels the same ResNet-10 trained at 1,900 views/s on two devices, 1,590 on four, 1,250 on eight (2026-11-28).
MOST_CPU_DEVICES = 8
LEAST_CPU_DEVICES = 2
IMAGES_OF_A_CPU_DEVICE = 16  # minima, if there are more than two devices
PIXELS_OF_A_CPU_DEVICE = 16 * 32 * 32

# If false, operations run sequentially, in the order that needs the least memory, instead of concurrently: the devices
# already use all cores, and memory is reused before more is allocated (860 instead of 650 views/s, measured as above).
# XLA reads the flag only from the environment, and aborts on flags that it does not know, hence the version check.
_CPU_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
_FLAG_IS_KNOWN_BEFORE = (0, 13)  # of jaxlib; tried with 0.10.2 and 0.12.0


def split_cpu(image_size: int, *batch_sizes: int) -> None:
    """Splits the CPU into devices, as many as suit the smallest batch and divide all; must precede JAX's first call.

    The number depends only on the images' height and the batch sizes, so that a run has the same bits on every CPU
    machine; several processes share them. A number set by the user (JAX_NUM_CPU_DEVICES) is kept. XLA runs each
    device's operations sequentially, unless XLA_FLAGS says otherwise.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _CPU_FLAG not in flags and jaxlib.version.__version_info__ < _FLAG_IS_KNOWN_BEFORE:
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_FLAG}=false".strip()
    processes = int(os.environ.get("JAX_NUM_PROCESSES", 1))
    _simulate_cpu_devices(max(1, cpu_devices(image_size, *batch_sizes) // processes))


def split_cpu_by_cores() -> None:
    """Splits the CPU into one device per core, at most MOST_CPU_DEVICES; must precede JAX's first call.

    For rankings, which do not depend on the number of devices. A number set by the user is kept.
    """
    _simulate_cpu_devices(min(cpu_count(), MOST_CPU_DEVICES))


def _simulate_cpu_devices(number: int) -> None:
    if jax.config.values["jax_num_cpu_devices"] < 0:
        jax.config.update("jax_num_cpu_devices", number)


def cpu_devices(image_size: int, *batch_sizes: int) -> int:
    """Returns the number of simulated devices for square images of these batches: a power of two that divides all."""
    images = max(IMAGES_OF_A_CPU_DEVICE, PIXELS_OF_A_CPU_DEVICE // image_size**2)
    wanted = min(MOST_CPU_DEVICES, max(LEAST_CPU_DEVICES, min(batch_sizes) // images))
    return math.gcd(1 << (wanted.bit_length() - 1), *batch_sizes)


def compute_dtype(name: str) -> str:
    """Resolves a config's `compute_dtype`: "auto" is float32 on CPU, bfloat16 on accelerators."""
    auto = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return auto if name == "auto" else name


def mesh(num_devices: int | None = None) -> Mesh:
    """Returns the one-axis mesh over this process's first `num_devices` devices; all processes' devices by default."""
    devices = jax.devices() if num_devices is None else jax.local_devices()[:num_devices]
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def processes(mesh: Mesh) -> list[int]:
    """Returns the indices of the processes that own the mesh's devices, ascending."""
    return sorted({device.process_index for device in mesh.devices.flat})


def local_mesh(mesh: Mesh) -> Mesh:
    """Returns the mesh restricted to this process's devices; the mesh itself if it has no others."""
    own = mesh.local_devices
    return mesh if len(own) == mesh.size else Mesh(np.array(own), mesh.axis_names, axis_types=mesh.axis_types)


def holds(num_bytes: int) -> bool:
    """Returns whether every device can hold this many bytes during training.

    The limit is a quarter of the device's memory or, for CPU devices, which share the machine's, half of the free
    memory.
    """
    device, *others = jax.local_devices()
    if device.platform == "cpu":
        return num_bytes * (1 + len(others)) <= free_memory() // 2
    stats = device.memory_stats()
    return stats is None or num_bytes <= stats["bytes_limit"] // 4


def free_memory() -> int:
    """Returns the bytes of memory that this process may still allocate, including those that only cache files."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    # A container's limit (cgroup v2), if any; "max" means none.
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if not (limit.isdecimal() and used.isdecimal()):
        return free
    fields = (line.split() for line in _read("/sys/fs/cgroup/memory.stat").splitlines())
    cached = sum(int(value) for name, value in fields if name in ("inactive_file", "active_file"))
    return min(free, int(limit) - int(used) + cached)


def memory() -> int:
    """Returns the total bytes that this process may use: the least of the machine's, a container's and `ulimit -d`."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if (limit := _read("/sys/fs/cgroup/memory.max").strip()).isdecimal():
        found.append(int(limit))
    if (most := resource.getrlimit(resource.RLIMIT_DATA)[0]) != resource.RLIM_INFINITY:
        found.append(most)
    return min(found)


def memory_of_one() -> float:
    """Returns the bytes of an accelerator's memory this process may use; infinite for CPUs, which use the host's."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] if stats else math.inf


def _read(path: str) -> str:
    """Reads a file of the operating system; "" if it does not exist."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def make_deterministic() -> None:
    """Makes GPU results the same bits on every run, as a CPU's always are; must precede JAX's first call."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of replicated arrays: parameters, the data set, a permutation."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays split along their first axis: batches, rows of a similarity matrix."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))


def joined(mesh: Mesh, rows: np.ndarray, n: int) -> jax.Array:
    """Returns an array of n rows sharded over the mesh, from this process's own rows on the host."""
    with jax.transfer_guard("allow"):  # intended, but JAX has no explicit form of this transfer that the guard accepts
        return jax.make_array_from_process_local_data(batched(mesh), rows, (n, *rows.shape[1:]))


def split(read: Callable[[slice], np.ndarray], number: int, shape: tuple[int, ...], mesh: Mesh) -> jax.Array:
    """Returns float32 rows sharded over the mesh and zero-padded; each process reads only its devices' rows.

    Args:
        read: returns the rows of a slice.
        number: number of rows without padding.
        shape: the array's shape; its rows are at least `number` and a multiple of the number of devices.
        mesh: a mesh of this process's devices, or of several processes', which must all call this.
    """

    def part(index: Any) -> np.ndarray:
        first, stop, _ = index[0].indices(shape[0])
        rows = np.asarray(read(slice(min(first, number), min(stop, number))), np.float32)
        missing = stop - first - len(rows)
        return np.concatenate([rows, np.zeros((missing, *shape[1:]), np.float32)]) if missing else rows

    return jax.make_array_from_callback(shape, batched(mesh), part)


def whole(array: jax.Array) -> np.ndarray:
    """Returns a whole array on the host, however it is sharded; all processes that own its devices must call this."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.array(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def gathered(part: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Gathers the processes' arrays, [rows, ...] each, one block at a time, because they pass through the devices.

    All processes must call this. Yields the first row of each block, and [processes, rows of the block, ...].
    """
    rows = max(1, _GATHERED_AT_ONCE // (jax.process_count() * math.prod(part.shape[1:])))
    for first in range(0, len(part), rows):
        yield first, np.asarray(multihost_utils.process_allgather(part[first : first + rows]))


def largest(values: np.ndarray) -> np.ndarray:
    """Returns the elementwise maximum over all processes, which must all call this."""
    found = np.empty_like(values)
    for first, block in gathered(values):
        found[first : first + block.shape[1]] = block.max(axis=0)
    return found


def cpu_count() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def join(*, heartbeat_seconds: float) -> None:
    """Connects this process to the others that run the same command; must precede JAX's first call.

    On a TPU pod, under SLURM and under Open MPI, JAX detects the other processes; elsewhere the environment must set
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Args:
        heartbeat_seconds: a process without a heartbeat for this long counts as dead, and the others are ended.

    Raises:
        InputError: the other processes are not found, or the environment does not number this one.
    """
    who: dict[str, Any] = {}
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        try:
            who = {name: int(os.environ[f"JAX_{name.upper()}"]) for name in ("num_processes", "process_id")}
        except (KeyError, ValueError) as error:
            names = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
            given = " and ".join(f"{name}={os.environ.get(name, '')}" for name in names)
            raise InputError(
                f"JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers if JAX_COORDINATOR_ADDRESS ({address}) is "
                f"set, got {given}. Set both."
            ) from error
        who["coordinator_address"] = address
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is handled by sas_jax/preemption.py
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=math.ceil(heartbeat_seconds), **who)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--distributed cannot connect to the other processes of this run: {_first_line(error).rstrip('.')}. Set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or leave out --distributed on one machine."
        ) from error


def is_writer() -> bool:
    """Returns whether this process writes the run's files and messages: process 0 if there are several."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Waits until every process has called this; returns at once if there is only one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def as_writer_sees(value: _Scalar) -> _Scalar:
    """Returns process 0's value in every process."""
    if jax.process_count() == 1:
        return value
    return type(value)(multihost_utils.broadcast_one_to_all(np.array(value)))


def writer_first(make: Callable[[], _Value]) -> _Value:
    """Calls `make` in process 0 and then in the others, which find the files written by the first."""
    if is_writer():
        value = make()
        wait_for_all("the first has made it")
        return value
    wait_for_all("the first has made it")
    return make()


def everywhere(value: bool) -> bool:
    """Returns whether the value is true in every process."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.array(value)).all())


class Votes:
    """Yes/no votes of all processes, combined on the devices, so that all processes act at the same step.

    A vote is cast before a piece of work is sent to the devices, and read after the next vote is cast: by then the
    devices have computed it, and no process waits. With one process a vote counts at once.
    """

    def __init__(self, mesh: Mesh, questions: int):
        """Each vote answers `questions` questions."""
        self._mesh = mesh
        self._cast: jax.Array | None = None
        self._nothing = (False,) * questions
        self._count = jax.jit(lambda votes: votes.max(axis=0), out_shardings=replicated(mesh))

    def cast(self, *answers: bool) -> tuple[bool, ...]:
        """Casts this process's answers; returns whether any process said yes in the vote of the previous call."""
        if jax.process_count() == 1:
            return answers
        before = self._cast
        rows = np.tile(np.array(answers, np.uint8), (len(self._mesh.local_devices), 1))
        self._cast = self._count(joined(self._mesh, rows, self._mesh.size))
        return self._nothing if before is None else tuple(bool(vote) for vote in jax.device_get(before))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
