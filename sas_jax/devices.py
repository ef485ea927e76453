"""The mesh, where arrays live on it, and the processes that share it.

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

# Numbers that each device holds while the processes' parts are gathered. malloc keeps the memory of larger blocks.
_GATHERED_AT_ONCE = 2**20
_Scalar = TypeVar("_Scalar", bool, int)
_Value = TypeVar("_Value")

# A CPU is simulated devices: parts of a batch that fit the caches, one after the other on each core. A quarter-width
# ResNet-10 at 32 pixels and batch 128 trained 620 views/s on four, 720 on eight, 580 on sixteen; ResNet-18 at batch 32
# 36 on two, 29 on eight, each of which updates all parameters (2 cores of an AMD EPYC, jax 0.10.2, 2026-11-26).
MOST_CPU_DEVICES = 8
LEAST_CPU_DEVICES = 2
IMAGES_OF_A_CPU_DEVICE = 16  # at least, where there are more than two

# Operations one after the other, in the order that needs the least memory, and not side by side: the devices already
# use all cores, and memory is used again before it has to be asked for (860 views/s and not 650, measured as above).
# XLA reads it from the environment alone, and ends the process where it does not know a flag: hence the versions.
_CPU_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
_FLAG_IS_KNOWN_BEFORE = (0, 13)  # of jaxlib; tried with 0.10.2 and 0.12.0


def split_cpu(*batch_sizes: int) -> None:
    """Makes the CPU as many devices as suit the smallest of these batch sizes, and divide all; before JAX's first call.

    The number depends on nothing else, so that a run has the same bits on every CPU machine; several processes share
    it. A number that the user has set (JAX_NUM_CPU_DEVICES) stays. XLA is told to run each device's operations in
    sequence, unless XLA_FLAGS says otherwise.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _CPU_FLAG not in flags and jaxlib.version.__version_info__ < _FLAG_IS_KNOWN_BEFORE:
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_FLAG}=false".strip()
    processes = int(os.environ.get("JAX_NUM_PROCESSES", 1))
    _simulate_cpu_devices(max(1, cpu_devices(*batch_sizes) // processes))


def split_cpu_by_cores() -> None:
    """Makes the CPU one device per core, at most MOST_CPU_DEVICES; before JAX's first call.

    For rankings, which do not depend on the number of devices. A number that the user has set stays.
    """
    _simulate_cpu_devices(min(cpu_count(), MOST_CPU_DEVICES))


def _simulate_cpu_devices(number: int) -> None:
    if jax.config.values["jax_num_cpu_devices"] < 0:
        jax.config.update("jax_num_cpu_devices", number)


def cpu_devices(*batch_sizes: int) -> int:
    """How many simulated devices train batches of these sizes: a power of two that divides them all."""
    wanted = min(MOST_CPU_DEVICES, max(LEAST_CPU_DEVICES, min(batch_sizes) // IMAGES_OF_A_CPU_DEVICE))
    return math.gcd(1 << (wanted.bit_length() - 1), *batch_sizes)


def compute_dtype(name: str) -> str:
    """The dtype that a config's `compute_dtype` means here: "auto" is float32 on CPU, bfloat16 on accelerators."""
    auto = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return auto if name == "auto" else name


def mesh(num_devices: int | None = None) -> Mesh:
    """Returns the one-axis mesh over this process's first `num_devices` devices; by default all of all processes."""
    devices = jax.devices() if num_devices is None else jax.local_devices()[:num_devices]
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def processes(mesh: Mesh) -> list[int]:
    """The processes whose devices these are, ascending."""
    return sorted({device.process_index for device in mesh.devices.flat})


def local_mesh(mesh: Mesh) -> Mesh:
    """The mesh of those of its devices that are this process's: the mesh itself, where all are."""
    own = mesh.local_devices
    return mesh if len(own) == mesh.size else Mesh(np.array(own), mesh.axis_names, axis_types=mesh.axis_types)


def holds(num_bytes: int) -> bool:
    """Whether every device can hold so many bytes beside a training run: a quarter of its memory, or, of CPUs that
    share the machine's, half of what is free.
    """
    device, *others = jax.local_devices()
    if device.platform == "cpu":
        return num_bytes * (1 + len(others)) <= free_memory() // 2
    stats = device.memory_stats()
    return stats is None or num_bytes <= stats["bytes_limit"] // 4


def free_memory() -> int:
    """Bytes of memory that this process may still take, those that only cache files included."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    # A container's limit (cgroup v2), where there is one; "max" is none.
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if not (limit.isdecimal() and used.isdecimal()):
        return free
    fields = (line.split() for line in _read("/sys/fs/cgroup/memory.stat").splitlines())
    cached = sum(int(value) for name, value in fields if name in ("inactive_file", "active_file"))
    return min(free, int(limit) - int(used) + cached)


def memory() -> int:
    """Bytes of memory that this process may have in all: the machine's, a container's limit, or `ulimit -d`."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if (limit := _read("/sys/fs/cgroup/memory.max").strip()).isdecimal():
        found.append(int(limit))
    if (most := resource.getrlimit(resource.RLIMIT_DATA)[0]) != resource.RLIM_INFINITY:
        found.append(most)
    return min(found)


def memory_of_one() -> float:
    """Bytes of memory that this process may use of one accelerator; infinite for CPUs, which have the machine's."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] if stats else math.inf


def _read(path: str) -> str:
    """A file of the operating system's, "" where it is not there."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def make_deterministic() -> None:
    """Has a GPU compute the same bits on every run; before JAX's first call. A CPU always does."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: parameters, the data set, a permutation."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The sharding of what is split over the devices along its first axis: batches, rows of a similarity matrix."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def joined(mesh: Mesh, rows: np.ndarray, n: int) -> jax.Array:
    """An array of n rows split over the mesh, of which this process has those of its own devices, on the host."""
    with jax.transfer_guard("allow"):  # it is meant, but JAX has no word for it that the guard knows
        return jax.make_array_from_process_local_data(batched(mesh), rows, (n, *rows.shape[1:]))


def split(read: Callable[[slice], np.ndarray], number: int, shape: tuple[int, ...], mesh: Mesh) -> jax.Array:
    """float32 rows split over the mesh, with zeros beyond the last; each process reads what its devices hold.

    Args:
        read: gives the rows of a slice.
        number: how many there are.
        shape: of the array, its rows at least so many and a multiple of the devices.
        mesh: of this process's devices, or of several processes', which all call this.
    """

    def part(index: Any) -> np.ndarray:
        first, stop, _ = index[0].indices(shape[0])
        rows = np.asarray(read(slice(min(first, number), min(stop, number))), np.float32)
        missing = stop - first - len(rows)
        return np.concatenate([rows, np.zeros((missing, *shape[1:]), np.float32)]) if missing else rows

    return jax.make_array_from_callback(shape, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])), part)


def whole(array: jax.Array) -> np.ndarray:
    """All of an array on the host, wherever its parts are; every process of its devices calls this."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.array(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def gathered(part: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The arrays that the processes have, [rows, ...] each, a block at a time, for they pass through the devices.

    Every process calls this. It gets the first row of each block, and [processes, rows of the block, ...].
    """
    rows = max(1, _GATHERED_AT_ONCE // (jax.process_count() * math.prod(part.shape[1:])))
    for first in range(0, len(part), rows):
        yield first, np.asarray(multihost_utils.process_allgather(part[first : first + rows]))


def largest(values: np.ndarray) -> np.ndarray:
    """The largest of what the processes have, element by element; every process calls this."""
    found = np.empty_like(values)
    for first, block in gathered(values):
        found[first : first + block.shape[1]] = block.max(axis=0)
    return found


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def join(*, heartbeat_seconds: float) -> None:
    """Makes this process one of several that run the same command; before JAX's first call.

    On a TPU pod, under SLURM and under Open MPI, JAX finds the others by itself; elsewhere the environment names them:
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Args:
        heartbeat_seconds: a process of which nothing was heard for so long is dead, and ends the others.

    Raises:
        InputError: no other process is found, or the environment does not say who this one is.
    """
    who: dict[str, Any] = {}
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        try:
            who = {name: int(os.environ[f"JAX_{name.upper()}"]) for name in ("num_processes", "process_id")}
        except (KeyError, ValueError) as error:
            raise InputError(
                "JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers beside JAX_COORDINATOR_ADDRESS "
                f"({address}), got {error}. Set both."
            ) from error
        who["coordinator_address"] = address
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is ours: sas_jax/preemption.py
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=math.ceil(heartbeat_seconds), **who)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--distributed must find the other processes of this run, got none ({_first_line(error)}). Set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or leave the flag out on a single machine."
        ) from error


def is_writer() -> bool:
    """Whether this process writes the files and the messages of the run: process 0, where there are several."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; at once where there is one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def as_writer_sees(value: _Scalar) -> _Scalar:
    """The value that process 0 gives, in every process."""
    if jax.process_count() == 1:
        return value
    return type(value)(multihost_utils.broadcast_one_to_all(np.array(value)))


def writer_first(make: Callable[[], _Value]) -> _Value:
    """Calls it in process 0 and then in the others, which find the files that it left."""
    if is_writer():
        value = make()
        wait_for_all("the first has made it")
        return value
    wait_for_all("the first has made it")
    return make()


def everywhere(value: bool) -> bool:
    """Whether it holds in every process."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.array(value)).all())


class Votes:
    """Yes or no of every process, counted on the devices, so that all act on the same at the same step.

    A vote is cast before a piece of work is sent to the devices and counted after the next one was cast: by then the
    devices have passed it, and nobody waits. With one process it counts at once.
    """

    def __init__(self, mesh: Mesh, questions: int):
        """So many questions at a time."""
        self._mesh = mesh
        self._cast: jax.Array | None = None
        self._nothing = (False,) * questions
        self._count = jax.jit(lambda votes: votes.max(axis=0), out_shardings=replicated(mesh))

    def cast(self, *answers: bool) -> tuple[bool, ...]:
        """This process's answers; returns whether any process said yes, of the votes cast one call before."""
        if jax.process_count() == 1:
            return answers
        before = self._cast
        rows = np.tile(np.array(answers, np.uint8), (len(self._mesh.local_devices), 1))
        self._cast = self._count(joined(self._mesh, rows, self._mesh.size))
        return self._nothing if before is None else tuple(bool(vote) for vote in jax.device_get(before))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
