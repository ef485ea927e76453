"""results.json of every version is read, and its defects are named."""

import json
from pathlib import Path

import pytest

from sas_jax.results import schema

ACCURACY = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 360, "standard_error": 0.01}
SECTIONS = {"dataset": {"name": "digits"}, "latent_classes": {}, "selection": {}, "stages": {}}


def read(**arm):
    return schema.read(SECTIONS | {"arms": [{"name": "sas-0.20-s0"} | arm]}).arms[0]


def test_a_file_of_an_earlier_version_has_defaults():
    arm = read(selector=None, method=None, step_rule=None, probe_few=None)
    assert (arm.selector, arm.method, arm.step_rule, arm.partition) == ("untrained", "simclr", "epochs", "")
    assert (arm.probe, arm.probe_few, arm.geometry) == (None, {}, None)


def test_accuracies_have_names():
    arm = read(probe=ACCURACY, probe_few={"0.05": ACCURACY | {"value": 0.45}}, partition="labels")
    assert arm.accuracy("probe") == schema.Accuracy(value=0.5, low=0.4, high=0.6, n=360)
    assert arm.accuracy("probe_few/0.05").value == 0.45
    assert arm.accuracy("probe_few/0.5") is arm.accuracy("knn") is None
    assert arm.partition == "labels"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "results is not an object"),
        ({}, "results.dataset is missing"),
        (SECTIONS, "results.arms is missing"),
        (SECTIONS | {"arms": {}}, "results.arms is not a list"),
        (SECTIONS | {"arms": [None]}, "results.arms[0] is not an object"),
        (SECTIONS | {"arms": [{}]}, "results.arms[0].name is missing"),
        (SECTIONS | {"arms": [{"name": "a", "seed": -1}]}, "results.arms[0].seed is not a non-negative integer"),
        (
            SECTIONS | {"arms": [{"name": "a", "knn": {"value": 2}}]},
            "results.arms[0].knn.value is not a number from 0 to 1",
        ),
        (SECTIONS | {"arms": [{"name": "a", "knn": {"value": 1}}]}, "results.arms[0].knn.low is missing"),
        (SECTIONS | {"arms": [], "stages": {"rank": {"wall_seconds": 1e999}}}, "is not a finite number"),
    ],
)
def test_what_is_wrong_is_said(content, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        schema.read(content, "results")
    assert sentence in str(caught.value)


def test_a_run_that_stopped_early_has_empty_sections():
    results = schema.partial({"stages": {"data": {"wall_seconds": 1.0}}})
    assert results.arms == ()
    assert results.dataset.name is None
    assert results.stages["data"].wall_seconds == 1.0


@pytest.mark.parametrize("path", sorted(Path("docs/results").glob("compare-*.json")), ids=lambda path: path.stem)
def test_stored_comparisons_are_read(path):
    content = json.loads(path.read_text())["results"]
    assert len(schema.partial(content).arms) == len(content["arms"])
