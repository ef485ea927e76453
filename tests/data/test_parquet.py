"""Parquet and arrow files written by the package datasets give the same images, labels and ids as a folder."""

import io
import json
import os
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sas_jax.data import folder, parquet
from sas_jax.errors import InputError

CLASSES = ("cat", "dog")


def encoded(seed, size=(12, 9)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def load(path, test_path="", **options):
    given = {"train_split": "train", "test_split": "test", "image_size": 8} | options
    return parquet.load(str(path), str(test_path) if test_path else "", **given)


def features(**columns):
    return {b"huggingface": json.dumps({"info": {"features": columns}}).encode()}


HUB = features(image={"_type": "Image"}, label={"names": list(CLASSES), "_type": "ClassLabel"})


def write(path, rows, *, metadata=HUB, label="int64", group=4):
    """Writes rows given as (bytes, path, label)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array(
        [None if content is None else {"bytes": content, "path": name} for content, name, _ in rows], kind
    )
    table = pa.table({"image": images, "label": pa.array([row[2] for row in rows], label)})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)


def rows(count, *, first=0, names=True):
    return [(encoded(first + k), f"{first + k:03d}.png" if names else None, k % 2) for k in range(count)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images; the other formats store their paths relative to it."""
    root = tmp_path_factory.mktemp("images")
    for k in range(14):
        (root / CLASSES[k % 2]).mkdir(exist_ok=True)
        (root / CLASSES[k % 2] / f"{k:02d}.png").write_bytes(encoded(k))
    return root


@pytest.mark.parametrize("placement", ["host", "stream"])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_what_datasets_writes_is_read_as_the_folder_is(images, tmp_path, kind, placement):
    datasets = pytest.importorskip("datasets", reason="the extra dev has it")
    split = folder.read_folder(str(images), image_size=8)[0]
    table = {
        "image": [{"bytes": (images / name).read_bytes(), "path": name} for name in split.ids],
        "label": split.labels.tolist(),
    }
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    made = datasets.Dataset.from_dict(table, kinds)
    if kind == "parquet":
        (tmp_path / "data").mkdir()
        for number in range(2):
            shard = made.shard(2, number, contiguous=True)
            shard.to_parquet(tmp_path / "data" / f"train-0000{number}-of-00002.parquet")
        made.select([3, 1]).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    else:
        datasets.DatasetDict({"train": made, "test": made.select([3, 1])}).save_to_disk(
            tmp_path, num_shards={"train": 2, "test": 1}
        )
    found = load(tmp_path, placement=placement)
    np.testing.assert_array_equal(found.train.images[:], split.images)
    np.testing.assert_array_equal(found.train.labels, split.labels)
    np.testing.assert_array_equal(found.train.marks, split.marks)
    ids = np.array([name[4:] for name in split.ids]) if kind == "arrow" else split.ids  # save_to_disk drops the folders
    assert found.train.ids.tolist() == ids.tolist()
    assert (found.class_names, found.skipped) == (CLASSES, ())
    assert found.test.ids.tolist() == ids[[3, 1]].tolist()
    order = [9, 0, 5, 5]
    again = pickle.loads(pickle.dumps(found.train.images))[order]
    np.testing.assert_array_equal(again, split.images[order])
    subset = np.array([2, 3, 11])  # and the indices of a subset select the same images with datasets
    chosen = made.select(subset)
    for at, example in enumerate(chosen):
        assert np.asarray(example["image"]).shape == (12, 9, 3)
        assert example["label"] == found.train.labels[subset[at]]


def test_ids_are_split_and_row_where_paths_are_missing_or_repeat(tmp_path):
    write(tmp_path / "train.parquet", rows(5, names=False))
    write(tmp_path / "test.parquet", [(encoded(0), "a.png", 0), (encoded(1), "a.png", 1)])
    found = load(tmp_path)
    assert found.train.ids.tolist() == [f"train_{k:05d}" for k in range(5)]
    assert found.test.ids.tolist() == ["test_00000", "test_00001"]
    joined = load(tmp_path, train_split="train+test", test_split="")
    assert joined.train.ids[-1] == "test_00001"


@pytest.mark.parametrize(
    ("labels", "kind", "metadata", "expected", "names"),
    [
        ([1, None, 0], "int64", HUB, [1, -1, 0], CLASSES),
        ([2, -1, 0], "int64", {}, [2, -1, 0], ("0", "1", "2")),
        (["dog", "cat", "dog"], "string", {}, [1, 0, 1], CLASSES),
        ([None, None, None], "int64", HUB, None, CLASSES),
        ([None, None, None], "int64", {}, None, None),
    ],
)
def test_labels(tmp_path, labels, kind, metadata, expected, names):
    given = [(content, name, label) for (content, name, _), label in zip(rows(3), labels, strict=True)]
    write(tmp_path / "x.parquet", given, label=kind, metadata=metadata)
    found = load(tmp_path / "x.parquet")
    assert found.test is None, "no file's name says a split, so that all are to train on"
    assert (None if found.train.labels is None else found.train.labels.tolist()) == expected
    assert found.class_names == names


def test_images_as_bytes_and_no_labels(tmp_path):
    pq.write_table(pa.table({"jpg": pa.array([encoded(0), encoded(1)])}), tmp_path / "a.parquet")
    found = load(tmp_path)
    assert (found.train.labels, found.class_names) == (None, None)
    assert found.train.ids.tolist() == ["train_00000", "train_00001"]


@pytest.mark.parametrize("placement", ["host", "stream"])
def test_broken_rows_are_named_counted_and_left_out(tmp_path, placement):
    given = rows(200)
    given[7] = (None, None, 0)
    given[130] = (b"no image", "130.png", 1)
    write(tmp_path / "x.parquet", given)
    found = load(tmp_path, placement=placement)
    assert [text.partition(": ")[2] for text in found.skipped] == [
        "row 7: it has no image",
        "row 130: cannot identify image file",
    ]
    assert len(found.train) == len(found.train.images) == 198
    assert found.train.ids[7] == "train_00008", "null has no path, so that none is an id"
    given[8] = (None, None, 0)
    write(tmp_path / "x.parquet", given)
    with pytest.raises(InputError, match=r"At most 1 % of the 200 images .* x\.parquet: row 7 \(it has no image\)"):
        load(tmp_path, placement=placement)


def test_splits_by_name_and_by_field(tmp_path):
    write(tmp_path / "d" / "train-00000.parquet", rows(3))
    write(tmp_path / "d" / "validation-00000.parquet", rows(2, first=50))
    with pytest.raises(
        InputError, match=r"config.data.test_split must name splits .* \(train, validation\), got 'test'"
    ):
        load(tmp_path / "d")
    assert len(load(tmp_path / "d", test_split="validation").test) == 2
    assert load(tmp_path / "d", test_split="").test is None
    by_field = load(tmp_path / "d" / "train-00000.parquet", tmp_path / "d" / "validation-00000.parquet")
    assert (len(by_field.train), len(by_field.test)) == (3, 2)
    with pytest.raises(
        InputError, match=r"config.data.train_split must name splits .*, got 'trian'. Name one of these\."
    ):
        load(tmp_path / "d", train_split="trian")


@pytest.mark.parametrize("path", ["none", "notes.txt", "x" * 300])
def test_a_path_that_holds_no_such_file_is_one_sentence(tmp_path, path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        InputError, match=r"config.data.folder must be a file whose name ends in \.parquet or \.arrow, or a"
    ):
        load(tmp_path / path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pipe", "it is a pipe or a device, not a file"),
        ("folder", "Is a directory"),
        ("link to nothing", "No such file"),
    ],
)
def test_what_is_no_file_beside_the_others_is_one_sentence(tmp_path, kind, reason):
    """Reading a pipe would block forever."""
    write(tmp_path / "train-00000.parquet", rows(3))
    path = tmp_path / "train-00001.parquet"
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to nothing": lambda path: path.symlink_to("none")}[kind](path)
    with pytest.raises(InputError, match=rf"train-00001.parquet must be a file, got something else \({reason}"):
        load(tmp_path)


def test_links_are_followed_but_not_back_up(tmp_path):
    write(tmp_path / "data" / "train-00000.parquet", rows(3))
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "more").symlink_to(tmp_path / "data")
    assert len(load(tmp_path, test_split="").train) == 6


def test_other_columns_are_one_sentence(tmp_path):
    one, two = pa.array([encoded(0)]), pa.array([encoded(1)])
    for name, table, message in (
        ("none", pa.table({"label": [1]}), r"must have one column of images, .* got none among the columns label"),
        ("two", pa.table({"a": one, "b": two}), r"got 'a', 'b' among the columns a, b. Rename the column to 'image'"),
        ("twice", pa.table([one, one], names=["image"] * 2), r"cannot be read \(two of its columns are named 'image'"),
        ("empty", pa.table({"a": one})[:0], "must hold images, got no rows"),
        ("text", pa.table({"image": ["https://a/0.png"]}), r"got none among the columns image\. Rename the column"),
        ("nulls", pa.table({"image": pa.nulls(3, pa.binary())}), r"row 0 \(it has no image\)\. Repair or remove them"),
        (
            "label",
            pa.table({"image": one, "label": [0.5]}),
            r"must all be whole numbers from 0 to 999,999, .* got 0\.5",
        ),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "x.parquet")
        with pytest.raises(InputError, match=message):
            load(tmp_path / name)
    write(tmp_path / "wrong" / "x.parquet", [(encoded(0), "a", 7)])
    with pytest.raises(InputError, match=r"x\.parquet: row 0' must be one of the 2 classes, got 7"):
        load(tmp_path / "wrong")
    write(tmp_path / "mixed" / "train-0.parquet", rows(2))
    for other in (pa.table({"image": one}), pa.table({"image": one, "label": [1]})):  # bytes; structs before
        pq.write_table(other, tmp_path / "mixed" / "train-1.parquet")
        with pytest.raises(
            InputError, match=r"must have the same columns, got different columns in '.*train-1\.parquet'"
        ):
            load(tmp_path / "mixed", test_split="")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_damaged_files_are_one_sentence_that_names_them(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write(tmp_path / "x.parquet", rows(6))
    if suffix == "arrow":
        table = pq.read_table(tmp_path / "x.parquet")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        (tmp_path / "x.parquet").unlink()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    kept = shutil.copy(path, tmp_path / "kept")
    for attempt in range(40):
        damaged = bytearray(whole if attempt % 2 else whole[: rng.integers(len(whole))])
        if attempt % 2:
            at = int(rng.integers(len(whole) - 16))
            damaged[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        path.unlink()  # a mapped file must not be truncated in place
        path.write_bytes(damaged)
        try:
            found = load(path)
        except InputError as error:
            text = str(error)
        else:
            text = str(tmp_path)
            assert len(found.train) == 6
        assert str(tmp_path) in text
    path.write_bytes(kept.read_bytes())
    assert len(load(path).train) == 6
