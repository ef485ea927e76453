"""Rows that an interrupted call left behind: whole, truncated or damaged."""

import numpy as np
import pytest
from etils import epath

from sas_jax.resumed_rows import forget, resumed_rows

ROWS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def batches(first, stop=12):
    """Yields four rows at a time."""
    for start in range(first, stop, 4):
        yield ROWS[start : min(start + 4, stop)]


@pytest.fixture
def interrupted(tmp_path):
    """Returns the output of a call that was interrupted after eight rows, and its saved state."""

    def make(first):
        yield from batches(first, 8)
        raise KeyboardInterrupt

    output = epath.Path(tmp_path / "E.npy")
    with pytest.raises(KeyboardInterrupt):
        resumed_rows(output, "a", make, log=print)
    return output, tmp_path / "E.npy.partial"


def resume(output, of="a"):
    """Returns the row at which the next call begins."""
    firsts, said = [], []
    found = resumed_rows(output, of, lambda first: firsts.append(first) or batches(first), log=said.append)
    np.testing.assert_array_equal(found, ROWS)
    assert said == ([f"{output}.partial: resumes at image {firsts[0]}"] if firsts[0] else [])
    return firsts[0]


def test_it_resumes_after_the_last_whole_batch(interrupted):
    output, path = interrupted
    kept = path.read_bytes()
    for cut, first in ((0, 8), (1, 4), (48, 4), (60, 4), (61, 0), (len(kept), 0)):
        path.write_bytes(kept[: len(kept) - cut])
        assert resume(output) == first
        assert resume(output) == 12, "what was made since is kept as well"
    forget(output)
    assert not path.exists()
    forget(output)


def test_damaged_and_other_rows_are_made_anew(interrupted):
    output, path = interrupted
    kept = path.read_bytes()
    for at in range(len(kept)):
        path.write_bytes(kept[:at] + bytes([kept[at] ^ 0x40]) + kept[at + 1 :])
        assert resume(output) == (0 if at < 62 else 4)
    path.write_bytes(kept)
    assert resume(output, of="b") == 0
