"""The stages around training compile for the chips of an absent TPU host, and fit; what limits them."""

import importlib.util
import json

import jax
import pytest

from benchmarks import scaling, tables, topology
from benchmarks.topology_stages import STAGES


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu compiles this, which jax[tpu] brings: make test-tpu"
)
@pytest.mark.parametrize("name", topology.TOPOLOGIES)
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_fits_a_chip(stage, name):
    memory = topology.memory(topology.compile_stage(stage, topology.mesh(name)))
    assert memory["needed"] < topology.TOPOLOGIES[name].hbm
    config = stage.get_config()
    pixels = stage.batch * config.data.image_size**2 * 3
    # A chip holds its images, all rows to be divided, or the rows of its own classes, but never those of all classes.
    rows = stage.images if stage.name.startswith("classes") else stage.size
    assert memory["arguments"] >= pixels + 4 * rows * config.proxy.encoder.head_features
    if stage.size:
        assert memory["arguments"] < 4 * stage.images * config.proxy.encoder.head_features


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.config == "cifar100"], ids=lambda s: s.name)
def test_stages_are_lowered_as_the_pipeline_calls_them(stage):
    """For present devices, as many as a host has (four): the inputs and outputs."""
    config = stage.get_config()
    lowered = stage.lower(stage, config, tuple(jax.devices()[:4]))
    given, batch, features = lowered.as_text(), config.embedding.batch_size, config.proxy.encoder.head_features
    results = [leaf.shape for leaf in jax.tree.leaves(lowered.out_info)]
    kind = stage.name.split("-")[0]
    if kind == "embed":
        assert f"4x{batch}x32x32x3xui8" in given
        assert f"{config.embedding.views}x{batch}x32x32x3xf32" in given
        assert results == [(4, batch, features)]
    elif kind == "classes":
        assert f"{stage.images}x{features}xf32" in given
        assert results == [(stage.images,), (config.latent_classes.num_classes, features), ()]
    else:
        assert f"x{stage.size}x{features}xf32" in given
        ((classes, size), gains) = results
        assert (size, gains) == (stage.size, (classes, size))
        assert classes % 4 == 0


@pytest.fixture(scope="module")
def results():
    folder = topology.ROOT / "docs" / "results"
    return json.loads((folder / "topology.json").read_text()), json.loads((folder / "scaling.json").read_text())


def test_results_are_of_every_stage_and_fit(results):
    assert list(results[0]["stages"]) == [stage.name for stage in STAGES]
    for stage in STAGES:
        for name, chips in topology.TOPOLOGIES.items():
            found = results[0]["stages"][stage.name]["on"][name]
            assert found["fits"]
            assert found["memory"]["needed"] < chips.hbm
            assert ("operations" in found) == stage.counted


def test_page_shows_the_table_of_what_limits(results):
    page = (topology.ROOT / "docs" / "scaling.md").read_text()
    assert tables.insert(page, "scaling", scaling.table(*results)) == page, (
        "docs/scaling.md does not show docs/results: run python -m benchmarks.scaling write"
    )


def test_images_are_shared_by_the_chips_and_what_one_chip_does_is_not(results):
    for stage in (scaling.training, scaling.embedding):
        one, many = stage(10**6, 1, *results), stage(10**6, 16, *results)
        for limit in ("arithmetic", "bandwidth", "host input"):
            assert many[limit] == pytest.approx(one[limit] / 16)
        assert one.get("collectives", 0) == 0
    # With classes of a thousand, twice as many images mean twice as many classes.
    assert scaling.kmeans(2 * 10**6, 1, *results)["arithmetic"] > 3.9 * scaling.kmeans(10**6, 1, *results)["arithmetic"]
    assert scaling.selection(2 * 10**6, 1, *results)["measured"] == pytest.approx(
        2 * scaling.selection(10**6, 1, *results)["measured"]
    )


def test_what_cannot_be_done_is_said():
    assert scaling.defect("classes", 10**6, 1) == scaling.defect("rank", 10**6, 1) == ""
    assert scaling.defect("classes", 10**8, 1) == scaling.defect("classes", 10**9, 16) == "rows exceed a chip"
    assert scaling.defect("classes", 10**8, 16) == scaling.defect("rank", 10**9, 256) == ""
    assert scaling.defect("train", 10**9, 1) == ""
    assert scaling.defect("embed", 10**8, 16) == ""
    assert scaling.defect("embed", 10**8, 1) == scaling.defect("embed", 10**9, 16) == "rows exceed a host"
    assert scaling.defect("embed", 10**9, 256) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.56, "0.6 s"), (59, "59 s"), (150, "2.5 min"), (7200, "2.0 h"), (86_400 * 123, "120 days"), (4e9, "130 years")],
)
def test_durations_are_in_words(seconds, words):
    assert scaling.duration(seconds) == words
