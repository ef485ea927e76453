"""Measures the memory per process when 1, 2 and 4 processes on this machine embed, cluster and rank together.

    python -m benchmarks.processes measure [--n=400_000 --classes=100]
    python -m benchmarks.processes write   # the table of docs/scaling.md

The stages are those between a proxy and a ranking, as in `python -m sas_jax.main --distributed`: each process makes its
part of the embeddings (random rows instead of a network's), and all write one file, find latent classes, and rank
within given ones. Each process has one device. All rankings must be the same. The memory is the process's own, without
pages of the mapped file. `measure` writes docs/results/processes.json.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.out_of_core import FEATURES, Peak, draw, origin, provenance
from benchmarks.topology import ROOT

PROCESSES = (1, 2, 4)
CLASS_SIZE = 1_000  # of the classes to rank within
OUTPUT = ROOT / "docs" / "results" / "processes.json"


def child(folder: Path, processes: int, place: int, address: str, n: int, classes: int) -> None:
    """Runs one process; prints its peak memory at the start and after each stage, and digests of its results."""
    import jax

    if processes > 1:
        jax.distributed.initialize(address, num_processes=processes, process_id=place)
    from etils import epath

    from sas_jax import devices, embedding, files, latent_classes, rank, settings
    from sas_jax.workdir import digest, write_array

    jax.block_until_ready(jax.numpy.zeros(1))
    peak, path, share = Peak(), epath.Path(folder / f"E-{processes}.npy"), -(-n // processes)
    peaks = {"start": peak.look()}
    rows = np.minimum(place * share + np.arange(share), n - 1)
    part = np.load(folder / "E.npy", mmap_mode="r")[rows]  # instead of a network's
    if processes == 1:
        write_array(path, part)
    else:
        embedding.write_parts(path, part, n)
    del part
    peaks["embeddings"] = peak.look()
    devices.wait_for_all("embeddings.npy is there")
    z, mesh = files.map_array(path), devices.mesh()
    labels = latent_classes.kmeans(
        settings.key(0), z, num_classes=classes, restarts=1, iterations=3, mesh=mesh if processes > 1 else None
    ).labels
    peaks["classes"] = peak.look()
    ranking = rank(z, np.load(folder / "classes.npy"), normalize=False, budget=n // 5, mesh=mesh)
    peaks["ranking"] = peak.look()
    print(json.dumps({"peaks": peaks, "classes": digest(labels), "ranking": digest(ranking.position)}))


def run(folder: Path, processes: int, n: int, classes: int) -> list[dict[str, Any]]:
    """Runs the processes and returns what each printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    common = [sys.executable, "-m", "benchmarks.processes", "child", f"--folder={folder}", f"--address={address}"]
    common += [f"--processes={processes}", f"--n={n}", f"--classes={classes}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        subprocess.Popen([*common, f"--place={place}"], stdout=subprocess.PIPE, text=True, env=environment)
        for place in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process failed; its error is above")
    return [json.loads(text.splitlines()[-1]) for text in said]


def measure(n: int, classes: int) -> dict[str, Any]:
    """Measures each number of processes on the same rows and, for the ranking, the same classes."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "E.npy", n, classes)
        np.save(folder / "classes.npy", np.random.default_rng(1).permutation(np.arange(n) % max(1, n // CLASS_SIZE)))
        for processes in PROCESSES:
            each = run(folder, processes, n, classes)
            peaks = [one["peaks"] for one in each]
            assert len({one["classes"] for one in each}) == 1
            found.append(
                {
                    "processes": processes,
                    "peaks": {stage: max(peak[stage] for peak in peaks) for stage in peaks[0]},
                    "classes": each[0]["classes"],
                    "ranking": sorted({one["ranking"] for one in each}),
                }
            )
            print(found[-1], flush=True)
    assert all(one["ranking"] == found[0]["ranking"] for one in found), "the rankings differ"
    return {
        **provenance(f"python -m benchmarks.processes measure --n={n} --classes={classes}"),
        "examples": n,
        "features": FEATURES,
        "num_classes": classes,
        "runs": found,
    }


def table(found: dict[str, Any]) -> str:
    """Returns the table of docs/scaling.md."""
    stages = list(found["runs"][0]["peaks"])
    head = ["processes", *("JAX started" if stage == "start" else stage for stage in stages)]
    lines = [head, ["---:"] * len(head)]
    lines += [
        [str(run["processes"]), *(f"{run['peaks'][stage] / 1e9:.2f} GB" for stage in stages)] for run in found["runs"]
    ]
    size = f"{found['examples']:,} x {found['features']} rows, {4 * found['examples'] * found['features'] / 1e9:.2f} GB"
    return (
        f"{origin(found)} {size}, into {found['num_classes']} classes. Largest memory of a process so far, after each "
        f"stage:\n\n{tables.markdown(lines)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "write", "child"))
    parser.add_argument("--n", type=int, default=400_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.action == "child":
        given = options.folder, options.processes, options.place, options.address, options.n, options.classes
        child(*given)
    elif options.action == "measure":
        options.output.write_text(json.dumps(measure(options.n, options.classes), indent=1) + "\n")
    else:
        page = ROOT / "docs" / "scaling.md"
        page.write_text(tables.insert(page.read_text(), "processes", table(json.loads(options.output.read_text()))))


if __name__ == "__main__":
    main()
