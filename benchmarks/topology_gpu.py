"""Compiles a run's programs for GPUs without having them, and counts their kernels and bytes.

    make test-gpu  # sets up .venv-gpu
    JAX_PLATFORMS=cpu .venv-gpu/bin/python -m benchmarks.topology_gpu --texts=/tmp/hlo

This writes docs/results/gpu-topology.json and the tables of docs/gpu.md. No GPU is needed and nothing runs: the time is
a lower bound, not a measurement. Programs are compiled without autotuning, which would run kernels: a real GPU may use
other kernels for matrix products. The programs' texts are stored in --texts and reused.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import os
import time
from pathlib import Path
from typing import Any

from jax.experimental import topologies
from jax.sharding import Mesh

from benchmarks import hlo, tables, topology
from benchmarks.topology import CIFAR, IMAGENET, ROOT, Case
from benchmarks.topology_stages import Stage, of_gpu
from sas_jax import devices, environment

COMMAND = "python -m benchmarks.topology_gpu"
GOALS = {"resnet18-32": 1024 / 40_000}
"""Target seconds per step on one GPU, by case: 40,000 views per second for ResNet-18."""


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU, from its maker's data sheet and XLA's description of it, looked up 2026-11.

    Attributes:
        name: as reported by the driver.
        memory: bytes.
        bandwidth: peak bytes per second between the GPU and its memory.
        bf16: peak operations per second of matrix products in bfloat16.
        float32: the same in float32.
    """

    name: str
    memory: int
    bandwidth: float
    bf16: float
    float32: float

    def describe(self) -> str:
        """Describes the card to XLA's compiler, as protocol buffer text; both are Hopper GPUs of 132 cores."""
        return f"""
            gpu_device_info {{
              cuda_compute_capability {{ major: 9 }}
              core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
              threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
              block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
              registers_per_core_limit: 65536 registers_per_block_limit: 65536
              shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
              l2_cache_size: 52428800
              device_memory_size: {self.memory} memory_bandwidth: {self.bandwidth:.0f}
            }}
            platform_name: "CUDA"
            dnn_version_info {{ major: 9 minor: 12 }}
            device_description_str: "{self.name}"
        """


H100 = Card("NVIDIA H100 80GB HBM3", 85 * 10**9, 3.35e12, 989e12, 67e12)
H200 = Card("NVIDIA H200", 150 * 10**9, 4.8e12, 989e12, 67e12)


@dataclasses.dataclass(frozen=True)
class Topology:
    """GPUs of one host."""

    card: Card
    gpus: int


TOPOLOGIES = {"1 H100": Topology(H100, 1), "8 H100": Topology(H100, 8), "1 H200": Topology(H200, 1)}
IMAGES_OF_A_GPU = 256  # of 224 pixels, per step


def cases(gpus: int) -> tuple[Case, ...]:
    """Returns the training steps: the batch of small images is fixed, that of large ones grows with the GPUs."""
    large = dataclasses.replace(IMAGENET, batch=IMAGES_OF_A_GPU * gpus)
    return CIFAR, large, dataclasses.replace(large, name=f"{large.name}-remat", remat=True)


STAGES = of_gpu()


def mesh(name: str) -> Mesh:
    """Returns a mesh of a topology's GPUs, which need not be present."""
    found = TOPOLOGIES[name]
    _set_flags()
    described = topologies.get_topology_desc(
        name, "cuda", target_config=found.card.describe(), topology=f"1x1x{found.gpus}"
    )
    return topologies.make_mesh(described, (found.gpus,), (devices.AXIS,))


def _set_flags() -> None:
    """Sets XLA's flags to compile without a GPU: no autotuning (it runs kernels), and CUDA's compiler from a wheel."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_cuda_data_dir" not in flags:
        (wheels,) = importlib.util.find_spec("nvidia").submodule_search_locations  # type: ignore[union-attr, misc]
        flags = f"{flags} --xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={wheels}/cu13"
        os.environ["XLA_FLAGS"] = flags.strip()


def measure(case: Case | Stage, name: str, texts: Path | None) -> dict[str, Any]:
    """Compiles a training step or another stage for a topology, and counts its work."""
    text, memory = compiled(case, name, texts)
    kernels = hlo.Program(text).kernels()
    found: dict[str, Any] = {"memory": memory, "exchanged": hlo.exchanged(text)}
    if isinstance(case, Case) or case.counted:
        card = TOPOLOGIES[name].card
        speed = {"bf16": card.bf16, "f32": card.float32}
        found |= hlo.summary(kernels)
        found["floor_seconds"] = hlo.floor_seconds(kernels, bandwidth=card.bandwidth, speed=speed)
    return found


def compiled(case: Case | Stage, name: str, texts: Path | None) -> tuple[str, dict[str, int]]:
    """Returns a program's text and its memory on each GPU, read from `texts` or compiled and stored there."""
    kept = texts and _kept(case, name, texts)
    if kept and kept.exists():
        found = json.loads(kept.read_text())
        return found["text"], found["memory"]
    start = time.perf_counter()
    gpus = mesh(name)
    program: Any = topology.compile_step(case, gpus) if isinstance(case, Case) else topology.compile_stage(case, gpus)
    text, memory = program.as_text(), topology.memory(program)
    print(f"{case.name} for {name}: compiled in {time.perf_counter() - start:.0f} s", flush=True)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"text": text, "memory": memory}))
    return text, memory


def label(case: Case | Stage) -> str:
    """Describes a case in words."""
    if isinstance(case, Stage):
        return case.label.replace(" a chip", " a GPU").replace("one chip", "one GPU")
    return topology.label(case).replace("on the chip", "on the GPU")


def table(results: dict[str, Any]) -> str:
    """Returns the tables of a json, in Markdown."""
    found = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in results["compiler"].items())
    origin = (
        f"{results['date']}; Python {found['python']}, jax {found['versions']['jax']}, {versions}; "
        f"commit {found['commit']}; `{COMMAND}`."
    )
    parts = ("convolution", "product", "copy", "fusion")
    head = ("step", "GPUs", "images per GPU", "kernels", "GB moved", *(f"GB, {hlo.KINDS[part]}" for part in parts))
    head += ("layout copies", "10^12 operations", "MB exchanged", "GB in all", "floor, ms", "goal, ms")
    lines = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for name, case in results["cases"].items():
        for on, counted in case["on"].items():
            goal = f"{1e3 * GOALS[name]:.1f}" if name in GOALS and TOPOLOGIES[on].gpus == 1 else "-"
            lines.append(
                (
                    case["label"][on],
                    on,
                    str(case["batch"][on] // TOPOLOGIES[on].gpus),
                    *_work(counted, parts),
                    f"{sum(counted['exchanged'].values()) / 1e6:.3g}",
                    f"{counted['memory']['needed'] / 1e9:.3g}",
                    f"{1e3 * counted['floor_seconds']:.1f}",
                    goal,
                )
            )
    head = ("call of another stage", "GPUs", "GB in all", "kernels", "GB moved", "10^12 operations", "floor, ms")
    stages = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for stage in results["stages"].values():
        shown: set[str] = set()
        for on, counted in stage["on"].items():
            needed = f"{counted['memory']['needed'] / 1e9:.3g}"
            if "kernels" not in counted:
                if needed in shown:
                    continue  # as on the GPUs of a row before
                shown.add(needed)
            cells = ("-", "-", "-", "-")
            if "kernels" in counted:
                kernels, moved, *_, operations = _work(counted, ())
                cells = (kernels, moved, operations, f"{1e3 * counted['floor_seconds']:.1f}")
            stages.append((stage["label"], on, needed, *cells))
    return "\n\n".join([origin, *(tables.markdown(rows) for rows in (lines, stages) if len(rows) > 2)])


def _work(counted: dict[str, Any], parts: tuple[str, ...]) -> tuple[str, ...]:
    copies = (f"{counted['of']['copy']['kernels']}",) if parts else ()
    return (
        f"{counted['kernels']:,}",
        f"{counted['bytes'] / 1e9:.3g}",
        *(f"{counted['of'][part]['bytes'] / 1e9:.3g}" for part in parts),
        *copies,
        f"{counted['operations'] / 1e12:.3g}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "gpu-topology.json")
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "gpu.md", help="the page to insert the tables into"
    )
    parser.add_argument(
        "--texts", type=Path, help="folder for the programs' texts; existing ones are read, not compiled"
    )
    parser.add_argument("--only", default="", help="compile only these: parts of 'resnet18-32 on 1 H100', with commas")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {"cases": {}, "stages": {}}
    for name, gpus in TOPOLOGIES.items():
        for case in cases(gpus.gpus):
            row = found["cases"].setdefault(case.name, {"label": {}, "batch": {}, "on": {}})
            if wanted(case, name, options):
                row["label"][name], row["batch"][name] = label(case), case.batch
                row["on"][name] = measure(case, name, options.texts)
        for stage in STAGES:
            kept = found["stages"].setdefault(stage.name, {"label": label(stage), "on": {}})
            if wanted(stage, name, options):
                kept["on"][name] = measure(stage, name, options.texts)
    results = {
        "environment": environment.describe(),
        "compiler": {name: importlib.metadata.version(name) for name in ("jax-cuda13-pjrt", "nvidia-cudnn-cu13")},
        "date": datetime.date.today().isoformat(),
        **found,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    options.page.write_text(tables.insert(options.page.read_text(), options.output.stem, table(results)))


def wanted(case: Case | Stage, name: str, options: argparse.Namespace) -> bool:
    """Returns whether a case on a topology ("resnet18-32 on 1 H100") matches --only or is already compiled."""
    kept = options.texts is not None and _kept(case, name, options.texts).exists()
    return kept or any(part in f"{case.name} on {name}" for part in options.only.split(","))


def _kept(case: Case | Stage, name: str, texts: Path) -> Path:
    return texts / f"{case.name}-{name.replace(' ', '-')}.json"


if __name__ == "__main__":
    main()
