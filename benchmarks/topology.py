"""Compiles a run's programs for TPUs without having the chips, and reports their memory and work per chip.

The training steps are here, the stages around them in topology_stages.py.

    make test-tpu  # sets up .venv-tpu
    JAX_PLATFORMS=cpu .venv-tpu/bin/python -m benchmarks.topology

This writes docs/results/topology.json and the tables of docs/tables.md. It needs libtpu, which jax[tpu] installs, but
no chip. Nothing runs, so no step is timed.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding

from benchmarks import hlo, tables
from benchmarks.topology_stages import STAGES, Stage, host
from configs import default
from sas_jax import devices, environment, networks
from sas_jax.training.optimizer import Horizon
from sas_jax.training.step import Compiled, Trainer

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python -m benchmarks.topology"


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips, and the maker's data of each: https://docs.cloud.google.com/tpu/docs/v5e and v6e, looked up 2026-11."""

    chips: int
    hbm: int  # bytes per chip
    bf16: float  # peak operations per second and chip
    bandwidth: float  # peak bytes per second between a chip and its HBM


TOPOLOGIES = {
    "v5e:4x4": Topology(chips=16, hbm=16 * 10**9, bf16=197e12, bandwidth=819e9),
    "v6e:4x4": Topology(chips=16, hbm=32 * 10**9, bf16=918e12, bandwidth=1638e9),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One training step: the encoder, its images and how it is computed."""

    name: str
    depth: int
    stem: str
    size: int  # pixels
    batch: int  # images per step, over all chips
    resident: int = 0  # images on every chip; 0: each batch comes from the host
    blur: float = 0.0
    optimizer: str = "adam"
    remat: bool = False


CIFAR = Case("resnet18-32", depth=18, stem="3x3", size=32, batch=512, resident=50_000)
IMAGENET = Case("resnet50-224", depth=50, stem="7x7_pool", size=224, batch=4096, blur=0.5, optimizer="lars")
CASES = (CIFAR, IMAGENET, dataclasses.replace(IMAGENET, name="resnet50-224-remat", remat=True))


def mesh(name: str) -> Mesh:
    """Returns a mesh of a topology's chips, which need not be present."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # otherwise libtpu queries the network for its machine
    topology = topologies.get_topology_desc(name, platform="tpu")
    return topologies.make_mesh(topology, (TOPOLOGIES[name].chips,), (devices.AXIS,))


# The compiler's effort, from -1 to 1. At -1 a step compiles in a fifth of the time of the default, 0, and needs a
# little more memory (ResNet-50 with remat on v5e 8.73 GB instead of 8.71). At 0 and -0.5, libtpu 0.0.42.1 overflows
# its stack on ResNet-18 for v6e.
EFFORT = -1.0


@contextlib.contextmanager
def settings(mesh: Mesh) -> Iterator[None]:
    """Sets a TPU compiler's effort, and disables the cache: JAX cannot load programs compiled for absent devices."""
    wanted = {"jax_persistent_cache_min_compile_time_secs": float("inf")}
    if mesh.devices.flat[0].platform == "tpu":
        wanted["jax_exec_time_optimization_effort"] = EFFORT
    before = {name: jax.config.values[name] for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def trainer(case: Case, mesh: Mesh) -> Trainer:
    """Returns the trainer that the pipeline would make from a config with the case's fields."""
    config = default.get_config()
    config.data.image_size = case.size
    config.views.blur = case.blur
    config.compute_dtype = "bfloat16"
    config.encoder.update(depth=case.depth, stem=case.stem)
    config.train.update(batch_size=case.batch, optimizer=case.optimizer, remat=case.remat)
    return networks.make_trainer(config, config.encoder, config.train, mesh=mesh)


def abstract_state(case: Case, name: str) -> Any:
    """Returns the shapes and dtypes of the training state."""
    return trainer(case, mesh(name)).abstract_state


def compile_step(case: Case, mesh: Mesh) -> Compiled:
    """Compiles the case's program: a chunk of steps over resident images, or one step on a batch from the host.

    Raises:
        jax.errors.JaxRuntimeError: it does not fit a chip.
    """
    made = trainer(case, mesh)
    whole, split = devices.replicated(mesh), devices.batched(mesh)

    def array(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding = whole) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    state = made.abstract_state
    key = array((), jax.eval_shape(lambda: jax.random.key(0)).dtype)
    number: Any = array((), jnp.int32)
    horizon = Horizon(number, number, number)
    pixels = (case.size, case.size, 3)
    with settings(mesh):
        if case.resident:
            assert made.loop_on_device
            images, order = array((case.resident, *pixels), jnp.uint8), array((case.resident,), jnp.int32)
            return made.compile("resident_chunk", state, images, order, key, horizon, number)
        images, examples = array((case.batch, *pixels), jnp.uint8, split), array((case.batch,), jnp.int32, split)
        return made.compile("step", state, images, examples, key, horizon)


def compile_stage(stage: Stage, mesh: Mesh) -> Any:
    """Compiles a stage for the first host's chips.

    Raises:
        jax.errors.JaxRuntimeError: it does not fit a chip.
    """
    with settings(mesh):
        return stage.lower(stage, stage.get_config(), host(mesh)).compile()


def memory(compiled: Any) -> dict[str, int]:
    """Returns the bytes on each chip, by purpose, and the total needed at once."""
    found = compiled.memory_analysis()
    parts = {
        "arguments": found.argument_size_in_bytes,
        "results": found.output_size_in_bytes - found.alias_size_in_bytes,  # except those that alias arguments
        "temporaries": found.temp_size_in_bytes,
        "program": found.generated_code_size_in_bytes,
    }
    return parts | {"needed": max(sum(parts.values()), found.peak_memory_in_bytes)}


def work(compiled: Any) -> dict[str, float]:
    """Returns each chip's operations and bytes read and written in one step, as counted by the compiler."""
    found = compiled.cost_analysis()
    return {"operations": found["flops"], "bytes_accessed": found["bytes accessed"]}


def measure(case: Case | Stage, name: str) -> dict[str, Any]:
    """Compiles a training step or another stage for a topology, and reports its memory and work."""
    start = time.perf_counter()
    try:
        chips = mesh(name)
        compiled = compile_step(case, chips) if isinstance(case, Case) else compile_stage(case, chips)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found: dict[str, Any] = {"fits": False, "reason": _needs(str(error))}
    else:
        found = {"fits": True, "memory": memory(compiled)}
        if isinstance(case, Case) or case.counted:
            found |= work(compiled)
        found["exchanged"] = hlo.exchanged(compiled.as_text())  # type: ignore[attr-defined]
    return {"compile_seconds": round(time.perf_counter() - start, 1), **found}


def _needs(message: str) -> str:
    """Returns the compiler's sentence on the excess of memory."""
    return next((line.strip() for line in message.splitlines() if "Used" in line), message.splitlines()[0])[:200]


def table(results: dict[str, Any]) -> str:
    """Returns the tables of a json, in Markdown."""
    found = results["environment"]
    origin = (
        f"{results['date']}; Python {found['python']}, jax {found['versions']['jax']}, libtpu {results['libtpu']}, "
        f"effort {results['effort']:g}; commit {found['commit']}; `{COMMAND}`."
    )
    work_columns = ("10^12 operations", "GB moved", "MB exchanged")
    head = ("step", "chips", "images per chip", *PARTS.values(), "of HBM", *work_columns)
    lines = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for case in CASES:
        for name, topology in TOPOLOGIES.items():
            images = str(case.batch // topology.chips)
            lines.append((label(case), name, images, *_cells(topology, results["cases"][case.name]["on"][name])))
    head = ("call of another stage", "chips", *PARTS.values(), "of HBM", *work_columns)
    stages = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for stage in STAGES:
        for name, topology in TOPOLOGIES.items():
            stages.append((stage.label, name, *_cells(topology, results["stages"][stage.name]["on"][name])))
    return "\n\n".join([origin, tables.markdown(lines), tables.markdown(stages)])


PARTS = {
    "arguments": "inputs, MB",
    "temporaries": "temporaries, MB",
    "program": "program, MB",
    "needed": "total, MB",
}


def _cells(topology: Topology, found: dict[str, Any]) -> tuple[str, ...]:
    if not found["fits"]:
        return ("-", "-", "-", "does not fit", "-", "-", "-", "-")
    counted = ("-", "-")
    if "operations" in found:
        # The minimum time for the operations alone, and for moving all bytes to and from the chip's memory.
        arithmetic = 1e3 * found["operations"] / topology.bf16
        bandwidth = 1e3 * found["bytes_accessed"] / topology.bandwidth
        counted = (
            f"{found['operations'] / 1e12:.3g} ({arithmetic:.3g} ms)",
            f"{found['bytes_accessed'] / 1e9:.3g} ({bandwidth:.3g} ms)",
        )
    return (
        *(f"{found['memory'][part] / 1e6:,.0f}" for part in PARTS),
        f"{found['memory']['needed'] / topology.hbm:.0%}",
        *counted,
        f"{sum(found['exchanged'].values()) / 1e6:.3g}",
    )


def label(case: Case) -> str:
    """Describes a case in words."""
    source = f"{case.resident:,} images on the chip" if case.resident else "images streamed"
    parts = [f"ResNet-{case.depth}", f"{case.size} pixels", f"batch {case.batch:,}", case.optimizer, source]
    return ", ".join([*parts, *(["remat"] if case.remat else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "topology.json")
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "tables.md", help="the page to insert the tables into"
    )
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {"cases": {}, "stages": {}}
    for kind, programs in (("cases", CASES), ("stages", STAGES)):
        for program in programs:
            described = {name: value for name, value in vars(program).items() if not callable(value)}
            found[kind][program.name] = described | {"on": {}}
            for name in TOPOLOGIES:
                found[kind][program.name]["on"][name] = result = measure(program, name)
                print(f"{program.name} on {name}: {json.dumps(result)}", flush=True)
    results = {
        "environment": environment.describe(),
        "libtpu": importlib.metadata.version("libtpu"),
        "effort": EFFORT,
        "date": datetime.date.today().isoformat(),
        **found,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    options.page.write_text(tables.insert(options.page.read_text(), options.output.stem, table(results)))


if __name__ == "__main__":
    main()
