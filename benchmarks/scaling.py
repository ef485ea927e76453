"""Calculates the time of each stage, and what limits it, on 1, 16 and 256 chips and for 10^6 to 10^9 images.

    python -m benchmarks.scaling measure --images=FOLDER   # of JPEG files: what a CPU does of a run
    python -m benchmarks.scaling write                     # the table of docs/scaling.md

`measure` writes docs/results/scaling.json. `write` combines it with docs/results/topology.json (the compiler's counts)
and the makers' data of their chips. The table is calculated, without a chip; only its rows of selection were
measured, on a CPU. docs/scaling.md says what is counted, and in which direction it errs.
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.cases import Case, examples
from benchmarks.selection import processor
from benchmarks.topology import ROOT, TOPOLOGIES
from sas_jax.latent_classes.kmeans import block_rows
from sas_jax.results.numbers import plural

TOPOLOGY = "v5e:4x4"
EXAMPLES = (10**6, 10**8, 10**9)
CHIPS = (1, 16, 256)
FEATURES, CLASS_SIZE, RESTARTS, ITERATIONS, BATCH = 128, 1_000, 5, 100, 4096
ORIGINAL = (500, 375)
"""Average pixels of ImageNet's files; the measured files are enlarged to this size."""

PASSES = 6
"""Number of bfloat16 products in a float32 product at the highest precision."""


@dataclasses.dataclass(frozen=True)
class Host:
    """The interconnect of a v5e chip and its share of the host, in bytes per second and bytes.

    From https://docs.cloud.google.com/tpu/docs/v5e (the interconnect's 400 GB/s count both directions) and the machine
    type ct5lp-hightpu-4t (112 vCPUs and 192 GB for four chips), looked up 2026-11.
    """

    interconnect: float = 200e9
    vcpus: int = 28
    memory: float = 48e9


HOST = Host()


def training(n: int, chips: int, counted: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """Returns the seconds of one epoch of n images, by limit, from the encoder's compiled step (see `BATCH`)."""
    case = counted["cases"]["resnet50-224-remat"]
    found = case["on"][TOPOLOGY]
    an_image = {name: found[name] * TOPOLOGIES[TOPOLOGY].chips / case["batch"] for name in _COUNTS}
    batch = min(BATCH, chips * case["batch"] // TOPOLOGIES[TOPOLOGY].chips)
    # A ring all-reduce sends each byte nearly twice past each chip.
    sent = 2 * (chips - 1) / chips * sum(found["exchanged"].values())
    collectives = {"collectives": n / batch * sent / HOST.interconnect}
    return _of_images(n, chips, an_image, measured) | collectives


def embedding(n: int, chips: int, counted: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """Returns the seconds of embedding n images, by limit, from the compiled program of the proxy's views."""
    stage = counted["stages"]["embed-imagenet"]
    found = {name: stage["on"][TOPOLOGY][name] / stage["batch"] for name in _COUNTS}
    return _of_images(n, chips, found, measured)


def kmeans(n: int, chips: int, counted: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """Returns the seconds of k-means into classes of 1,000, by limit, for all restarts and iterations."""
    k, here = max(1, n // CLASS_SIZE), n / chips
    candidates = 2 + int(math.log(k))
    iteration = 2 * 2 * here * k * FEATURES  # a row's distances to all centres, and its part of all sums
    seeds = 2 * here * k * FEATURES * candidates
    # In bytes: a block of rows reads all centres, and reads and writes all sums; each seed is compared with all rows.
    rows, a_class = 4 * here * FEATURES, 4 * FEATURES
    moved = ITERATIONS * (rows + -(-here // block_rows(k, FEATURES)) * 3 * k * a_class) + k * rows
    # A ring sends twice the summed bytes: all classes in each iteration, the candidates for each seed.
    sent = 0 if chips == 1 else 2 * k * a_class * (ITERATIONS + candidates)
    return {
        "arithmetic": RESTARTS * PASSES * (ITERATIONS * iteration + seeds) / TOPOLOGIES[TOPOLOGY].bf16,
        "bandwidth": RESTARTS * moved / TOPOLOGIES[TOPOLOGY].bandwidth,
        "collectives": RESTARTS * sent / HOST.interconnect,
    }


def selection(n: int, chips: int, counted: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """Returns the seconds of the slower objective within classes of 1,000, measured on a CPU, over all hosts."""
    found = max(each["core_seconds"] / each["examples"] for each in measured["rank"])
    return {"measured": found * n / measured["cores"] / hosts(chips)}


def hosts(chips: int) -> int:
    """Returns the number of hosts, of four chips each."""
    return max(1, chips // 4)


_COUNTS = ("operations", "bytes_accessed")
Stage = Callable[[int, int, dict[str, Any], dict[str, Any]], dict[str, float]]
ROWS: tuple[tuple[str, str, int, Stage], ...] = (
    *(("train", f"train an epoch, {plural(chips, 'chip')}", chips, training) for chips in CHIPS),
    *(("embed", f"embed, {plural(chips, 'chip')}", chips, embedding) for chips in CHIPS),
    *(("classes", f"classes, {plural(chips, 'chip')}", chips, kmeans) for chips in CHIPS),
    *(("rank", f"rank, {plural(hosts(chips), 'CPU')} as measured", chips, selection) for chips in CHIPS),
)


def _of_images(n: int, chips: int, an_image: dict[str, float], measured: dict[str, Any]) -> dict[str, float]:
    chip = TOPOLOGIES[TOPOLOGY]
    return {
        "arithmetic": n * an_image["operations"] / chips / chip.bf16,
        "bandwidth": n * an_image["bytes_accessed"] / chips / chip.bandwidth,
        "host input": n / (chips * HOST.vcpus * measured["decode"]["images_per_core_second"]),
    }


def defect(stage: str, n: int, chips: int) -> str:
    """Returns the reason why a stage does not fit in memory; "" if it does."""
    rows = n * FEATURES * 4
    if stage == "classes" and 2 * rows / chips > TOPOLOGIES[TOPOLOGY].hbm:  # its rows and, temporarily, a copy
        return "rows exceed a chip"
    # A host has four chips, and holds its embeddings and, temporarily, a copy.
    if stage == "embed" and 2 * rows / hosts(chips) > min(chips, 4) * HOST.memory:
        return "rows exceed a host"
    return ""


def table(counted: dict[str, Any], measured: dict[str, Any]) -> str:
    """Returns the Markdown table of the two json files."""
    decode = measured["decode"]
    ranks = "; ".join(
        f"{each['objective']} {each['examples']:,} in {each['core_seconds']:.1f} s" for each in measured["rank"]
    )
    origin = (
        f"Measured: {measured['processor']}, {measured['cores']} cores, {measured['date']}; commit "
        f"{measured['environment']['commit']}; decoding {decode['images_per_core_second']:.0f} files of "
        f"{decode['pixels'][0]} x {decode['pixels'][1]} pixels ({decode['bytes_an_image'] / 1e3:.0f} kB) per "
        f"core-second; ranking within classes of {CLASS_SIZE:,}, in core-seconds: {ranks}. Counted: "
        f"docs/results/topology.json, {counted['date']}. `python -m benchmarks.scaling write`."
    )
    head = ["stage", *(f"10^{round(math.log10(n))} images" for n in EXAMPLES)]
    lines = [head, ["---", *["---:"] * len(EXAMPLES)]]
    for name, label, chips, stage in ROWS:
        cells = []
        for n in EXAMPLES:
            limit, seconds = max(stage(n, chips, counted, measured).items(), key=lambda found: found[1])
            why = defect(name, n, chips)
            cells.append(f"{duration(seconds)}, {limit}" + (f"; **{why}**" if why else ""))
        lines.append([label, *cells])
    return f"{origin}\n\n{tables.markdown(lines)}"


def duration(seconds: float) -> str:
    """Formats a time with two digits, in seconds, minutes, hours, days or years."""
    for unit, length in (("years", 365 * 86_400), ("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def measure(images: Path) -> dict[str, Any]:
    """Measures a run's work on the CPU: decoding files, and selection within classes."""
    import jax
    from PIL import Image

    from sas_jax import environment, rank
    from sas_jax.data.folder import read_folder
    from sas_jax.devices import mesh

    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:500]
        for number, path in enumerate(paths):
            with Image.open(path) as image:
                enlarged = image.convert("RGB").resize(ORIGINAL, Image.Resampling.BICUBIC)
            enlarged.save(Path(folder) / f"{number}.jpg", quality=95)
        size = float(np.mean([path.stat().st_size for path in Path(folder).iterdir()]))
        found = read_folder(folder, image_size=224, placement="stream")[0].images
        # Core-seconds, so that other processes matter little.
        start = time.process_time()
        for first in range(0, len(found), 64):
            found[np.arange(first, min(first + 64, len(found)))]
        spent = time.process_time() - start
    decode = {
        "images": len(found),
        "pixels": ORIGINAL,
        "bytes_an_image": size,
        "images_per_core_second": len(found) / spent,
    }
    devices = mesh(min(len(jax.devices()), os.cpu_count() or 1))
    ranks = []
    for objective in ("sas", "facility_location"):
        for n in (100_000, 200_000):
            z, classes = examples(Case("rank", objective, 1.0, (CLASS_SIZE,) * (n // CLASS_SIZE)))
            seconds = []
            for _ in range(4):
                start = time.process_time()
                rank(z, classes, objective=objective, mesh=devices)
                seconds.append(time.process_time() - start)
            ranks.append({"objective": objective, "examples": n, "core_seconds": float(np.median(seconds[1:]))})
    return {
        "environment": environment.describe(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "command": "python -m benchmarks.scaling measure --images=FOLDER",
        "decode": decode,
        "rank": ranks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "write"))
    parser.add_argument("--images", type=Path, help="for measure: a folder of JPEG files")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "scaling.md", help="the page to insert the table into"
    )
    options = parser.parse_args()
    output = options.results / "scaling.json"
    if options.action == "measure":
        if options.images is None:
            parser.error("--images must be given for measure, got none. Give a folder of JPEG files.")
        output.write_text(json.dumps(measure(options.images), indent=1) + "\n")
    else:
        counted = json.loads((options.results / "topology.json").read_text())
        text = table(counted, json.loads(output.read_text()))
        options.page.write_text(tables.insert(options.page.read_text(), output.stem, text))


if __name__ == "__main__":
    main()
