"""Rankings: their subsets, turning points and files."""

import json

import numpy as np
import pyarrow.parquet
import pytest

from sas_jax.errors import InputError
from sas_jax.selection.ranking import Ranking, fingerprint

SUFFIXES = ["parquet", "csv", "npz"]


def example(ids=True):
    classes = np.array([0, 0, 2, 2, 2, 0, 2, 2])
    position = np.array([1, 0, 4, 2, 0, 2, 1, -1])
    gain = np.array([0.1, 1 / 3, -2, 0.5, 2, -0.25, 1e-20, np.nan])
    names = ['train_3"', "b,c", "ä/é.png", "3", "", " e ", "f", "train_007"] if ids else None
    return Ranking(position, gain, classes, names, {"objective": "sas", "parameters": {"budget": 7}})


def test_columns_have_their_types():
    ranking = example()
    assert (ranking.position.dtype, ranking.gain.dtype, ranking.classes.dtype) == (np.int32, np.float32, np.int32)
    assert len(ranking) == 8
    with pytest.raises(InputError, match=r"position has \[2\] and classes \[3\]"):
        Ranking([0, 1], [0.0, 0.0], [0, 0, 0])


@pytest.mark.parametrize(("fraction", "size"), [(0.2, 287), (0.05, 72), (0.9999, 1437), (1.0, 1437)])
def test_a_fraction_is_exactly_that_many(fraction, size):
    rng = np.random.default_rng(0)
    classes = rng.integers(7, size=1437)
    position = np.zeros(1437, int)
    for label in range(7):
        position[classes == label] = rng.permutation((classes == label).sum())
    ranking = Ranking(position, np.zeros(1437), classes)
    subset = ranking.subset(fraction=fraction)
    assert subset.dtype == np.int64
    assert len(subset) == size
    assert subset.tolist() == ranking.subset(size=size).tolist()
    per_class = np.bincount(classes[ranking.subset(fraction=fraction, rounding="floor")], minlength=7)
    assert per_class.tolist() == [int(fraction * (classes == label).sum()) for label in range(7)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a fraction= or a size="),
        ({"fraction": 0.5, "size": 2}, "either a fraction= or a size="),
        ({"fraction": 0}, "at most 1, and this is 0"),
        ({"fraction": 1.5}, "at most 1, and this is 1.5"),
        ({"fraction": 1.0}, "from 1 to 7 examples.*8 were asked"),
        ({"size": 8}, "from 1 to 7 examples.*8 were asked"),
        ({"fraction": 0.5, "rounding": "ceil"}, '"nearest" or "floor", and this is \'ceil\''),
        ({"size": 5, "rounding": "floor"}, "is for a fraction"),
    ],
)
def test_subset_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        example().subset(**arguments)


def test_turning_points():
    ranking = example()
    assert ranking.turning_points == {0: 2, 2: 4}
    assert ranking.turning_fraction == 6 / 8
    # Not ranked so far, or ranked to the end without.
    gain = np.abs(ranking.gain)
    ranking = Ranking(ranking.position, gain, ranking.classes)
    assert ranking.turning_points == {0: 3, 2: None}
    assert ranking.turning_fraction is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ids", [True, False])
def test_files_give_back_what_was_saved(tmp_path, suffix, ids):
    ranking, path = example(ids), tmp_path / f"ranking.{suffix}"
    ranking.save(path)
    ranking.save(path)
    loaded = Ranking.load(path)
    for name in ("position", "gain", "classes"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(ranking, name))
        assert getattr(loaded, name).dtype == getattr(ranking, name).dtype
    assert (loaded.ids.tolist() == ranking.ids.tolist()) if ids else (loaded.ids is None)
    assert loaded.metadata["parameters"] == {"budget": 7}
    assert loaded.metadata["turning_points"] == {"0": 2, "2": 4}
    assert loaded.metadata["turning_fraction"] == 0.75
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_parquet_file_is_as_documented(tmp_path):
    example().save(tmp_path / "r.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "r.parquet")
    assert table.column_names == ["index", "id", "class", "position", "gain"]
    assert table["index"].to_pylist() == list(range(8))
    assert json.loads(table.schema.metadata[b"sas_jax"])["objective"] == "sas"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    example().save(path)
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match="cut short, damaged or not a ranking"):
            Ranking.load(path)


def test_a_file_whose_rows_were_moved_is_refused(tmp_path):
    path = tmp_path / "r.csv"
    example().save(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *reversed(lines[2:])]) + "\n")
    with pytest.raises(InputError, match="index column is not 0, 1, 2"):
        Ranking.load(path)


def test_places_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        Ranking.load(tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"cannot be written to .*nowhere.*No such file"):
        example().save(tmp_path / "nowhere" / "r.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written to .*Not a directory"):
        example().save(tmp_path / "file" / "r.parquet")
    for use in (example().save, Ranking.load):
        with pytest.raises(InputError, match=r"\.parquet, \.csv or \.npz file, and .*r\.txt"):
            use(tmp_path / "r.txt")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    from etils import epath

    path = tmp_path / "r.csv"
    example().save(path)
    old = path.read_bytes()

    def full(self, data):
        self.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(epath.Path(path)), "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        example().save(path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]


def test_fingerprints_tell_values_and_shapes_apart():
    values = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    changed = values.copy()
    changed[7, 2] = np.nextafter(changed[7, 2], 9)
    names = {fingerprint(x) for x in (values, changed, values.reshape(4, 12), values[:11])}
    assert len(names) == 4
    assert fingerprint(values.astype(np.float64)) == fingerprint(np.asfortranarray(values)) == fingerprint(values)
