"""Latent classes from a file."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sas_jax import latent_classes
from sas_jax.errors import InputError


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_file_is_read(tmp_path, dtype):
    np.save(tmp_path / "classes.npy", np.arange(40, dtype=dtype) % 7)
    classes = latent_classes.from_file(tmp_path / "classes.npy", n=40)
    np.testing.assert_array_equal(classes, np.arange(40) % 7)
    assert classes.dtype == np.int32


@pytest.mark.parametrize(
    "convert", [lambda c: c.astype(float), lambda c: np.array(list("abcdefg"))[c], lambda c: c == 3]
)
def test_a_class_is_a_distinct_value(tmp_path, convert):
    given = np.arange(40) % 7
    np.save(tmp_path / "classes.npy", convert(given))
    classes = latent_classes.from_file(tmp_path / "classes.npy", n=40)
    np.testing.assert_array_equal(classes, np.unique(convert(given), return_inverse=True)[1])


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (np.zeros(39, int), "classes.npy must be one for each of the 40 examples, got 39"),
        (np.zeros((40, 1), int), r"each of the 40 examples, got an array of shape \[40, 1\]"),
        (np.full(40, 0.5), r"classes of .*classes.npy must be text, or whole numbers .* got 0\.5 as entry 0"),
        (np.zeros(40, complex), "must be whole numbers or text, got complex128"),
        (np.arange(40) - 1, "from 0 to 2.31 - 1, got -1 as entry 0"),
        (np.arange(40) + 2**31, "got 2147483648 as entry 0"),
        (np.array([{}] * 40), "which cannot be read"),
    ],
)
def test_bad_files(tmp_path, classes, sentence):
    np.save(tmp_path / "classes.npy", classes, allow_pickle=True)
    with pytest.raises(InputError, match=sentence):
        latent_classes.from_file(tmp_path / "classes.npy", n=40)


def test_files_that_are_no_array(tmp_path):
    (tmp_path / "text.npy").write_text("0 1 2")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "whole.npy", np.zeros(40, int))
    (tmp_path / "short.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    np.savez(tmp_path / "archive.npz", a=np.zeros(40, int))
    for name, sentence in (
        ("text.npy", "text.npy, which cannot be read"),
        ("empty.npy", "empty.npy, which cannot be read"),
        ("short.npy", "short.npy, which cannot be read"),
        ("archive.npz", "an archive of arrays"),
        ("none.npy", "none.npy, which does not exist"),
        ("", "which cannot be read"),  # the folder itself
    ):
        with pytest.raises(InputError, match=sentence):
            latent_classes.from_file(tmp_path / name, n=40)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda header: b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header, st.binary(max_size=60)
        ),
        st.builds(lambda cut: saved(np.arange(40))[:cut], st.integers(0, 447)),
        st.builds(
            lambda place, byte: saved(np.arange(40))[:place] + bytes([byte]) + saved(np.arange(40))[place + 1 :],
            st.integers(0, 447),
            st.integers(0, 255),
        ),
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")  # Python's parser warns about the content of a damaged header
def test_any_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / "classes.npy"
    path.write_bytes(content)
    try:
        found = latent_classes.from_file(path, n=40)
    except InputError:
        return
    assert found.shape == (40,)
    assert found.min() >= 0
