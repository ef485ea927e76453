"""SimCLR's training step by sas_jax and by PyTorch on the same machine: views per second, utilisation, memory.

    python -m pip install -r benchmarks/requirements-training.txt
    python -m benchmarks.training --output=docs/results/training-cpu.json
    python -m benchmarks.plot docs/results/training-cpu.json

Implementations run one after the other, each in its own process; missing ones are skipped. Results are merged into an
existing output: --only=resnet18-32 measures these cases again and keeps the others. On a GPU or TPU the cases are
larger.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import training_cases, training_tables
from benchmarks.selection import ROOT, _start, _write
from benchmarks.training_cases import Case
from benchmarks.training_measure import IMPLEMENTATIONS, write_case


def main() -> None:
    options = _options()
    results = _start(options.output)
    results |= {"benchmark": "training", "command": shlex.join(["python", "-m", "benchmarks.training", *sys.argv[1:]])}
    backend = results["environment"]["backend"]
    cases = _chosen(options, backend)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            described = _describe(case)
            old = results["cases"].get(case.name, {})
            # Results of different work are dropped.
            same = {name: value for name, value in old.items() if name != "results"} == described
            results["cases"][case.name] = described | {"results": old["results"] if same else {}}
            for name in options.implementations:
                implementation = IMPLEMENTATIONS[name]
                if case.part not in implementation.parts or backend not in implementation.backends:
                    continue
                measured = results["cases"][case.name]["results"]
                measured.pop(name, None)  # and the dtype that an earlier run chose
                measured[name] = result = _run(case, name, backend, Path(folder), options, dtype=_dtype(results, case))
                _write(results, options.output)
                print(f"{case.name:36} {implementation.title:24} {_summary(result, case)}", flush=True)
                _print_profile(result)
    if any(result["status"] == "failed" for case in results["cases"].values() for result in case["results"].values()):
        sys.exit("Some measurements failed; see the reasons above and in the output.")


def _dtype(results: dict[str, Any], case: Case) -> str | None:
    """Returns the faster dtype of PyTorch for this network; None if it has not been tried."""
    network = dataclasses.asdict(case.network)
    for other in results["cases"].values():
        for result in other["results"].values():
            if other["network"] == network and "dtype_probe_seconds" in result:
                return result["dtype"]
    return None


def _run(
    case: Case, name: str, backend: str, folder: Path, options: argparse.Namespace, *, dtype: str | None = None
) -> dict[str, Any]:
    """Measures one implementation on one case."""
    peer = bool(IMPLEMENTATIONS[name].packages)
    output, log = folder / "result.json", folder / "log"
    output.unlink(missing_ok=True)
    command = [options.peer_python if peer else sys.executable, "-m", "benchmarks.training_measure"]
    command += [str(output), name, write_case(case), f"--backend={backend}"]
    if peer and dtype is not None:
        command.append(f"--dtype={dtype}")
    if options.profile and name == "sas_jax" and case.part == "augmented":
        command.append(f"--profile={options.profile.resolve()}")
    # A later case of the same network reuses the compiled programs: only new compilation is timed.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "JAX_TRACEBACK_FILTERING": "off",  # else the last line is a note on filtering, not the reason
    }
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    code = _call(command, environment, log, limit=options.limit)
    if code is None:
        return result | {"status": "stopped", "limit_seconds": options.limit}
    if code != 0 or not output.exists():
        lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        return result | {"status": "failed", "reason": f"exited with code {code}: {lines[-1]}"}
    return result | json.loads(output.read_text())


def _call(
    command: list[str], environment: dict[str, str], log: Path, *, limit: float, grace: float = 0.0
) -> int | None:
    """Runs a command and returns its exit code, or None if it exceeded the limit; kills its remaining child processes.

    It gets SIGTERM `grace` seconds before SIGKILL.
    """
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=errors, stderr=errors, start_new_session=True
        ) as child,
    ):
        try:
            return child.wait(timeout=limit - grace)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if grace and child.poll() is None:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=grace)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _describe(case: Case) -> dict[str, Any]:
    """Returns the description of a case for the output."""
    return dataclasses.asdict(case) | {"forward_flops_per_view": training_cases.forward_flops(case.network)}


def _summary(result: dict[str, Any], case: Case) -> str:
    if result["status"] == "stopped":
        return f"stopped after {result['limit_seconds']:g} s"
    if result["status"] != "measured":
        return f"{result['status']}: {result['reason']}"
    speeds = 2 * case.batch / np.array(result["seconds_per_step"])
    compiling = f"  {result['compile_seconds']:6.1f} s compiling" if "compile_seconds" in result else ""
    others = result["cores_used_by_others"] or 0.0
    disturbed = f"  others used {others:.1f} cores" if others > training_tables.QUIET else ""
    spread = f"({speeds.min():,.1f}-{speeds.max():,.1f})"
    return f"{np.median(speeds):10,.1f} views/s {spread:20} {result['dtype']:9}{compiling}{disturbed}"


def _print_profile(result: dict[str, Any]) -> None:
    for operation in result.get("profile", []):
        of = operation["origin"] or "of a layer that the program does not name"
        print(f"  {operation['share']:5.1%} of all operations' time: {operation['name']}, {operation['kind']}, {of}")


def _chosen(options: argparse.Namespace, backend: str) -> list[Case]:
    found = training_cases.quick() if options.quick else training_cases.standard(backend)
    chosen = [case for case in found if any(part in case.name for part in options.only.split(","))]
    if not chosen:
        names = ", ".join(case.name for case in found)
        sys.exit(f"--only must be contained in the name of a case, got {options.only}. The names are {names}.")
    if options.samples:
        chosen = [dataclasses.replace(case, samples=options.samples) for case in chosen]
    return chosen


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the json file to write, or to merge results into")
    parser.add_argument(
        "--only", default="", help="run only cases whose names contain one of these, separated by commas"
    )
    parser.add_argument("--implementations", default=",".join(IMPLEMENTATIONS), help="names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="run a tiny network, to check that everything works")
    parser.add_argument("--samples", type=int, help="number of groups of steps to time (default: that of each case)")
    parser.add_argument("--profile", type=Path, help="folder for traces of our steps; prints their largest operations")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a process is stopped")
    parser.add_argument("--peer_python", default=sys.executable, help="Python interpreter with PyTorch")
    options = parser.parse_args()
    options.implementations = options.implementations.split(",")
    for name in options.implementations:
        if name not in IMPLEMENTATIONS:
            parser.error(
                f"--implementations must be some of {', '.join(IMPLEMENTATIONS)}, got {name}. Correct the name."
            )
    if options.samples is not None and options.samples < 1:
        parser.error(f"--samples must be a whole number, 1 or more, got {options.samples}. Increase it.")
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the child process, too
    main()
