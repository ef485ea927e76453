"""Latent classes as k-means clusters of embeddings."""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.latent_classes import number, vectors
from sas_jax.latent_classes.method import Given, Inputs, Known, Made, Method
from sas_jax.latent_classes.passes import cluster

NAME = "kmeans"


def _check(section: ConfigDict, known: Known) -> None:
    if section.num_classes > known.n:
        raise InputError(
            f"config.latent_classes.num_classes must be at most the {known.n} images, got {section.num_classes}. "
            f"Lower it."
        )
    if not section.num_classes and known.n < number.FEWEST:
        raise InputError(
            f"config.latent_classes.num_classes must be 1 or more for the {known.n} images of {known.name}, got 0, "
            f"which chooses the number and needs at least {number.FEWEST} images. Set it."
        )
    vectors.check(section, known.n)


def _inputs(section: Mapping[str, Any], known: Inputs) -> tuple[Any, ...]:
    return vectors.inputs(section, known), NAME, section["num_classes"], section["restarts"], known.seed


def _make(key: jax.Array, section: ConfigDict, given: Given) -> Made:
    x = devices.writer_first(lambda: vectors.make(section, given))
    num_classes, facts = section.num_classes, {}
    if not num_classes:
        choice = number.choose(jax.random.fold_in(key, 1), x)
        num_classes = devices.as_writer_sees(choice.num_classes)
        facts = {"chosen": {name: value for name, value in choice._asdict().items() if name != "num_classes"}}
        why = "it has the largest silhouette" if choice.decided else "no silhouette is decisive, so it is sqrt(n / 2)"
        given.log(f"classes: chose num_classes={num_classes}: {why}")
    mesh = devices.mesh() if jax.process_count() > 1 else None
    return Made(cluster(key, x, num_classes=num_classes, restarts=section.restarts, mesh=mesh), facts)


METHOD = Method((*vectors.FIELDS, "num_classes", "restarts"), _check, _inputs, _make, clusters=True, together=True)
