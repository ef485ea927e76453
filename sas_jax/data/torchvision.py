"""Reads CIFAR-10, CIFAR-100 and STL10 as unpacked by torchvision, without torchvision.

    cifar-10-batches-py/   data_batch_1 ... data_batch_5, test_batch, batches.meta
    cifar-100-python/      train, test, meta
    stl10_binary/          train_X.bin, train_y.bin, test_*.bin, unlabeled_X.bin, class_names.txt

CIFAR's files are pickles, which `sas_jax.pickles` reads without executing them. Images are in the published order. Ids
are those of tfds, split and index in that order, so a subset has the same images with either source.
"""

import dataclasses
import functools
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
from etils import epath

from sas_jax import files, pickles
from sas_jax.data import items
from sas_jax.data.dataset import Dataset
from sas_jax.errors import InputError

_LARGEST = 1 << 30  # bytes of a pickle
_Part = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [n, 3, height, width], and labels, int32 [n], -1 for none."""


@dataclasses.dataclass(frozen=True)
class _Set:
    """One of the data sets.

    Attributes:
        name: tfds's name.
        folder: the name of the folder in its archive.
        splits: functions that read a split from the folder, by tfds's name of the split.
        num_classes: the number of classes.
        class_names: reads the class names from the folder.
    """

    name: str
    folder: str
    splits: dict[str, Callable[[epath.Path], _Part]]
    num_classes: int
    class_names: Callable[[epath.Path], Sequence[Any]]


def load(path: str, *, train_split: str, test_split: str, image_size: int, placement: str = "host") -> Dataset:
    """Reads one of the data sets.

    Args:
        path: the folder in the archive, or its parent, torchvision's `root`.
        train_split: "train", "train+test"; for STL10 "train+unlabelled" as well.
        test_split: the same; "" for none.
        image_size: side length in pixels.
        placement: see `items.read_splits`.

    Returns:
        The data set, in the published order within each split.

    Raises:
        InputError: the folder or a split does not exist, or a file is missing or damaged.
    """
    chosen, folder = _find(path)
    specs = [
        (_split_names(spec, chosen, field), field)
        for spec, field in ((train_split, "config.data.train_split"), (test_split, "config.data.test_split"))
        if spec
    ]
    names = _checked(folder, "its class names", lambda: _names(chosen, folder))
    found = [_Pixels(folder, chosen, split_names, len(names)) for split_names, _ in specs]
    parts = [(each, each.ids, each.labels if (each.labels >= 0).any() else None) for each in found]
    return items.read_splits(chosen.name, parts, names, image_size=image_size, placement=placement)


def _find(path: str) -> tuple[_Set, epath.Path]:
    root = files.expanded(path)
    try:
        found = [(each, place) for each in _SETS for place in (root / each.folder, root) if place.name == each.folder]
        found = [(each, place) for each, place in found if place.is_dir()]
    except (OSError, ValueError):  # an invalid folder name
        found = []
    if len(found) != 1:
        raise InputError(
            f"config.data.folder must hold one of {', '.join(each.folder for each in _SETS)}, which torchvision's "
            f"archives unpack to, got {path!r}, which holds {', '.join(each.folder for each, _ in found) or 'none'}. "
            f"Correct the path."
        )
    return found[0]


def _split_names(spec: str, chosen: _Set, field: str) -> list[str]:
    names = [{"unlabeled": "unlabelled"}.get(name, name) for name in spec.split("+")]
    if wrong := [name for name in names if name not in chosen.splits or names.count(name) > 1]:
        raise InputError(
            f"{field} must be one of {', '.join(chosen.splits)}, or several joined by '+', got {wrong[0]!r:.80} in "
            f"{spec!r:.80}. Correct it."
        )
    return names


class _Pixels:
    """The concatenated images of splits, as `items.Items`.

    Attributes:
        labels: int32 [n], -1 for an image without a label.
        ids: [n].
    """

    def __init__(self, folder: epath.Path, chosen: _Set, split_names: Sequence[str], num_classes: int):
        self._folder = str(folder)
        parts = [_checked(folder, name, functools.partial(chosen.splits[name], folder)) for name in split_names]
        self._parts = [pixels for pixels, _ in parts]
        self._stops = np.cumsum([len(pixels) for pixels in self._parts])
        self.labels = np.concatenate([labels for _, labels in parts]).astype(np.int32)
        self.ids = [
            f"{name}_{k:05d}" for name, (pixels, _) in zip(split_names, parts, strict=True) for k in range(len(pixels))
        ]
        if self.labels.max(initial=-1) >= num_classes:
            raise InputError(
                f"Labels in {self._folder!r} must be below {num_classes}, its number of classes, got "
                f"{self.labels.max()}. Unpack the archive again."
            )

    @property
    def root(self) -> str:
        return self._folder

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, index: int) -> str:
        return f"{self._folder}: {self.ids[index]}"

    def open(self, index: int) -> BinaryIO:
        """Opens an image as a PPM: a header line followed by the pixels."""
        part, at = items.located(self._stops, index)
        pixels = self._parts[part][at]
        height, width = pixels.shape[1:]
        return io.BytesIO(b"P6 %d %d 255\n" % (width, height) + pixels.transpose(1, 2, 0).tobytes())


def _checked(folder: epath.Path, what: str, read: Callable[[], Any]) -> Any:
    """Calls `read` and converts its errors to InputError; damaged pickles can raise any exception."""
    try:
        return read()
    except Exception as error:
        raise InputError(
            f"{str(folder)!r} must hold {what} as in the original archive, got files that cannot be read "
            f"({files.reason(error)}). Unpack the archive again."
        ) from error


def _names(chosen: _Set, folder: epath.Path) -> tuple[str, ...]:
    """Reads the class names and checks that they are unique and as many as the data set has."""
    given = chosen.class_names(folder)
    names = tuple(_text(name) for name in given if isinstance(name, str | bytes))
    if not len(set(names)) == len(given) == chosen.num_classes:
        raise ValueError(f"it lists {len(given)} classes, expected {chosen.num_classes} different names")
    return names


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pickled(path: epath.Path) -> dict[str, Any]:
    """Reads a pickled dict with text keys; text pickled by Python 2 may be bytes."""
    value, _ = pickles.read(files.whole(path, largest=_LARGEST), pickles.ARRAYS, kind="CIFAR batch")
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds {pickles.kind_of(value)}, expected a dict")
    return {_text(name): entry for name, entry in value.items()}


def _cifar(*names: str, label: str) -> Callable[[epath.Path], _Part]:
    """Returns a function that reads the batches of a split."""

    def read(folder: epath.Path) -> _Part:
        batches = [_pickled(folder / name) for name in names]
        pixels, labels = [], []
        for name, batch in zip(names, batches, strict=True):
            if not isinstance(batch.get("data"), pickles.Array) or not isinstance(batch.get(label), list):
                raise ValueError(f"{name} has no data or no {label}: it belongs to another data set")
            values = batch["data"].values()
            if values.dtype != np.uint8 or values.ndim != 2 or values.shape[1] != 3 * 32 * 32:
                raise ValueError(f"{name} holds {values.dtype} {list(values.shape)}, expected uint8 [n, 3072]")
            if len(batch[label]) != len(values) or any(type(each) is not int or each < 0 for each in batch[label]):
                raise ValueError(f"{name} has {len(values)} images but a different number of labels, or invalid labels")
            pixels.append(values.reshape(-1, 3, 32, 32))
            labels.append(np.array(batch[label], np.int64))
        return np.concatenate(pixels), np.concatenate(labels)

    return read


def _cifar_names(file: str, entry: str) -> Callable[[epath.Path], Sequence[Any]]:
    return lambda folder: _pickled(folder / file)[entry]


def _stl10(name: str, *, labelled: bool) -> Callable[[epath.Path], _Part]:
    """Returns a function that reads a split: pixels in column-major order, one byte per label, labels from 1."""

    def read(folder: epath.Path) -> _Part:
        path = folder / f"{name}_X.bin"
        size = path.stat().length
        if not size or size % (3 * 96 * 96):
            raise ValueError(f"{path.name} has {size:,} bytes, which is not a whole number of images")
        pixels = np.memmap(os.fspath(path), np.uint8, "r").reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
        if not labelled:
            return pixels, np.full(len(pixels), -1)
        labels = np.frombuffer(files.whole(folder / f"{name}_y.bin"), np.uint8).astype(np.int64) - 1
        if len(labels) != len(pixels) or labels.min() < 0:
            raise ValueError(f"{name}_y.bin has {len(labels)} labels for {len(pixels)} images, or a label of 0")
        return pixels, labels

    return read


_SETS = (
    _Set(
        "cifar10",
        "cifar-10-batches-py",
        {
            "train": _cifar(*(f"data_batch_{number}" for number in range(1, 6)), label="labels"),
            "test": _cifar("test_batch", label="labels"),
        },
        10,
        _cifar_names("batches.meta", "label_names"),
    ),
    _Set(
        "cifar100",
        "cifar-100-python",
        {"train": _cifar("train", label="fine_labels"), "test": _cifar("test", label="fine_labels")},
        100,
        _cifar_names("meta", "fine_label_names"),
    ),
    _Set(
        "stl10",
        "stl10_binary",
        {
            "train": _stl10("train", labelled=True),
            "unlabelled": _stl10("unlabeled", labelled=False),
            "test": _stl10("test", labelled=True),
        },
        10,
        lambda folder: files.lines(os.fspath(folder / "class_names.txt")),
    ),
)
