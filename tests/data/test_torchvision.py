"""The archives that torchvision downloads: pickles in the official layout, with tfds's ids."""

import contextlib
import pickle

import numpy as np
import pytest

from sas_jax.data import torchvision
from sas_jax.errors import InputError

RNG = np.random.default_rng(0)


def load(path, **options):
    given = {"train_split": "train", "test_split": "test", "image_size": 32} | options
    return torchvision.load(str(path), **given)


class Python2(pickle._Pickler):
    """Pickles text and arrays as Python 2 did, as in the archives: everything is byte strings of one kind."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, str | bytes):
            data = obj.encode() if isinstance(obj, str) else obj
            short = len(data) < 256
            self.write((b"U" + bytes([len(data)]) if short else b"T" + len(data).to_bytes(4, "little")) + data)
            self.memoize(obj) if id(obj) not in self.memo else None
        elif isinstance(obj, np.ndarray):
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n")
            self.save((0,))
            self.save("b")
            self.write(b"tR(K\x01")
            self.save(obj.shape)
            self.write(b"cnumpy\ndtype\n(")
            self.save("u1")
            self.write(b"K\x00K\x01tR(K\x03")
            self.save("|")
            self.write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            self.save(obj.tobytes())
            self.write(b"tb")
        else:
            super().save(obj, save_persistent_id)


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Python2(file, 2).dump(value)


def pixels(count):
    return RNG.integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture
def cifar10(tmp_path):
    """Returns the folder, and its data by file name."""
    root, data = tmp_path / "cifar-10-batches-py", {}
    for at, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        data[name] = pixels(4)
        entries = {"batch_label": name, "labels": [at, 1, 2, 3], "data": data[name], "filenames": ["a.png"] * 4}
        dump(root / name, entries)
    dump(
        root / "batches.meta", {"num_cases_per_batch": 4, "label_names": [f"c{k}" for k in range(10)], "num_vis": 3072}
    )
    return root, data


def test_cifar10(cifar10):
    root, data = cifar10
    found = load(root.parent)
    assert (found.name, found.class_names) == ("cifar10", tuple(f"c{k}" for k in range(10)))
    expected = (
        np.concatenate([data[f"data_batch_{k}"] for k in range(1, 6)]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    )
    np.testing.assert_array_equal(found.train.images, expected)
    assert found.train.labels.tolist() == [label for at in range(5) for label in (at, 1, 2, 3)]
    assert found.train.ids.tolist() == [f"train_{k:05d}" for k in range(20)]
    assert found.test.ids.tolist() == [f"test_{k:05d}" for k in range(4)]
    streamed = load(root, placement="stream", test_split="")
    np.testing.assert_array_equal(streamed.train.images[[3, 19]], expected[[3, 19]])
    assert streamed.train.fingerprint() == found.train.fingerprint()
    both = load(root, train_split="train+test", test_split="")
    assert both.train.ids[-1] == "test_00003"


def test_cifar100_written_by_python_3(tmp_path):
    root = tmp_path / "cifar-100-python"
    root.mkdir()
    data = pixels(3)
    for name in ("train", "test"):
        entries = {"data": data, "fine_labels": [5, 0, 99], "coarse_labels": [1, 1, 1], "filenames": ["x"] * 3}
        (root / name).write_bytes(pickle.dumps({key.encode(): value for key, value in entries.items()}, 2))
    (root / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{k}" for k in range(100)]}))
    found = load(tmp_path, image_size=16)
    assert (found.name, found.train.labels.tolist(), found.class_names[99]) == ("cifar100", [5, 0, 99], "c99")
    assert found.train.images.shape == (3, 16, 16, 3)


def test_stl10(tmp_path):
    root = tmp_path / "stl10_binary"
    root.mkdir()
    data = {
        name: RNG.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        for name, count in (("train", 4), ("test", 2), ("unlabeled", 3))
    }
    for name, values in data.items():
        (root / f"{name}_X.bin").write_bytes(values.tobytes())
    (root / "train_y.bin").write_bytes(bytes([1, 10, 2, 3]))
    (root / "test_y.bin").write_bytes(bytes([4, 5]))
    (root / "class_names.txt").write_text("".join(f"c{k}\n" for k in range(10)))
    found = load(tmp_path, train_split="train+unlabelled", image_size=96)
    assert found.train.labels.tolist() == [0, 9, 1, 2, -1, -1, -1]
    assert found.train.ids.tolist()[3:5] == ["train_00003", "unlabelled_00000"]
    expected = np.concatenate([data["train"], data["unlabeled"]]).transpose(0, 3, 2, 1)  # stored column by column
    np.testing.assert_array_equal(found.train.images, expected)
    assert load(tmp_path, train_split="unlabeled", test_split="").train.labels is None
    (root / "train_y.bin").write_bytes(bytes([1, 0, 2, 3]))
    with pytest.raises(InputError, match=r"must hold train as in the original archive, .* or a label of 0"):
        load(tmp_path)
    (root / "train_X.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"train_X\.bin has 1 bytes, which is not a whole number of images"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("data_batch_2", {"data": 3, "labels": [1]}, "has no data or no labels: it belongs to another data set"),
        ("data_batch_2", {"data": pixels(2), "fine_labels": [1, 2]}, "it belongs to another data set"),
        ("data_batch_2", {"data": pixels(2), "labels": [1]}, "has 2 images but a different number of labels"),
        ("data_batch_2", {"data": pixels(2)[:, :9], "labels": [1, 2]}, r"holds uint8 \[2, 9\], expected uint8"),
        ("data_batch_2", {"data": pixels(2), "labels": [1, 10]}, "must be below 10, its number of classes, got 10"),
        ("data_batch_2", [1, 2], "holds a value of type list, expected a dict"),
        (
            "data_batch_2",
            {"data": pixels(2), "labels": [1, -1]},
            "has 2 images but a different number of labels, or invalid labels",
        ),
        ("batches.meta", {"names": []}, "must hold its class names"),
        ("batches.meta", {"label_names": ["a", "b", "c"]}, "it lists 3 classes, expected 10 different names"),
        ("batches.meta", {"label_names": ["a"] * 10}, "it lists 10 classes, expected 10 different names"),
        ("batches.meta", {"label_names": list(range(10))}, "expected 10 different names"),
        ("data_batch_2", print, "it imports '__builtin__.print', which a CIFAR batch does not need"),
        ("data_batch_2", None, "No such file"),
    ],
)
def test_other_files_are_one_sentence(cifar10, file, value, message):
    root, _ = cifar10
    (root / file).unlink()
    if value is not None:
        dump(root / file, value)
    with pytest.raises(InputError, match=message):
        load(root)


def test_damaged_pickles_are_one_sentence(cifar10):
    root, _ = cifar10
    whole = (root / "test_batch").read_bytes()
    for attempt in range(80):
        damaged = bytearray(whole if attempt % 2 else whole[: RNG.integers(len(whole))])
        for at in RNG.integers(0, len(damaged), 3) if attempt % 2 and damaged else ():
            damaged[at % 400] = RNG.integers(256)
        (root / "test_batch").write_bytes(damaged)
        with contextlib.suppress(InputError):  # any other error fails the test
            load(root)


@pytest.mark.parametrize(
    ("spec", "wrong"), [("train[:10%]", r"train\[:10%\]"), ("val", "val"), ("train+train", "train")]
)
def test_splits_that_are_none_are_one_sentence(cifar10, spec, wrong):
    with pytest.raises(InputError, match=rf"config.data.train_split must be one of train, test, .* got '{wrong}'"):
        load(cifar10[0], train_split=spec)


def test_a_folder_of_none_or_of_several(tmp_path, cifar10):
    with pytest.raises(InputError, match=r"config.data.folder must hold one of .*, which holds none"):
        load(tmp_path / "nothing")
    (tmp_path / "stl10_binary").mkdir()
    with pytest.raises(InputError, match="which holds cifar-10-batches-py, stl10_binary"):
        load(tmp_path)
