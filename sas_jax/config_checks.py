"""Checks a config before anything is computed: first each field, then combinations of fields."""

import difflib
import re
from typing import Any

from ml_collections import ConfigDict

from sas_jax import plan, training
from sas_jax.config_fields import FIELDS, OF_PARTITION, field
from sas_jax.data import sources
from sas_jax.errors import InputError, shown
from sas_jax.latent_classes import METHODS
from sas_jax.selection.selectors import LISTED


def check(config: ConfigDict) -> None:
    """Checks that a run can use a config.

    Raises:
        InputError: names the first invalid field, its valid values and its value.
    """
    for name, value in named(config).items():
        found = field(name)
        assert found is not None
        found.check(f"config.{name}", value)
    for partition in plan.partitions(config):
        check_partition_name(partition)
    arms = plan.arms(config)
    _check_views(config)
    for method in dict.fromkeys(arm.method for arm in arms):
        training.METHODS[method].check(plan.training(config, method))
    _check_latent_classes("config.latent_classes", config.latent_classes, set(config.latent_classes))
    _check_similarity("config.selection", config.selection, config)
    for name, section in plan.partitions(config).items():
        where = f"config.partitions.{name}"
        _check_latent_classes(where, plan.in_partition(config, name).latent_classes, set(section))
        _check_similarity(where, section, config)
    _check_file(config, arms)
    if config.data.test_folder and not sources.takes_test_folder(config.data.name):
        raise InputError(
            f"config.data.test_folder must be empty if config.data.name is {shown(config.data.name, 40)}, got "
            f"{shown(config.data.test_folder)}. Set the name to 'folder', 'parquet' or 'webdataset', or "
            f"clear test_folder."
        )


def named(config: ConfigDict) -> dict[str, Any]:
    """Returns a config's values by field name; raises InputError unless it has the fields of configs/default.py."""
    try:
        values = _flat(config.to_dict())
    except RecursionError as error:
        raise InputError(
            "A section of a config must not contain itself, got one that does. Start from default.get_config()."
        ) from error
    if missing := FIELDS.keys() - values.keys():
        first = next(name for name in FIELDS if name in missing)
        raise InputError(f"A config must have the field config.{first}, got none. Start from default.get_config().")
    if more := [name for name in values if field(name) is None]:
        raise unknown(min(more))
    return values


def unknown(name: str) -> InputError:
    """Returns the error for a name that is not a field (raises it for fields of partitions)."""
    if name.partition(".")[0] == "partitions":
        raise InputError(
            f"A field of a partition (config.partitions.NAME.FIELD) must be one of {', '.join(OF_PARTITION)}, got "
            f"config.{shown(name, 40)[1:-1]}. Correct its last part."
        )
    of_section = next((field for field in FIELDS if field.startswith(f"{name}.")), None)
    if of_section:
        return InputError(
            f"A config override must name a field, got the section config.{name}. Set one of its fields, such as "
            f"config.{of_section}."
        )
    nearest = difflib.get_close_matches(name[:200], FIELDS, n=1, cutoff=0.0)[0]
    return InputError(
        f"A field of the config must be defined in configs/default.py, got config.{shown(name)[1:-1]}. Did you mean "
        f"config.{nearest}?"
    )


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Flattens {"data": {"name": "digits"}} to {"data.name": "digits"}; a field's own value is not flattened."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        values |= _flat(value, f"{name}.") if isinstance(value, dict) and field(name) is None else {name: value}
    return values


def _check_views(config: ConfigDict) -> None:
    for name in ("crop_scale", "crop_ratio"):
        low, high = config.views[name]
        if low > high:
            raise InputError(f"config.views.{name} must be (lowest, highest), got {config.views[name]!r}. Swap them.")


def check_partition_name(name: Any) -> None:
    """Raises InputError unless `name` is a valid name of a partition."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}", name):
        raise InputError(
            f"A name in config.partitions must be 1 to 64 letters, digits and underscores and must not start with an "
            f"underscore, got {shown(name)}. Rename it."
        )


def _check_similarity(where: str, section: ConfigDict, config: ConfigDict) -> None:
    if plan.compares_views(config) and (path := section.get("similarity_embeddings")):
        raise InputError(
            f"{where}.similarity_embeddings must be empty unless config.selection.similarity is 'cosine', got "
            f"{shown(path)}. Clear it, or set the similarity to 'cosine'."
        )


def _check_latent_classes(where: str, section: ConfigDict, given: set[str]) -> None:
    """Checks latent classes; `given` are the fields set in the section itself, all others are inherited."""
    method = METHODS[section.method]
    if method.needs and not section[method.needs]:
        raise InputError(
            f"{where}.{method.needs} must not be empty if {where}.method is {section.method!r}, got ''. Set it."
        )
    # Setting a field that the method ignores is a mistake. Fields that cannot be empty keep their defaults.
    unread = [name for name in section if name in given and section[name] and name not in method.fields]
    for name in unread:
        if OF_PARTITION[name].fits("") or OF_PARTITION[name].fits(()):
            others = " or ".join(repr(other) for other in METHODS if name in METHODS[other].fields)
            raise InputError(
                f"{where}.{name} must be empty if {where}.method is {section.method!r}, got "
                f"{shown(section[name])}. Clear it, or set the method to {others}."
            )


def _check_file(config: ConfigDict, arms: tuple[plan.Arm, ...]) -> None:
    """Checks the fields of config.selection for a subset made elsewhere."""
    section, wanted = config.selection, any(arm.selector == LISTED for arm in arms)
    if wanted and not section.file:
        raise InputError(
            "config.selection.file must name a list of images for the arm 'file' of config.arms, got ''. Name one."
        )
    if section.file and not wanted:
        raise InputError(
            f"config.selection.file must be empty if no arm trains on it, got {shown(section.file)}. Clear it, or "
            f"add ('file', 1.0, 0) to config.arms."
        )
    if section.file_order == "original" and "+" in section.file_split and "[" in config.data.train_split:
        raise InputError(
            f"config.data.train_split must name whole splits, because indices continue across the splits of "
            f"config.selection.file_split {shown(section.file_split)}, got {shown(config.data.train_split)}. "
            f"Name whole splits."
        )
