"""Zero-shot classes: the class whose name has the most similar CLIP embedding."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from sas_jax.latent_classes import clip, vectors
from sas_jax.latent_classes.method import Dataset, Given, Inputs, Known, Made, Method

NAME = "clip_zeroshot"


def _check(section: ConfigDict, known: Known) -> None:
    clip.check_prompts(*_prompts(section, None if section.class_names else known.load()))
    clip.check_installed()


def _inputs(section: Mapping[str, Any], known: Inputs) -> tuple[Any, ...]:
    return vectors.of_clip(section, known), section["class_names"], section["prompts"]


def _make(key: jax.Array, section: ConfigDict, given: Given) -> Made:
    del key
    images = vectors.by_clip(section, given)
    class_names, templates = _prompts(section, given.dataset)
    names = clip.embed_names(section.clip_model, class_names, templates=templates)
    return Made(clip.zero_shot(images, names))


def _prompts(section: ConfigDict, dataset: Dataset | None) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the class names (the data set's if the section has none) and the prompt templates."""
    names = section.class_names or (dataset.class_names if dataset else None) or ()
    return names, section.prompts or clip.TEMPLATES


METHOD = Method(("clip_model", "class_names", "prompts"), _check, _inputs, _make)
