"""Embeddings larger than memory, into classes and a subset, under a limit of memory.

    python -m benchmarks.out_of_core measure --folder=FOLDER [--n=10_000_000 --classes=2000 --limit_gb=2]
    python -m benchmarks.out_of_core write   # the lines of docs/scaling.md

The first draws clustered unit rows into FOLDER, ranks them as `python -m sas_jax.select --kmeans` does in a process of
its own, and removes them. The limit is RLIMIT_DATA (`ulimit -d`) of that process: memory of its own, beyond which the
kernel gives none. Pages of the mapped file are the system's, which takes them back when it wants; they are not counted.
It writes docs/results/out-of-core.json.
"""

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.selection import processor
from benchmarks.topology import ROOT

FEATURES, FRACTION, BLOCK = 128, 0.2, 1 << 16
OUTPUT = ROOT / "docs" / "results" / "out-of-core.json"


def draw(path: Path, n: int, classes: int) -> None:
    """Writes float32 [n, FEATURES]: unit rows around as many centres as there will be classes."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, FEATURES)).astype(np.float32)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, FEATURES))
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        rows = centres[rng.integers(classes, size=size)] + rng.standard_normal((size, FEATURES), np.float32)
        file[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    file.flush()


class Peak:
    """The largest memory of this process's own, looked at several times a second."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(0.02)

    def look(self) -> int:
        """The largest so far."""
        lines = Path("/proc/self/status").read_text().splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
        self.bytes = max(self.bytes, 1024 * own)
        return self.bytes


def child(folder: Path, classes: int, limit: int) -> None:
    """Ranks under the limit; the last line that is printed is what was measured."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from sas_jax import devices, rank_file

    devices.split_cpu_by_cores()  # as the command does
    peak, began, cluster, seconds = Peak(), time.perf_counter(), rank_file.cluster, {}

    def timed(*arguments: Any, **options: Any) -> np.ndarray:
        start = time.perf_counter()
        found = cluster(*arguments, **options)
        seconds["kmeans"] = time.perf_counter() - start
        print(f"{classes:,} classes in {seconds['kmeans']:.0f} s, at most {peak.bytes / 1e9:.2f} GB so far", flush=True)
        return found

    rank_file.cluster = timed
    print(rank_file.rank_file(str(folder / "E.npy"), str(folder / "r.parquet"), kmeans=classes, fraction=FRACTION))
    seconds["all"] = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_bytes": peak.bytes}))


def provenance(command: str) -> dict[str, Any]:
    """On what, when and by which command something was measured."""
    from sas_jax import environment

    return {
        "environment": environment.describe(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "command": command,
    }


def origin(found: dict[str, Any]) -> str:
    """Returns the sentences above a table: what `provenance` recorded."""
    return (
        f"Measured: {found['processor']}, {found['cores']} cores, {found['date']}; commit "
        f"{found['environment']['commit']}. `{found['command']}`."
    )


def measure(folder: Path, n: int, classes: int, limit: int) -> dict[str, Any]:
    """Draws, ranks and removes."""
    path = folder / "E.npy"
    draw(path, n, classes)
    size = path.stat().st_size
    command = [sys.executable, "-m", "benchmarks.out_of_core", "child", f"--folder={folder}"]
    try:
        with subprocess.Popen(
            [*command, f"--classes={classes}", f"--limit_gb={limit / 1e9}"], stdout=subprocess.PIPE, text=True
        ) as process:
            lines = []
            for line in process.stdout or ():
                lines.append(line)
                print(line, end="", flush=True)
        if process.returncode:
            raise SystemExit(f"the measurement exited with code {process.returncode}")
    finally:
        for name in ("E.npy", "r.parquet", "r.parquet.partial"):
            (folder / name).unlink(missing_ok=True)
    return {
        **provenance(
            f"python -m benchmarks.out_of_core measure --n={n} --classes={classes} --limit_gb={limit / 1e9:g}"
        ),
        "examples": n,
        "features": FEATURES,
        "classes": classes,
        "fraction": FRACTION,
        "file_bytes": size,
        "limit_bytes": limit,
        **json.loads(lines[-1]),
    }


def table(found: dict[str, Any]) -> str:
    """What the json says, in Markdown."""
    cells = {
        "examples": f"{found['examples']:,} x {found['features']}",
        "file": f"{found['file_bytes'] / 1e9:.1f} GB",
        "memory limit": f"{found['limit_bytes'] / 1e9:g} GB",
        "largest memory": f"{found['peak_bytes'] / 1e9:.2f} GB",
        "classes": f"{found['classes']:,}",
        "k-means": f"{found['seconds']['kmeans'] / 60:.1f} min",
        f"k-means and ranking of {found['fraction']:.0%}": f"{found['seconds']['all'] / 60:.1f} min",
    }
    return f"{origin(found)}\n\n{tables.markdown([cells, ['---:'] * len(cells), cells.values()])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "write", "child"))
    parser.add_argument("--folder", type=Path, help="for measure: a folder on a disk with n x 512 bytes of free space")
    parser.add_argument("--n", type=int, default=10_000_000)
    parser.add_argument("--classes", type=int, default=2_000)
    parser.add_argument("--limit_gb", type=float, default=2.0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    limit = int(options.limit_gb * 1e9)
    if options.action == "child":
        child(options.folder, options.classes, limit)
    elif options.action == "measure":
        found = measure(options.folder, options.n, options.classes, limit)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    else:
        page = ROOT / "docs" / "scaling.md"
        page.write_text(tables.insert(page.read_text(), "out-of-core", table(json.loads(options.output.read_text()))))


if __name__ == "__main__":
    main()
