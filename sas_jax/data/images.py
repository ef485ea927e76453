"""Converts images to RGB squares of one size, and decodes them in several threads."""

import concurrent.futures
import contextlib
import functools
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import tqdm
from PIL import ExifTags, Image

from sas_jax import devices

# Images per task: enough to make scheduling negligible, few enough for a smooth progress bar.
_CHUNK = 64
# Tasks per thread if there are fewer images: a thread slowed by large images leaves its other tasks to other threads.
_PIECES = 4
_THREADS = "decoding"  # prefix of their names


# The formats that PIL may open. PostScript is excluded, because PIL runs Ghostscript on it, whatever the file's name.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image upright, by its EXIF orientation."""


def opened(file: BinaryIO) -> Image.Image:
    """Opens an encoded image with PIL without decoding it.

    Raises:
        Exception: the image is damaged or of another format; the type depends on PIL's reader.
    """
    return Image.open(file, formats=_FORMATS)


def square_rgb(image: Image.Image, size: int, *, upright: bool = False) -> np.ndarray:
    """Returns an image of any mode and shape as an RGB square, resized by its shorter side and centre-cropped.

    Args:
        image: as `opened` returns it; greys of 12 and 16 bits keep their upper 8 bits, transparency is dropped.
        size: side length in pixels, at least 1.
        upright: whether to apply the EXIF orientation.

    Returns:
        uint8 [size, size, 3]. The pixels of a size x size image are not resampled.

    Raises:
        ValueError: the pixels are floating-point, signed or 32-bit integers, whose range is unknown.
    """
    turn = _turn(image) if upright else None  # first, because conversion loses the format and the EXIF data
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_grey(image))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # converting such a palette directly to RGB makes PIL warn
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        # Equals resizing the whole image and then cropping: at the box's edge PIL's filter reads the pixels beyond it.
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(image)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Returns the transposition that turns an image upright, or None, also if its metadata are damaged."""
    image.load()  # PNG stores EXIF after the pixels; PIL turns TIFF itself and removes the orientation
    try:
        return _TURNS.get(image.getexif()[ExifTags.Base.Orientation])
    except Exception:  # no orientation, or damaged metadata, which can raise any exception
        return None


def _grey(image: Image.Image) -> np.ndarray:
    """Returns grey pixels of more than 8 bits as uint8; PNG, PGM and unsigned TIFF use the full range of their bits."""
    tiff = getattr(image, "tag_v2", {})
    bits = tiff.get(258, (16,))[0]  # BitsPerSample
    # PIL opens PGM of more than 8 bits as 32-bit integers, scaled to 16 bits.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))):
        kind = "floating point" if image.mode == "F" else "signed or 32-bit integers"
        raise ValueError(f"its pixels are {kind}, whose range is unknown: save it with 8 or 16 bits")
    grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return 255 - grey if tiff.get(262) == 0 else grey  # PhotometricInterpretation: white is zero


_PILS_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # in the form of the entries of warnings.filters
_lock = threading.Lock()
_decoding = 0


@contextlib.contextmanager
def _without_pils_warnings() -> Iterator[None]:
    """Suppresses PIL's warnings of odd metadata and large images, which are still read; unreadable images raise.

    warnings.catch_warnings is not thread-safe; here the last caller to exit removes the filter.
    """
    global _decoding
    with _lock:
        _decoding += 1
        if _PILS_WARNINGS not in warnings.filters:
            warnings.filters.insert(0, _PILS_WARNINGS)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding and _PILS_WARNINGS in warnings.filters:
                warnings.filters.remove(_PILS_WARNINGS)  # type: ignore[attr-defined]


@_without_pils_warnings()
def in_threads(work: Callable[[int, int], None], count: int, *, description: str = "") -> None:
    """Calls work(start, stop) on chunks of range(count), with one thread per core (PIL decodes without the GIL).

    Several threads may call this function concurrently. They share one pool, so the cores are not oversubscribed.
    `work` must not call it.

    Args:
        work: processes the images from start to stop; its first error cancels the remaining chunks and is raised here.
        count: number of images.
        description: label of the progress bar, which appears on a terminal after two seconds; "" for no bar.
    """
    assert not threading.current_thread().name.startswith(_THREADS), "it would wait for itself"
    threads = devices.cpu_count()
    piece = max(1, min(_CHUNK, count // (_PIECES * threads)))
    if count == 1:  # not worth a task
        work(0, 1)
        return
    failed = threading.Event()

    def guarded(start: int) -> int:
        stop = min(start + piece, count)
        if not failed.is_set():
            try:
                work(start, stop)
            except BaseException:
                failed.set()
                raise
        return stop - start

    pool = _pool(os.getpid())
    futures = [pool.submit(guarded, start) for start in range(0, count, piece)]
    try:
        with tqdm.tqdm(
            total=count, desc=description, unit="images", disable=None if description else True, delay=2
        ) as bar:
            for future in futures:
                bar.update(future.result())
    finally:
        failed.set()
        concurrent.futures.wait(futures)  # afterwards `work` no longer writes to the caller's arrays


@functools.cache
def _pool(_process: int) -> concurrent.futures.ThreadPoolExecutor:
    """Returns this process's decoding threads; a forked process cannot use its parent's."""
    return concurrent.futures.ThreadPoolExecutor(devices.cpu_count(), thread_name_prefix=_THREADS)
