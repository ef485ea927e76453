"""What every source of images is turned into."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """Images that are trained on, or tested on, together.

    Attributes:
        images: uint8 [n, size, size, 3].
        labels: int32 [n], in [0, number of classes), -1 where this one image has no label; None where none has.
        ids: str [n], the name each example keeps wherever it goes; no two are equal.
    """

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

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
