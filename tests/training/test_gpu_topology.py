"""The training step compiles for absent GPUs: cuDNN's convolutions, bfloat16, a sharded loss."""

import importlib.util
import json
import math

import pytest

from benchmarks import hlo, tables, topology_gpu
from benchmarks.topology import ROOT
from benchmarks.training_cases import Network, forward_flops

WHY = "jax-cuda13-plugin compiles this, which jax[cuda13] brings: make test-gpu"


@pytest.fixture(
    scope="module",
    params=[
        (case, name) for name in ("1 H100", "8 H100") for case in topology_gpu.cases(topology_gpu.TOPOLOGIES[name].gpus)
    ],
    ids=lambda pair: f"{pair[0].name}-{pair[1]}",
)
def compiled(request):
    """Returns a case, its topology, and its program's text, kernels and memory, compiled once for all tests."""
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        pytest.skip(WHY)
    case, name = request.param
    text, memory = topology_gpu.compiled(case, name, None)
    return case, topology_gpu.TOPOLOGIES[name], text, hlo.Program(text).kernels(), memory


def test_a_step_fits_a_gpu(compiled):
    case, found, _, _, memory = compiled
    images = (case.resident or case.batch // found.gpus) * case.size**2 * 3
    assert images < memory["arguments"] < memory["needed"] < found.card.memory
    if case.remat:  # without it 21 GB
        assert memory["needed"] < 10e9


def test_convolutions_are_those_of_cudnn_in_bfloat16(compiled):
    case, found, _, kernels, _ = compiled
    convolutions = [kernel for kernel in kernels if kernel.kind == "convolution"]
    layers = {18: 20, 50: 53}[case.depth]
    # Forward, for the kernel and, except for the first, for the input; with remat, the blocks once more.
    assert len(convolutions) >= 3 * layers - 1
    assert {kernel.dtype for kernel in convolutions} == {"bf16"}
    assert {kernel.results[0][0] for kernel in convolutions} == {"bf16"}
    in_network = [kernel for kernel in kernels if kernel.kind == "product" and "/head/" in kernel.origin]
    assert {kernel.dtype for kernel in in_network} <= {"bf16"}
    # As many operations as the network has on paper, except for borders.
    paper = 3 * forward_flops(Network(case.depth, 1.0, case.stem, case.size)) * 2 * case.batch / found.gpus
    assert 0.9 * paper < sum(kernel.operations for kernel in convolutions) < (1.6 if case.remat else 1.1) * paper


def test_the_loss_is_split_over_the_gpus(compiled):
    """A GPU compares its own views with all: no [2B, 2B] array exists, and no pixel leaves its GPU."""
    case, found, text, _, _ = compiled
    views = 2 * case.batch
    shapes = {shape for _, shape in hlo.arrays(text)}
    assert (views // found.gpus, views) in shapes
    exchanged = hlo.collectives(text)
    if found.gpus == 1:
        assert not exchanged
        return
    assert (views, views) not in shapes
    gathered = [(dtype, shape) for kind, dtype, shape in exchanged if kind == "all-gather"]
    assert {dtype for dtype, _ in gathered} == {"f32"}
    assert {math.prod(shape) for _, shape in gathered} == {views * 128}
    assert {kind for kind, _, _ in exchanged} <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_activations_are_written_in_bfloat16(compiled):
    """Except the max-pool's, stored beside the places of its maxima, and the last block's on small batches."""
    case, found, _, kernels, _ = compiled
    views = 2 * case.batch // found.gpus
    others = {18: {(4, 4, 512)}, 50: {(56, 56, 64), (7, 7, 512), (7, 7, 2048)}}[case.depth]
    wide = {
        shape
        for kernel in kernels
        for dtype, shape in kernel.results
        if dtype == "f32" and len(shape) == 4 and shape[0] == views and shape[1] > 3  # kernels are 3 x 3
    }
    assert {shape[1:] for shape in wide} <= others


# ---- without the plugin


@pytest.fixture
def results():
    return json.loads((ROOT / "docs" / "results" / "gpu-topology.json").read_text())


def test_page_shows_the_results_that_lie_beside_it(results):
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert tables.insert(page, "gpu-topology", topology_gpu.table(results)) == page, (
        f"docs/gpu.md does not show docs/results/gpu-topology.json: run {topology_gpu.COMMAND}"
    )


def test_results_are_of_known_cases_and_fit(results):
    found = 0
    for kind in ("cases", "stages"):
        for case in results[kind].values():
            for name, counted in case["on"].items():
                found += 1
                assert counted["memory"]["needed"] < topology_gpu.TOPOLOGIES[name].card.memory
    assert found
    for gpus in topology_gpu.TOPOLOGIES:
        kept, anew = (results["cases"][f"resnet50-224{name}"]["on"][gpus]["memory"] for name in ("", "-remat"))
        assert anew["needed"] < 0.5 * kept["needed"], gpus
    small = results["cases"]["resnet18-32"]
    assert small["on"]["1 H100"]["floor_seconds"] < topology_gpu.GOALS["resnet18-32"]


def test_a_card_is_described_by_its_own_numbers():
    for card in (topology_gpu.H100, topology_gpu.H200):
        described = card.describe()
        assert f"device_memory_size: {card.memory}" in described
        assert f"memory_bandwidth: {int(card.bandwidth)}" in described
        assert card.name in described


@pytest.mark.parametrize("gpus", [1, 8])
def test_large_images_are_as_many_on_each_gpu(gpus):
    small, large, remat = topology_gpu.cases(gpus)
    assert (small.batch, large.batch, remat.batch) == (512, 256 * gpus, 256 * gpus)
    assert (large.remat, remat.remat) == (False, True)


def test_flags_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/mine")
    topology_gpu._set_flags()
    assert topology_gpu.os.environ["XLA_FLAGS"] == "--xla_gpu_cuda_data_dir=/mine"
