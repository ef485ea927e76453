"""Restricts a data set to some of its classes: ImageNet-100, or a part of CIFAR-100 for a CPU."""

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np

from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.streamed import StreamedImages
from sas_jax.errors import InputError, shown


class ChosenImages(StreamedImages):
    """A subset of a split's streamed images."""

    def __init__(self, images: StreamedImages, chosen: np.ndarray):
        """Keeps the images at the indices `chosen`, int [k]."""
        super().__init__(len(chosen), images.shape[1])
        self._images = images
        self._chosen = chosen

    def _decode(self, indices: np.ndarray, out: np.ndarray) -> None:
        self._images._decode(self._chosen[indices], out)


def keep(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Returns the images of some classes, in both splits; labels become positions in `names`.

    Args:
        dataset: a data set with labels.
        names: the classes to keep, each once.

    Raises:
        InputError: the data set has no labels, a name is not one of its classes or is repeated, or a split has no
            image of these classes.
    """
    if dataset.class_names is None:
        raise InputError(
            f"config.data.classes must be empty for a data set without labels, got {len(names)} names for "
            f"{dataset.name}. Clear it."
        )
    for name in names:
        if name not in dataset.class_names:
            near = difflib.get_close_matches(str(name), dataset.class_names, n=1, cutoff=0.0)[0]
            raise InputError(
                f"config.data.classes must name classes of {dataset.name}, got {shown(name)}. Did you mean {near!r}?"
            )
        if list(names).count(name) > 1:
            raise InputError(f"config.data.classes must name each class once, got {name!r} twice. Remove one.")
    table = np.full(len(dataset.class_names) + 1, -1, np.int32)  # by old label; -1 stays -1
    table[[dataset.class_names.index(name) for name in names]] = np.arange(len(names), dtype=np.int32)
    return dataclasses.replace(
        dataset,
        train=_of(dataset.train, table, "training"),
        test=None if dataset.test is None else _of(dataset.test, table, "test"),
        class_names=tuple(names),
    )


def _of(split: Split, table: np.ndarray, kind: str) -> Split:
    labels = np.full(len(split), -1, np.int32) if split.labels is None else table[split.labels]
    chosen = np.flatnonzero(labels >= 0)
    if not len(chosen):
        raise InputError(
            f"config.data.classes must name classes that have {kind} images, got classes without any. Correct the "
            f"names or the split."
        )
    images = split.images
    return Split(
        images=ChosenImages(images, chosen) if isinstance(images, StreamedImages) else images[chosen],
        labels=labels[chosen],
        ids=split.ids[chosen],
        marks=split.marks[chosen],
    )
