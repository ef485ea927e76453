"""Reading and writing the files given to commands."""

import errno
import os
import pickle

import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

import sas_jax
from sas_jax import embedding, export_subset, files, latent_classes, rank_file, workdir
from sas_jax.data import index_files
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
        ("empty.npy", "it is empty"),
        ("text.npy", "it is in another format"),
        ("pickle.npy", "it is in another format"),
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
    assert text.startswith(f"{tmp_path}/{name} must be a .npy file, got one that cannot be read ({reason}")
    assert text.endswith(". Write it with numpy.save.")
    assert "\n" not in text


def test_a_single_value_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.float32(1))
    with pytest.raises(InputError, match=r"one.npy must hold an array with one row per example, got a scalar"):
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
    assert f"must be a UTF-8 text file, got one that cannot be read ({reason}" in str(found.value)


def test_an_array_in_memory_is_of_a_file_and_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.testing.assert_array_equal(files.array(tmp_path / "a.npy"), VALUES)
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(ValueError, match=r"an archive of arrays, as numpy\.savez writes it"):
        files.array(tmp_path / "two.npz")


def test_a_whole_file_has_at_most_so_many_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.whole(tmp_path / "a", largest=5) == b"12345"
    with pytest.raises(ValueError, match="it has 5 bytes, more than the limit of 4"):
        files.whole(tmp_path / "a", largest=4)


def test_a_reason_is_one_line_without_a_full_stop():
    assert files.reason(ValueError("one\n two.")) == "one two"
    assert files.reason(OSError(2, "No such file")) == "No such file"
    assert files.reason(KeyError()) == "KeyError"


def test_a_type_that_holds_nothing_is_not_mapped(tmp_path):
    """With a shape of -1, NumPy would crash the process."""
    np.save(tmp_path / "a.npy", np.zeros(4, "V0"))
    with pytest.raises(InputError, match="has size 0"):
        files.mapped(str(tmp_path / "a.npy"))


def put(text):
    return lambda aside: aside.write_text(text)


@pytest.mark.parametrize("name", ["r" * 255, "é" * 127, "a", ".b" * 127])
def test_a_name_that_the_file_system_takes_is_written(tmp_path, name):
    files.check_place(tmp_path / name)
    files.write_whole(epath.Path(tmp_path) / name, put("x"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "x")]


def test_a_name_beside_another_has_at_most_255_bytes():
    assert files.beside(epath.Path("/a/r.csv"), ".partial") == epath.Path("/a/r.csv.partial")
    long = [files.beside(epath.Path("/a") / (letter * 250), ".partial") for letter in "rs"]
    assert len(set(long)) == 2
    assert {path.parent for path in long} == {epath.Path("/a")}
    assert all(path.name.endswith(".partial") and len(path.name) < 40 for path in long)
    assert len(files.beside(epath.Path("é" * 123), ".partial").name.encode()) == 254
    assert len(files.beside(epath.Path("é" * 124), ".partial").name.encode()) < 40


def test_a_link_is_written_through(tmp_path):
    """A link to a file, to another link, a relative one, and one to a missing file."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a").write_text("old")
    for link, to in (("one", "disk/a"), ("two", tmp_path / "one"), ("new", "disk/b")):
        (tmp_path / link).symlink_to(to)
    for link, file in (("one", "a"), ("two", "a"), ("new", "b")):
        files.write_whole(epath.Path(tmp_path) / link, put(link))
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / "disk" / file).read_text() == link
        assert (tmp_path / "disk" / file).is_file()
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(epath.Path(tmp_path) / "one", stop)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "disk", "new", "one", "two"]
    assert (tmp_path / "disk" / "a").read_text() == "two"


def stop(aside):
    aside.write_text("half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(("kind", "why"), [("folder", "Is a directory"), ("pipe", "It is a pipe or a device")])
def test_what_is_no_file_is_never_replaced(tmp_path, kind, why, linked):
    """Otherwise, writing through a link to /dev/null would replace /dev/null."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / kind)
    path = epath.Path(tmp_path) / ("link" if linked else kind)
    for function in (files.check_place, lambda path: files.write_whole(path, put("x"))):
        with pytest.raises(OSError, match=why):
            function(path)
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "pipe").is_fifo()


def test_a_path_with_a_nul_is_no_path(tmp_path):
    for use in (files.expanded, files.mapped, files.array, files.whole, files.check_place):
        with pytest.raises(InputError, match=r"A path must not contain NUL characters, got '.*Correct it"):
            use(f"{tmp_path}/a\0b.npy")


def test_a_full_disk_names_the_file(tmp_path):
    def fill(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/a.json'"):
        files.write_whole(epath.Path(tmp_path) / "a.json", fill)


@pytest.mark.parametrize("path", ["http://host/a.npy", "file:///a.npy", "://a.npy", "a b://c.npy"])
def test_a_path_in_an_unknown_kind_of_store_is_refused(path):
    for use in (files.expanded, files.mapped, files.array, files.whole, files.check_place):
        with pytest.raises(InputError, match=r"A path must be local, or begin with gs:// or s3://, got '.*Download"):
            use(path)


def test_a_name_that_the_file_system_does_not_take_is_found_at_once(tmp_path):
    for name in ("x" * 256, "é" * 128, "/".join("x" * 4_100)):
        with pytest.raises(OSError, match="File name too long"):
            files.check_place(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_matches_is_in_the_folder_and_of_the_whole_name(tmp_path):
    for name in ("a.npy", "b.npy", "B.npy", "a.npy.part", "[a].npy"):
        (tmp_path / name).write_text("")
    folder = epath.Path(tmp_path)
    assert [path.name for path in files.matching(folder, "[ab].npy", "B*")] == ["B.npy", "a.npy", "b.npy"]
    assert files.matching(folder / "none", "*") == files.matching(folder / "a.npy", "*") == []


def test_to_remove_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "nothing").symlink_to(tmp_path / "none")
    for name in ("link", "nothing", "none"):
        files.remove(epath.Path(tmp_path) / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    files.remove(epath.Path(tmp_path) / "folder")
    assert list(tmp_path.iterdir()) == []


def ranking():
    return sas_jax.Ranking(np.arange(6, dtype=np.int32), np.ones(6, np.float32), np.zeros(6, np.int32))


@pytest.mark.parametrize(
    "use",
    [
        lambda: files.whole("~/a.npy"),
        lambda: files.array("~/a.npy"),
        lambda: files.mapped("~/a.npy"),
        lambda: files.lines("~/a.txt"),
        lambda: files.write_whole(epath.Path("~/out.txt"), put("x")),
        lambda: ranking().save("~/out.csv"),
        lambda: sas_jax.Ranking.load("~/r.parquet"),
        lambda: sas_jax.rank(VALUES, resume="~/out.partial"),
        lambda: rank_file.rank_file("~/a.npy", "~/out.parquet", ids="~/a.txt"),
        lambda: export_subset.export_subset("~/r.parquet", output="~/out.npy", size=3),
        lambda: index_files.read("~/a.txt"),
        lambda: workdir.Workdir("~/out").mark(),
        lambda: embedding.read_embeddings("~/a.npy", n=6, field="x", log=lambda _: None),
        lambda: latent_classes.from_file("~/classes.npy", n=6),
    ],
)
def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch, use):
    home = tmp_path / "home"
    for folder in (home, tmp_path / "here"):
        folder.mkdir()
    np.save(home / "a.npy", VALUES)
    np.save(home / "classes.npy", np.zeros(6, np.int64))
    (home / "a.txt").write_text("".join(f"{i}.png\n" for i in range(6)))
    ranking().save(str(home / "r.parquet"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / "here")
    use()
    assert list((tmp_path / "here").iterdir()) == []
    made = {path.name for path in home.iterdir()} - {"a.npy", "classes.npy", "a.txt", "r.parquet"}
    assert len(made) == ("out" in "".join(map(str, use.__code__.co_consts)))


def test_a_tilde_without_a_home_directory_is_refused(monkeypatch):
    """No folder named "~" is created."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    for path in ("~/a.npy", "~"):
        with pytest.raises(InputError, match=r"The home directory in .* must be known, got none"):
            files.expanded(path)
    assert files.expanded("a/~") == epath.Path("a/~")
