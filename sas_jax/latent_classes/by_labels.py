"""The data set's labels as latent classes, for analysis only: selection with labels is not self-supervised."""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from sas_jax import arrays
from sas_jax.errors import InputError
from sas_jax.latent_classes.method import Given, Inputs, Known, Made, Method, checked

NAME = "labels"


def _check(section: ConfigDict, known: Known) -> None:
    del section
    if known.num_labelled < known.n:
        raise InputError(
            f"config.latent_classes.method must not be 'labels' for images without labels, got 'labels' for "
            f"{known.name}. Set it to 'kmeans' or 'few_labels'."
        )


def _inputs(section: Mapping[str, Any], known: Inputs) -> tuple[Any, ...]:
    del section
    return known.images, NAME


def _make(key: jax.Array, section: ConfigDict, given: Given) -> Made:
    del key, section
    train = given.dataset.train
    return Made(checked(arrays.array("Labels", train.labels), len(train), "the data set's labels"))


METHOD = Method((), _check, _inputs, _make)
