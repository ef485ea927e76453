"""Clusters of embeddings."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sas_jax import arrays, devices
from sas_jax.errors import InputError
from sas_jax.latent_classes import number, vectors
from sas_jax.latent_classes.kmeans import kmeans
from sas_jax.latent_classes.method import Given, Inputs, Known, Made, Method
from sas_jax.latent_classes.passes import kmeans_by_passes

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
    x = devices.writer_first(lambda: vectors.make(section, given))
    num_classes, facts = section.num_classes, {}
    if not num_classes:
        choice = number.choose(jax.random.fold_in(key, 1), x)
        num_classes = devices.as_writer_sees(choice.num_classes)
        facts = {"chosen": {name: value for name, value in choice._asdict().items() if name != "num_classes"}}
        why = "the largest silhouette" if choice.decided else "no number stands out, so sqrt(n / 2)"
        given.log(f"classes: {num_classes} chosen: {why}")
    mesh = devices.mesh() if jax.process_count() > 1 else None
    return Made(cluster(key, x, num_classes=num_classes, restarts=section.restarts, mesh=mesh), facts)


def cluster(
    key: jax.Array, x: arrays.Rows, *, num_classes: int, restarts: int = 5, mesh: Mesh | None = None
) -> np.ndarray:
    """k-means, of a mapped file of more than a third of this machine's memory by passes over it: see passes.py.

    Args:
        key: a typed PRNG key.
        x: float [n, d].
        num_classes: in [1, n].
        restarts, mesh: see `kmeans`.

    Returns:
        int32 [n], the classes.
    """
    # As read, on the device, and what is made of it there.
    if mesh is None and arrays.on_disk(x) and 3 * 4 * math.prod(x.shape) > devices.memory():
        return kmeans_by_passes(key, x, num_classes=num_classes, restarts=restarts).labels
    return kmeans(key, x, num_classes=num_classes, restarts=restarts, mesh=mesh).labels


METHOD = Method((*vectors.FIELDS, "num_classes", "restarts"), _check, _inputs, _make, clusters=True, together=True)
