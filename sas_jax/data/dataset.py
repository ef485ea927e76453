"""The common format to which every image source is converted."""

import dataclasses

import numpy as np

from sas_jax.data.streamed import StreamedImages
from sas_jax.workdir import digest, fingerprint


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of a training or test split.

    Attributes:
        images: uint8 [n, size, size, 3], in memory or decoded on access.
        labels: int32 [n], in [0, number of classes), -1 for an image without a label; None if no image has one.
        ids: str [n], a unique name of each example that does not depend on order or location.
        marks: uint64 [n], a hash of the length and of the first and last bytes of each encoded image.
    """

    images: np.ndarray | StreamedImages
    labels: np.ndarray | None
    ids: np.ndarray
    marks: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Returns a short hash of the split, the same in memory and streamed, and wherever the files are."""
        return fingerprint(self.images.shape, *(digest(a) for a in (self.marks, self.labels, self.ids)))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: its name in tables and reports.
        train: the examples to train on and to select from.
        test: the examples for evaluation, or None.
        class_names: the name of each label; None if there are no labels.
        skipped: "path: reason" for each file that could not be read.
    """

    name: str
    train: Split
    test: Split | None
    class_names: tuple[str, ...] | None
    skipped: tuple[str, ...] = ()
