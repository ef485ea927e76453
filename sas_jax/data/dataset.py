"""What every source of images is turned into."""

import dataclasses

import numpy as np

from sas_jax.data.streamed import StreamedImages
from sas_jax.workdir import digest, fingerprint


@dataclasses.dataclass(frozen=True)
class Split:
    """Images that are trained on, or tested on, together.

    Attributes:
        images: uint8 [n, size, size, 3], in memory or decoded when asked for.
        labels: int32 [n], in [0, number of classes), -1 where this one image has no label; None where none has.
        ids: str [n], the name each example keeps wherever it goes; no two are equal.
        marks: uint64 [n], a hash of the length and the ends of each encoded image.
    """

    images: np.ndarray | StreamedImages
    labels: np.ndarray | None
    ids: np.ndarray
    marks: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """A short hash of what is there: the same in memory and streamed, and wherever the files lie."""
        return fingerprint(self.images.shape, *(digest(a) for a in (self.marks, self.labels, self.ids)))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: what it is called in tables and reports.
        train: the examples to train on and to choose from.
        test: the examples that measure; None where there are none.
        class_names: the name of each label; None where there are no labels.
        skipped: "path: reason" for each file that could not be read.
    """

    name: str
    train: Split
    test: Split | None
    class_names: tuple[str, ...] | None
    skipped: tuple[str, ...] = ()
