"""The training step compiles for sixteen absent TPU chips: it fits, in bfloat16 and float32 as intended."""

import importlib.util
import json
import re

import jax
import pytest

from benchmarks import hlo, tables, topology


@pytest.fixture(
    scope="module",
    params=[(case, name) for name in topology.TOPOLOGIES for case in topology.CASES],
    ids=lambda pair: f"{pair[0].name}-{pair[1]}",
)
def compiled(request):
    """Returns a case, its topology's name, and its program, compiled once for all tests."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu compiles this, which jax[tpu] brings: make test-tpu")
    case, name = request.param
    return case, name, topology.compile_step(case, topology.mesh(name))


def test_a_step_fits_a_chip(compiled, capsys):
    case, name, program = compiled
    chips, memory = topology.TOPOLOGIES[name], topology.memory(program)
    with capsys.disabled():
        parts = ", ".join(f"{part} {size / 1e6:,.0f} MB" for part, size in memory.items())
        print(f"\n{topology.label(case)}, a chip of {name}: {parts}")
    assert memory["needed"] < chips.hbm
    # The inputs of a chip: the state, and the data set or its part of the batch; their bytes are not padded.
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(topology.abstract_state(case, name)))
    images = (case.resident or case.batch // chips.chips) * case.size**2 * 3
    assert state + images <= memory["arguments"] < 1.05 * (state + images)
    assert topology.work(program)["operations"] > 0


def products(text):
    """Yields, for each convolution (on TPUs, also for each product), its operation, dtypes and precision.

    The dtypes are those of its result and operands; the precision is whether it multiplies float32 in full.
    """
    dtypes = dict(re.findall(r"(%[\w.-]+) = \(?(\w+)\[", text))
    for line in text.splitlines():
        found = re.search(r"= (\w+)\[\S+ convolution\((%[\w.-]+), (%[\w.-]+)\).*op_name=\"([^\"]*)\"", line)
        if found:
            result, left, right, name = found.groups()
            yield name, (result, dtypes[left], dtypes[right]), "operand_precision={highest,highest}" in line


def test_the_network_computes_in_bfloat16_and_views_and_loss_in_float32(compiled):
    case, _, program = compiled
    text = program.as_text()
    found = list(products(text))
    assert len(found) == text.count(" convolution(")
    network = [dtypes for name, dtypes, _ in found if "/encoder/" in name or "/head/" in name]
    rest = [(dtypes, in_full) for name, dtypes, in_full in found if "/encoder/" not in name and "/head/" not in name]
    # Every convolution and the head's two layers: forward, for the kernel and, except for the first, for the input;
    # with remat, the blocks once more. If it is short of memory, the compiler recomputes a few more by itself.
    layers = {18: 20, 50: 53}[case.depth] + 2
    assert len(network) >= 3 * layers - 1 + (layers - 3 if case.remat else 0)
    assert set(network) == {("bf16", "bf16", "bf16")}
    assert len(rest) == 5  # the two passes of a crop; the cosines, and back to either side
    assert set(rest) == {(("f32", "f32", "f32"), True)}
    # Sums over the chips in bfloat16 are gradients of kernels; statistics and the loss are float32.
    low = [shape for _, dtype, shape in hlo.collectives(text) if dtype == "bf16"]
    assert low
    assert all(len(shape) in (2, 4) for shape in low)


def test_the_loss_is_split_over_the_chips(compiled):
    """A chip compares its own views with all: no [2B, 2B] array exists, and no pixel leaves its chip."""
    case, name, program = compiled
    chips, views = topology.TOPOLOGIES[name].chips, 2 * case.batch
    text = program.as_text()
    shapes = {shape for _, shape in hlo.arrays(text)}
    assert (views // chips, views) in shapes
    assert (views, views) not in shapes
    gathered = [(dtype, shape) for kind, dtype, shape in hlo.collectives(text) if kind == "all-gather"]
    assert gathered == [("f32", (views, 128))]
    assert {kind for kind, _, _ in hlo.collectives(text)} <= {"all-gather", "all-reduce", "reduce-scatter"}


# ---- without libtpu


@pytest.fixture
def results():
    path = topology.ROOT / "docs" / "results" / "topology.json"
    return json.loads(path.read_text())


def test_page_shows_the_results_that_lie_beside_it(results):
    page = (topology.ROOT / "docs" / "tables.md").read_text()
    assert tables.insert(page, "topology", topology.table(results)) == page, (
        f"docs/tables.md does not show docs/results/topology.json: run {topology.COMMAND} (its first lines say where)"
    )


def test_results_are_of_every_case_and_fit(results):
    assert list(results["cases"]) == [case.name for case in topology.CASES]
    for case in topology.CASES:
        for name, chips in topology.TOPOLOGIES.items():
            found = results["cases"][case.name]["on"][name]
            assert found["fits"]
            assert found["memory"]["needed"] < chips.hbm


def test_what_does_not_fit_says_so_in_the_table(results):
    results["cases"]["resnet50-224"]["on"]["v5e:4x4"] = {"fits": False, "reason": "too much"}
    rows = [line for line in topology.table(results).splitlines() if line.startswith("| ResNet-50")]
    assert ["does not fit" in row for row in rows] == [True, False, False, False]
    assert len({row.count("|") for row in rows}) == 1
