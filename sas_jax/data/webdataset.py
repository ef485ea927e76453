"""Reads WebDataset: tar files whose members key.jpg and key.cls (or key.json) are an image and its label.

    train-000000.tar: dogs/0001.jpg dogs/0001.cls dogs/0002.png dogs/0002.json ...

The headers are scanned once; images are then read by their offsets. Compressed tar files have no such offsets and are
not supported. Source: https://github.com/webdataset/webdataset
"""

import dataclasses
import io
import json
import os
import re
import tarfile
from typing import Any, BinaryIO

import numpy as np
from etils import epath

from sas_jax import files
from sas_jax.data import images, items, labels, shards
from sas_jax.data.dataset import Dataset
from sas_jax.errors import InputError

IMAGES = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "tif", "tiff", "gif"))
_LABELS = ("cls", "json")
_LARGEST = 1 << 20  # bytes of a label file
_BLOCK = 512  # bytes of a tar block


def load(
    path: str, test_path: str, *, train_split: str, test_split: str, image_size: int, placement: str = "host"
) -> Dataset:
    """Reads a folder of tar files.

    Args:
        path: the folder or a single file.
        test_path: the test files; "" if the file names determine the splits.
        train_split, test_split: see `shards.splits`.
        image_size: side length in pixels.
        placement: see `items.read_splits`.

    Returns:
        The data set, in the order of the files and of their members. Ids are the keys.

    Raises:
        InputError: a file is missing or damaged, a key is repeated, labels are invalid, or more than 1 % of the images
            are broken.
    """
    root, *found = shards.splits(path, test_path, (".tar",), train_split=train_split, test_split=test_split)
    tars = [_Tars(root, [file for _, of_split in pieces for file in of_split]) for pieces in found if pieces]
    names = labels.class_names((label for each in tars for label in each.labels), root=str(root))
    parts = [
        (each, each.keys.tolist(), None if names is None else labels.numbered(each.labels, names, place=each.place))
        for each in tars
    ]
    name = "/".join(root.parts[-2:])
    return items.read_splits(name, parts, names, image_size=image_size, placement=placement)


@dataclasses.dataclass
class _Sample:
    """The image (offset and length) and the label that belong to a key of a tar file."""

    image: tuple[int, int] | None = None
    label: Any = None


class _Tars:
    """The concatenated samples of tar files, as `items.Items`.

    Attributes:
        keys: str [n].
        labels: [n], each a number, text or None.
    """

    def __init__(self, root: epath.Path, paths: list[epath.Path]):
        self._root = str(root)
        self._files = [os.fspath(path) for path in paths]
        found: list[dict[str, _Sample]] = [{} for _ in paths]

        def work(start: int, stop: int) -> None:
            for number in range(start, stop):
                found[number] = _samples(self._files[number])

        images.in_threads(work, len(paths), description=f"listing {root.name}")
        samples = [(number, key, sample) for number, each in enumerate(found) for key, sample in each.items()]
        if not any(sample.image for _, _, sample in samples):
            raise InputError(
                f"The tar files in {self._root!r} must hold images (.jpg, .png, .webp, ...), got none. Correct "
                f"config.data.folder."
            )
        self.keys = np.array([key for _, key, _ in samples])
        self.labels = [sample.label for _, _, sample in samples]
        self._number = np.array([number for number, _, _ in samples], np.int32)
        self._image = np.array([sample.image or (0, -1) for _, _, sample in samples], np.int64)
        where: dict[str, int] = {}
        for at, key in enumerate(self.keys.tolist()):
            if where.setdefault(key, at) != at:
                raise InputError(
                    f"Keys must be unique, because they are the images' ids, got {key!r:.100} in "
                    f"{self._files[self._number[where[key]]]!r} and in {self._files[self._number[at]]!r}. Rename one."
                )

    @property
    def root(self) -> str:
        return self._root

    def __len__(self) -> int:
        return len(self.keys)

    def place(self, index: int) -> str:
        return f"{self._files[self._number[index]]}: {self.keys[index]}"

    def open(self, index: int) -> BinaryIO:
        start, length = self._image[index].tolist()
        if length < 0:
            raise ValueError("it has no image")
        with epath.Path(self._files[self._number[index]]).open("rb") as file:
            file.seek(start)
            content = file.read(length)
        if len(content) < length:
            raise ValueError("the tar file ends within it")
        return io.BytesIO(content)


def _samples(path: str) -> dict[str, _Sample]:
    """Returns the samples of a tar file by key."""
    found: dict[str, _Sample] = {}
    try:
        with epath.Path(path).open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                key, _, kind = name.partition(".")
                kind = kind.lower()
                if not member.isfile() or name.startswith((".", "__")) or kind not in (*IMAGES, *_LABELS):
                    continue
                key = f"{folder}/{key}" if folder else key
                if "\n" in key or "\r" in key:
                    raise ValueError(f"the key {key[:80]!r} contains a line break")
                if not key.isascii() and re.search("[\ud800-\udfff]", key):  # bytes that are not UTF-8; keys become ids
                    raise ValueError(f"the key {key[:80]!r} is not UTF-8")
                sample = found.setdefault(key, _Sample())
                if kind in IMAGES:
                    if sample.image:
                        raise ValueError(f"the key {key[:80]!r} has two images")
                    sample.image = (member.offset_data, member.size)
                elif sample.label is None:
                    sample.label = _label(tar, member, kind)
            file.seek(tar.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise ValueError("it is truncated: it has no end-of-archive mark")
    except Exception as error:  # damaged files can raise any exception
        raise InputError(
            f"{path} must be an intact, uncompressed tar file, got one that cannot be read ({files.reason(error)}). "
            f"Write it again, or move it away."
        ) from error
    return found


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str) -> Any:
    """Returns the label in a .cls, or under "label" or "cls" in a .json; None if there is none."""
    if member.size > _LARGEST:
        raise ValueError(f"{member.name[:80]!r} has {member.size:,} bytes, more than the limit of {_LARGEST:,}")
    file = tar.extractfile(member)
    assert file is not None
    text = file.read().decode().strip()
    if kind == "json":
        found = json.loads(text)
        return (
            next((found[name] for name in ("label", "cls") if name in found), None) if isinstance(found, dict) else None
        )
    return int(text) if text.lstrip("-").isdecimal() else text or None
