import concurrent.futures
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
        "I": (Image.fromarray(grey.astype(np.int32) * 256), three),
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


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="floating point"):
        images.square_rgb(Image.fromarray(np.zeros((4, 4), np.float32)), 4)


@pytest.mark.parametrize("count", [0, 1, 64, 1000])
def test_in_threads_does_every_image_once(count, capsys):
    done = np.zeros(count, int)

    def work(start, stop):
        done[start:stop] += 1

    images.in_threads(work, count, description="")
    assert (done == 1).all()
    assert capsys.readouterr() == ("", ""), "no bar where there is no terminal"


def test_in_threads_uses_every_core_for_a_batch_and_no_more_threads_for_many():
    """Of several callers at a time each gets its own work done, by the threads of one pool."""
    cores = devices.cpu_count()
    names = set()
    together = threading.Barrier(cores)

    def meet(start, stop):
        names.add(threading.current_thread().name)
        if start < cores:
            together.wait(20)  # passes when as many threads as cores are here

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
