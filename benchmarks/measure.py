"""Times one implementation on one case, in a process of its own: `python -m benchmarks.measure FOLDER NAME ...`.

`selection.py` starts this process, so that the first call is cold, the memory is the implementation's alone, and a call
that takes too long can be stopped inside C++.
"""

import argparse
import importlib.metadata
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import cases
from benchmarks.implementations import IMPLEMENTATIONS, Call, Task


def read_task(folder: Path) -> Task:
    """Reads the input that `selection.py` wrote into a folder."""
    described = json.loads((folder / "input.json").read_text())
    sizes, values = described["sizes"], np.empty(0, np.float32)
    path = folder / "matrices.bin"
    if path.exists():
        values = cases.aligned((path.stat().st_size // 4,))
        with path.open("rb") as file:
            file.readinto(values.view(np.uint8).data)
    return Task(
        described["objective"],
        np.load(folder / "embeddings.npy"),
        np.load(folder / "classes.npy"),
        described["budgets"],
        cases.split_matrices(values, sizes) if len(values) else [],
        described["devices"],
    )


def memory(key: str) -> int | None:
    """Returns this process's memory in bytes, the current one (VmRSS) or its peak (VmHWM); None without /proc (macOS).

    getrusage is not used, because its maximum starts at that of the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def timed(call: Call, limit: float) -> tuple[float, list[np.ndarray]]:
    """Returns seconds and picks of one call; after `limit` seconds SIGALRM ends the process."""
    signal.setitimer(signal.ITIMER_REAL, limit)
    start = time.perf_counter()
    picks = call()
    seconds = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    return seconds, picks


def measure(name: str, task: Task, *, runs: int, single_over: float, limit: float) -> tuple[dict, list[np.ndarray]]:
    """Times a first call, and `runs` more unless the first took over `single_over` seconds."""
    implementation = IMPLEMENTATIONS[name]
    start = time.perf_counter()
    call = implementation.prepare(task)
    preparing, before = time.perf_counter() - start, memory("VmRSS")
    cold, picks = timed(call, limit)
    warm = []
    if cold <= single_over:
        for _ in range(runs):
            seconds, again = timed(call, limit)
            if any((one != other).any() for one, other in zip(picks, again, strict=True)):
                raise RuntimeError("two runs on the same input made different picks")
            warm.append(seconds)
    result = {
        "status": "measured",
        "prepare_seconds": preparing,
        "cold_seconds": cold,
        "warm_seconds": warm,
        "memory_before_bytes": before,
        "memory_peak_bytes": memory("VmHWM"),
        "version": importlib.metadata.version(implementation.package) if implementation.package else None,
    }
    if "jax" in sys.modules:
        import jax

        result["devices"] = [device.device_kind for device in jax.devices()]
        statistics = jax.devices()[0].memory_stats()
        result["device_memory_peak_bytes"] = statistics["peak_bytes_in_use"] if statistics else None
    return result, picks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the input; the result is written to it")
    parser.add_argument("implementation", choices=list(IMPLEMENTATIONS))
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--single_over", type=float, required=True)
    parser.add_argument("--limit", type=float, required=True)
    options = parser.parse_args()
    try:
        result, picks = measure(
            options.implementation,
            read_task(options.folder),
            runs=options.runs,
            single_over=options.single_over,
            limit=options.limit,
        )
    except ImportError as error:
        if IMPLEMENTATIONS[options.implementation].package is None:
            raise
        result, picks = {"status": "skipped", "reason": f"cannot be imported: {error}"}, []
    np.savez(options.folder / "picks.npz", *picks)
    (options.folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
