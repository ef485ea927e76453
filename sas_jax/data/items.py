"""Encoded images, wherever they are stored, to a split: in memory, or decoded when they are asked for."""

import re
import threading
from collections.abc import Sequence
from typing import BinaryIO, Protocol

import numpy as np

from sas_jax.data import encoded, images
from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.streamed import StreamedImages, is_streamed, memory
from sas_jax.errors import InputError

MAX_BROKEN = 0.01  # of the images; beyond that it is the whole that is wrong, not an image


class Items(Protocol):
    """Encoded images by index; it pickles to what it takes to open them again."""

    @property
    def root(self) -> str:
        """Where they are stored, for messages."""

    def __len__(self) -> int: ...

    def place(self, index: int, /) -> str:
        """Where one is stored, for messages."""

    def open(self, index: int, /) -> BinaryIO:
        """One of them, at its beginning.

        Raises:
            Exception: it cannot be read, whatever the reader meets.
        """


def read(
    items: Items, ids: Sequence[str], labels: np.ndarray | None, *, image_size: int, stream: bool
) -> tuple[Split, tuple[str, ...]]:
    """Reads images.

    Args:
        items: the images.
        ids: [n], all different.
        labels: int [n]; None where there are none.
        image_size: pixels a side.
        stream: whether they are decoded when they are asked for, and not into memory.

    Returns:
        The images that could be read; "place: reason" for each of the others.

    Raises:
        InputError: more than 1 % of the images are broken.
    """
    pixels = None if stream else np.empty((len(items), image_size, image_size, 3), np.uint8)
    marks, broken = _look_at(items, size=image_size, pixels=pixels)
    kept = np.setdiff1d(np.arange(len(items)), list(broken)) if broken else np.arange(len(items))
    if pixels is not None:
        for to, at in enumerate(kept if broken else ()):  # in place: a second copy may not fit into memory
            pixels[to] = pixels[at]
    split = Split(
        ItemImages(items, kept, size=image_size) if pixels is None else pixels[: len(kept)],
        None if labels is None else np.asarray(labels, np.int32)[kept],
        np.array(ids)[kept],
        marks[kept],
    )
    return split, tuple(f"{items.place(i)}: {broken[i]}" for i in sorted(broken))


def read_splits(
    name: str,
    parts: Sequence[tuple[Items, Sequence[str], np.ndarray | None]],
    class_names: tuple[str, ...] | None,
    *,
    image_size: int,
    placement: str,
) -> Dataset:
    """Reads the images to train on, and those to test on where there are some.

    Args:
        name: of the data set.
        parts: of each split, one or two, the images, ids and labels, as of `read`.
        class_names: of the labels; None where there are none.
        image_size: pixels a side.
        placement: "device" and "host" decode the images into memory, "stream" when they are asked for, "auto" by how
            much memory is free.

    Raises:
        InputError: more than 1 % of the images of a split are broken.
    """
    stream = is_streamed(placement, memory(sum(len(each) for each, _, _ in parts), image_size))
    found = [read(each, ids, labels, image_size=image_size, stream=stream) for each, ids, labels in parts]
    splits = [split for split, _ in found]
    skipped = tuple(broken for _, of_split in found for broken in of_split)
    return Dataset(name, splits[0], splits[1] if splits[1:] else None, class_names, skipped)


def located(stops: np.ndarray, index: int) -> tuple[int, int]:
    """Of what lies in parts one after the other, the part that an index is in, and its place there.

    Args:
        stops: int [parts], ascending: the number of all up to the end of each.
        index: of all, from 0.
    """
    part = int(np.searchsorted(stops, index, side="right"))
    return part, index - (int(stops[part - 1]) if part else 0)


class ItemImages(StreamedImages):
    """Images that are decoded when they are asked for."""

    def __init__(self, items: Items, kept: np.ndarray, *, size: int):
        """`kept`, int [k], are the indices of those to show; nothing is read yet."""
        super().__init__(len(kept), size)
        self._items = items
        self._kept = kept

    def _decode(self, indices: np.ndarray, out: np.ndarray) -> None:
        def work(start: int, stop: int) -> None:
            for at in range(start, stop):
                index = int(self._kept[indices[at]])
                try:
                    with self._items.open(index) as file:
                        out[at] = decode(file, self.shape[1])
                except Exception as error:  # PIL's readers raise whatever a broken file leads them into
                    way_out = "Put it back" if isinstance(error, FileNotFoundError) else "Remove it"
                    raise InputError(
                        f"{self._items.place(index)!r} must be a whole image, got one that cannot be read "
                        f"({_reason(error)}). {way_out} and run again."
                    ) from error

        images.in_threads(work, len(indices))


def decode(file: BinaryIO, size: int) -> np.ndarray:
    """An encoded image to uint8 [size, size, 3]."""
    with images.opened(file) as image:
        # A large JPEG is decoded at a half, a quarter or an eighth, still twice as large as wanted. Others ignore it.
        image.draft("RGB", (2 * size, 2 * size))
        return images.square_rgb(image, size, upright=True)


def _look_at(items: Items, *, size: int, pixels: np.ndarray | None) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes every image, or where it is not to be kept looks whether it could be.

    Args:
        items: the images.
        size: pixels a side.
        pixels: uint8 [n, size, size, 3], filled in except for the broken ones; None for a look only.

    Returns:
        The images' marks, uint64 [n], and the reason for each broken one.
    """
    count = len(items)
    marks = np.zeros(count, np.uint64)
    broken: dict[int, str] = {}
    lock = threading.Lock()

    def work(start: int, stop: int) -> None:
        for i in range(start, stop):
            try:
                with items.open(i) as file:
                    ends = encoded.read_ends(file)
                    marks[i] = ends.mark()
                    if pixels is None:
                        encoded.check(file, ends, lambda file: decode(file, size))
                    else:
                        pixels[i] = decode(file, size)
            except Exception as error:  # PIL's readers raise whatever a broken file leads them into
                with lock:
                    broken[i] = _reason(error)
                    if len(broken) > MAX_BROKEN * count:
                        break
        # Looked at outside the try above, which would take this error for one more broken image.
        if len(broken) > MAX_BROKEN * count:
            raise _TooManyBroken

    name = items.root.rstrip("/").rpartition("/")[2]
    try:
        images.in_threads(work, count, description=f"{'looking at' if pixels is None else 'reading'} {name}")
    except _TooManyBroken:
        first = min(broken)
        place = items.place(first).removeprefix(f"{items.root}/")
        raise InputError(
            f"At most 1 % of the {count} images in {items.root!r} may be broken, got {len(broken)} so far, the "
            f"first of them {place} ({broken[first]}). Mend or remove them."
        ) from None
    return marks, broken


class _TooManyBroken(Exception):
    """Ends the reading early."""


def _reason(error: Exception) -> str:
    text = re.sub(r" <_io\.\w+ object at 0x\w+>", "", str(error))  # an address, which is another in each run
    return " ".join(text.split()) or type(error).__name__
