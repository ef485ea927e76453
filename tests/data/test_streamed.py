import numpy as np
import pytest

from sas_jax import devices
from sas_jax.data import streamed

N, SIZE = 11, 3
PIXELS = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)


class Counted(streamed.StreamedImages):
    """Returns the requested rows of PIXELS, and counts them."""

    def __init__(self):
        super().__init__(N, SIZE)
        self.decoded = 0

    def _decode(self, indices, out):
        assert indices.dtype == np.int64
        assert indices.shape == out.shape[:1]
        self.decoded += len(indices)
        out[:] = PIXELS[indices]


@pytest.mark.parametrize(
    "indices",
    [
        0,
        -1,
        np.int32(4),
        np.array(7),
        slice(None),
        slice(2, 9, 3),
        slice(None, None, -1),
        slice(5, 5),
        [3, 3, 0, 10],
        np.array([-11, 10, 4], np.int8),
        np.array([4, 2], np.uint64),
        [],
        np.arange(N) % 2 == 0,
        np.zeros(N, bool),
    ],
    ids=str,
)
def test_indexing_is_numpys(indices):
    images = Counted()
    expected = PIXELS[np.array(indices, int) if indices == [] else indices] if isinstance(indices, list) else None
    expected = PIXELS[indices] if expected is None else expected
    found = images[indices]
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    assert images.decoded == expected.size // (SIZE * SIZE * 3), "no more than was asked for"


@pytest.mark.parametrize(
    "indices",
    [
        N,
        -N - 1,
        [0, N],
        np.array([-N - 1]),
        np.uint64(2**64 - 1),
        1.0,
        [0.5],
        np.ones((2, 2), int),
        np.ones(N - 1, bool),
        "a",
        None,
    ],
)
def test_what_is_no_index_is_refused(indices):
    images = Counted()
    with pytest.raises(IndexError, match="must be"):
        images[indices]
    assert not images.decoded


@pytest.mark.parametrize(
    ("indices", "wrong"), [(N, N), (-N - 1, -N - 1), ([0, -N - 3, N], -N - 3), ([1, N + 2], N + 2)]
)
def test_an_index_that_is_out_of_range_is_named_with_its_sign(indices, wrong):
    with pytest.raises(IndexError, match=rf"must be in \[-{N}, {N}\), got {wrong}\. Correct"):
        Counted()[indices]


def test_it_looks_like_the_array():
    images = Counted()
    for name in ("shape", "dtype", "ndim", "nbytes"):
        assert getattr(images, name) == getattr(PIXELS, name)
    assert len(images) == len(PIXELS)
    np.testing.assert_array_equal(list(images), PIXELS)


def test_auto_streams_what_takes_over_half_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda: 2000)
    assert [streamed.is_streamed("auto", num_bytes) for num_bytes in (0, 1000, 1001)] == [False, False, True]
    for num_bytes in (0, 10**15):
        assert streamed.is_streamed("stream", num_bytes)
        assert not streamed.is_streamed("host", num_bytes)
        assert not streamed.is_streamed("device", num_bytes)
    assert streamed.memory(*PIXELS.shape[:2]) == PIXELS.nbytes
