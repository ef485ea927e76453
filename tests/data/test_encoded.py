import io

import numpy as np
import pytest
from PIL import Image

from sas_jax.data import encoded

SELF_CHECKING = ["JPEG", "PNG", "GIF", "WEBP"]
FORMATS = [*SELF_CHECKING, "BMP", "TIFF"]


def encode(format, *, side=60, seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def decode(file):
    with Image.open(file) as image:
        image.load()


def outcome(function, *arguments):
    try:
        function(*arguments)
    except Exception:
        return "raises"
    return "does not"


def check(data, decode=decode):
    file = io.BytesIO(data)
    encoded.check(file, encoded.read_ends(file), decode)


@pytest.mark.parametrize("format", SELF_CHECKING)
@pytest.mark.parametrize("side", [5, 60])
def test_a_whole_image_is_not_decoded(format, side):
    data = encode(format, side=side)
    assert (len(data) > 2048) == (side == 60), "smaller and larger than both ends"
    check(data, lambda file: pytest.fail("it was decoded"))


@pytest.mark.parametrize(("format", "options"), [*((f, {}) for f in FORMATS), ("JPEG", {"comment": b"\xff\xd9" * 9})])
def test_of_an_image_cut_short_it_says_what_decoding_says(format, options):
    data = encode(format, **options)
    said = set()
    for length in [*range(0, len(data), len(data) // 40), *range(len(data) - 40, len(data) + 1)]:
        expected = outcome(decode, io.BytesIO(data[:length]))
        assert outcome(check, data[:length]) == expected, f"{format}, {length} of {len(data)} bytes"
        said.add(expected)
    assert said == {"raises", "does not"}


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_camera_appends_is_no_damage(format):
    check(encode(format) + bytes(100))


def test_an_animation_and_several_pictures_in_one_file():
    frames = [Image.fromarray(np.full((60, 60, 3), value, np.uint8)) for value in (0, 99, 200)]
    for format in ("GIF", "WEBP", "PNG", "MPO"):
        data = encode(format, save_all=True, append_images=frames)
        check(data, lambda file: pytest.fail("it was decoded"))
        assert outcome(check, data[:20]) == "raises"


@pytest.mark.parametrize("format", FORMATS)
def test_the_mark_is_that_of_the_content(format):
    def mark(data):
        return encoded.read_ends(io.BytesIO(data)).mark()

    data = encode(format)
    assert mark(data) == mark(encode(format))
    assert 0 <= mark(data) < 2**64
    others = {mark(encode(format, seed=seed)) for seed in range(1, 20)}
    assert len(others) == 19
    assert mark(data) not in others | {mark(data[:-1])}


@pytest.mark.parametrize("format", ["BMP", "TIFF"])
def test_a_pixel_in_the_middle_of_an_uncompressed_image_changes_its_mark(format):
    data = bytearray(encode(format))
    before = encoded.read_ends(io.BytesIO(bytes(data))).mark()
    data[len(data) // 2] ^= 1
    assert encoded.read_ends(io.BytesIO(bytes(data))).mark() != before


def test_the_ends_are_read_and_the_file_is_at_its_beginning_again():
    data = encode("PNG")
    file = io.BytesIO(data)
    ends = encoded.read_ends(file)
    assert (ends.length, ends.first, ends.last) == (len(data), data[:1024], data[-1024:])
    assert file.tell() == 0
    assert encoded.read_ends(io.BytesIO(data[:10])) == (10, data[:10], data[:10])
