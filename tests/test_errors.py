"""Errors for users: one line, whatever the input."""

import numpy as np
import pytest

import sas_jax
from sas_jax import data, rank_file
from sas_jax.data import index_files
from sas_jax.errors import LONGEST, InputError, exactly_one

Z = np.eye(4, dtype=np.float32)
LONG = f"/data/{'x' * 5_000}/E.npy"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\x1b[31mred\x07\0", r"\x1b[31mred\x07\x00"),
        ("caf\udce9 \u202e \u2028", r"caf\udce9 \u202e \u2028"),
        ("größer, 大きい, 😀", "größer, 大きい, 😀"),
        ("w" * 200, "w" * 200),
    ],
)
def test_control_characters_are_escaped_and_others_stay(given, text):
    error = InputError(given)
    assert str(error) == text
    str(error).encode()


def test_of_a_long_path_the_end_says_which_file_and_of_a_long_sentence_what_to_do():
    assert str(InputError(f"{LONG} must be a file. Correct it.")).startswith("/data/xxx")
    assert str(InputError(f"{LONG} must be a file. Correct it.")).endswith("xxx/E.npy must be a file. Correct it.")
    assert len(str(InputError(LONG))) < 130
    listed = str(InputError(f"Names must differ, got {', '.join(map(str, range(10_000)))}. Correct them."))
    assert len(listed) <= LONGEST
    assert listed.startswith("Names must differ, got 0, 1")
    assert listed.endswith("9999. Correct them.")
    assert str(InputError()) == ""


@pytest.mark.parametrize(
    "call",
    [
        lambda path: sas_jax.Ranking.load(path),
        lambda path: rank_file.rank_file(path, "out.npz"),
        lambda path: rank_file.rank_file("E.npy", path),
        lambda path: index_files.read(path),
        lambda path: index_files.write(path, [1]),
        lambda path: sas_jax.load_encoder(path),
    ],
)
@pytest.mark.parametrize("path", [f"{'x' * 5_000}.npz", "/".join(["x" * 200] * 24) + ".npz"])
def test_a_long_path_is_not_echoed_whole(call, path):
    with pytest.raises(InputError) as caught:
        call(path)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "call",
    [
        lambda path: sas_jax.Ranking.load(path),
        lambda path: sas_jax.rank(Z).save(path),
        lambda path: sas_jax.rank(Z, resume=path or False),  # None saves nothing
        lambda path: rank_file.rank_file(path, "out.npz"),
        lambda path: index_files.read(path),
        lambda path: index_files.write(path, [1]),
        lambda path: sas_jax.load_encoder(path),
        lambda path: data.read_folder(path, image_size=4),
    ],
)
@pytest.mark.parametrize("path", [None, 3, b"r.npz", ["r.npz"], 1.5])
def test_what_is_no_path_is_one_sentence(call, path):
    with pytest.raises(InputError, match=r"^A path must be a string or a pathlib\.Path, got .*\. Give one\.$"):
        call(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"`a`": False, "`b`": False}, "Exactly one of `a` and `b` must be given, got neither. Give one."),
        ({"`a`": True, "`b`": True}, "Exactly one of `a` and `b` must be given, got both. Omit one."),
    ],
)
def test_neither_and_both_are_told_apart(given, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        exactly_one(given)
    exactly_one({"`a`": False, "`b`": True})
