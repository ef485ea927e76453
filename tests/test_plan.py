"""The stages that depend on each field of the config."""

import dataclasses

import pytest

from configs import (
    cifar10,
    cifar100,
    compare_cifar100,
    compare_cifar100_quarter,
    compare_cifar100_small,
    compare_digits,
    default,
    digits,
    image_folder,
)
from sas_jax import config_checks, plan
from sas_jax.errors import InputError
from sas_jax.run import fingerprints
from sas_jax.views import Views


@pytest.mark.parametrize("module", [default, digits, cifar10, cifar100, image_folder])
def test_every_config_can_be_used(module):
    config = module.get_config()
    config_checks.check(config)
    assert [arm.name for arm in plan.arms(config)] == ["sas-0.20-s0", "random-0.20-s0", "full-1.00-s0"]


@pytest.mark.parametrize(
    ("module", "number"), [(compare_cifar100, 49), (compare_cifar100_small, 33), (compare_digits, 222)]
)
def test_every_comparison_can_be_used(module, number):
    config = module.get_config()
    config_checks.check(config)
    arms = plan.arms(config)
    assert len(arms) == number
    assert {arm.method for arm in arms} == {"simclr", "byol", "simsiam", "moco"}
    assert {arm.step_rule for arm in arms} == {"epochs", "steps"}
    for arm in arms:  # each chosen subset has a random one of the same size, trained in the same way
        rival = plan.Arm("random", arm.fraction, arm.seed, arm.method, arm.step_rule)
        assert arm.fraction == 1 or rival in arms


def test_the_comparison_of_partitions_can_be_used():
    config = compare_cifar100_quarter.get_config("E.npy")
    config_checks.check(config)
    arms = plan.arms(config)
    assert {arm.partition for arm in arms} == {"", *plan.partitions(config)}
    assert plan.in_partition(config, "pretrained100").latent_classes.embeddings == "E.npy"
    for arm in arms[:10]:  # the first pair, seed by seed
        assert (arm.selector, arm.partition) in (("random", ""), ("sas", "pretrained100"))


def changed(**overrides):
    """Returns the stages whose inputs a change of these fields changes."""
    config = default.get_config()
    before = fingerprints.inputs(config)
    config.update_from_flattened_dict(overrides)
    after = fingerprints.inputs(config)
    return {stage for stage in after if before.get(stage) != after[stage]}


ALL_ARMS = {
    f"{kind}/{arm}" for kind in ("train", "evaluate") for arm in ("sas-0.20-s0", "random-0.20-s0", "full-1.00-s0")
}
SELECTED = {"train/sas-0.20-s0", "evaluate/sas-0.20-s0"}
EVALUATED = {stage for stage in ALL_ARMS if stage.startswith("evaluate")} | {"evaluate/untrained"}


@pytest.mark.parametrize(
    ("field", "value", "stages"),
    [
        ("proxy.train.epochs", 3, {"proxy", "embed", "classes", "rank"} | SELECTED),
        ("embedding.views", 9, {"embed", "classes", "rank"} | SELECTED),
        ("embedding.batch_size", 9, set()),
        ("latent_classes.num_classes", 3, {"classes", "rank"} | SELECTED),
        ("latent_classes.labelled_fraction", 0.1, set()),
        ("latent_classes.clip_batch_size", 1, set()),
        ("selection.self_similarity", 0.0, {"rank"} | SELECTED),
        ("selection.file_order", "ids", set()),
        ("train.epochs", 3, ALL_ARMS),
        ("methods.byol.learning_rate", 3.0, set()),
        ("method", "byol", {f"{kind}-byol" for kind in ALL_ARMS}),
        ("encoder.width", 0.5, ALL_ARMS | {"evaluate/untrained"}),
        ("evaluation.probe_l2", 1.0, EVALUATED),
        ("runtime.keep_checkpoints", 3, set()),
        ("evaluation.batch_size", 3, set()),
        ("selection.tau", 3.0, set()),
        ("data.test_split", "train", EVALUATED | {"data"}),
        ("data.mean", (0.1, 0.1, 0.1), {"data", "proxy", "embed", "classes", "rank", "evaluate/untrained"} | ALL_ARMS),
        ("arms", (("selected", 0.3, 0), ("random", 0.2, 0)), {"train/sas-0.30-s0", "evaluate/sas-0.30-s0"}),
    ],
)
def test_a_field_makes_anew_what_depends_on_it_and_nothing_else(field, value, stages):
    assert changed(**{field: value}) == stages


def test_the_seed_and_the_data_make_everything_anew():
    everything = set(fingerprints.inputs(default.get_config()))
    assert changed(seed=1) == everything - {"data"}
    assert changed(**{"data.image_size": 16}) == everything
    assert changed(**{"data.classes": ("1", "2")}) == everything


@pytest.mark.parametrize(
    ("method", "field", "value", "matters"),
    [
        ("kmeans", "embeddings", "clip", True),
        ("kmeans", "embeddings", "timm/resnet18", True),
        ("few_labels", "labelled_fraction", 0.1, True),
        ("few_labels", "labels_file", "few.csv", True),
        ("few_labels", "num_classes", 3, False),
        ("few_labels", "clip_model", "other", False),
        ("clip_zeroshot", "clip_model", "other", True),
        ("clip_zeroshot", "prompts", ("a {}",), True),
        ("clip_zeroshot", "class_names", ("a",), True),
        ("labels", "restarts", 2, False),
    ],
)
def test_what_a_method_looks_at_makes_the_classes_anew(method, field, value, matters):
    config = default.get_config()
    config.latent_classes.method = method
    before = fingerprints.inputs(config)["classes"]
    config.latent_classes[field] = value
    assert (fingerprints.inputs(config)["classes"] != before) == matters


def test_an_arm_of_another_objective_has_its_own_ranking():
    config = default.get_config()
    config.arms = (("selected", 0.2, 0), ("facility_location", 0.125, 3))
    assert plan.ranked(config) == (("sas", ""), ("facility_location", ""))
    assert "rank/facility_location" in fingerprints.inputs(config)
    assert plan.arms(config)[1].name == "facility_location-0.125-s3"


def test_a_methods_own_fields_make_only_its_arms_anew():
    config = default.get_config()
    config.arms = (("random", 0.2, 0), ("random", 0.2, 0, "byol"), ("random", 0.2, 0, "simclr", "steps"))
    assert [arm.name for arm in plan.arms(config)] == ["random-0.20-s0", "random-0.20-s0-byol", "random-0.20-s0-steps"]
    before = fingerprints.inputs(config)
    config.methods.byol.momentum = 0.5
    after = fingerprints.inputs(config)
    assert {stage for stage in after if before[stage] != after[stage]} == {
        "train/random-0.20-s0-byol",
        "evaluate/random-0.20-s0-byol",
    }
    assert plan.training(config, "byol").optimizer == "sgd"
    assert plan.training(config, "byol").epochs == config.train.epochs
    assert plan.training(config, "simclr") == config.train


def test_supervised_training_is_asked_for_by_fraction_and_once_a_subset():
    config = default.get_config()
    config.arms = (
        ("random", 0.2, 0),
        ("random", 0.4, 0),
        ("random", 0.2, 0, "byol"),
        ("random", 0.2, 0, "simclr", "steps"),
    )
    config.evaluation.supervised_fractions = (0.2,)
    assert [s for s in fingerprints.inputs(config) if s.startswith("supervised")] == ["supervised/random-0.20-s0"]
    config.method = "byol"  # also the method of arms that name none
    config.arms = (("random", 0.2, 0), ("random", 0.2, 0, "simclr"))
    found = [stage for stage in fingerprints.inputs(config) if stage.startswith("supervised")]
    assert found == ["supervised/random-0.20-s0-byol"]


def test_the_views_section_has_the_fields_of_views():
    assert set(default.get_config().views) == {f.name for f in dataclasses.fields(Views)} - {"size", "mean", "std"}


def partitioned():
    config = default.get_config()
    config.partitions = {"truth": {"method": "labels"}, "fine": {"num_classes": 50, "budgets": "balanced"}}
    config.arms = (("selected@truth", 0.2, 0), ("sas@fine", 0.2, 0), ("random_balanced@fine", 0.2, 1), ("sas", 0.2, 0))
    return config


def test_arms_name_the_partition_that_they_rank_within():
    config = partitioned()
    config_checks.check(config)
    names = [arm.name for arm in plan.arms(config)]
    assert names == ["sas@truth-0.20-s0", "sas@fine-0.20-s0", "random_balanced@fine-0.20-s1", "sas-0.20-s0"]
    assert {"classes", "classes/truth", "classes/fine", "rank", "rank/sas@truth", "rank/sas@fine"} <= set(
        fingerprints.inputs(config)
    )
    fine = plan.in_partition(config, "fine")
    assert (fine.latent_classes.num_classes, fine.latent_classes.method) == (50, "kmeans")
    assert (fine.selection.budgets, config.selection.budgets) == ("balanced", "proportional")


@pytest.mark.parametrize(
    ("field", "value", "stages"),
    [
        ("partitions.fine.num_classes", 60, {"classes/fine", "rank/sas@fine"}),
        ("partitions.fine.budgets", "proportional", set()),
        ("latent_classes.restarts", 6, {"classes", "classes/fine", "rank", "rank/sas@fine"}),
    ],
)
def test_a_field_of_a_partition_makes_anew_what_is_within_it(field, value, stages):
    config = partitioned()
    before = fingerprints.inputs(config)
    config.update_from_flattened_dict({field: value})
    after = fingerprints.inputs(config)
    changed = {stage for stage in after if before[stage] != after[stage]}
    assert {stage for stage in changed if not stage.startswith(("train", "evaluate"))} == stages
    assert {stage for stage in changed if stage.startswith("train")} == {
        f"train/{arm}"
        for arm, within in (("sas@fine-0.20-s0", "fine"), ("random_balanced@fine-0.20-s1", "fine"), ("sas-0.20-s0", ""))
        if plan.classes_stage(within) in stages or (within and field.endswith("budgets"))
    }


def test_a_name_of_an_arm_that_is_as_it_was_keeps_what_was_trained():
    """Stages of runs of an earlier version, which had neither partitions nor budgets, are not run again."""
    config = default.get_config()
    now = fingerprints.inputs(config)
    del config.partitions, config.selection.budgets, config.selection.similarity_embeddings
    assert fingerprints.inputs(config) == now


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"arms": (("sas@other", 0.2, 0),)}, "The partition of the arm 'sas'.*'fine', 'truth', got 'other'"),
        (
            {"arms": (("random@fine", 0.2, 0),)},
            "must use latent classes, got 'random@fine'. Write 'random'",
        ),
        ({"partitions": {"a/b": {"method": "labels"}}}, "letters, digits and underscores.*got 'a/b'"),
        ({"partitions": {"_a": {"method": "labels"}}}, "must not start with an underscore, got '_a'"),
        ({"partitions": {3: {"method": "labels"}}}, "letters, digits and underscores.*got 3"),
        (
            {"partitions": {"a": {"epochs": 3}}},
            r"A field of a partition \(config.partitions.NAME.FIELD\) must be one of.*got config.partitions.a.epoch",
        ),
        ({"partitions": {"a": 3}}, r"A field of a partition \(config.partitions.NAME.FIELD\) must be one of"),
        ({"partitions": {"a": {"method": "trees"}}}, "config.partitions.a.method must be one of"),
        ({"partitions": {"a": {"method": "labels", "embeddings": "E.npy"}}}, "config.partitions.a.embeddings must be"),
        ({"partitions": {"a": {"method": "file"}}}, "config.partitions.a.file must not be empty"),
        (
            {"partitions": {"a": {"similarity_embeddings": "E.npy"}}, "selection.similarity": "gaussian"},
            "config.partitions.a.similarity_embeddings must be empty",
        ),
    ],
)
def test_partitions_that_cannot_be_used(overrides, message):
    config = partitioned()
    for name, value in overrides.items():
        *sections, last = name.split(".")
        section = config[sections[0]] if sections else config
        with section.ignore_type():
            section[last] = value
    if "partitions" in overrides:
        config.arms = (("sas", 0.2, 0),)
    with pytest.raises(InputError, match=message):
        config_checks.check(config)
