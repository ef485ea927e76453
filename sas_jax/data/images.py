"""Decoded images to squares of one size, on several threads."""

import concurrent.futures
import os
import threading
from collections.abc import Callable

import numpy as np
import tqdm
from PIL import Image

# Images a thread takes at a time: large enough that handing them out costs nothing, small enough for a smooth bar.
_CHUNK = 64


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


def in_threads(work: Callable[[int, int], None], count: int, *, description: str) -> None:
    """Calls work(start, stop) over 0..count in pieces, one thread a core (PIL decodes outside Python's lock).

    Args:
        work: does the images from start to stop; what it raises ends the rest and is raised here.
        count: how many images there are.
        description: stands before the progress bar, which shows on a terminal after two seconds.
    """
    starts = range(0, count, _CHUNK)
    failed = threading.Event()

    def guarded(start: int, stop: int) -> None:
        if failed.is_set():
            return
        try:
            work(start, stop)
        except BaseException:
            failed.set()
            raise

    with (
        tqdm.tqdm(total=count, desc=description, unit="images", disable=None, delay=2) as bar,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        stops = [min(start + _CHUNK, count) for start in starts]
        for start, stop, _ in zip(starts, stops, pool.map(guarded, starts, stops), strict=True):
            bar.update(stop - start)
