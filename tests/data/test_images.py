import concurrent.futures
import io
import struct
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from sas_jax import devices
from sas_jax.data import images


def _random(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_image_of_the_right_size_keeps_its_pixels():
    pixels = _random(8, 8, 3)
    np.testing.assert_array_equal(images.square_rgb(Image.fromarray(pixels), 8), pixels)


@pytest.mark.parametrize(("height", "width"), [(30, 20), (20, 30), (20, 20), (6, 4)])
@pytest.mark.parametrize("size", [4, 32])
def test_the_shorter_side_is_resized_and_the_longer_one_cut_at_both_ends(height, width, size):
    image = Image.fromarray(_random(height, width, 3))
    side = min(height, width)
    whole = image.resize((width * size // side, height * size // side), Image.Resampling.BICUBIC)
    left, top = (whole.width - size) // 2, (whole.height - size) // 2
    expected = np.asarray(whole)[top : top + size, left : left + size]
    np.testing.assert_array_equal(images.square_rgb(image, size), expected)


def test_modes_other_than_rgb():
    grey = _random(8, 8)
    three = np.stack([grey] * 3, -1)
    colours = _random(8, 8, 3)
    alpha = _random(8, 8, 1)
    cases = {
        "L": (Image.fromarray(grey), three),
        "LA": (Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha[..., 0]))), three),
        "RGBA": (Image.fromarray(np.concatenate([colours, alpha], -1)), colours),
        "1": (Image.fromarray(grey > 127), np.where(three > 127, 255, 0)),
        "I;16": (Image.fromarray(grey.astype(np.uint16) * 256 + 255), three),
    }
    for mode, (image, expected) in cases.items():
        assert image.mode == mode
        result = images.square_rgb(image, 8)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, expected, err_msg=mode)


def test_a_palette_with_transparency_gives_its_colours_and_no_warning(tmp_path):
    palette = Image.fromarray(_random(8, 8)).convert("P")
    palette.save(tmp_path / "p.png", transparency=bytes(range(256)))
    with warnings.catch_warnings(), Image.open(tmp_path / "p.png") as image:
        warnings.simplefilter("error")
        assert image.mode == "P"
        np.testing.assert_array_equal(images.square_rgb(image, 8), np.asarray(palette.convert("RGB")))


def tiff(pixels, bits, photometric=1, sample_format=1):
    """Returns an uncompressed greyscale TIFF of the pixels, int [h, w]."""
    if bits == 12:
        high, low = pixels.reshape(-1, 2).T
        data = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], 1).astype(np.uint8).tobytes()
    else:
        data = pixels.astype(f"<i{bits // 8}").tobytes()
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = sorted((tags | {339: sample_format}).items())
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in entries)
    return struct.pack("<4sI", b"II*\0", 8 + len(data)) + data + directory + b"\0\0\0\0"


def saved(image, format):
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


@pytest.mark.parametrize("turn", [False, True])
def test_greys_of_more_bits_keep_the_upper_8(turn):
    grey = _random(8, 8).astype(np.int64)
    white = 255 - grey
    wide = Image.fromarray((grey * 256 + 9).astype(np.uint16))
    pgm = b"P5 8 8 1023\n" + (grey * 4).astype(">u2").tobytes()
    cases = {
        "png": (saved(wide, "PNG"), grey),
        "tiff": (saved(wide, "TIFF"), grey),
        "big-endian tiff": (saved(Image.fromarray((grey * 257).astype(">u2")), "TIFF"), grey),
        "pgm": (saved(wide, "PPM"), grey),
        "pgm of 10 bits": (pgm, grey * 4 * 65535 // 1023 >> 8),
        "12 bits": (tiff(grey * 16 + 9, 12), grey),
        "16 bits": (tiff(grey * 256 + 9, 16), grey),
        "16 bits, white is zero": (tiff(grey * 256 + 9, 16, photometric=0), white),
        "8 bits, white is zero": (tiff(grey, 8, photometric=0), white),
    }
    for name, (data, expected) in cases.items():
        with images.opened(io.BytesIO(data)) as image:
            found = images.square_rgb(image, 8, upright=turn)
        assert found.dtype == np.uint8
        assert np.abs(found - np.stack([expected] * 3, -1)).max() <= ("pgm of" in name), name


def test_colours_of_16_bits_keep_the_upper_8():
    colours = _random(8, 8, 3)
    data = b"P6 8 8 65535\n" + (colours.astype(np.uint16) * 257).astype(">u2").tobytes()
    with images.opened(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(images.square_rgb(image, 8), colours)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "floating point"),
        (b"Pf 4 4 -1.0\n" + bytes(64), "floating point"),
        (saved(Image.fromarray(np.full((4, 4), 200, np.int32)), "TIFF"), "signed or 32-bit"),
        (tiff(np.full((4, 4), 200), 32), "signed or 32-bit"),
        (tiff(np.full((4, 4), 200), 16, sample_format=2), "signed or 32-bit"),
    ],
)
def test_pixels_of_unknown_range_are_refused(data, kind):
    with images.opened(io.BytesIO(data)) as image, pytest.raises(ValueError, match=f"{kind}.*whose range is unknown"):
        images.square_rgb(image, 4)


def test_callers_at_a_time_leave_the_filters_of_warnings_as_they_were():
    before = list(warnings.filters)
    barrier = threading.Barrier(2)

    def work(start, stop):
        warnings.warn_explicit("of metadata", UserWarning, "Image.py", 1, "PIL.Image")

    def call(order):
        for _ in range(50):
            images.in_threads(work, 200)
        barrier.wait(20)

    with concurrent.futures.ThreadPoolExecutor(2) as callers:
        list(callers.map(call, range(2)))
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="of metadata"):
        work(0, 1)


@pytest.mark.parametrize("count", [0, 1, 64, 1000])
def test_in_threads_does_every_image_once(count, capsys):
    done = np.zeros(count, int)

    def work(start, stop):
        done[start:stop] += 1

    images.in_threads(work, count, description="")
    assert (done == 1).all()
    assert capsys.readouterr() == ("", ""), "no bar where there is no terminal"


def test_in_threads_uses_every_core_for_a_batch_and_no_more_threads_for_many():
    """Concurrent callers each get their own work done, by the threads of one pool."""
    cores = devices.cpu_count()
    names = set()
    together = threading.Barrier(cores)

    def meet(start, stop):
        names.add(threading.current_thread().name)
        if start < cores:
            together.wait(20)  # passes once as many threads wait as there are cores

    images.in_threads(meet, 4 * cores)
    done = np.zeros((16, 100), int)

    def call(row):
        def work(start, stop):
            names.add(threading.current_thread().name)
            done[row, start:stop] += 1

        images.in_threads(work, 100)

    with concurrent.futures.ThreadPoolExecutor(16) as callers:
        list(callers.map(call, range(16)))
    assert (done == 1).all()
    assert len(names) == cores


def test_in_threads_works_in_a_forked_process():
    program = (
        "import os\n"
        "from sas_jax.data import images\n"
        "def count(): done = []; images.in_threads(lambda a, b: done.extend(range(a, b)), 99); return len(done)\n"
        "assert count() == 99\n"
        "child = os.fork()\n"
        "if not child: os._exit(0 if count() == 99 else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_in_threads_returns_when_no_thread_is_at_work_any_more():
    begun, ended = threading.Event(), []

    def work(start, stop):
        if start == 0:
            begun.wait(5)
            raise KeyError
        begun.set()
        time.sleep(0.1)
        ended.append(start)

    with pytest.raises(KeyError):
        images.in_threads(work, 500)
    assert ended or devices.cpu_count() == 1


def test_in_threads_raises_what_the_work_raises_and_ends_the_rest():
    calls = []
    lock = threading.Lock()

    def work(start, stop):
        with lock:
            calls.append(start)
        raise KeyError(start)

    with pytest.raises(KeyError):
        images.in_threads(work, 1_000_000, description="")
    assert len(calls) <= devices.cpu_count()
