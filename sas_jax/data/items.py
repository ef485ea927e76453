"""Converts encoded images from any storage to a split, in memory or decoded on access."""

import re
import threading
from collections.abc import Sequence
from typing import BinaryIO, Protocol

import numpy as np

from sas_jax.data import encoded, images
from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.streamed import StreamedImages, is_streamed, memory
from sas_jax.errors import InputError

MAX_BROKEN = 0.01  # fraction of the images; with more, the data set as a whole is wrong


class Items(Protocol):
    """Encoded images by index. Pickles contain only what is needed to open them again."""

    @property
    def root(self) -> str:
        """The location of the images, for messages."""

    def __len__(self) -> int: ...

    def place(self, index: int, /) -> str:
        """Returns the location of one image, for messages."""

    def open(self, index: int, /) -> BinaryIO:
        """Opens one image, at its beginning.

        Raises:
            Exception: the image cannot be read; the type depends on the reader.
        """


def read(
    items: Items, ids: Sequence[str], labels: np.ndarray | None, *, image_size: int, stream: bool
) -> tuple[Split, tuple[str, ...]]:
    """Reads images.

    Args:
        items: the images.
        ids: [n], unique.
        labels: int [n], or None.
        image_size: side length in pixels.
        stream: whether to decode the images on access instead of into memory.

    Returns:
        The readable images; "place: reason" for each broken one.

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
    """Reads the training images and, if there are any, the test images.

    Args:
        name: the data set's name.
        parts: (items, ids, labels) of one or two splits, see `read`.
        class_names: the names of the labels, or None.
        image_size: side length in pixels.
        placement: "device" and "host" decode the images into memory, "stream" decodes them on access, "auto" chooses
            by the free memory.

    Raises:
        InputError: more than 1 % of the images of a split are broken.
    """
    stream = is_streamed(placement, memory(sum(len(each) for each, _, _ in parts), image_size))
    found = [read(each, ids, labels, image_size=image_size, stream=stream) for each, ids, labels in parts]
    splits = [split for split, _ in found]
    skipped = tuple(broken for _, of_split in found for broken in of_split)
    return Dataset(name, splits[0], splits[1] if splits[1:] else None, class_names, skipped)


def located(stops: np.ndarray, index: int) -> tuple[int, int]:
    """Returns the part of a concatenation that contains an index, and the index within that part.

    Args:
        stops: int [parts], ascending: the cumulative lengths of the parts.
        index: into the concatenation.
    """
    part = int(np.searchsorted(stops, index, side="right"))
    return part, index - (int(stops[part - 1]) if part else 0)


class ItemImages(StreamedImages):
    """Images that are decoded on access."""

    def __init__(self, items: Items, kept: np.ndarray, *, size: int):
        """Selects the items at the indices `kept`, int [k]; reads nothing."""
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
                except Exception as error:  # broken files can raise any exception in PIL
                    way_out = "Restore it" if isinstance(error, FileNotFoundError) else "Remove it"
                    raise InputError(
                        f"{self._items.place(index)!r} must be an intact image, got one that cannot be read "
                        f"({_reason(error)}). {way_out} and run again."
                    ) from error

        images.in_threads(work, len(indices))


def decode(file: BinaryIO, size: int) -> np.ndarray:
    """Decodes an image to uint8 [size, size, 3]."""
    with images.opened(file) as image:
        # Decodes a large JPEG at 1/2, 1/4 or 1/8 of its size, but at least twice `size`. Other formats ignore this.
        image.draft("RGB", (2 * size, 2 * size))
        return images.square_rgb(image, size, upright=True)


def _look_at(items: Items, *, size: int, pixels: np.ndarray | None) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes every image into `pixels`, or only checks whether it can be decoded.

    Args:
        items: the images.
        size: side length in pixels.
        pixels: uint8 [n, size, size, 3], filled in except for broken images; None to check only.

    Returns:
        The images' marks, uint64 [n], and the reason for each broken image.
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
            except Exception as error:  # broken files can raise any exception in PIL
                with lock:
                    broken[i] = _reason(error)
                    if len(broken) > MAX_BROKEN * count:
                        break
        # Outside the try block above, which would count this error as another broken image.
        if len(broken) > MAX_BROKEN * count:
            raise _TooManyBroken

    name = items.root.rstrip("/").rpartition("/")[2]
    try:
        images.in_threads(work, count, description=f"{'checking' if pixels is None else 'reading'} {name}")
    except _TooManyBroken:
        first = min(broken)
        place = items.place(first).removeprefix(f"{items.root}/")
        raise InputError(
            f"At most 1 % of the {count} images in {items.root!r} may be broken, got {len(broken)} so far, the "
            f"first of them {place} ({broken[first]}). Repair or remove them."
        ) from None
    return marks, broken


class _TooManyBroken(Exception):
    """Stops reading early."""


def _reason(error: Exception) -> str:
    text = re.sub(r" <_io\.\w+ object at 0x\w+>", "", str(error))  # a memory address, which differs between runs
    return " ".join(text.split()) or type(error).__name__
