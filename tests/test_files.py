"""The files that commands are given."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax import files
from sas_jax.errors import InputError

VALUES = np.arange(24, dtype=np.float32).reshape(6, 4)


@pytest.mark.parametrize(
    "values",
    [
        VALUES,
        VALUES.astype(">f8"),
        np.asfortranarray(VALUES),
        VALUES.astype(np.float16),
        VALUES[:0],
        np.array(["a", "bc"]),
    ],
)
def test_an_array_is_mapped(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    found = files.mapped(str(tmp_path / "a.npy"))
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.npy", "No such file or directory"),
        ("folder", "Is a directory"),
        ("a\0b.npy", "embedded null byte"),
        ("empty.npy", "it is empty"),
        ("text.npy", "it is something else"),
        ("pickle.npy", "it is something else"),
        ("two.npz", "it is an archive of arrays, as numpy.savez writes it"),
        ("short.npy", "mmap length is greater than file size"),
        ("magic.npy", "EOF: reading magic string"),
        ("objects.npy", "Array can't be memory-mapped: Python objects in dtype"),
    ],
)
def test_what_is_no_array_is_refused(tmp_path, name, reason):
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.npy").write_text("")
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1, 2]))
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    (tmp_path / "short.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    (tmp_path / "magic.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object))
    with pytest.raises(InputError) as found:
        files.mapped(f"{tmp_path}/{name}")
    text = str(found.value)
    assert text.startswith(f"{tmp_path}/{name} cannot be read as a .npy file ({reason}")
    assert text.endswith("; write it with numpy.save.")
    assert "\n" not in text


def test_a_single_value_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.float32(1))
    with pytest.raises(InputError, match=r"one.npy holds one value, and should hold an array with one row an example;"):
        files.mapped(str(tmp_path / "one.npy"))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_change_gives_an_array_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.npy"
    np.save(path, VALUES)
    whole = path.read_bytes()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 8)) | st.just(len(whole)))
    put = data.draw(st.binary(max_size=8) | st.text("0123456789-(),'{}<f", max_size=4).map(str.encode))
    path.unlink()
    path.write_bytes(whole[:begin] + put + whole[end:])
    sentence, dimensions = "", 1
    try:
        dimensions = files.mapped(str(path)).ndim
    except InputError as error:
        sentence = str(error)
    assert dimensions >= 1
    assert "\n" not in sentence


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_behind_a_byte_order_mark(tmp_path, ends):
    (tmp_path / "ids.txt").write_bytes(("\ufeff" + ends.join(["a.jpg", "\ufeffb.jpg", ""])).encode())
    assert files.lines(str(tmp_path / "ids.txt")) == ["a.jpg", "\ufeffb.jpg"]


def test_lines(tmp_path):
    path = tmp_path / "a.ids.txt"
    path.write_bytes("a/1.png\n b \r\nä\x85,c\n\nlast\n".encode())
    assert files.lines(str(path)) == ["a/1.png", " b ", "ä\x85,c", "", "last"]
    path.write_bytes(b"one\ntwo")
    assert files.lines(str(path)) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.txt", "No such file or directory"),
        (".", "Is a directory"),
        ("latin.txt", "'utf-8' codec can't decode byte 0xe9 in position 3"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, reason):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError) as found:
        files.lines(f"{tmp_path}/{name}")
    assert f"cannot be read as lines of UTF-8 ({reason}" in str(found.value)


def test_an_array_in_memory_is_of_a_file_and_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.testing.assert_array_equal(files.array(tmp_path / "a.npy"), VALUES)
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(ValueError, match=r"an archive of arrays, as numpy\.savez writes it"):
        files.array(tmp_path / "two.npz")


def test_a_whole_file_has_at_most_so_many_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.whole(tmp_path / "a", largest=5) == b"12345"
    with pytest.raises(ValueError, match="it has 5 bytes, and may have 4"):
        files.whole(tmp_path / "a", largest=4)


def test_a_reason_is_one_line_without_a_full_stop():
    assert files.reason(ValueError("one\n two.")) == "one two"
    assert files.reason(OSError(2, "No such file")) == "No such file"
    assert files.reason(KeyError()) == "KeyError"


def test_a_type_that_holds_nothing_is_not_mapped(tmp_path):
    """With a shape of -1, NumPy would end the process."""
    np.save(tmp_path / "a.npy", np.zeros(4, "V0"))
    with pytest.raises(InputError, match="which holds nothing"):
        files.mapped(str(tmp_path / "a.npy"))
