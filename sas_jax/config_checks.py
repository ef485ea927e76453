"""Whether a config can be used, field by field, before anything is computed."""

import math
from typing import Any

from ml_collections import ConfigDict

from sas_jax import plan
from sas_jax.data import subsets
from sas_jax.errors import InputError
from sas_jax.latent_classes import METHODS
from sas_jax.models import DEPTHS, STEMS
from sas_jax.plan import one_of
from sas_jax.training import CONTRASTIVE, optimizer

SIMILARITIES = ("cosine", "clipped_cosine", "gaussian")
DTYPES = ("auto", "float32", "bfloat16")
PLACEMENTS = ("auto", "device", "host", "stream")


def check(config: ConfigDict) -> None:
    """Finds what no run could use, before anything is computed.

    Raises:
        InputError: the first such field, what it should be and what it is.
    """
    one_of("config.method", config.method, CONTRASTIVE)
    plan.arms(config)
    one_of("config.selection.objective", config.selection.objective, plan.OBJECTIVES)
    one_of("config.selection.similarity", config.selection.similarity, SIMILARITIES)
    one_of("config.selection.self_similarity", config.selection.self_similarity, (0.0, 1.0))
    one_of("config.latent_classes.method", config.latent_classes.method, METHODS)
    one_of("config.compute_dtype", config.compute_dtype, DTYPES)
    one_of("config.data.placement", config.data.placement, PLACEMENTS)
    for name, encoder in (("config.proxy.encoder", config.proxy.encoder), ("config.encoder", config.encoder)):
        one_of(f"{name}.depth", encoder.depth, tuple(DEPTHS))
        one_of(f"{name}.stem", encoder.stem, tuple(STEMS))
        _above(f"{name}.width", encoder.width, 0)
        _at_most(f"{name}.width", encoder.width, 64)
        _at_least(f"{name}.head_features", encoder.head_features, 2)
        _at_least(f"{name}.head_hidden", encoder.head_hidden, 0)
    for name, train in (("config.proxy.train", config.proxy.train), ("config.train", config.train)):
        _at_least(f"{name}.epochs", train.epochs, 1)
        _at_least(f"{name}.batch_size", train.batch_size, 2)
        _above(f"{name}.temperature", train.temperature, 0)
        _check_optimizer(name, train)
        _at_least(f"{name}.skip_nonfinite", train.skip_nonfinite, 0)
    _check_methods(config)
    _at_least("config.seed", config.seed, 0)
    _at_most("config.seed", config.seed, plan.LARGEST_SEED)
    _at_most("config.data.image_size", config.data.image_size, 4096)
    _at_least("config.data.image_size", config.data.image_size, 1)
    for field in ("mean", "std"):
        values = config.data[field]
        _numbers(f"config.data.{field}", values, 3)
        if not all(0 <= v <= 1 for v in values) or (field == "std" and min(values) == 0):
            raise InputError(
                f"config.data.{field} has to be three numbers in [0, 1], one a channel (std above 0), but is {values}: "
                f"mend it"
            )
    views = config.views
    for field in ("flip", "jitter", "grey", "blur"):
        if not 0 <= views[field] <= 1:
            raise InputError(f"config.views.{field} is a probability in [0, 1], but is {views[field]}: mend it")
    for field in ("brightness", "contrast", "saturation", "hue"):
        _at_least(f"config.views.{field}", views[field], 0)
    if views.hue > 0.5:
        raise InputError(
            f"config.views.hue has to be at most 0.5 (half the colour circle), but is {views.hue}: lower it"
        )
    for field, top in (("crop_scale", 1.0), ("crop_ratio", 1e3)):
        pair = views[field]
        _numbers(f"config.views.{field}", pair, 2)
        if not 0 < pair[0] <= pair[1] <= top:
            raise InputError(f"config.views.{field} has to be (lowest, highest) above 0, but is {pair}: mend it")
    _at_least("config.embedding.views", config.embedding.views, 1)
    _at_least("config.embedding.batch_size", config.embedding.batch_size, 1)
    _check_latent_classes(config.latent_classes)
    _check_file(config)
    if config.data.name != "folder" and config.data.test_folder:
        raise InputError(
            f"config.data.test_folder is given, but config.data.name is {config.data.name!r}: set the name to "
            f"'folder', or give no test_folder"
        )
    _above("config.selection.tau", config.selection.tau, 0)
    _at_least("config.evaluation.probe_l2", config.evaluation.probe_l2, 0)
    for field in ("probe_fractions", "supervised_fractions"):
        for fraction in config.evaluation[field]:
            _above(f"config.evaluation.{field}", fraction, 0)
            _at_most(f"config.evaluation.{field}", fraction, 1)
    for l2 in config.evaluation.probe_l2_grid:
        _at_least("config.evaluation.probe_l2_grid", l2, 0)
    _at_least("config.evaluation.probe_iterations", config.evaluation.probe_iterations, 1)
    _at_least("config.evaluation.knn_neighbours", config.evaluation.knn_neighbours, 1)
    _above("config.evaluation.knn_temperature", config.evaluation.knn_temperature, 0)
    _at_least("config.evaluation.batch_size", config.evaluation.batch_size, 1)
    for field in ("checkpoint_epochs", "keep_checkpoints"):
        _at_least(f"config.runtime.{field}", config.runtime[field], 1)
    _at_least("config.runtime.checkpoint_seconds", config.runtime.checkpoint_seconds, 0)
    _at_least("config.runtime.data_workers", config.runtime.data_workers, 0)
    _at_least("config.runtime.heartbeat_seconds", config.runtime.heartbeat_seconds, 5)


def _check_optimizer(name: str, section: ConfigDict) -> None:
    _above(f"{name}.learning_rate", section.learning_rate, 0)
    _at_least(f"{name}.weight_decay", section.weight_decay, 0)
    one_of(f"{name}.optimizer", section.optimizer, optimizer.OPTIMIZERS)
    one_of(f"{name}.schedule", section.schedule, optimizer.SCHEDULES)
    one_of(f"{name}.rate_scaling", section.rate_scaling, optimizer.RATE_SCALINGS)
    _at_least(f"{name}.warmup_epochs", section.warmup_epochs, 0)


def _check_methods(config: ConfigDict) -> None:
    for method, section in config.methods.items():
        name = f"config.methods.{method}"
        _check_optimizer(name, section)
        _at_least(f"{name}.head_features", section.head_features, 2)
        for field in ("head_hidden", "predictor_hidden"):
            if field in section:
                _at_least(f"{name}.{field}", section[field], 0)
        for field in ("momentum", "final_momentum"):
            if field in section:
                _at_least(f"{name}.{field}", section[field], 0)
                _at_most(f"{name}.{field}", section[field], 1)
    if any(arm.method == "moco" for arm in plan.arms(config)):
        moco, batch = config.methods.moco, config.train.batch_size
        _above("config.methods.moco.temperature", moco.temperature, 0)
        _at_least("config.methods.moco.batch_norm_groups", moco.batch_norm_groups, 1)
        if batch % moco.batch_norm_groups or batch < 2 * moco.batch_norm_groups:
            raise InputError(
                f"config.train.batch_size has to be a multiple, and not the same, of the "
                f"{moco.batch_norm_groups} BatchNorm groups of MoCo, but is {batch}: change it, or "
                f"config.methods.moco.batch_norm_groups"
            )
        if moco.queue_size < 2 * batch or moco.queue_size % (2 * batch):
            raise InputError(
                f"config.methods.moco.queue_size has to be a multiple of two batches ({2 * batch} keys), but is "
                f"{moco.queue_size}: choose {max(1, round(moco.queue_size / (2 * batch))) * 2 * batch}"
            )


def _check_latent_classes(section: ConfigDict) -> None:
    _at_least("config.latent_classes.num_classes", section.num_classes, 0)
    _at_least("config.latent_classes.restarts", section.restarts, 1)
    _above("config.latent_classes.labelled_fraction", section.labelled_fraction, 0)
    _at_most("config.latent_classes.labelled_fraction", section.labelled_fraction, 1)
    _at_least("config.latent_classes.clip_batch_size", section.clip_batch_size, 1)
    if section.method == "file" and not section.file:
        raise InputError(
            "config.latent_classes.method is 'file', but config.latent_classes.file names none: give a .npy"
        )
    # A field that the method does not look at is a mistake about the method.
    for field, methods in (
        ("file", ("file",)),
        ("labels_file", ("few_labels",)),
        ("embeddings", ("kmeans", "few_labels")),
        ("class_names", ("clip_zeroshot",)),
        ("prompts", ("clip_zeroshot",)),
    ):
        if section[field] and section.method not in methods:
            raise InputError(
                f"config.latent_classes.{field} is given, but config.latent_classes.method is {section.method!r}: set "
                f"the method to {' or '.join(map(repr, methods))}, or leave the field empty"
            )


def _check_file(config: ConfigDict) -> None:
    """What config.selection says of a subset made elsewhere."""
    section, wanted = config.selection, any(arm.selector == "file" for arm in plan.arms(config))
    one_of("config.selection.file_order", section.file_order, subsets.ORDERS)
    if wanted and not section.file:
        raise InputError("config.arms has the arm 'file', but config.selection.file names none: give a list of images")
    if section.file and not wanted:
        raise InputError(
            "config.selection.file is given, but no arm trains on it: add ('file', 1.0, 0) to config.arms, or give no "
            "file"
        )
    if section.file_order == "original" and "+" in section.file_split and "[" in config.data.train_split:
        raise InputError(
            f"config.selection.file_split {section.file_split!r} counts through whole splits, but "
            f"config.data.train_split is {config.data.train_split!r}: name whole splits there"
        )


def _numbers(name: str, values: Any, count: int) -> None:
    if len(values) != count or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise InputError(f"{name} has to be a tuple of {count} numbers, but is {values!r}: mend it")


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise InputError(f"{name} has to be finite and at least {least}, but is {value}: mend it")


def _at_most(name: str, value: float, most: float) -> None:
    if not value <= most:
        raise InputError(f"{name} has to be at most {most}, but is {value}: lower it")


def _above(name: str, value: float, least: float) -> None:
    if not least < value < math.inf:
        raise InputError(f"{name} has to be finite and above {least}, but is {value}: mend it")
