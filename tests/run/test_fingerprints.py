"""The stages that run again after a change of the config; tests/test_plan.py checks the fields one by one."""

import functools

import pytest

from configs import default
from sas_jax.latent_classes import METHODS
from sas_jax.run import fingerprints


@pytest.mark.parametrize(
    ("section", "stages"),
    [
        ("", {"proxy", "embed", "classes", "rank", "train/sas-0.20-s0", "train/random-0.20-s0"}),
        ("data", {"data", "proxy", "embed", "classes", "rank", "train/sas-0.20-s0", "train/random-0.20-s0"}),
        ("views", {"proxy", "embed", "classes", "rank", "train/sas-0.20-s0", "train/random-0.20-s0"}),
        ("proxy", {"proxy", "embed", "classes", "rank", "train/sas-0.20-s0"}),
        ("proxy.train", {"proxy", "embed", "classes", "rank", "train/sas-0.20-s0"}),
        ("embedding", {"embed", "classes", "rank", "train/sas-0.20-s0"}),
        ("latent_classes", {"classes", "rank", "train/sas-0.20-s0"}),
        ("selection", {"rank", "train/sas-0.20-s0"}),
        ("encoder", {"train/sas-0.20-s0", "train/random-0.20-s0"}),
        ("train", {"train/sas-0.20-s0", "train/random-0.20-s0"}),
        ("evaluation", {"evaluate/untrained", "evaluate/random-0.20-s0"}),
        ("runtime", set()),
    ],
)
def test_a_new_field_makes_anew_the_stages_that_read_its_section(section, stages):
    """A new field must change the fingerprints without further code: otherwise outdated results would be reused."""
    config = default.get_config()
    before = fingerprints.inputs(config)
    functools.reduce(lambda found, name: found[name], filter(None, section.split(".")), config).invented = 1
    after = fingerprints.inputs(config)
    changed = {stage for stage in after if before[stage] != after[stage]}
    assert stages <= changed
    assert stages or not changed


NUMBERS = {"num_classes": 3, "restarts": 2, "labelled_fraction": 0.5, "clip_batch_size": 9}
SET = {**NUMBERS, "class_names": ("a",), "prompts": ("{}",)}


@pytest.mark.parametrize("method", METHODS)
def test_latent_classes_depend_on_every_field_of_their_method(method):
    config = default.get_config()
    config.latent_classes.method = method
    if "clip_model" in METHODS[method].fields:
        config.latent_classes.embeddings = "clip"
    before = fingerprints.inputs(config)["classes"]
    for name in METHODS[method].fields:
        changed = config.copy_and_resolve_references()
        changed.latent_classes[name] = SET.get(name, "other")
        assert fingerprints.inputs(changed)["classes"] != before, name
    for name in set(config.latent_classes) - {"method", *METHODS[method].fields}:
        changed = config.copy_and_resolve_references()
        changed.latent_classes[name] = SET.get(name, "other")
        assert fingerprints.inputs(changed)["classes"] == before, name


def test_a_pretrained_network_in_a_file_is_known_by_the_file(tmp_path):
    config = default.get_config()
    config.latent_classes.embeddings = f"onnx/{tmp_path / 'm.onnx'}"
    (tmp_path / "m.onnx").write_bytes(b"1")
    before = fingerprints.inputs(config)
    (tmp_path / "m.onnx").write_bytes(b"12")
    after = fingerprints.inputs(config)
    assert before["classes"] != after["classes"]
    assert before["embed"] == after["embed"]


def test_a_folder_below_home_is_the_same_from_every_working_directory(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"a")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = default.get_config()
    config.data.folder = "~/images"
    here = fingerprints.train_images(config)
    monkeypatch.chdir("/")
    assert fingerprints.train_images(config) == here
    (tmp_path / "images/b.png").write_bytes(b"b")
    assert fingerprints.train_images(config) != here
