import concurrent.futures
import dataclasses
import errno
import multiprocessing
import operator
import os
import pickle
import shutil
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from sas_jax import devices
from sas_jax.data import folder, images, items
from sas_jax.errors import InputError


def draw(path, seed=0, shape=(8, 8, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.startswith(".") or path.suffix.lower() == ".pgm":  # PIL does not know the format by the file name
        options.setdefault("format", "PPM" if path.suffix.lower() == ".pgm" else "PNG")
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    drawn = {
        path: draw(tmp_path / path, i) for i, path in enumerate(("b/2.png", "b/10.png", "a/deep/er/0.PNG", "c/x.bmp"))
    }
    (tmp_path / "b" / "notes.txt").write_text("not an image")
    draw(tmp_path / "b" / "._2.png")
    draw(tmp_path / ".cache" / "2.png")
    (tmp_path / "empty").mkdir()
    split, names, skipped = folder.read_folder(str(tmp_path), image_size=8)
    assert names == ("a", "b", "c")
    assert skipped == ()
    assert list(split.ids) == ["a/deep/er/0.PNG", "b/10.png", "b/2.png", "c/x.bmp"]
    assert split.labels.dtype == np.int32
    assert list(split.labels) == [0, 1, 1, 2]
    np.testing.assert_array_equal(split.images, [drawn[path] for path in split.ids])
    assert split.images.dtype == np.uint8


@pytest.mark.parametrize(
    "paths", [("1.png", "0.png"), ("0.png", "a/0.png", "b/0.png"), ("images/0.png", "images/1.png")]
)
def test_no_labels_in_a_flat_or_mixed_folder_or_one_sub_folder(tmp_path, paths):
    for path in paths:
        draw(tmp_path / path)
    split, names, _ = folder.read_folder(str(tmp_path), image_size=8)
    assert split.labels is None
    assert names is None
    assert list(split.ids) == sorted(paths, key=lambda path: ("/" not in path, path))


def image_folder(root):
    """Returns the paths that torchvision 0.29's ImageFolder samples, in its order (find_classes and make_dataset)."""
    suffixes = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
    paths = []
    for name in sorted(entry.name for entry in os.scandir(root) if entry.is_dir()):
        for place, _, files in sorted(os.walk(os.path.join(root, name), followlinks=True)):
            paths += [os.path.join(place, file) for file in sorted(files) if file.lower().endswith(suffixes)]
    return [os.path.relpath(path, root) for path in paths]


@pytest.mark.parametrize(
    "paths",
    [
        ("a/z.png", "a/a/0.png", "a/b.png", "b/0.png"),
        ("cat/1.png", "cat-big/1.png", "cat.png/1.png", "cat big/0.png"),  # one name is a prefix of another
        ("a/b/1.png", "a/b-c/1.png", "a/b/z/1.png", "a/b.png", "A/1.png"),
        ("a/0.gif", "a/1.png", "b/2.GIF", "b/1.png"),
        ("a/1.pgm", "a/0.png", "b/0.ppm", "b/1.PPM"),
        ("a/.hidden.png", "a/0.png", "b/.png", "b/..png"),
        ("a/x.png/0.png", "a/x.jpg", "b/0.png"),
        ("b/10.png", "b/9.png", "b/é.png", "b/Z.png", "a/deep/er/0.png"),
    ],
)
def test_an_index_means_the_same_image_as_in_torchvisions_image_folder(tmp_path, paths):
    for i, path in enumerate(paths):
        draw(tmp_path / path, i, (8, 8))
    split, names, left_out = folder.read_folder(str(tmp_path), image_size=8)
    assert list(split.ids) == image_folder(tmp_path)
    assert names is None or names[split.labels[-1]] == split.ids[-1].split("/")[0]
    gifs = sorted(path for path in paths if path.lower().endswith("gif"))
    assert [text.partition(": ")[0] for text in left_out] == [f"{tmp_path}/{path}" for path in gifs]
    assert all("ImageFolder does not read GIF" in text for text in left_out)


def test_trees_of_any_shape_are_in_the_order_of_image_folder(tmp_path):
    rng = np.random.default_rng(0)
    parts = ("a", "a-", "a.b", "A", "_", "é", "x.png")
    for i in range(30):
        root = tmp_path / str(i)
        for _ in range(12):
            place = root.joinpath(*rng.choice(parts, rng.integers(1, 4)))
            place.mkdir(parents=True, exist_ok=True)
            name = "".join(rng.choice(("a", "B", "0", "-", "."), 2)) + rng.choice((".png", ".JPG", ".txt", "png"))
            if not (name.startswith("._") or (place / name).is_dir()):
                (place / name).touch()
        if image_folder(root):
            assert folder.find(str(root)).paths == image_folder(root)


def test_gifs_are_read_where_image_folder_reads_nothing(tmp_path):
    for path in ("flat/0.gif", "flat/1.png", "classes/a/0.gif", "classes/b/0.gif", "mixed/0.png", "mixed/a/0.gif"):
        draw(tmp_path / path)
    for name, ids in (
        ("flat", ["0.gif", "1.png"]),
        ("classes", ["a/0.gif", "b/0.gif"]),
        ("mixed", ["a/0.gif", "0.png"]),
    ):
        split, _, left_out = folder.read_folder(str(tmp_path / name), image_size=8)
        assert (list(split.ids), left_out) == (ids, ())


def test_metadata_of_macos_and_hidden_folders_are_no_images(tmp_path):
    for path in ("a/0.png", "b/0.png", "a/._0.png", "._b.png", ".Trash/0.png", "a/.cache/0.png", "__MACOSX/a/._0.png"):
        draw(tmp_path / path)
    assert list(folder.read_folder(str(tmp_path), image_size=8)[0].ids) == ["a/0.png", "b/0.png"]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "ppm", "bmp", "tif", "tiff", "webp", "gif"])
def test_every_format_promised_is_read(tmp_path, suffix):
    draw(tmp_path / f"0.{suffix}", shape=(20, 20, 3))
    with Image.open(tmp_path / f"0.{suffix}") as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(folder.read_folder(str(tmp_path), image_size=20)[0].images[0], expected)


def test_the_order_does_not_depend_on_the_threads(tmp_path):
    drawn = [draw(tmp_path / f"{i:04d}.png", i) for i in range(300)]
    np.testing.assert_array_equal(folder.read_folder(str(tmp_path), image_size=8)[0].images, drawn)


def test_the_cameras_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: display rotated by 90 degrees clockwise
    pixels = draw(tmp_path / "0.png", exif=exif)
    np.testing.assert_array_equal(folder.read_folder(str(tmp_path), image_size=8)[0].images[0], np.rot90(pixels, -1))


TIFF = b"II*\0\x08\0\0\0"
TURNED = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)  # the orientation tag: one short, 6


def ifd(*entries):
    """Returns EXIF data with these entries."""
    return b"Exif\0\0" + TIFF + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (ifd(TURNED, struct.pack("<HHII", 0x100, 99, 1, 5)), True),  # a width of an unknown type
        (ifd(TURNED, struct.pack("<HHI4s", 0x101, 2, 4, b"abc\0")), True),  # a height that is text
        (ifd(TURNED, struct.pack("<HHII", 0x11A, 4, 1, 72)), True),  # a resolution that is an integer
        (ifd(TURNED, struct.pack("<HHII", 0x8769, 2, 9, 0)), True),  # an offset that is text
        (ifd(struct.pack("<HHI4s", 0x112, 5, 1, b"\xff" * 4)), False),  # an orientation at an offset beyond the end
        (ifd(struct.pack("<HHIHH", 0x112, 3, 2, 6, 6)), True),  # two orientations
        (ifd(struct.pack("<HHIHH", 0x112, 3, 1, 0, 0)), False),  # an orientation outside 1 to 8
        (ifd(TURNED)[:-9], False),
        (b"Exif\0\0II*\0" + b"\xff" * 20, False),
        (b"Exif\0\0MM\0+garbage", False),
    ],
)
def test_damaged_metadata_do_not_break_whole_pixels(tmp_path, suffix, exif, turned):
    pixels = np.tile(np.arange(0, 240, 15, np.uint8)[:, None, None], (1, 16, 3))
    Image.fromarray(pixels).save(tmp_path / f"0.{suffix}", exif=exif, **({} if suffix == "png" else {"quality": 100}))
    expected = np.rot90(pixels, -1) if turned else pixels
    for split, _, _ in read_both(tmp_path, size=16):
        assert np.abs(split.images[0].astype(int) - expected).max() <= 8


def test_pil_warns_of_nothing_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    draw(tmp_path / "large.png", 0, (20, 20, 3))
    draw(tmp_path / "cut.jpg", 1, exif=ifd(TURNED)[:-9])
    Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P").save(tmp_path / "p.png", transparency=bytes(range(256)))
    before = list(warnings.filters)
    for split, _, skipped in read_both(tmp_path):  # warnings are errors here, and would make an image count as broken
        assert (split.images[:].shape, skipped) == ((3, 8, 8, 3), ())
        assert split.images[0].shape == (8, 8, 3)
    assert list(warnings.filters) == before
    draw(tmp_path / "huge.png", 0, (30, 30, 3))
    with pytest.raises(InputError, match=r"huge\.png \(Image size \(900 pixels\) exceeds limit of 600 pixels"):
        folder.read_folder(str(tmp_path), image_size=8)


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path, monkeypatch):
    x = np.linspace(0, 255, 800)
    smooth = np.stack([np.tile(x, (600, 1)), np.tile(x[:600, None], (1, 800)), np.full((600, 800), 90)], -1)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "0.jpg", quality=95)
    with Image.open(tmp_path / "0.jpg") as image:
        expected = images.square_rgb(image, 32).astype(int)
    decoded = []
    square_rgb = images.square_rgb
    monkeypatch.setattr(
        images, "square_rgb", lambda image, *a, **k: decoded.append(image.size) or square_rgb(image, *a, **k)
    )
    found = folder.read_folder(str(tmp_path), image_size=32)[0].images[0]
    assert decoded == [(100, 75)]
    assert np.abs(found - expected).max() <= 3


def test_a_broken_image_is_named_skipped_and_counted(tmp_path):
    drawn = {f"{'ab'[i % 2]}/{i:03d}.png": draw(tmp_path / "ab"[i % 2] / f"{i:03d}.png", i) for i in range(200)}
    whole = (tmp_path / "a" / "100.png").read_bytes()
    (tmp_path / "a" / "100.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b" / "051.png").write_bytes(b"not an image")
    split, names, skipped = folder.read_folder(str(tmp_path), image_size=8)
    assert len(skipped) == 2
    assert skipped[0].startswith(f"{tmp_path}/a/100.png: ")
    assert skipped[1].startswith(f"{tmp_path}/b/051.png: ")
    expected = sorted(set(drawn) - {"a/100.png", "b/051.png"})
    assert list(split.ids) == expected
    assert [names[label] for label in split.labels] == [path[0] for path in expected]
    np.testing.assert_array_equal(split.images, [drawn[path] for path in expected])


@pytest.mark.parametrize(("count", "refused"), [(100, False), (99, True), (50, True), (1, True)])
def test_more_than_one_percent_broken_is_an_error(tmp_path, count, refused):
    for i in range(count):
        draw(tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"broken")
    if not refused:
        assert len(folder.read_folder(str(tmp_path), image_size=8)[0]) == count - 1
        return
    with pytest.raises(InputError, match=rf"At most 1 % of the {count} images .* 0\.png \(cannot identify"):
        folder.read_folder(str(tmp_path), image_size=8)


def test_a_folder_that_is_not_there_or_holds_no_image(tmp_path):
    with pytest.raises(InputError, match=r"got '.*/missing', which is not a folder\. Correct"):
        folder.read_folder(str(tmp_path / "missing"), image_size=8)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"got none in .*\. Correct the path"):
        folder.read_folder(str(tmp_path), image_size=8)
    with pytest.raises(InputError, match="which is not a folder"):
        folder.read_folder(str(tmp_path / "notes.txt"), image_size=8)


def test_the_test_folders_labels_count_in_the_train_folders_classes(tmp_path):
    for path in ("train/a/0.png", "train/b/0.png", "train/c/0.png", "test/c/0.png", "test/b/0.png", "one/c/0.png"):
        draw(tmp_path / path)
    dataset = folder.load(str(tmp_path / "train"), str(tmp_path / "test"), image_size=8)
    assert dataset.name == f"{tmp_path.name}/train"
    assert dataset.class_names == ("a", "b", "c")
    assert list(dataset.test.ids) == ["b/0.png", "c/0.png"]
    assert list(dataset.test.labels) == [1, 2]
    assert list(folder.load(str(tmp_path / "train"), str(tmp_path / "one"), image_size=8).test.labels) == [2]
    assert folder.load(str(tmp_path / "train"), "", image_size=8).test is None
    draw(tmp_path / "test" / "d" / "0.png")
    with pytest.raises(InputError, match=r"must be among the 3 classes .*, got 1 not among them \(d\)"):
        folder.load(str(tmp_path / "train"), str(tmp_path / "test"), image_size=8)


def test_a_labelled_test_folder_beside_unlabelled_images_keeps_its_own_classes(tmp_path):
    for path in ("train/0.png", "test/b/0.png", "test/a/0.png"):
        draw(tmp_path / path)
    dataset = folder.load(str(tmp_path / "train"), str(tmp_path / "test"), image_size=8)
    assert dataset.train.labels is None
    assert dataset.class_names == ("a", "b")
    assert list(dataset.test.labels) == [0, 1]


def test_broken_images_of_both_folders_are_counted(tmp_path):
    for part in ("train", "test"):
        for i in range(100):
            draw(tmp_path / part / f"{i}.png")
        (tmp_path / part / "7.png").write_bytes(b"")
    dataset = folder.load(str(tmp_path / "train"), str(tmp_path / "test"), image_size=8)
    assert len(dataset.skipped) == 2


def test_links_that_lead_back_are_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    draw(tmp_path / "a" / "0.png")
    for name in ("x", "y"):
        (tmp_path / "a" / name).symlink_to(tmp_path)
    assert list(folder.read_folder(str(tmp_path), image_size=8)[0].ids) == ["a/0.png"]


def read_both(path, size=8, **options):
    """Returns what is read into memory, and what is streamed."""
    return [folder.read_folder(str(path), image_size=size, placement=p, **options) for p in ("host", "stream")]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Makes files of every format and of several shapes, some of them rotated, and reads the images plainly."""
    path = tmp_path_factory.mktemp("many")
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(120):
        suffix = folder.SUFFIXES[i % 9]  # all suffixes but GIF, which is skipped in folders with classes
        options = {"exif": exif} if suffix in (".jpg", ".png") and i % 3 else {}
        draw(path / "ab"[i % 2] / f"{i:03d}{suffix}", i, (20 + i % 7, 30, 3) if i % 5 else (90, 70, 3), **options)
    return path, folder.read_folder(str(path), image_size=16)[0]


def test_streamed_images_are_those_in_memory_bit_for_bit(many):
    path, whole = many
    split, names, skipped = folder.read_folder(str(path), image_size=16, placement="stream")
    assert (names, skipped) == (("a", "b"), ())
    assert isinstance(split.images, items.ItemImages)
    assert split.images.shape == whole.images.shape
    np.testing.assert_array_equal(split.images[:], whole.images)
    np.testing.assert_array_equal(split.labels, whole.labels)
    np.testing.assert_array_equal(split.ids, whole.ids)
    order = np.random.default_rng(0).integers(0, 120, 300)
    np.testing.assert_array_equal(split.images[order], whole.images[order])
    np.testing.assert_array_equal(split.images[-3], whole.images[-3])


def test_what_is_streamed_is_not_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    for i, suffix in enumerate(("jpg", "png", "webp", "gif")):
        draw(tmp_path / f"{i}.{suffix}", i)
    monkeypatch.setattr(images, "square_rgb", None)
    split = folder.read_folder(str(tmp_path), image_size=8, placement="stream")[0]
    assert len(split) == 4
    with pytest.raises(InputError, match=r"0\.jpg"):
        split.images[0]


def test_several_threads_may_ask_at_a_time(many):
    path, whole = many
    streamed = folder.read_folder(str(path), image_size=16, placement="stream")[0].images
    orders = [np.random.default_rng(i).integers(0, 120, 40) for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for order, found in zip(orders, pool.map(streamed.__getitem__, orders), strict=True):
            np.testing.assert_array_equal(found, whole.images[order])


def test_another_process_opens_the_files_again(many):
    path, whole = many
    streamed = folder.read_folder(str(path), image_size=16, placement="stream")[0].images
    _ = streamed[:2]  # starts its threads
    order = np.array([7, 7, 119, 0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(streamed))[order], whole.images[order])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(operator.getitem, streamed, order).result(), whole.images[order])


def test_what_was_cut_short_is_skipped_as_in_memory(tmp_path):
    for i in range(400):
        draw(tmp_path / f"{i:03d}.{('jpg', 'png', 'webp', 'bmp')[i % 4]}", i, (30, 30, 3))
    for i, kept in ((0, 300), (1, 0), (2, 0.5), (7, 0.9)):
        file = tmp_path / f"{i:03d}.{('jpg', 'png', 'webp', 'bmp')[i % 4]}"
        whole = file.read_bytes()
        file.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    (expected, _, said), (found, _, said_streamed) = read_both(tmp_path)
    assert len(said) == 4
    assert [text.partition(": ")[0] for text in said_streamed] == [text.partition(": ")[0] for text in said]
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.images[:], expected.images)
    assert found.fingerprint() == expected.fingerprint()
    for text in said:
        os.remove(text.partition(": ")[0])
    assert folder.read_folder(str(tmp_path), image_size=8)[0].fingerprint() == expected.fingerprint()


def test_more_than_one_percent_broken_is_an_error_when_streamed(tmp_path):
    for i in range(50):
        draw(tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"At most 1 % of the 50 images .* 0\.png \(cannot identify"):
        folder.read_folder(str(tmp_path), image_size=8, placement="stream")


def test_what_turns_out_broken_when_it_is_decoded_is_named(tmp_path):
    for i in range(3):
        draw(tmp_path / f"{i}.png", i, (64, 64, 3))
    data = bytearray((tmp_path / "1.png").read_bytes())
    data[len(data) // 2] ^= 4  # the first and last bytes do not reveal this damage
    (tmp_path / "1.png").write_bytes(data)
    split = folder.read_folder(str(tmp_path), image_size=8, placement="stream")[0]
    (tmp_path / "2.png").unlink()
    assert split.images[[0, 0]].shape == (2, 8, 8, 3)
    for indices in (1, [0, 1]):
        with pytest.raises(
            InputError, match=r"1\.png' must be an intact .* cannot be read \(.+\)\. Remove it and run again"
        ):
            split.images[indices]
    with pytest.raises(InputError, match=r"2\.png' must be .* \(.*No such file.*\)\. Restore it and run again"):
        split.images[[0, 2]]


def test_the_fingerprint_is_of_the_content(tmp_path):
    def fingerprint(path):
        in_memory, streamed = (found[0].fingerprint() for found in read_both(path))
        assert in_memory == streamed
        return in_memory

    for i in range(6):
        draw(tmp_path / "images" / "ab"[i % 2] / f"{i}.png", i, (40, 40, 3))
    first = fingerprint(tmp_path / "images")
    for i, file in enumerate(sorted((tmp_path / "images").glob("?/*"))):
        os.utime(file, (i, i))
    assert fingerprint(tmp_path / "images") == first, "a copy has other times"
    shutil.move(tmp_path / "images", tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == first
    seen = {first, folder.read_folder(str(tmp_path / "moved"), image_size=9)[0].fingerprint()}
    (tmp_path / "moved" / "a" / "0.png").rename(tmp_path / "moved" / "a" / "1.png")
    seen.add(fingerprint(tmp_path / "moved"))
    (tmp_path / "moved" / "a" / "1.png").rename(tmp_path / "moved" / "b" / "0.png")
    seen.add(fingerprint(tmp_path / "moved"))
    draw(tmp_path / "moved" / "b" / "0.png", 99, (40, 40, 3))
    seen.add(fingerprint(tmp_path / "moved"))
    split = folder.read_folder(str(tmp_path / "moved"), image_size=8)[0]
    seen |= {dataclasses.replace(split, labels=labels).fingerprint() for labels in (None, 1 - split.labels)}
    assert len(seen) == 7


@pytest.mark.parametrize(("free", "streams"), [(2 * 5 * 192, False), (2 * 5 * 192 - 1, True)])
def test_auto_counts_the_images_of_both_folders_before_it_decodes_one(tmp_path, monkeypatch, free, streams):
    for path in ("train/0.png", "train/1.png", "train/2.png", "test/0.png", "test/1.png"):
        draw(tmp_path / path)
    folders = str(tmp_path / "train"), str(tmp_path / "test")
    expected = folder.load(*folders, image_size=8)
    decoded = []
    square_rgb = images.square_rgb
    monkeypatch.setattr(images, "square_rgb", lambda *a, **k: decoded.append(0) or square_rgb(*a, **k))
    monkeypatch.setattr(devices, "free_memory", lambda: free)
    dataset = folder.load(*folders, image_size=8, placement="auto")
    assert len(decoded) == (0 if streams else 5)
    for split, whole in ((dataset.train, expected.train), (dataset.test, expected.test)):
        assert isinstance(split.images, np.ndarray) == (not streams)
        np.testing.assert_array_equal(split.images[:], whole.images)


def test_a_pipe_that_is_named_like_an_image_is_left_out_and_a_folder_is_not(tmp_path):
    for i in range(2):
        draw(tmp_path / f"{i}.png", i)
    os.mkfifo(tmp_path / "pipe.png")
    draw(tmp_path / "folder.png" / "0.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "image.png").symlink_to(tmp_path / "0.png")
    for split, _, skipped in read_both(tmp_path):
        assert list(split.ids) == ["folder.png/0.png", "0.png", "1.png", "image.png"]
        assert skipped == tuple(f"{tmp_path}/{name}.png: it is not a file" for name in ("link", "pipe"))


def test_a_sub_folder_that_may_not_be_read_is_named_and_left_out(tmp_path, monkeypatch):
    for path in ("0.png", "a/0.png", "a/deep/0.png", "lost+found/0.png"):
        draw(tmp_path / path)
    scandir = os.scandir

    def refused(path, locked):
        if os.path.basename(path) in locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", lambda path: refused(path, ("lost+found", "deep")))
    for split, _, skipped in read_both(tmp_path):
        assert list(split.ids) == ["a/0.png", "0.png"]
        assert skipped == tuple(f"{tmp_path}/{name}: Permission denied" for name in ("a/deep", "lost+found"))
    monkeypatch.setattr(os, "scandir", lambda path: refused(path, (tmp_path.name,)))
    with pytest.raises(InputError, match=r"must be readable, got .* \(Permission denied\)\. Correct its permissions"):
        folder.read_folder(str(tmp_path), image_size=8)


def test_a_link_to_nothing_or_itself_is_a_broken_image(tmp_path):
    for i in range(200):
        draw(tmp_path / f"{i}.png")
    (tmp_path / "nothing.png").symlink_to(tmp_path / "missing.png")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    for split, _, skipped in read_both(tmp_path):
        assert len(split) == 200
        assert [text.partition(": ")[0] for text in skipped] == [
            f"{tmp_path}/{name}.png" for name in ("itself", "nothing")
        ]
    for i in range(3):
        (tmp_path / f"nothing{i}.png").symlink_to(tmp_path / "missing.png")
    with pytest.raises(InputError, match="At most 1 %"):
        folder.read_folder(str(tmp_path), image_size=8)


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png", b"two\rlines.png", b"cla\xdfs/0.png"])
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch, name):
    draw(tmp_path / "0.png")
    shown = repr(name)
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copy(tmp_path / "0.png", path)
    monkeypatch.setattr(folder, "_read", None)
    with pytest.raises(InputError) as caught:
        folder.read_folder(str(tmp_path), image_size=8)
    assert f"got 1 that are not (the first is {shown}). Rename them." in str(caught.value)
    str(caught.value).encode()


def test_a_folder_whose_own_name_cannot_be_written_is_refused(tmp_path):
    draw(tmp_path / "images" / "0.png")
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"bilder\xff"))
    os.rename(tmp_path / "images", path)
    with pytest.raises(InputError, match=r"Rename them"):
        folder.read_folder(path, image_size=8)
