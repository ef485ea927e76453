"""Latent classes predicted from a few labels and the embeddings."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sas_jax.errors import InputError
from sas_jax.latent_classes import few_labels, vectors
from sas_jax.latent_classes.method import Dataset, Given, Inputs, Known, Made, Method

NAME = "few_labels"


def _check(section: ConfigDict, known: Known) -> None:
    if section.labels_file:
        _read(section, known.load())
    elif not known.num_labelled:
        raise InputError(
            f"config.latent_classes.labels_file must name a .csv of id,label if the data set has no labels, got '' "
            f"for {known.name}. Name one, or set config.latent_classes.method to 'kmeans'."
        )
    vectors.check(section, known.n)


def _inputs(section: Mapping[str, Any], known: Inputs) -> tuple[Any, ...]:
    few = known.file(section["labels_file"]) if section["labels_file"] else section["labelled_fraction"]
    return vectors.inputs(section, known), known.images, NAME, few, known.seed


def _make(key: jax.Array, section: ConfigDict, given: Given) -> Made:
    x = vectors.make(section, given)
    if section.labels_file:
        few = _read(section, given.dataset)
    else:
        labels = given.dataset.train.labels
        assert labels is not None
        few = few_labels.draw(jax.random.fold_in(key, 1), labels, fraction=section.labelled_fraction)
    found = few_labels.spread(key, x, few)
    facts = {"num_labelled": found.num_labelled, "l2": found.l2, "accuracy": found.accuracy}
    return Made(found.classes, {"few_labels": facts})


def _read(section: ConfigDict, dataset: Dataset) -> np.ndarray:
    return few_labels.read(section.labels_file, ids=dataset.train.ids, class_names=dataset.class_names)


METHOD = Method((*vectors.FIELDS, "labelled_fraction", "labels_file"), _check, _inputs, _make)
