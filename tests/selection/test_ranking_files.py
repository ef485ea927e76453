"""Files of rankings: saved ones load equal, and damaged, edited and other files are refused."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax.errors import InputError
from sas_jax.selection import ranking_files
from sas_jax.selection.ranking import Ranking

SUFFIXES = ["parquet", "csv", "npz"]
QUICK = settings(max_examples=50, deadline=None)


def example(ids=True):
    classes = np.array([0, 0, 2, 2, 2, 0, 2, 2])
    position = np.array([1, 0, 3, 2, 0, 2, 1, -1])
    gain = np.array([0.1, 1 / 3, -2, 0.5, 2, -0.25, 1e-20, np.nan])
    names = ['train_3"', "b,c", "ä/é.png", "3", "", " e ", "f\r\ng\n", "train_007"] if ids else None
    return Ranking(position, gain, classes, names, {"objective": "sas", "parameters": {"budget": 7}})


def assert_same_columns(found, expected):
    for name in ("position", "gain", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert (found.ids is None) if expected.ids is None else (found.ids.tolist() == expected.ids.tolist())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ids", [True, False])
def test_files_give_back_what_was_saved(tmp_path, suffix, ids):
    ranking, path = example(ids), tmp_path / f"ranking.{suffix}"
    ranking.save(path)
    ranking.save(path)
    loaded = Ranking.load(path)
    assert_same_columns(loaded, ranking)
    assert loaded.metadata == {
        "objective": "sas",
        "parameters": {"budget": 7},
        "turning_points": {"0": 2, "2": 3},
        "turning_fraction": 0.625,
    }
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@st.composite
def rankings(draw):
    """Draws any ranking: one class or several with any labels, ranked in part, with or without gains and names."""
    classes = np.array(draw(st.lists(st.sampled_from([0, 1, 7, 2**31 - 1]), min_size=1, max_size=9)))
    n = len(classes)
    position, order = np.full(n, -1), np.array(draw(st.permutations(range(n))))
    for label in np.unique(classes):
        members = order[classes[order] == label]
        ranked = members[: draw(st.integers(0, len(members)))]
        position[ranked] = np.arange(len(ranked))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    gain = np.array(draw(st.lists(finite, min_size=n, max_size=n)) if draw(st.booleans()) else [np.nan] * n)
    gain[position < 0] = np.nan
    # NumPy's strings cannot end in a null.
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(lambda name: name.rstrip("\0"))
    ids = draw(st.none() | st.lists(text, min_size=n, max_size=n, unique=True))
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    )
    metadata = draw(st.dictionaries(st.sampled_from(["parameters", "source", 'a "name"\n']), json_values, max_size=3))
    return Ranking(position, gain, classes, ids, metadata)


@QUICK
@given(rankings())
def test_any_ranking_comes_back(tmp_path_factory, ranking):
    for suffix in SUFFIXES:
        path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        ranking.save(path)
        loaded = Ranking.load(path)
        assert_same_columns(loaded, ranking)
        ranked = ~np.isnan(ranking.gain)
        assert np.signbit(loaded.gain[ranked]).tolist() == np.signbit(ranking.gain[ranked]).tolist()  # -0.0, too
        assert loaded.metadata == ranking.metadata


def test_names_of_two_lines_come_back_from_a_file_of_many_blocks(tmp_path):
    """A .csv is read one MiB at a time."""
    n = 60_000
    names = [f"a name of\ntwo lines, {k}" for k in range(n)]
    Ranking(np.arange(n), np.full(n, np.nan), np.zeros(n, int), names).save(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").stat().st_size > 2 << 20
    assert Ranking.load(tmp_path / "r.csv").ids.tolist() == names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_nan_is_one(tmp_path, suffix):
    """A computed nan can have other bits than a written one."""
    gain = np.array([0x3F800000, 0xFFC00001], np.uint32).view(np.float32)
    Ranking([0, -1], gain, [0, 0]).save(tmp_path / f"r.{suffix}")
    np.testing.assert_array_equal(Ranking.load(tmp_path / f"r.{suffix}").gain, [1, np.nan])


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_changed_file_is_refused_or_means_the_same(tmp_path_factory, suffix, data):
    """Truncating, overwriting and inserting give an InputError or the same ranking, never another order."""
    path = tmp_path_factory.getbasetemp() / f"changed.{suffix}"
    example().save(path)
    whole = path.read_bytes()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 8)) | st.just(len(whole)))
    put = data.draw(st.binary(max_size=8) | st.text('0123456789-,.\n"{}ena', max_size=4).map(str.encode))
    path.write_bytes(whole[:begin] + put + whole[end:])
    loaded, sentence = example(), str(path)
    try:
        loaded = Ranking.load(path)
    except InputError as error:
        sentence = str(error)
    assert_same_columns(loaded, example())
    assert str(path) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("suffix", SUFFIXES)
@QUICK
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path_factory, suffix, data):
    path = tmp_path_factory.getbasetemp() / f"bytes.{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"truncated, damaged or not a ranking|cannot be used: it has 0 columns"):
        Ranking.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    example().save(path)
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match="truncated, damaged or not a ranking"):
            Ranking.load(path)


def test_a_parquet_file_is_as_documented(tmp_path):
    example().save(tmp_path / "r.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "r.parquet")
    assert table.column_names == ["index", "id", "class", "position", "gain"]
    assert table["index"].to_pylist() == list(range(8))
    assert json.loads(table.schema.metadata[b"sas_jax"])["objective"] == "sas"


def test_a_csv_file_is_as_documented(tmp_path):
    example().save(tmp_path / "r.csv")
    first, rest = (tmp_path / "r.csv").read_bytes().decode().split("\n", 1)
    assert json.loads(first.removeprefix("# "))["objective"] == "sas"
    rows = list(csv.DictReader(io.StringIO(rest, newline="")))
    assert [int(row["index"]) for row in rows] == list(range(8))
    assert [row["id"] for row in rows] == example().ids.tolist()
    assert rows[1] == {"index": "1", "id": "b,c", "class": "0", "position": "0", "gain": "0.33333334"}


def columns_of(ranking, **changes):
    names = None if ranking.ids is None else ranking.ids.tolist()
    rows = {"index": np.arange(len(ranking)), "id": names, "class": ranking.classes} | {
        "position": ranking.position,
        "gain": ranking.gain,
    }
    return {name: values for name, values in (rows | changes).items() if values is not None}


def write_elsewhere(path, columns):
    """Writes a file as another program does: without a checksum, with types of its own."""
    text = json.dumps({"objective": "sas"})
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns).replace_schema_metadata({b"sas_jax": text}), path)
    elif path.suffix == ".npz":
        np.savez(path, metadata=text, **columns)
    else:
        lines = [",".join(columns)]
        lines += [",".join("" if x is None else str(x) for x in row) for row in zip(*columns.values(), strict=True)]
        path.write_text(f"# {text}\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_another_program_is_taken_if_it_is_a_ranking(tmp_path, suffix):
    ranking, path = Ranking([1, 0, -1], [0.5, 2, np.nan], [7, 7, 7], ["a", "b", "c"]), tmp_path / f"r.{suffix}"
    write_elsewhere(path, columns_of(ranking) | {"note": ["x", "y", "z"]})
    assert_same_columns(Ranking.load(path), ranking)
    if suffix != "npz":
        # Missing gains as empty entries, and the widest types.
        wide = {"gain": [0.5, 2.0, None], "class": pa.array([7, 7, 7], pa.uint64()), "id": ["a", "b", "c"]}
        write_elsewhere(path, columns_of(ranking, **wide))
        assert_same_columns(Ranking.load(path), ranking)


def as_pandas(columns):
    """Categories, a copy of the index, and no metadata of ours."""
    dictionary = {name: pa.array(list(columns[name])).dictionary_encode() for name in ("id", "class")}
    return pa.table(columns | dictionary | {"__index_level_0__": np.arange(3)}).replace_schema_metadata(
        {"pandas": "{}"}
    )


def as_polars(columns):
    """Categories numbered by uint32, large strings, and narrow integers."""
    names = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2], pa.uint32()), pa.array(["a", "b", "c"], pa.large_string())
    )
    return pa.table(columns | {"id": names, "class": pa.array([7, 7, 7], pa.uint8()), "position": [1.0, 0.0, -1.0]})


def as_duckdb(columns):
    """The widest integers, doubles, and null for nan."""
    gain, position = pa.array([0.5, 2.0, None], pa.float64()), pa.array([1, 0, -1], pa.int64())
    return pa.table(columns | {"gain": gain, "position": position, "class": pa.array([7, 7, 7], pa.uint64())})


@pytest.mark.parametrize("kind", [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32()])
def test_positions_of_any_width_are_taken(tmp_path, kind):
    ranking = Ranking([1, 0, 2], [0.5, 2, 0.1], [7, 7, 7])
    table = pa.table(columns_of(ranking) | {"position": pa.array([1, 0, 2]).cast(kind)})
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet")
    assert_same_columns(Ranking.load(tmp_path / "r.parquet"), ranking)


@pytest.mark.parametrize("write", [as_pandas, as_polars, as_duckdb])
def test_a_parquet_file_written_again_is_taken(tmp_path, write):
    """Written as those libraries do (they are not installed here): without the metadata, with types of their own."""
    ranking = Ranking([1, 0, -1], [0.5, 2, np.nan], [7, 7, 7], ["a", "b", "c"])
    pyarrow.parquet.write_table(write(columns_of(ranking)), tmp_path / "r.parquet")
    assert_same_columns(Ranking.load(tmp_path / "r.parquet"), ranking)
    assert Ranking.load(tmp_path / "r.parquet").metadata == {}


@pytest.mark.parametrize(
    ("start", "end"),
    [("\ufeff", "\n"), ("\ufeff", "\r\n"), ("\ufeff", ""), ("", ""), ("", "\r\n"), ("\ufeff# {}\n", "\n")],
)
def test_a_csv_file_written_again_is_taken(tmp_path, start, end):
    """Written by a spreadsheet: a byte order mark, no metadata, other line ends, and numbers as names."""
    lines = ["index,id,class,position,gain", "0,10,7,1,0.5", "1,11,7,0,2.0", "2,12,7,-1,"]
    (tmp_path / "r.csv").write_bytes((start + (end or "\n").join(lines) + end).encode())
    assert_same_columns(
        Ranking.load(tmp_path / "r.csv"), Ranking([1, 0, -1], [0.5, 2, np.nan], [7, 7, 7], ["10", "11", "12"])
    )


def test_a_file_without_ids_or_metadata_is_taken(tmp_path):
    ranking = Ranking([1, 0, -1], [0.5, 2, np.nan], [7, 7, 7])
    for suffix in SUFFIXES:
        path = tmp_path / f"r.{suffix}"
        if suffix == "npz":
            np.savez(path, **columns_of(ranking))
        elif suffix == "csv":
            path.write_text("class,gain,index,position\n7,0.5,0,1\n7,2,1,0\n7,nan,2,-1\n")
        else:
            pyarrow.parquet.write_table(pa.table(columns_of(ranking)), path)
        assert_same_columns(Ranking.load(path), ranking)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_classes_come_back(tmp_path, suffix):
    ranking = Ranking([0, 0, 1], [1.0, 1.0, 0.5], ["dog", "cat", "dog"])
    ranking.save(tmp_path / f"r.{suffix}")
    loaded = Ranking.load(tmp_path / f"r.{suffix}")
    assert loaded.classes.tolist() == ranking.classes.tolist() == [1, 0, 1]
    assert loaded.metadata == ranking.metadata == {"class_names": ["cat", "dog"]}
    if suffix == "csv":  # text inside the file itself
        (tmp_path / "r.csv").write_text("index,id,class,position,gain\n0,,dog,0,1\n1,,cat,0,1\n2,,dog,1,0.5\n")
        assert Ranking.load(tmp_path / "r.csv").metadata == {"class_names": ["cat", "dog"]}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"position": [1, 1, -1]},
            "cannot be used: `position` must be 0 to 1, each once, in class 7",
        ),
        ({"position": [0, 1, 4]}, "cannot be used: .* got 4 as entry 2. Rank the examples again"),
        ({"position": [1.5, 0.0, -1.0]}, "used: `position` must be integers|CSV conversion error to int32"),
        ({"position": [2**40, 0, -1]}, "got 1099511627776 as entry 0|CSV conversion error to int32"),
        ({"gain": [0.5, np.inf, np.nan]}, "used: `gain` must be finite where .* got inf as entry 1 at position 0"),
        ({"gain": ["x", "y", "z"]}, "used: `gain` must be floating point|CSV conversion error to float"),
        ({"class": [7, 7, -1]}, "used: Classes must be text, or whole numbers from 0 .* got -1 as entry 2"),
        ({"id": ["a", "b", "b"]}, "used: `ids` must be unique, got 'b' as entry 2"),
        ({"index": [0, 2, 1]}, "used: its index column must be 0, 1, 2, ... in this order. Sort"),
        ({"gain": None}, "it has 0 columns named 'gain', expected one|it has no array 'gain'"),
    ],
)
def test_columns_that_are_no_ranking_are_refused(tmp_path, suffix, changes, message):
    ranking, path = Ranking([1, 0, -1], [0.5, 2, np.nan], [7, 7, 7], ["a", "b", "c"]), tmp_path / f"r.{suffix}"
    write_elsewhere(path, columns_of(ranking, **changes))
    with pytest.raises(InputError, match=message) as found:
        Ranking.load(path)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": pa.array([1, None, -1])}, "1 entries of its column 'position' are empty"),
        ({"id": pa.array(["a", None, "c"])}, "used: `ids` must be text, got None as entry 1"),
    ],
)
def test_empty_entries_are_refused(tmp_path, suffix, changes, message):
    ranking, path = Ranking([1, 0, -1], [0.5, 2, np.nan], [7, 7, 7], ["a", "b", "c"]), tmp_path / f"r.{suffix}"
    write_elsewhere(path, {name: pa.array(list(x)) for name, x in columns_of(ranking, **changes).items()})
    if suffix == "csv":
        path.write_text(path.read_text().replace("None", ""))
    with pytest.raises(InputError, match=message):
        Ranking.load(path)


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("# {}\nindex,id,class,position,gain\n")
    with pytest.raises(InputError, match=r"used: `position` must be \[n\], at least one entry, got \[0\]"):
        Ranking.load(tmp_path / "r.csv")


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("# {}\nindex,id,class,position,gain,gain\n0,,0,0,1,2\n")
    with pytest.raises(InputError, match="it has 2 columns named 'gain', expected one"):
        Ranking.load(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("3,,2,2,0.5\n", "3,,2,2,0.75\n"),  # a different gain
        ("7,,2,-1,nan\n", "7,,9,-1,nan\n"),  # a different class
        ("0,,0,1,0.1\n1,,0,0,0.33333334\n", "0,,0,0,0.1\n1,,0,1,0.33333334\n"),  # a different order
        ("3,,2,2,0.5\n", '3,"3",2,2,0.5\n'),  # a name for one example only
        ('"budget": 7', '"budget": 8'),
    ],
)
def test_an_edited_file_is_refused_though_it_could_be_a_ranking(tmp_path, before, after):
    path = tmp_path / "r.csv"
    example(ids=False).save(path)
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    with pytest.raises(
        InputError, match=r"does not match its checksum: it was damaged or edited|damaged or was edited: `ids`"
    ):
        Ranking.load(path)


@pytest.mark.parametrize("metadata", [{"tau": np.float32(0.5)}, {"key": object()}, {("a", "b"): 1}])
def test_metadata_that_json_cannot_hold_are_refused(tmp_path, metadata):
    with pytest.raises(
        InputError, match=r"`metadata` must hold values of JSON's types only, got others .*Convert them"
    ):
        Ranking([0], [1.0], [0], metadata=metadata).save(tmp_path / "r.csv")
    assert not list(tmp_path.iterdir())


def test_metadata_come_back_as_json_has_them(tmp_path):
    Ranking([0], [1.0], [0], metadata={"arms": (1, 2), 3: "three"}).save(tmp_path / "r.npz")
    assert Ranking.load(tmp_path / "r.npz").metadata == {"arms": [1, 2], "3": "three"}


def test_places_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        Ranking.load(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="must not contain NUL characters"):
        Ranking.load("a\0b.parquet")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        Ranking.load(tmp_path / "folder.csv")
    (tmp_path / "file").write_text("")
    for use in (example().save, ranking_files.check_writable):
        with pytest.raises(InputError, match=r"nowhere.* must be a writable file, .*No such file"):
            use(tmp_path / "nowhere" / "r.parquet")
        with pytest.raises(InputError, match=r"must be a writable file, .*Not a directory"):
            use(tmp_path / "file" / "r.parquet")
        with pytest.raises(InputError, match=r"folder.csv must be a writable file, .* directory"):
            use(tmp_path / "folder.csv")
    for use in (example().save, ranking_files.check_writable):
        with pytest.raises(InputError, match="A path must not contain NUL characters"):
            use("a\0b.parquet")
    for use in (example().save, Ranking.load, ranking_files.check_writable):
        with pytest.raises(InputError, match=r"\.parquet, \.csv or \.npz file, got .*r\.txt"):
            use(tmp_path / "r.txt")
    ranking_files.check_writable(tmp_path / "r.csv")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.csv"]


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


def test_columns_that_are_single_values_are_refused(tmp_path):
    np.savez(tmp_path / "r.npz", index=0, gain=0.0, position=0, **{"class": 0, "metadata": "{}"})
    with pytest.raises(InputError, match=r"r\.npz"):
        Ranking.load(tmp_path / "r.npz")
