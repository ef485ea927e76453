"""Fingerprints of everything that a stage's result depends on; a stage with an unchanged fingerprint is not redone.

Every field of a section counts unless it is excluded here. A new field therefore cannot be forgotten: it invalidates
the stages that read its section.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sas_jax import devices, plan, pretrained
from sas_jax.latent_classes import METHODS, Inputs
from sas_jax.pretrained.hub import model_files
from sas_jax.selection.budgets import PROPORTIONAL
from sas_jax.selection.selectors import LISTED, SELECTORS
from sas_jax.workdir import fingerprint

# The fields that are handled explicitly below.
_CONFIG = (
    *("seed", "data", "views", "proxy", "embedding", "latent_classes", "selection", "partitions", "encoder", "train"),
    *("method", "methods", "arms", "evaluation", "compute_dtype", "runtime"),
)
_DATA = (
    *("name", "dir", "train_split", "test_split", "folder", "test_folder", "classes", "image_size", "placement"),
    *("mean", "std"),
)
_EMBEDDING = ("views", "batch_size")
_LATENT_CLASSES = ("method", "clip_batch_size", *(name for method in METHODS.values() for name in method.fields))
_SELECTION = (
    *("objective", "similarity", "tau", "self_similarity", "budgets", "similarity_embeddings"),
    *("file", "file_order", "file_split", "file_drop"),
)


def inputs(config: ConfigDict) -> dict[str, str]:
    """Returns each stage of the run, in order, with the fingerprint of everything its result depends on."""
    c = config.to_dict()
    found: dict[str, str] = {}
    images = train_images(config)
    data = {name: value for name, value in c["data"].items() if name not in ("dir", "placement")}
    found["data"] = fingerprint(images, data, _folder_fingerprint(data["test_folder"]))
    normalised = {name: data[name] for name in ("mean", "std")}
    dtype = devices.compute_dtype(c["compute_dtype"])
    seen = (images, normalised, c["views"], c["seed"], dtype, *_new(c, _CONFIG))
    if c["proxy"]["embeddings"]:
        embedded = found["embed"] = fingerprint(images, _given(c["proxy"]["embeddings"], images))
    else:
        proxy = found["proxy"] = fingerprint(seen, {**c["proxy"], "encoder": _encoder(c["proxy"]["encoder"])})
        embedded = found["embed"] = fingerprint(
            proxy, c["embedding"]["views"], plan.compares_views(config), *_new(c["embedding"], _EMBEDDING)
        )
    for partition in plan.partitions_of_arms(config):
        section = plan.in_partition(config, partition).latent_classes.to_dict()
        found[plan.classes_stage(partition)] = _classes(section, images, embedded, c["seed"])
    for selector, partition in plan.ranked(config):
        section = plan.in_partition(config, partition).selection.to_dict()
        looked_at = _similarity(section) if SELECTORS[selector].objective else ()
        new = _new(section, _SELECTION)
        classes = found[plan.classes_stage(partition)]
        given = section.get("similarity_embeddings")
        vectors = _file_fingerprint(given) if given else embedded
        found[plan.rank_stage(config, selector, partition)] = fingerprint(vectors, classes, selector, looked_at, *new)
    untrained = fingerprint(seen, _encoder(c["encoder"]))
    measured = {
        name: value for name, value in c["evaluation"].items() if name not in ("batch_size", "supervised_fractions")
    }
    found["evaluate/untrained"] = fingerprint(untrained, measured, found["data"])
    for arm in plan.arms(config):
        source: Any = ""
        if arm.chooses.is_ranked:
            source = found[plan.rank_stage(config, arm.selector, arm.partition)]
        elif arm.chooses.partitioned:
            source = found[plan.classes_stage(arm.partition)]
        elif arm.selector == LISTED:
            source = _file_fingerprint(c["selection"]["file"])
            source = (source, *(c["selection"][f"file_{name}"] for name in ("order", "split", "drop")))
        if arm.chooses.partitioned:
            budgets = plan.in_partition(config, arm.partition).selection.get("budgets", PROPORTIONAL)
            source = source if budgets == PROPORTIONAL else (source, budgets)
        trained = fingerprint(untrained, plan.training(config, arm.method).to_dict(), _identity(arm), source)
        found[f"train/{arm.name}"] = trained
        found[f"evaluate/{arm.name}"] = fingerprint(trained, measured, found["data"])
        if plan.trains_supervised(config, arm):
            found[f"supervised/{arm.name}"] = fingerprint(trained, "supervised", found["data"])
    return found


def _encoder(section: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of an encoder, with the file of its initial weights, if any, replaced by its fingerprint."""
    fields = {name: value for name, value in section.items() if name != "init"}
    return fields | ({"init": _file_fingerprint(section["init"])} if section.get("init") else {})


def _identity(arm: plan.Arm) -> tuple[Any, ...]:
    """Returns an arm's fields except its partition, which is part of the fingerprint of its images."""
    return dataclasses.astuple(arm)[:5]


def _similarity(section: dict[str, Any]) -> dict[str, Any]:
    """Returns what the similarity depends on besides the embeddings."""
    names = ["similarity", "self_similarity"] + ["tau"] * (section["similarity"] == "gaussian")
    return {name: section[name] for name in names}


def _new(section: dict[str, Any], known: Iterable[str]) -> list[dict[str, Any]]:
    """Returns a list of one dict, the fields of a section that are not in `known`, or [] if there are none."""
    new = {name: value for name, value in section.items() if name not in known}
    return [new] if new else []


def _classes(section: dict[str, Any], images: str, embedded: str, seed: int) -> str:
    def given(name: str) -> str:
        return _given(name, images)

    known = Inputs(images, embedded, seed, _file_fingerprint, _folder_fingerprint, given)
    return fingerprint(*METHODS[section["method"]].inputs(section, known), *_new(section, _LATENT_CLASSES))


def _given(name: str, images: str) -> str:
    """Returns the fingerprint of embeddings in a file, or of the images' features from a pretrained network."""
    if not pretrained.is_model(name):
        return _file_fingerprint(name)
    network = [_file_fingerprint(str(file)) for file in model_files(pretrained.path_of(name))]
    return fingerprint((images, name, network))


def train_images(config: ConfigDict) -> str:
    """Returns the fingerprint of the training images; excludes the directory of tfds and the test images."""
    data = config.data
    places = data.name, data.train_split, data.folder, _folder_fingerprint(data.folder)
    return fingerprint(places, data.classes, data.image_size, *_new(data.to_dict(), _DATA))


def _file_fingerprint(path: str) -> str:
    """Returns the fingerprint of a file's path, size and modification time: cheap, and different after each write."""
    try:
        status = Path(path).expanduser().stat()
    except OSError:
        return fingerprint(path, None)  # the stage that reads the file reports the error
    return fingerprint(path, status.st_size, status.st_mtime_ns)


def _folder_fingerprint(folder: str) -> str:
    """Returns the fingerprint of the names and sizes of a local folder's files.

    It changes if images are added, removed, or replaced by files of another size. For a single file, such as one of
    many images, only its size counts.
    """
    path = Path(folder).expanduser()
    sizes = [("", path.stat().st_size)] if path.is_file() else []
    seen: set[str] = set()
    for place, folders, names in os.walk(path if folder else "", followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # a link to a folder that was already visited
            continue
        seen.add(real)
        for name in names:
            file = os.path.join(place, name)
            with contextlib.suppress(OSError):  # a broken link, reported when the images are read
                sizes.append((os.path.relpath(file, path), os.path.getsize(file)))
    return fingerprint(sorted(sizes))
