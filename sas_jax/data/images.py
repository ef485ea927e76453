"""Decoded images to squares of one size, on several threads."""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import tqdm
from PIL import Image

from sas_jax import devices

# Images a thread takes at a time: large enough that handing them out costs nothing, small enough for a smooth bar.
_CHUNK = 64
# Pieces a thread has of what is less: one that meets large images leaves its other pieces to the others.
_PIECES = 4
_THREADS = "decoding"  # how their names begin


# Of what PIL can open. Not PostScript: a file that begins so, whatever it is called, PIL has Ghostscript run.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def opened(file: BinaryIO) -> Image.Image:
    """An encoded image, opened by PIL and not yet decoded.

    Raises:
        Exception: it is damaged or of another format, whatever PIL's readers meet in it.
    """
    return Image.open(file, formats=_FORMATS)


def square_rgb(image: Image.Image, size: int) -> np.ndarray:
    """An image of any mode and shape as an RGB square: the shorter side is resized to `size`, the longer one cut.

    Args:
        image: any image PIL has opened; 16-bit greys keep their upper 8 bits, transparency is dropped.
        size: pixels a side, at least 1.

    Returns:
        uint8 [size, size, 3]. An image that is size x size already keeps its pixels.

    Raises:
        ValueError: for floating-point pixels, whose range nothing says.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating point, of unknown range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray(np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns when such a palette goes to RGB in one step
    if image.mode != "RGB":
        image = image.convert("RGB")
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        # The same as resizing the whole and then cutting: near the box's edge PIL takes in what lies beyond.
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(image)


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
