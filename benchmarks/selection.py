"""Greedy selection by sas_jax, apricot, submodlib, kmedoids and NumPy on the same similarities: time, memory, value.

    python -m pip install -r benchmarks/requirements.txt
    python -m benchmarks.selection --output=docs/results/selection-cpu.json
    python -m benchmarks.plot docs/results/selection-cpu.json

Implementations run one after the other, each in its own process; missing ones are skipped. Results are merged into an
existing output: --only=facility_location-5000 measures these cases again and keeps the others.
"""

import argparse
import datetime
import functools
import hashlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cases, numpy_greedy
from benchmarks.cases import Case
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.measure import read_task
from sas_jax import devices
from sas_jax.selection import budgets

ROOT = Path(__file__).resolve().parent.parent
VALUED_UP_TO = 100_000
"""Maximum examples without a matrix to evaluate the objective; for a million the n x n products take hours."""

OWN_LIMIT_SECONDS = 1800
"""Limit for sas_jax and NumPy, to which `--limit` does not apply; it only prevents endless hangs."""


def main() -> None:
    options = _options()
    results = _start(options.output)
    results["command"] = shlex.join(["python", "-m", "benchmarks.selection", *sys.argv[1:]])
    stopped: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for case in options.cases:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            described = _write_input(case, Path(folder))
            old = results["cases"].get(case.name, {})
            # Results on a different input are dropped.
            described["results"] = old["results"] if old.get("sha256") == described["sha256"] else {}
            results["cases"][case.name] = described
            for name in options.implementations:
                implementation = IMPLEMENTATIONS[name]
                if case.objective not in implementation.bytes_per_pair:
                    continue
                if name == "sas_jax_matrices" and (len(case.sizes) == 1 or len(set(case.sizes)) > 1):
                    continue  # sas_jax itself takes a single matrix; several must have one size
                work = (len(case.sizes), max(case.sizes), case.fraction)
                before = stopped.setdefault((name, case.objective), [])
                reason = _impossible(case, implementation, described["budgets"]) or _stopped_before(work, before)
                if reason:
                    result: dict[str, Any] = {"status": "skipped", "reason": reason}
                else:
                    result = _run(case, name, Path(folder), options)
                if result["status"] == "stopped":
                    before.append(work)
                described["results"][name] = result
                _write(results, options.output)
                print(f"{case.name:42} {implementation.title:30} {_summary(result)}", flush=True)
    if any(result["status"] == "failed" for case in results["cases"].values() for result in case["results"].values()):
        sys.exit("Some measurements failed; see the reasons above and in the output.")


def _run(case: Case, name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures one implementation, and the value of its picks."""
    implementation = IMPLEMENTATIONS[name]
    peer = implementation.package is not None
    python = options.peer_python if peer else sys.executable
    limit = options.limit if peer else OWN_LIMIT_SECONDS
    command = [python, "-m", "benchmarks.measure", str(folder), name]
    command += [f"--limit={limit}", f"--single_over={options.single_over}"]
    # By default JAX does not cache programs that compile in under a second.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    first_ever = None
    # If programs are compiled, a first process fills the cache, so that the next one's first call reads it.
    for runs in (0, options.runs) if implementation.compiles else (options.runs,):
        child = subprocess.run(
            [*command, f"--runs={runs}"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if child.returncode == -signal.SIGALRM:
            return result | {"status": "stopped", "limit_seconds": limit}
        if child.returncode != 0:
            lines = child.stderr.strip().splitlines() or ["no message"]
            return result | {"status": "failed", "reason": f"exited with code {child.returncode}: {lines[-1]}"}
        found = json.loads((folder / "result.json").read_text())
        if found["status"] != "measured":
            return result | found
        first_ever = found["cold_seconds"] if runs == 0 else first_ever
    return result | found | {"first_ever_seconds": first_ever} | _worth(case, name, folder)


def _worth(case: Case, name: str, folder: Path) -> dict[str, Any]:
    """Returns the objective's value of the picks, and for sas_jax their largest shortfall from the best candidate."""
    task = read_task(folder)
    with np.load(folder / "picks.npz") as file:
        picks = [file[key] for key in file.files]
    total, worst = 0.0, 0.0
    for c, (chosen, budget) in enumerate(zip(picks, task.budgets, strict=True)):
        n = case.sizes[c]
        if len(np.unique(chosen)) != budget or chosen.min() < 0 or chosen.max() >= n:
            return {"status": "failed", "reason": f"did not pick {budget} different examples of {n}"}
        if not task.matrices and n > VALUED_UP_TO:
            return {"value": None}
        if task.matrices:
            rows = task.matrices[c].__getitem__
        else:
            rows = functools.partial(cases.similarity_rows, task.embeddings)
        total += numpy_greedy.value(case.objective, rows, n, chosen)
        # Without matrices a replay takes as long as NumPy's greedy, whose value serves as a comparison.
        if name == "sas_jax" and task.matrices:
            worst = max(worst, numpy_greedy.shortfall(case.objective, rows, n, chosen))
    return {"value": total} | ({"largest_shortfall": worst} if name == "sas_jax" and task.matrices else {})


def _write_input(case: Case, folder: Path) -> dict[str, Any]:
    """Writes a case's input and returns its description."""
    z, classes = cases.examples(case)
    sizes = np.array(case.sizes)
    members = cases.members(classes)
    divided = budgets.divide(sizes, sizes, round(case.fraction * len(z))).tolist()
    np.save(folder / "embeddings.npy", z)
    np.save(folder / "classes.npy", classes)
    seconds = 0.0
    if case.given == "similarity":
        with (folder / "matrices.bin").open("wb") as file:
            for of in members:
                start = time.perf_counter()
                matrix = cases.similarity(z[of])
                seconds += time.perf_counter() - start
                cases.append_matrix(file, matrix)
    # As in `python -m sas_jax.select`; a single given matrix is read by one device.
    one_matrix = case.given == "similarity" and len(case.sizes) == 1
    cpu_devices = 1 if one_matrix else min(devices.cpu_count(), devices.MOST_CPU_DEVICES)
    described = {"objective": case.objective, "sizes": case.sizes, "budgets": divided, "devices": cpu_devices}
    (folder / "input.json").write_text(json.dumps(described))
    return {
        "objective": case.objective,
        "fraction": case.fraction,
        "given": case.given,
        "examples": len(z),
        "dimension": z.shape[1],
        "classes": len(sizes),
        "smallest_class": int(sizes.min()),
        "largest_class": int(sizes.max()),
        "budgets": divided,
        "cpu_devices": cpu_devices,
        "matrix_seconds": seconds if case.given == "similarity" else None,
        "sha256": hashlib.sha256(z.tobytes() + classes.tobytes()).hexdigest(),
    }


def _impossible(case: Case, implementation: Implementation, divided: list[int]) -> str | None:
    """Returns the reason why an implementation cannot run a case; None if it can."""
    largest = max(case.sizes)
    matrix = 4 * largest**2
    copy = implementation.bytes_per_pair[case.objective] * largest**2
    takes_matrix = implementation.package is not None
    if takes_matrix and case.given == "embeddings":
        return f"takes a matrix, which for {largest:,} examples has {_gigabytes(matrix)} in float32" + (
            f", and needs about {_gigabytes(copy)} more" if copy else ""
        )
    needed = matrix + copy if case.given == "similarity" else 0
    available = _memory("MemAvailable")
    if available is not None and needed > 0.8 * available:
        return f"needs about {_gigabytes(needed)}, but only {_gigabytes(available)} are free"
    return None


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:,.0f} GB" if number >= 1e10 else f"{number / 1e9:.2g} GB"


def _stopped_before(work: tuple[int, int, float], stopped: list[tuple[int, int, float]]) -> str | None:
    """Describes an earlier case that was stopped and is no larger in any respect; None if there is none."""
    for count, size, fraction in stopped:
        if count <= work[0] and size <= work[1] and fraction <= work[2]:
            return f"was already stopped for {count} x {size:,} examples and {fraction:.0%}"
    return None


def _start(output: Path) -> dict[str, Any]:
    """Returns the results so far, or an empty frame; exits if they are from other hardware."""
    # In another process, because querying the devices allocates most of a GPU's memory.
    script = "import json; from sas_jax import environment; print(json.dumps(environment.describe()))"
    described = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    environment = json.loads(described.stdout)
    hardware = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory("MemTotal"),
        "device": environment["devices"][0],
    }
    results = json.loads(output.read_text()) if output.exists() else {"hardware": hardware, "cases": {}}
    if results["hardware"] != hardware:
        sys.exit(
            f"--output must have results of this hardware ({hardware}), got {output} with those of other hardware "
            f"({results['hardware']}). Choose another --output, because one table must not mix times of two machines."
        )
    return results | {"environment": environment}


def processor() -> str:
    """Returns the model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory(key: str) -> int | None:
    """Returns MemTotal or MemAvailable in bytes; None without /proc."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def _write(results: dict[str, Any], output: Path) -> None:
    beside = output.with_name(output.name + ".new")
    beside.write_text(json.dumps(results, indent=1) + "\n")
    beside.replace(output)


def _summary(result: dict[str, Any]) -> str:
    if result["status"] == "stopped":
        return f"stopped after {result['limit_seconds']:g} s"
    if result["status"] != "measured":
        return f"{result['status']}: {result['reason']}"
    warm = f"{np.median(result['warm_seconds']):9.4f} s warm" if result["warm_seconds"] else "one run"
    value = "" if result["value"] is None else f"value {result['value']:.6f}"
    return f"{result['cold_seconds']:9.4f} s cold  {warm:16}  {value}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the json file to write, or to merge results into")
    parser.add_argument(
        "--only", default="", help="run only cases whose names contain one of these, separated by commas"
    )
    parser.add_argument("--implementations", default=",".join(IMPLEMENTATIONS), help="names, separated by commas")
    parser.add_argument("--sizes", default="", help="sizes of the single classes, separated by commas")
    parser.add_argument("--unpartitioned", default="", help="sizes of the classes without a matrix (default: 50,000)")
    parser.add_argument("--quick", action="store_true", help="run tiny cases, to check that everything works")
    parser.add_argument("--embeddings", help="a .npy of floats [n, d] to measure on instead; with --classes")
    parser.add_argument("--classes", help="a .npy of integers [n], the classes of --embeddings")
    parser.add_argument("--runs", type=int, default=5, help="number of warm calls")
    parser.add_argument("--single_over", type=float, default=30, help="skip warm calls if the first took more seconds")
    parser.add_argument("--limit", type=float, default=60, help="seconds after which a package's call is stopped")
    parser.add_argument("--peer_python", default=sys.executable, help="Python interpreter with the packages")
    parser.add_argument("--scratch", type=Path, help="folder for matrices of up to 1.6 GB (default: the system's)")
    options = parser.parse_args()
    options.implementations = options.implementations.split(",")
    for name in options.implementations:
        if name not in IMPLEMENTATIONS:
            parser.error(
                f"--implementations must be some of {', '.join(IMPLEMENTATIONS)}, got {name}. Correct the name."
            )
    for flag in ("sizes", "unpartitioned"):
        given = getattr(options, flag)
        parts = given.split(",") if given else []
        if not all(part.isdecimal() and int(part) >= 10 for part in parts):
            parser.error(f"--{flag} must be whole numbers of 10 or more, separated by commas, got {given}. Correct it.")
        setattr(options, flag, [int(part) for part in parts])
    if bool(options.embeddings) != bool(options.classes):
        parser.error("--embeddings and --classes must be given together, got only one of them. Give both.")
    if options.embeddings:
        found = cases.from_files(options.embeddings, options.classes)
    elif options.quick:
        found = cases.quick()
    else:
        found = cases.standard(options.sizes, options.unpartitioned)
    options.cases = [case for case in found if any(part in case.name for part in options.only.split(","))]
    if not options.cases:
        names = ", ".join(case.name for case in found)
        parser.error(f"--only must be contained in the name of a case, got {options.only}. The names are {names}.")
    return options


if __name__ == "__main__":
    main()
