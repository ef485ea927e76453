"""Clusters of embeddings."""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from sas_jax.errors import InputError
from sas_jax.latent_classes import number, vectors
from sas_jax.latent_classes.kmeans import kmeans
from sas_jax.latent_classes.method import Given, Inputs, Known, Made, Method

NAME = "kmeans"


def _check(section: ConfigDict, known: Known) -> None:
    if section.num_classes > known.n:
        raise InputError(
            f"config.latent_classes.num_classes must be at most the {known.n} images, got {section.num_classes}. "
            f"Lower it."
        )
    if not section.num_classes and known.n < number.FEWEST:
        raise InputError(
            f"config.latent_classes.num_classes must be given for fewer than {number.FEWEST} images, got 0 for the "
            f"{known.n} of {known.name}. Set it."
        )
    vectors.check(section, known.n)


def _inputs(section: Mapping[str, Any], known: Inputs) -> tuple[Any, ...]:
    return vectors.inputs(section, known), NAME, section["num_classes"], section["restarts"], known.seed


def _make(key: jax.Array, section: ConfigDict, given: Given) -> Made:
    x = vectors.make(section, given)
    num_classes, facts = section.num_classes, {}
    if not num_classes:
        choice = number.choose(jax.random.fold_in(key, 1), x)
        num_classes = choice.num_classes
        facts = {"chosen": {name: value for name, value in choice._asdict().items() if name != "num_classes"}}
        why = "the largest silhouette" if choice.decided else "no number stands out, so sqrt(n / 2)"
        given.log(f"classes: {num_classes} chosen: {why}")
    return Made(kmeans(key, x, num_classes=num_classes, restarts=section.restarts).labels, facts)


METHOD = Method((*vectors.FIELDS, "num_classes", "restarts"), _check, _inputs, _make, clusters=True)
