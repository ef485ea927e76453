"""Tar shards written by the package webdataset give the same images, labels and ids as a folder."""

import contextlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from sas_jax.data import folder, webdataset
from sas_jax.errors import InputError
from tests.data.test_parquet import CLASSES, encoded


def load(path, test_path="", **options):
    given = {"train_split": "train", "test_split": "test", "image_size": 8} | options
    return webdataset.load(str(path), str(test_path) if test_path else "", **given)


def write(path, members):
    """Writes members given as (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("placement", ["host", "stream"])
@pytest.mark.parametrize("kind", ["cls", "json"])
def test_what_webdataset_writes_is_read_as_the_folder_is(tmp_path, kind, placement):
    wds = pytest.importorskip("webdataset", reason="the extra dev has it")
    for k in range(12):
        (tmp_path / "images" / CLASSES[k % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / CLASSES[k % 2] / f"{k:02d}.png").write_bytes(encoded(k))
    split = folder.read_folder(str(tmp_path / "images"), image_size=8)[0]
    (tmp_path / "tars").mkdir()
    for number in range(2):
        with wds.TarWriter(str(tmp_path / "tars" / f"train-{number:06d}.tar")) as writer:
            for k in range(6 * number, 6 * number + 6):
                name, label = split.ids[k], int(split.labels[k])
                image = (tmp_path / "images" / name).read_bytes()
                labels = {"cls": label} if kind == "cls" else {"json": {"label": label, "other": []}}
                writer.write({"__key__": name.removesuffix(".png"), "png": image, **labels})
    found = load(tmp_path / "tars", test_split="", placement=placement)
    np.testing.assert_array_equal(found.train.images[:], split.images)
    np.testing.assert_array_equal(found.train.labels, split.labels)
    np.testing.assert_array_equal(found.train.marks, split.marks)
    assert found.train.ids.tolist() == [name.removesuffix(".png") for name in split.ids]
    assert (found.test, found.class_names) == (None, ("0", "1"))
    images = pickle.loads(pickle.dumps(found.train.images))
    np.testing.assert_array_equal(images[[7, 0, 7]], split.images[[7, 0, 7]])
    subset = {str(found.train.ids[k]) for k in (1, 8)}  # the keys of a subset select the same images with webdataset
    found = []
    for number in range(2):
        with open(tmp_path / "tars" / f"train-{number:06d}.tar", "rb") as file:
            members = wds.tariterators.tar_file_expander([{"url": file.name, "stream": file}])
            found += [sample for sample in wds.tariterators.group_by_keys(members) if sample["__key__"] in subset]
    assert [sample["png"] for sample in found] == [(tmp_path / "images" / split.ids[k]).read_bytes() for k in (1, 8)]


def test_labels_as_text_none_and_other_members(tmp_path):
    members = [("a.JPG", encoded(0)), ("a.cls", b"dog\n"), ("b.png", encoded(1)), ("b.json", b'{"caption": "x"}')]
    members += [("c.webp", encoded(2)), ("c.cls", b"cat"), ("c.txt", b"a caption"), ("__info__.json", b"{}")]
    write(tmp_path / "x.tar", members)
    found = load(tmp_path / "x.tar")
    assert found.train.ids.tolist() == ["a", "b", "c"]
    assert (found.train.labels.tolist(), found.class_names) == ([1, -1, 0], CLASSES)


@pytest.mark.parametrize("placement", ["host", "stream"])
def test_broken_samples_are_named_counted_and_left_out(tmp_path, placement):
    members = [(f"{k:03d}.png", encoded(k)) for k in range(200)]
    members[3] = ("003.png", b"no image")
    members[4] = ("004.cls", b"1")
    write(tmp_path / "x.tar", members)
    found = load(tmp_path, placement=placement)
    assert [text.rpartition("x.tar: ")[2] for text in found.skipped] == [
        "003: cannot identify image file",
        "004: it has no image",
    ]
    assert len(found.train.images) == 198
    members[5] = ("005.cls", b"1")
    write(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=r"At most 1 % of the 200 images in .* x\.tar: 003 \(cannot identify"):
        load(tmp_path, placement=placement)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b"1"), ("a.jpg", b"2")], "the key 'a' has two images"),
        ([("a\nb.png", b"1")], "the key 'a.nb' contains a line break"),
        ([("caf\udce9.png", b"1")], r"the key 'caf.udce9' is not UTF-8"),
        ([("a.png", b"1"), ("b.png", b"1"), ("a.png", b"2")], "the key 'a' has two images"),
        ([("a.cls", b"1")], r"must hold images \(\.jpg, \.png, \.webp, \.\.\.\), got none"),
        ([("a.png", b"1"), ("a.cls", b"x" * (1 << 21))], "has 2,097,152 bytes, more than the limit of 1,048,576"),
        ([("a.png", b"1"), ("a.json", b"{")], "must be an intact, uncompressed tar file"),
        (
            [("a.png", b"1"), ("a.json", b'{"label": [1]}')],
            r"must all be whole numbers from 0 to 999,999, .* got \[1\]",
        ),
        ([("a.png", b"1"), ("a.json", b'{"label": 0.5}')], r"must all be whole numbers from 0 to 999,999, .* got 0\.5"),
    ],
)
def test_other_members_are_one_sentence(tmp_path, members, message):
    write(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_keys_that_repeat_are_one_sentence(tmp_path):
    write(tmp_path / "train-0.tar", [("a.png", encoded(0)), ("b.png", encoded(1))])
    write(tmp_path / "train-1.tar", [("b.png", encoded(2))])
    with pytest.raises(
        InputError, match=r"Keys must be unique, .* got 'b' in '.*train-0\.tar' and in '.*train-1\.tar'"
    ):
        load(tmp_path, test_split="")


def test_tar_files_cut_short_or_damaged_are_one_sentence(tmp_path):
    members = [(f"{k}.png", encoded(k)) for k in range(5)] + [("0.json", json.dumps({"label": 1}).encode())]
    path = tmp_path / "x.tar"
    write(path, members)
    whole = path.read_bytes()
    end = whole.rstrip(b"\0")
    rng = np.random.default_rng(0)
    for attempt in range(60):
        if attempt % 2:
            damaged = bytearray(whole)
            at = int(rng.integers(len(end)))
            damaged[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        else:
            damaged = whole[: rng.integers(len(end))]
        path.write_bytes(damaged)
        short = attempt % 2 == 0  # a truncated file must not be read as a shorter one
        with pytest.raises(InputError) if short else contextlib.suppress(InputError):  # any other error fails the test
            load(path)
    path.with_suffix(".tar.gz").write_bytes(b"")
    path.unlink()
    with pytest.raises(InputError, match=r"must be a file whose name ends in \.tar, or a folder of such files"):
        load(tmp_path)
