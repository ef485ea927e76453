"""The latent classes that a config asks for: what they are made from, checked early, and made."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sas_jax import latent_classes, pretrained
from sas_jax.data import Dataset
from sas_jax.embedding import mean_embeddings, read_embeddings, unit_rows
from sas_jax.errors import InputError
from sas_jax.latent_classes import clip, few_labels, number
from sas_jax.workdir import Workdir

_VECTORS = "config.latent_classes.embeddings"


def check(section: ConfigDict, dataset: dict[str, Any], load: Callable[[], Dataset]) -> None:
    """Finds what does not fit the data set, before anything is computed.

    Args:
        section: config.latent_classes.
        dataset: what the stamp of the data stage says.
        load: gives the data set; called only where its ids are wanted.

    Raises:
        InputError: the first such field, what it should be and what to do.
    """
    n, name = dataset["train_size"], dataset["name"]
    if section.method == "file":
        latent_classes.from_file(section.file, n=n)
    elif section.method == "labels" and dataset["num_labelled"] < n:
        raise InputError(
            f"config.latent_classes.method 'labels' wants a data set whose images are all labelled, but {name} has "
            f"images without labels: use 'kmeans' or 'few_labels'"
        )
    elif section.method == "kmeans" and section.num_classes > n:
        raise InputError(
            f"config.latent_classes.num_classes has to be at most the {n} images, but is {section.num_classes}: "
            f"lower it"
        )
    elif section.method == "kmeans" and not section.num_classes and n < number.FEWEST:
        raise InputError(
            f"config.latent_classes.num_classes is 0, to be chosen, which wants at least {number.FEWEST} images, but "
            f"{name} has {n}: give the number"
        )
    elif section.method == "few_labels" and section.labels_file:
        _read_few(section, load())
    elif section.method == "few_labels" and not dataset["num_labelled"]:
        raise InputError(
            f"config.latent_classes.method 'few_labels' wants some labels, but {name} has none: give a .csv of "
            f"id,label in config.latent_classes.labels_file, or use 'kmeans'"
        )
    elif section.method == "clip_zeroshot":
        clip.check_prompts(*_prompts(section, None if section.class_names else load()))
    if uses_clip(section):
        clip.check_installed()
    elif section.method in ("kmeans", "few_labels") and pretrained.is_model(section.embeddings):
        pretrained.check(section.embeddings, field=_VECTORS)
    elif section.method in ("kmeans", "few_labels") and section.embeddings:
        read_embeddings(section.embeddings, n=n, field=_VECTORS, log=lambda _: None)


def uses_clip(section: ConfigDict) -> bool:
    """Whether a CLIP model is wanted."""
    return section.method == "clip_zeroshot" or (
        section.method in ("kmeans", "few_labels") and section.embeddings == "clip"
    )


def make(
    key: jax.Array,
    section: ConfigDict,
    dataset: Dataset,
    own: Callable[[], np.ndarray],
    workdir: Workdir,
    log: Callable[[str], None],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Makes the latent classes.

    Args:
        key: a typed PRNG key.
        section: config.latent_classes.
        dataset: its training images, n of them, are what is partitioned.
        own: gives the run's embeddings, float32 [n, d].
        workdir: keeps the embeddings of pretrained networks.
        log: is told what is done.

    Returns:
        int32 [n], and what there is to say of them: "num_classes", "sizes", "agreement" with the labels that are
        known, None where none is; "few_labels" and "chosen", what these found, None where they were not asked.
    """
    labels = dataset.train.labels
    facts: dict[str, Any] = {"few_labels": None, "chosen": None}
    log(f"classes: {len(dataset.train):,} images by {section.method}")
    vectors = _vectors(section, dataset, own, workdir, log)
    if section.method == "few_labels":
        found = few_labels.spread(key, vectors, _few(jax.random.fold_in(key, 1), section, dataset))
        classes = found.classes
        facts["few_labels"] = {"num_labelled": found.num_labelled, "l2": found.l2, "accuracy": found.accuracy}
    else:
        num_classes, names = section.num_classes, None
        if section.method == "kmeans" and not num_classes:
            choice = number.choose(jax.random.fold_in(key, 1), vectors)
            num_classes = choice.num_classes
            facts["chosen"] = {name: value for name, value in choice._asdict().items() if name != "num_classes"}
            why = "the largest silhouette" if choice.decided else "no number stands out, so sqrt(n / 2)"
            log(f"classes: {num_classes} chosen: {why}")
        if section.method == "clip_zeroshot":
            class_names, templates = _prompts(section, dataset)
            names = clip.embed_names(section.clip_model, class_names, templates=templates)
        classes = latent_classes.assign(
            section.method,
            embeddings=vectors,
            key=key,
            num_classes=num_classes,
            restarts=section.restarts,
            labels=labels,
            file=section.file,
            class_names=names,
        )
    sizes = np.unique(classes, return_counts=True)[1]
    known = labels is not None and bool((labels >= 0).any())
    facts |= {
        "num_classes": len(sizes),
        "sizes": sizes.tolist(),
        "agreement": latent_classes.agreement(classes, labels) if known else None,  # type: ignore[arg-type]
    }
    log(f"classes: {len(sizes)} latent classes of {sizes.min()} to {sizes.max()} images")
    return classes, facts


def _vectors(
    section: ConfigDict,
    dataset: Dataset,
    own: Callable[[], np.ndarray],
    workdir: Workdir,
    log: Callable[[str], None],
) -> np.ndarray:
    """float32 [n, d]: what k-means and few labels work on, and what is compared with the class names; else [n, 0]."""
    if section.method in ("labels", "file"):
        return np.empty((len(dataset.train), 0), np.float32)
    if uses_clip(section):
        return clip.embed_images(
            section.clip_model,
            dataset.train.images,
            source=dataset.train.fingerprint(),
            cache=workdir / "clip_embeddings.npz",
            batch_size=section.clip_batch_size,
            log=log,
        )
    if not section.embeddings:
        return own()
    if pretrained.is_model(section.embeddings):
        vectors = pretrained.embed_images(
            section.embeddings,
            dataset.train.images,
            source=dataset.train.fingerprint(),
            cache=workdir / pretrained.cache_name(section.embeddings),
            field=_VECTORS,
            batch_size=section.clip_batch_size,
            log=log,
        )
        return unit_rows(vectors, where=f"{_VECTORS} ({section.embeddings})", log=log)
    return mean_embeddings(section.embeddings, n=len(dataset.train), field=_VECTORS, log=log)


def _prompts(section: ConfigDict, dataset: Dataset | None) -> tuple[Sequence[str], Sequence[str]]:
    """The names of the classes to tell apart, the data set's where the section has none, and the templates."""
    names = section.class_names or (dataset.class_names if dataset else None) or ()
    return names, section.prompts or clip.TEMPLATES


def _few(key: jax.Array, section: ConfigDict, dataset: Dataset) -> np.ndarray:
    """int32 [n]: the labels that may be seen, -1 elsewhere."""
    if section.labels_file:
        return _read_few(section, dataset)
    assert dataset.train.labels is not None
    return few_labels.draw(key, dataset.train.labels, fraction=section.labelled_fraction)


def _read_few(section: ConfigDict, dataset: Dataset) -> np.ndarray:
    return few_labels.read(section.labels_file, ids=dataset.train.ids, class_names=dataset.class_names)
