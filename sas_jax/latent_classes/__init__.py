"""Latent classes: a partition of the examples; similarities and budgets apply within each class."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sas_jax.latent_classes import (
    by_clip_zeroshot,
    by_few_labels,
    by_file,
    by_kmeans,
    by_labels,
    clip,
    few_labels,
    number,
)
from sas_jax.latent_classes.by_file import from_file
from sas_jax.latent_classes.compared import agreement
from sas_jax.latent_classes.kmeans import KMeans, kmeans
from sas_jax.latent_classes.method import Given, Inputs, Known, Method
from sas_jax.latent_classes.passes import kmeans_by_passes

__all__ = ["METHODS", "Given", "Inputs", "KMeans", "Known", "agreement", "check", "clip", "few_labels", "from_file",
           "kmeans", "kmeans_by_passes", "make", "number"]  # fmt: skip

METHODS: dict[str, Method] = {
    module.NAME: module.METHOD for module in (by_kmeans, by_few_labels, by_clip_zeroshot, by_labels, by_file)
}
"""The methods, by config.latent_classes.method."""


def check(section: ConfigDict, known: Known) -> None:
    """Checks that the config fits the data set, before anything is computed.

    Args:
        section: config.latent_classes.
        known: facts about the data set.

    Raises:
        InputError: names the first field that does not fit, what it must be and what to do.
    """
    METHODS[section.method].check(section, known)


def make(key: jax.Array, section: ConfigDict, given: Given) -> tuple[np.ndarray, dict[str, Any]]:
    """Makes the latent classes that a config asks for.

    Args:
        key: a typed PRNG key.
        section: config.latent_classes.
        given: the n images, and the other inputs of the methods.

    Returns:
        The classes, int32 [n], and facts about them: "num_classes", "sizes", "agreement" with the known labels (None
        if there are none), "few_labels" and "chosen" (None if the method has none).
    """
    train = given.dataset.train
    given.log(f"classes: {len(train):,} images by {section.method}")
    made = METHODS[section.method].make(key, section, given)
    classes, labels = made.classes, train.labels
    sizes = np.unique(classes, return_counts=True)[1]
    facts = {"few_labels": None, "chosen": None} | made.facts
    facts |= {
        "num_classes": len(sizes),
        "sizes": sizes.tolist(),
        "agreement": agreement(classes, labels) if labels is not None and (labels >= 0).any() else None,
    }
    given.log(f"classes: {len(sizes)} latent classes of {sizes.min()} to {sizes.max()} images")
    return classes, facts
