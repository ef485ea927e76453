"""A folder of links to a subset's images."""

import os

import numpy as np
import pytest
from PIL import Image

from sas_jax.data import links, read_folder
from sas_jax.errors import InputError

IDS = ["a/1.png", "a/2.png", "b/deep/é 3.png", "b/deep/4.png"]


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    for k, name in enumerate(IDS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 40 * k, np.uint8)).save(root / name)
    return root


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_the_links_lead_to_the_images_of_the_subset(tmp_path, images):
    links.make(str(tmp_path / "subset"), str(images), [IDS[0], IDS[2]])
    whole, _, _ = read_folder(str(images), image_size=4)
    found, names, skipped = read_folder(str(tmp_path / "subset"), image_size=4)
    kept = np.isin(whole.ids, [IDS[0], IDS[2]])
    assert found.ids.tolist() == whole.ids[kept].tolist()
    np.testing.assert_array_equal(found.images, whole.images[kept])
    assert (names, skipped) == (("a", "b"), ())
    assert os.readlink(tmp_path / "subset" / IDS[0]) == str(images / IDS[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "subset"]


def test_paths_are_absolute_whatever_the_folder_is_called(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert links.paths_below("images/", IDS[:2]) == [str(images / name) for name in IDS[:2]]
    links.make("subset/", "images", IDS[:1])
    assert os.readlink(tmp_path / "subset" / IDS[0]) == str(images / IDS[0])


def test_a_folder_of_links_is_replaced_and_nothing_else_is(tmp_path, images):
    target = tmp_path / "subset"
    target.mkdir()  # an empty folder counts as a missing one
    links.make(str(target), str(images), IDS)
    links.make(str(target), str(images), IDS[1:2])
    assert tree(target) == [links.MARK, IDS[1]]
    assert all((images / name).is_file() for name in IDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "subset"]


def others(folder, images):
    """Makes folders that links must not replace."""
    (folder / "with-a-file").mkdir(parents=True)
    (folder / "with-a-file" / "notes.txt").write_text("mine")
    links.make(str(folder / "of-links-with-a-file"), str(images), IDS)
    (folder / "of-links-with-a-file" / "b" / "notes.txt").write_text("mine")
    (folder / "of-others-links").mkdir()
    (folder / "of-others-links" / "1.png").symlink_to(images / IDS[0])
    (folder / "file").write_text("mine")
    links.make(str(folder / "real"), str(images), IDS)
    (folder / "link").symlink_to(folder / "real")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "mark-is-a-link").mkdir()
    (folder / "mark-is-a-link" / links.MARK).symlink_to(images / IDS[0])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("with-a-file", "holds other files"),
        ("of-links-with-a-file", "holds 'b/notes.txt', which is not a link"),
        ("of-others-links", "holds other files"),
        ("file", "is a link or a file"),
        ("link", "is a link or a file"),
        ("dangling", "is a link or a file"),
        ("mark-is-a-link", "holds other files"),
    ],
)
def test_what_it_did_not_make_is_never_overwritten(tmp_path, images, name, reason):
    others(tmp_path / "o", images)
    before = tree(tmp_path)
    for use in (
        lambda: links.make(f"{tmp_path}/o/{name}", str(images), IDS[:1]),
        lambda: links.check(f"{tmp_path}/o/{name}", str(images)),
    ):
        with pytest.raises(
            InputError, match=rf"created by this command, got '.*{name}', which {reason}\. Choose another"
        ):
            use()
    assert tree(tmp_path) == before


def test_what_comes_to_be_there_in_the_meantime_is_not_overwritten(tmp_path, images, monkeypatch):
    symlink, target = os.symlink, tmp_path / "subset"

    def with_another(*arguments):
        target.mkdir(exist_ok=True)
        (target / "notes.txt").write_text("mine")
        symlink(*arguments)

    monkeypatch.setattr(os, "symlink", with_another)
    with pytest.raises(
        InputError, match=r"must be in an existing, writable folder .* \(Directory not empty\)\. Choose"
    ):
        links.make(str(target), str(images), IDS[:1])
    assert tree(target) == ["notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "subset"]


@pytest.mark.parametrize("call", ["symlink", "rename"])
def test_a_failure_leaves_the_old_folder(tmp_path, images, monkeypatch, call):
    links.make(str(tmp_path / "subset"), str(images), IDS)
    real, calls = getattr(os, call), []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        InputError, match=r"must be in an existing, writable folder .* \(No space left on device\)\. Choose"
    ):
        links.make(str(tmp_path / "subset"), str(images), IDS[:3])
    assert tree(tmp_path / "subset") == sorted([links.MARK, *IDS])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "subset"]


def test_an_interruption_leaves_nothing(tmp_path, images, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "symlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        links.make(str(tmp_path / "subset"), str(images), IDS)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    "names",
    [
        ["../secret.png"],
        ["/etc/hostname"],
        ["a/../a/1.png"],
        ["a//1.png"],
        ["./a/1.png"],
        [""],
        ["a"],
        ["a\0b"],
        ["train_00001"],
        ["none.png", "a/1.png"],
    ],
    ids=repr,
)
def test_ids_that_are_no_paths_in_the_folder_are_refused(tmp_path, images, names):
    (tmp_path / "secret.png").write_text("")
    message = (
        rf"hold all {len(names)} selected images, .*images' without 1 of them \(the first is '.*'\)\. Give the folder"
    )
    for use in (lambda: links.paths_below(str(images), names), lambda: links.make(f"{tmp_path}/s", str(images), names)):
        with pytest.raises(InputError, match=message):
            use()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("folder", ["images", "images/subset", "images/a", ".", "other/subset"])
def test_links_do_not_lie_among_the_images(tmp_path, images, monkeypatch, folder):
    (tmp_path / "other").symlink_to(images)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"must be neither inside .* and 'images'\. Choose another folder"):
        links.check(folder, "images")


def test_places_that_cannot_be_used(tmp_path, images):
    with pytest.raises(InputError, match=r"The folder of images must exist, got '.*nowhere', which is not a folder"):
        links.make(str(tmp_path / "subset"), str(tmp_path / "nowhere"), IDS)
    with pytest.raises(InputError, match=r"must be in an existing, writable folder .* \(No such file or directory\)"):
        links.make(str(tmp_path / "nowhere" / "subset"), str(images), IDS)
