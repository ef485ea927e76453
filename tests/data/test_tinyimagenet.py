"""TinyImageNet from a small copy of its layout: what is read, and the errors for incomplete copies."""

import os

import numpy as np
import pytest
from PIL import Image

from sas_jax.data import images, tinyimagenet
from sas_jax.errors import InputError

WNIDS = ("n02", "n01", "n03")  # not sorted in the file either
WORDS = "n00\tentity\nn01\tcrane\nn02\tgoldfish, Carassius auratus\nn03\tcrane, derrick\n"
MODES = ("RGB", "L", "CMYK", "RGB", "L")  # TinyImageNet itself has only the first two


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).convert(MODES[seed % 5]).save(path)


def draw_copy(root, *, train=5, val=4):
    """Writes a folder as the archive unpacks, with a few images per class."""
    for i, wnid in enumerate(WNIDS):
        for k in range(train):
            draw(root / "train" / wnid / "images" / f"{wnid}_{k * 5}.JPEG", 100 * i + k)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    lines = []
    for k in range(len(WNIDS) * val):
        draw(root / "val" / "images" / f"val_{k}.JPEG", 1000 + k)
        lines.append(f"val_{k}.JPEG\t{WNIDS[k % 3]}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    draw(root / "test" / "images" / "test_0.JPEG", 0)
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    (root / "words.txt").write_text(WORDS)
    return root


@pytest.fixture
def root(tmp_path):
    return draw_copy(tmp_path / "tiny-imagenet-200")


def load(root, *, train="train", test="val", size=64, placement="host"):
    return tinyimagenet.load(str(root), train_split=train, test_split=test, image_size=size, placement=placement)


@pytest.mark.parametrize("placement", ["host", "stream"])
def test_each_image_has_its_pixels_and_its_class(root, placement):
    dataset = load(root, placement=placement)
    assert dataset.name == "tinyimagenet"
    assert dataset.skipped == ()
    wnids = sorted(WNIDS)
    train = [f"train/{wnid}/images/{wnid}_{k}.JPEG" for wnid in wnids for k in (0, 10, 15, 20, 5)]
    assert list(dataset.train.ids) == train
    assert [wnids[label] for label in dataset.train.labels] == [path.split("/")[1] for path in train]
    val = sorted(f"val/images/val_{k}.JPEG" for k in range(12))
    assert list(dataset.test.ids) == val
    numbers = [int(path.split("_")[1].split(".")[0]) for path in val]
    assert [wnids[label] for label in dataset.test.labels] == [WNIDS[k % 3] for k in numbers]
    modes = set()
    for split in (dataset.train, dataset.test):
        for name, found in zip(split.ids, split.images[:], strict=True):
            with Image.open(root / name) as image:
                modes.add(image.mode)
                np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
                if image.mode == "L":
                    np.testing.assert_array_equal(found[..., 0], np.asarray(image))
    assert modes == {"RGB", "L", "CMYK"}


def test_classes_are_called_by_their_first_name_and_a_name_of_two_by_both(root):
    assert load(root).class_names == ("crane (n01)", "goldfish", "crane (n03)")
    (root / "words.txt").write_text("n01\t\nn03\tlift")
    assert load(root).class_names == ("n01", "n02", "lift")


def test_without_a_test(root):
    (root / "val" / "val_annotations.txt").unlink()
    assert load(root, test="").test is None


def test_auto_counts_the_images_of_both_splits_before_it_decodes_one(root, monkeypatch):
    monkeypatch.setattr(tinyimagenet, "is_streamed", lambda placement, size: size == 27 * 8 * 8 * 3)
    monkeypatch.setattr(images, "square_rgb", None)
    assert not isinstance(load(root, size=8, placement="auto").train.images, np.ndarray)


@pytest.mark.parametrize(
    ("train", "test"), [("train[:10]", "val"), ("train", "test"), ("val", ""), ("train", "validation")]
)
def test_splits_it_does_not_have(root, train, test):
    with pytest.raises(InputError, match=r"'train', and config\.data\.test_split 'val' or '' .*\. Correct them"):
        load(root, train=train, test=test)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "wnids.txt",
            None,
            r"^wnids\.txt of tinyimagenet must .* cannot be read \(No such file or directory\)\. Set config",
        ),
        ("wnids.txt", "\n\n", r"cannot be read \(it is empty\)"),
        ("wnids.txt", b"\xff", r"cannot be read \('utf-8' codec"),
        ("words.txt", None, r"^words\.txt of"),
        ("val/val_annotations.txt", None, r"^val/val_annotations\.txt of"),
        (
            "wnids.txt",
            "n01\nn02",
            r"named after the 2 classes in wnids\.txt, got other folders: 1 \(the first is 'n03'\)\. Unpack",
        ),
        ("val/val_annotations.txt", "val_0.JPEG n01", r"Each line .*, got 'val_0\.JPEG n01' as entry 1\. Unpack"),
        (
            "val/val_annotations.txt",
            "val_0.JPEG\tn01\nval_0.JPEG\tn02",
            r"with one class per file name, got .* as entry 2\.",
        ),
        ("val/val_annotations.txt", "val_0.JPEG\tn09", r"as entry 1\."),
        (
            "val/val_annotations.txt",
            "val_0.JPEG\tn01",
            r"must hold exactly the images .*, got 11 \(the first is 'val_1\.JPEG'\) in only",
        ),
        (
            "val/images/val_99.JPEG",
            b"",
            r"must hold exactly the images .*, got 1 \(the first is 'val_99\.JPEG'\) in only one of them",
        ),
    ],
)
def test_what_is_missing_or_contradicts_is_said(root, file, text, message):
    (root / file).unlink(missing_ok=True)
    if text is not None:
        (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)


def test_a_pipe_or_a_huge_file_is_not_read(root):
    (root / "words.txt").unlink()
    os.mkfifo(root / "words.txt")
    with pytest.raises(InputError, match="it is a pipe or a device, not a file"):
        load(root)
    (root / "words.txt").unlink()
    with (root / "words.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"it has 1,099,511,627,776 bytes"):
        load(root)


def test_another_folder(root, tmp_path):
    for path in (tmp_path / "none", root / "wnids.txt"):
        with pytest.raises(InputError, match=r"The unpacked tinyimagenet must exist, got .*which is not a folder"):
            load(path)
    (root / "train").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"The folder of images must exist, got '.*train'"):
        load(root)


def test_broken_images_are_skipped_up_to_one_in_a_hundred(tmp_path):
    root = draw_copy(tmp_path / "copy", train=40, val=34)
    (root / "train" / "n02" / "images" / "n02_5.JPEG").write_bytes(b"")
    (root / "val" / "images" / "val_7.JPEG").write_bytes(b"not an image")
    dataset = load(root, size=8)
    assert [text.partition(": ")[0] for text in dataset.skipped] == [
        f"{root}/train/n02/images/n02_5.JPEG",
        f"{root}/val/images/val_7.JPEG",
    ]
    assert (len(dataset.train), len(dataset.test)) == (119, 101)
    assert "train/n02/images/n02_5.JPEG" not in dataset.train.ids
    assert [sorted(WNIDS)[label] for label in dataset.train.labels] == [
        name.split("/")[1] for name in dataset.train.ids
    ]
    for k in (1, 2):
        (root / "val" / "images" / f"val_{k}.JPEG").write_bytes(b"")
    with pytest.raises(InputError, match="At most 1 % of the 102 images"):
        load(root, size=8)
