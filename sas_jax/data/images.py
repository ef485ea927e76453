"""Decoded images to squares of one size, on several threads."""

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

# Images a thread takes at a time: large enough that handing them out costs nothing, small enough for a smooth bar.
_CHUNK = 64
# Pieces a thread has of what is less: one that meets large images leaves its other pieces to the others.
_PIECES = 4
_THREADS = "decoding"  # how their names begin


# Of what PIL can open. Not PostScript: a file that begins so, whatever it is called, PIL has Ghostscript run.
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
"""What shows an image upright, by its EXIF orientation."""


def opened(file: BinaryIO) -> Image.Image:
    """An encoded image, opened by PIL and not yet decoded.

    Raises:
        Exception: it is damaged or of another format, whatever PIL's readers meet in it.
    """
    return Image.open(file, formats=_FORMATS)


def square_rgb(image: Image.Image, size: int, *, upright: bool = False) -> np.ndarray:
    """An image of any mode and shape as an RGB square: the shorter side is resized to `size`, the longer one cut.

    Args:
        image: as `opened` returns it; greys of 12 and 16 bits keep their upper 8 bits, transparency is dropped.
        size: pixels a side, at least 1.
        upright: whether the image is turned as its EXIF orientation says.

    Returns:
        uint8 [size, size, 3]. An image that is size x size already keeps its pixels.

    Raises:
        ValueError: for floating-point, signed and 32-bit pixels, whose range is unknown.
    """
    turn = _turn(image) if upright else None  # before all else: a converted image has lost its format and its EXIF
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_grey(image))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns when such a palette goes to RGB in one step
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        # The same as resizing the whole and then cutting: near the box's edge PIL takes in what lies beyond.
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(image)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright. Pixels can be whole where the metadata beside them are damaged."""
    image.load()  # PNG has EXIF behind the pixels; TIFF is turned by PIL, which takes the orientation away
    try:
        return _TURNS.get(image.getexif()[ExifTags.Base.Orientation])
    except Exception:  # there is none; or damaged metadata, which lead PIL's parsers into any error
        return None


def _grey(image: Image.Image) -> np.ndarray:
    """Grey pixels of more than 8 bits as uint8; the range of PNG's, PGM's and unsigned TIFF's is that of their bits."""
    tiff = getattr(image, "tag_v2", {})
    bits = tiff.get(258, (16,))[0]  # BitsPerSample
    # PIL widens PGM's to its own 32 bits, scaled to 16.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))):
        kind = "floating point" if image.mode == "F" else "signed or 32-bit integers"
        raise ValueError(f"its pixels are {kind}, of unknown range: save it with 8 or 16 bits")
    grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return 255 - grey if tiff.get(262) == 0 else grey  # PhotometricInterpretation: white is zero


_PILS_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as warnings.filters has them
_lock = threading.Lock()
_decoding = 0


@contextlib.contextmanager
def _without_pils_warnings() -> Iterator[None]:
    """PIL warns of odd metadata and of large images, which are read all the same. What cannot be read raises.

    warnings.catch_warnings is for one thread at a time; here the last caller to leave removes the filter.
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
    """Calls work(start, stop) over 0..count in pieces, on a thread a core (PIL decodes outside Python's lock).

    Many threads may call this at a time: they share one pool, so that they do not crowd the cores. `work` must not.

    Args:
        work: does the images from start to stop; what it raises ends the rest and is raised here.
        count: how many images there are.
        description: stands before the progress bar, which shows on a terminal after two seconds; "" for no bar.
    """
    assert not threading.current_thread().name.startswith(_THREADS), "it would wait for itself"
    threads = devices.cpu_count()
    piece = max(1, min(_CHUNK, count // (_PIECES * threads)))
    if count == 1:  # not worth handing over
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
        concurrent.futures.wait(futures)  # what `work` writes to is the caller's again


@functools.cache
def _pool(_process: int) -> concurrent.futures.ThreadPoolExecutor:
    """This process's threads that decode; a forked one cannot use its parent's."""
    return concurrent.futures.ThreadPoolExecutor(devices.cpu_count(), thread_name_prefix=_THREADS)
