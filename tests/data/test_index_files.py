"""Lists of examples as files: written files read back equal, files of other programs are read, the rest is refused."""

import csv
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax.data import index_files
from sas_jax.errors import InputError

WRITTEN = ["npy", "npz", "csv", "parquet", "txt"]
READ = [*WRITTEN, "pkl", "pickle"]
INDICES = np.array([0, 3, 4, 2**40])
IDS = ["train_00003", 'a "quoted", name', "ä/é b.png", " 7 "]


def same(found, indices, ids):
    if indices is None:
        assert found.indices is None
    else:
        np.testing.assert_array_equal(found.indices, indices)
        assert found.indices.dtype == np.int64
    assert found.ids == (None if ids is None else tuple(ids))


@pytest.mark.parametrize("suffix", WRITTEN)
def test_indices_come_back(tmp_path, suffix):
    path = tmp_path / f"list.{suffix}"
    index_files.write(path, INDICES.astype(np.int32 if suffix == "npz" else np.int64) % 1000)
    index_files.write(path, INDICES)
    found = index_files.read(path)
    same(found, INDICES, ["0", "3", "4", str(2**40)] if suffix == "txt" else None)
    assert found.path == str(path)
    assert len(found) == 4
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", WRITTEN)
def test_ids_come_back(tmp_path, suffix):
    path = tmp_path / f"list.{suffix}"
    index_files.write(path, INDICES, IDS)
    same(index_files.read(path), None if suffix == "txt" else INDICES, None if suffix == "npy" else IDS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_list_comes_back_or_is_refused_in_writing(tmp_path_factory, data):
    indices = np.array(data.draw(st.lists(st.integers(0, 2**62), min_size=1, max_size=5)))
    ids = data.draw(st.lists(st.text(max_size=4), min_size=len(indices), max_size=len(indices)))
    for suffix in WRITTEN:
        path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        try:
            index_files.write(path, indices, ids)
        except InputError as error:
            assert suffix != "npy"  # .npy holds no ids
            assert " file, got ids that are not (" in str(error)  # noqa: PT017
            assert any(not name.isprintable() or not name for name in ids)
        else:
            found = index_files.read(path)
            assert suffix == "txt" or found.indices.tolist() == indices.tolist()
            assert suffix == "npy" or list(found.ids) == ids


@pytest.mark.parametrize("ids", [["a\nb", "c"], ["a\r", "c"], ["", "c"], ["\ufeffa", "c"]], ids=repr)
def test_names_that_are_no_lines_are_refused_in_a_text(tmp_path, ids):
    with pytest.raises(
        InputError, match=r"a \.txt file, got ids that are not \(they would be read back differently\)\. Choose"
    ):
        index_files.write(tmp_path / "list.txt", [1, 2], ids)
    assert not list(tmp_path.iterdir())
    index_files.write(tmp_path / "list.csv", [1, 2], ids)
    same(index_files.read(tmp_path / "list.csv"), [1, 2], ids)


def test_torch_takes_the_npy_as_it_is(tmp_path):
    index_files.write(tmp_path / "list.npy", INDICES, IDS)
    found = np.load(tmp_path / "list.npy")
    assert (found.dtype, found.flags.c_contiguous) == (np.dtype("<i8"), True)


def test_files_are_as_documented(tmp_path):
    for suffix in ("csv", "parquet", "npz"):
        index_files.write(tmp_path / f"list.{suffix}", INDICES, IDS)
    with open(tmp_path / "list.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [{"index": str(i), "id": n} for i, n in zip(INDICES, IDS, strict=True)]
    table = pyarrow.parquet.read_table(tmp_path / "list.parquet")
    assert table.schema.names == ["index", "id"]
    assert table["id"].to_pylist() == IDS
    with np.load(tmp_path / "list.npz") as arrays:
        assert arrays["index"].tolist() == INDICES.tolist()
        assert arrays["id"].tolist() == IDS


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def parquet(**columns):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "data", "indices", "ids"),
    [
        ("npy", npy(np.array([5, 1], np.uint16)), [5, 1], None),
        ("npy", npy(np.array([5, 1], ">i8")), [5, 1], None),
        ("npy", npy(np.array(["b", "a"])), None, ["b", "a"]),
        ("npz", npz(arr_0=np.array([5, 1])), [5, 1], None),
        ("npz", npz(anything=np.array(["b"])), None, ["b"]),
        ("npz", npz(index=np.array([5, 1]), other=np.zeros((3, 3))), [5, 1], None),
        ("csv", b"5\n1\n", [5, 1], None),
        ("csv", b"idx\r\n5\r\n1\r\n", [5, 1], None),
        ("csv", b"\xef\xbb\xbfindex\n5\n1", [5, 1], None),
        ("csv", b"id\ntrain_5\ntrain_1\n", None, ["train_5", "train_1"]),
        ("csv", b"id\n5\n1\n", None, ["5", "1"]),
        ("csv", b",id,index\n0,a,5\n1,b,1\n", [5, 1], ["a", "b"]),
        ("csv", b"# a comment\nindex\n5\n\n1\n", [5, 1], None),
        ("parquet", parquet(whatever=pa.array([5, 1], pa.uint8())), [5, 1], None),
        ("parquet", parquet(id=["b", "a"], note=[1.5, 2]), None, ["b", "a"]),
        ("parquet", parquet(id=pa.array(["b", "a"]).dictionary_encode()), None, ["b", "a"]),
        ("txt", b"5\n1\n", [5, 1], ["5", "1"]),
        ("txt", b"\xef\xbb\xbf5\r\n\r\n 1 \r\n", [5, 1], ["5", " 1 "]),
        ("txt", b"a.png\n12\n", None, ["a.png", "12"]),
        ("txt", b"9223372036854775807\n", [2**63 - 1], ["9223372036854775807"]),
        ("txt", b"9223372036854775808\n", None, ["9223372036854775808"]),  # a name that consists of digits
        ("txt", b"/data/a b.png", None, ["/data/a b.png"]),
        ("pkl", pickle.dumps([5, 1]), [5, 1], None),
        ("pickle", pickle.dumps(np.array([5, 1], np.int32), 2), [5, 1], None),
    ],
)
def test_lists_made_elsewhere_are_read(tmp_path, suffix, data, indices, ids):
    path = tmp_path / f"list.{suffix}"
    path.write_bytes(data)
    same(index_files.read(path), indices, ids)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harm",)


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def claiming(shape, kind):
    """Returns a .npy whose header claims more data than there is."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        *((suffix, b"", "must be a list of examples, got another kind of file or a damaged one") for suffix in READ),
        ("npy", npy(np.zeros(0, int)), "it lists no examples"),
        (
            "npy",
            npy(np.array([1.0, 2.0])),
            r"it is float64 \[2\], expected a one-dimensional array of up to 100,000,000 integers",
        ),
        ("npy", npy(np.array([[1, 2]])), r"it is int64 \[1, 2\], expected"),
        ("npy", npy(np.array(3)), r"it is int64 \[\], expected"),
        ("npy", npy(np.array([True, False])), "it is a mask; convert it to indices with numpy.flatnonzero"),
        ("npy", npy(np.array([2**63], np.uint64)), r"an integer in it is 2\^63 or more"),
        ("npy", npy(np.array([Harmful()], object)), "allow_pickle=False"),
        ("npy", claiming((10**15,), "<i8"), "."),
        ("npy", claiming((10**9,), "<U0"), "its ids are <U0 .*, expected a one-dimensional array of text"),
        ("npy", claiming((10**9,), "|V0"), "it is .*V0 .*, expected"),
        ("npz", npz(a=np.array([1]), b=np.array([2])), "none of its 2 columns is named index or id"),
        ("npz", npz(index=np.array([1]), id=np.array(["a", "b"])), "it has 1 indices but 2 ids"),
        ("npz", npz(id=np.array([1])), r"its ids are int64 \[1\], expected a one-dimensional array of text"),
        ("npz", npz(index=np.array([Harmful()], object)), "allow_pickle=False"),
        ("npz", zip_of(index=claiming((10**15,), "<i8")), "."),
        (
            "npz",
            npz(index=np.arange(3), position=np.arange(3)),
            "it is a ranking; write a subset of it with `python -m sas_jax.export`",
        ),
        ("csv", b"a,b\n1,2\n", "none of its 2 columns is named index or id"),
        ("csv", b"train_1\ntrain_2\n", "its only column is not named id and does not hold integers"),
        ("csv", b"index\n1.5\n", "its column 'index' does not hold integers"),
        ("csv", b"index\n9223372036854775808\n", "its column 'index' does not hold integers"),
        ("csv", b"index,index\n1,2\n", "it has 2 columns 'index'"),
        ("csv", b"index,id\n1,a\n2\n", "row 2 has 1 entries but the first row has 2"),
        ("csv", b'index\n"1', "unexpected end of data"),
        ("csv", b"\xff\n", "codec can't decode"),
        ("csv", b"index\n", "it lists no examples"),
        ("csv", b'# {"objective": "sas"}\nindex,id,class,position,gain\n0,,0,0,1\n', "it is a ranking"),
        ("parquet", parquet(index=pa.array([1, None])), "1 entries of its column 'index' are empty"),
        ("parquet", parquet(id=pa.array(["a", None])), "1 entries of its column 'id' are empty"),
        ("parquet", parquet(id=[1, 2]), "its ids are int64"),
        ("parquet", parquet(index=["1", "x"]), "its column 'index' does not hold integers"),
        ("parquet", parquet(index=[[1], [2, 3]]), "."),
        ("parquet", parquet(a=[{"b": 1}]), "."),
        ("txt", b"caf\xe9", "codec can't decode"),
        ("txt", b"\n\n", "it lists no examples"),
        ("pkl", pickle.dumps({"indices": [1]}), "it holds a value of type dict, expected a list"),
        ("pkl", pickle.dumps(Harmful()), "it imports '.*system', which a list of integers does not need"),
        ("pickle", pickle.dumps([1, Harmful()]), "it imports '.*system', which a list of integers does not need"),
    ],
)
def test_what_is_no_list_is_one_sentence(tmp_path, monkeypatch, suffix, data, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"list.{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as found:
        index_files.read(path)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(index_files, "LARGEST", 1 << 16)
    (tmp_path / "bomb.npz").write_bytes(zip_of(index=npy(np.zeros(1 << 20, np.int64))))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 14
    with pytest.raises(InputError, match=r"it unpacks to 8,\d+,\d+ bytes, more than the limit of 65,536"):
        index_files.read(tmp_path / "bomb.npz")
    (tmp_path / "long.txt").write_bytes(b"1\n" * (1 << 16))
    with pytest.raises(InputError, match="it has 131,072 bytes, more than the limit of"):
        index_files.read(tmp_path / "long.txt")


def test_more_rows_than_a_data_set_has_are_refused(tmp_path, monkeypatch):
    for suffix in ("parquet", "npy", "npz"):
        index_files.write(tmp_path / f"list.{suffix}", np.arange(4))
    monkeypatch.setattr(index_files, "MOST", 3)
    for suffix in ("parquet", "npy", "npz"):
        with pytest.raises(InputError, match=r"it has more than 3 rows|array of up to 3 integers"):
            index_files.read(tmp_path / f"list.{suffix}")


def test_places_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)\. Check the path"):
        index_files.read(tmp_path / "none.npy")
    with pytest.raises(InputError, match="must not contain NUL characters"):
        index_files.read("a\0b.npy")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        index_files.read(tmp_path / "folder.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match=r"cannot be read \(it is a pipe or a device, not a file\)"):
        index_files.read(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match=r"must end in one of \.npy, .*\.pickle, got '.*Choose"):
        index_files.read(tmp_path / "list.json")
    for suffix in ("pkl", "json"):
        with pytest.raises(InputError, match=r"must end in one of \.npy, .*\.txt, got '.*\. Choose"):
            index_files.write(tmp_path / f"list.{suffix}", [1])
    with pytest.raises(InputError, match=r"must be a writable path, got one that is not \(Is a directory\)\. Choose"):
        index_files.write(tmp_path / "folder.txt", [1])
    with pytest.raises(
        InputError, match=r"must be a writable path, got one that is not \(No such file or directory\)\. Choose"
    ):
        index_files.write(tmp_path / "nowhere" / "list.txt", [1])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.txt", "pipe.txt"]


VALID = {
    "npy": [npy(INDICES), npy(np.array(IDS))],
    "npz": [npz(index=INDICES, id=np.array(IDS)), npz(arr_0=INDICES)],
    "csv": [b"index,id\n3,a\n4,b\n", b"3\n4\n"],
    "parquet": [parquet(index=INDICES, id=IDS), parquet(index=pa.array(range(500)))],
    "txt": [b"3\n4\n", b"a/b.png\nc.png\n"],
    "pkl": [pickle.dumps([3, 4, 500], p) for p in range(6)] + [pickle.dumps(INDICES, p) for p in range(6)],
    "pickle": [pickle.dumps([np.int64(3), np.int64(4)], p) for p in range(6)],
}


def read_or_sentence(path, data):
    path.write_bytes(data)
    try:
        found = index_files.read(path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        str(error).encode()
    else:
        assert len(found) > 0
        assert found.indices is None or (found.indices.ndim, found.indices.dtype) == (1, np.int64)
        assert found.ids is None or all(isinstance(name, str) for name in found.ids)


@pytest.mark.parametrize("suffix", READ)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_list_or_a_sentence(tmp_path_factory, suffix, data):
    read_or_sentence(tmp_path_factory.getbasetemp() / f"bytes.{suffix}", data)


@pytest.mark.parametrize("suffix", READ)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_change_gives_a_list_or_a_sentence(tmp_path_factory, suffix, data):
    whole = data.draw(st.sampled_from(VALID[suffix]))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(begin, min(len(whole), begin + 8)) | st.just(len(whole)))
        put = data.draw(st.binary(max_size=8) | st.text("0123456789-(),'{}<f\n\"", max_size=4).map(str.encode))
        whole = whole[:begin] + put + whole[end:]
    read_or_sentence(tmp_path_factory.getbasetemp() / f"changed.{suffix}", whole)


@pytest.mark.parametrize("suffix", READ)
def test_every_cut_gives_a_list_or_a_sentence(tmp_path, suffix):
    for whole in VALID[suffix]:
        for stop in range(0, len(whole), 1 + len(whole) // 100):
            read_or_sentence(tmp_path / f"cut.{suffix}", whole[:stop])


def test_importing_is_cheap():
    heavy = "{'tensorflow', 'tensorflow_datasets', 'torch', 'flax'}"
    code = f"import sys, sas_jax.data.index_files; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
