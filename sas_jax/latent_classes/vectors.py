"""The embeddings for latent classes: the run's own, CLIP's, a pretrained network's, or those of a file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sas_jax import pretrained
from sas_jax.embedding import mean_embeddings, read_embeddings
from sas_jax.latent_classes import clip
from sas_jax.latent_classes.method import Given, Inputs
from sas_jax.workdir import fingerprint

FIELDS = ("embeddings", "clip_model")
"""The fields of config.latent_classes that the embeddings depend on."""

CLIP = "clip"  # the value of config.latent_classes.embeddings that selects config.latent_classes.clip_model
_FIELD = "config.latent_classes.embeddings"


def check(section: ConfigDict, n: int) -> None:
    """Checks the embeddings without loading a network."""
    if section.embeddings == CLIP:
        clip.check_installed()
    elif pretrained.is_model(section.embeddings):
        pretrained.check(section.embeddings, field=_FIELD)
    elif section.embeddings:
        read_embeddings(section.embeddings, n=n, field=_FIELD, log=lambda _: None)


def inputs(section: Mapping[str, Any], known: Inputs) -> str:
    """Returns a fingerprint of everything that the embeddings depend on."""
    name = section["embeddings"]
    if not name:
        return known.embeddings
    if name == CLIP:
        return fingerprint(of_clip(section, known))
    return known.given(name)


def make(section: ConfigDict, given: Given) -> np.ndarray:
    """Returns the embeddings, float32 [n, d]."""
    name, images = section.embeddings, given.dataset.train
    if not name:
        return given.own()
    if name == CLIP:
        return by_clip(section, given)
    if not pretrained.is_model(name):
        return mean_embeddings(name, n=len(images), field=_FIELD, log=given.log)
    return pretrained.embed_images(
        name,
        images.images,
        source=images.fingerprint(),
        folder=given.workdir.path,
        field=_FIELD,
        batch_size=section.clip_batch_size,
        log=given.log,
    )


def of_clip(section: Mapping[str, Any], known: Inputs) -> tuple[str, ...]:
    """Returns everything that CLIP's embeddings depend on."""
    return known.images, section["clip_model"], known.folder(section["clip_model"])


def by_clip(section: ConfigDict, given: Given) -> np.ndarray:
    """Returns CLIP's embeddings, float32 [n, d], rows of norm 1."""
    return clip.embed_images(
        section.clip_model,
        given.dataset.train.images,
        source=given.dataset.train.fingerprint(),
        cache=given.workdir / "clip_embeddings.npz",
        batch_size=section.clip_batch_size,
        log=given.log,
    )
