import numpy as np
import pytest
from PIL import Image

from sas_jax.data import folder, images
from sas_jax.errors import InputError


def draw(path, seed=0, shape=(8, 8, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
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
    assert list(split.ids) == sorted(paths)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"])
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
    exif[0x0112] = 6  # the camera was turned: show it a quarter to the right
    pixels = draw(tmp_path / "0.png", exif=exif)
    np.testing.assert_array_equal(folder.read_folder(str(tmp_path), image_size=8)[0].images[0], np.rot90(pixels, -1))


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path, monkeypatch):
    x = np.linspace(0, 255, 800)
    smooth = np.stack([np.tile(x, (600, 1)), np.tile(x[:600, None], (1, 800)), np.full((600, 800), 90)], -1)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "0.jpg", quality=95)
    with Image.open(tmp_path / "0.jpg") as image:
        expected = images.square_rgb(image, 32).astype(int)
    decoded = []
    square_rgb = images.square_rgb
    monkeypatch.setattr(images, "square_rgb", lambda image, size: decoded.append(image.size) or square_rgb(image, size))
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
    with pytest.raises(InputError, match=r"'.*/missing' is not there or not a folder"):
        folder.read_folder(str(tmp_path / "missing"), image_size=8)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"none was found: correct the path"):
        folder.read_folder(str(tmp_path), image_size=8)
    with pytest.raises(InputError, match="is not there or not a folder"):
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
    with pytest.raises(InputError, match=r"wanted to be among the 3 classes .*, 1 are not \(d\)"):
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
