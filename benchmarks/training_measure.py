"""Times one implementation on one case, in a process of its own: `python -m benchmarks.training_measure FILE ...`.

`training.py` starts this process, so that the memory is the implementation's alone, and a failure affects no other.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import stand_ins
from benchmarks.measure import memory
from benchmarks.training_cases import Case, Network


class Task(NamedTuple):
    """The input of an implementation."""

    case: Case
    backend: str  # "cpu", "gpu" or "tpu"
    dtype: str | None  # of PyTorch on a CPU; None: the faster one in a trial
    profile: Path | None  # folder for a trace of the steps


class Implementation(NamedTuple):
    """An implementation to compare."""

    title: str
    packages: tuple[str, ...]  # whose versions are recorded; empty for ours
    parts: tuple[str, ...]  # of a run that it supports
    backends: tuple[str, ...]  # on which it is measured
    measure: Callable[[Task], dict[str, Any]]


def _sas_jax(task: Task, *, plain: bool = False) -> dict[str, Any]:
    """Measures sas_jax; if `plain`, without what it changes for CPUs: the devices, XLA's flags and the convolutions."""
    import jax

    stand_ins.install()  # sas_jax.training uses ml_collections in annotations
    from benchmarks import training_jax, training_profile
    from sas_jax import devices
    from sas_jax.models import convolution

    if plain:
        jax.config.update("jax_num_cpu_devices", 1)
        convolution.fastest = lambda dtype: jax.lax.conv_general_dilated
    else:
        devices.split_cpu(task.case.network.size, task.case.batch)
    case = task.case
    # All devices of a CPU, as in the commands; one accelerator, like the other implementations.
    trainer = training_jax.make_trainer(case, devices.mesh(None if task.backend == "cpu" else 1))
    described = {
        "devices": trainer.mesh.size,
        "dtype": devices.compute_dtype("auto"),
        "device_kind": jax.devices()[0].device_kind,
    }
    before = memory("VmRSS")
    start = time.perf_counter()
    if case.part == "end_to_end":
        watch = Watch()
        seconds = training_jax.whole_run(trainer, case, make_images(case), watch.start)
        return described | {"seconds_per_step": seconds} | watch.stop() | _memory(before, _jax_peak(jax))
    if case.part == "step":
        steps = training_jax.step_alone(trainer, case)
    else:
        steps = training_jax.augmented(trainer, case, make_images(case))
    found = _timed(case, steps.run, start) | _memory(before, _jax_peak(jax))
    if task.profile is not None:
        traced = training_profile.trace(lambda: steps.run(case.steps), task.profile / case.name)
        found["profile"] = training_profile.largest(traced, steps.program.as_text())
    return described | found


def _torch(task: Task, *, compiled: bool) -> dict[str, Any]:
    import torch

    from benchmarks import torch_simclr

    case, workers = task.case, torch_simclr.worker_count()
    device = torch.device("cpu")
    if task.backend != "cpu":
        if not torch.cuda.is_available():
            return {"status": "skipped", "reason": f"finds no GPU here, although JAX has a {task.backend}"}
        device = torch.device("cuda")
        # As recommended by PyTorch's performance guide.
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    described: dict[str, Any] = {
        "devices": 1,
        "device_kind": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    before = memory("VmRSS")
    if device.type == "cuda":
        dtype = torch.bfloat16
    elif task.dtype is not None:
        dtype = getattr(torch, task.dtype)
    else:
        dtype, described["dtype_probe_seconds"] = torch_simclr.fastest_dtype(case)
    described["dtype"] = str(dtype).removeprefix("torch.")
    start = time.perf_counter()
    training = torch_simclr.Training(case.network, device=device, dtype=dtype, compiled=compiled)
    if case.part == "step":
        batches, settling = torch_simclr.batches_on_device(case, device), case.steps
    else:
        described["workers"] = workers
        batches = torch_simclr.batches_of_loader(case, make_images(case), workers=workers, device=device)
        # Batches that the workers prefetched during compilation do not count.
        settling = max(case.steps, workers * torch_simclr.PREFETCH)
    found = _timed(case, lambda count: training.run(batches, count), start, settling=settling)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return described | found | _memory(before, peak)


def make_images(case: Case) -> np.ndarray:
    """Returns the data set, uint8 [n, size, size, 3]: noise, on which operations take as long as on photographs."""
    size = case.network.size
    return np.random.default_rng(0).integers(0, 256, (case.images, size, size, 3), np.uint8)


def _timed(case: Case, run: Callable[[int], None], start: float, *, settling: int | None = None) -> dict[str, Any]:
    """Times compilation and then, after some steps to settle, each group; returns seconds per step of each group."""
    run(1)
    first = time.perf_counter() - start
    run(case.steps if settling is None else settling)
    watch, seconds = Watch(), []
    watch.start()
    for _ in range(case.samples):
        start = time.perf_counter()
        run(case.steps)
        seconds.append((time.perf_counter() - start) / case.steps)
    compiling = max(0.0, first - float(np.median(seconds)))
    return {"seconds_per_step": seconds, "compile_seconds": compiling} | watch.stop()


class Watch:
    """Watches the timed steps: their peak memory, and the cores used by other processes; needs /proc."""

    def start(self) -> None:
        """Resets VmHWM, which is then the peak memory of the steps alone, without compilation."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        self._before = (time.perf_counter(), others_cpu_seconds())

    def stop(self) -> dict[str, Any]:
        """Returns the cores used by others since the start; PyTorch's threads on a CPU lose far more than that."""
        (start, before), after = self._before, others_cpu_seconds()
        if before is None or after is None:
            return {"cores_used_by_others": None}
        return {"cores_used_by_others": max(0.0, after - before) / (time.perf_counter() - start)}


def others_cpu_seconds() -> float | None:
    """Returns all processes' CPU time since boot, except this session's; `training.py` starts one per measurement."""
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    except OSError:
        return None
    own = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            own += sum(map(int, fields[11:13])) if int(fields[3]) == os.getsid(0) else 0
    return (user + nice + system + sum(interrupts) - own) / ticks


def _jax_peak(jax: Any) -> int | None:
    statistics = jax.devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else None


def _memory(before: int | None, device_peak: int | None) -> dict[str, int | None]:
    return {
        "memory_before_bytes": before,
        "memory_peak_bytes": memory("VmHWM"),
        "device_memory_peak_bytes": device_peak,
    }


_OURS = ("step", "augmented", "end_to_end")
_THEIRS = ("step", "end_to_end")
_PYTORCH = ("torch", "torchvision")

IMPLEMENTATIONS = {
    "sas_jax": Implementation("sas_jax", (), _OURS, ("cpu", "gpu", "tpu"), _sas_jax),
    "sas_jax_plain": Implementation(
        "sas_jax, plain XLA", (), ("step",), ("cpu",), lambda task: _sas_jax(task, plain=True)
    ),
    "torch_float32": Implementation(
        "PyTorch, eager, float32",
        _PYTORCH,
        _THEIRS,
        ("cpu",),
        lambda task: _torch(task._replace(dtype="float32"), compiled=False),
    ),
    "torch": Implementation(
        "PyTorch, eager", _PYTORCH, _THEIRS, ("cpu", "gpu"), lambda task: _torch(task, compiled=False)
    ),
    "torch_compile": Implementation(
        "PyTorch, torch.compile", _PYTORCH, _THEIRS, ("cpu", "gpu"), lambda task: _torch(task, compiled=True)
    ),
}
"""By name, sas_jax first."""


def measure(name: str, task: Task) -> dict[str, Any]:
    """Measures one implementation on one case, and returns the record for `training.py`."""
    implementation = IMPLEMENTATIONS[name]
    try:
        found = implementation.measure(task)
    except ImportError as error:
        if not implementation.packages:
            raise
        return {"status": "skipped", "reason": f"cannot be imported: {error}"}
    versions = {package: importlib.metadata.version(package) for package in implementation.packages}
    return {"status": "measured", "versions": versions} | found


def read_case(described: dict[str, Any]) -> Case:
    """Returns a case from the output of dataclasses.asdict."""
    return Case(**described | {"network": Network(**described["network"])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="file for the result")
    parser.add_argument("implementation", choices=list(IMPLEMENTATIONS))
    parser.add_argument("case", type=json.loads, help="a case as json")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    task = Task(read_case(options.case), options.backend, options.dtype, options.profile)
    options.file.write_text(json.dumps(measure(options.implementation, task)))


def write_case(case: Case) -> str:
    """Returns a case as json, to be read by `read_case`."""
    return json.dumps(dataclasses.asdict(case))


if __name__ == "__main__":
    main()
