import subprocess
import sys

import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from sas_jax import data, devices
from sas_jax.data import cifar, sources
from sas_jax.errors import InputError


def config(tmp_path, **changes):
    fields = {
        "name": "digits",
        "dir": str(tmp_path / "tfds"),
        "classes": (),
        "train_split": "train",
        "test_split": "test",
        "folder": "",
        "test_folder": "",
        "image_size": 16,
        "placement": "auto",
    }
    return ConfigDict(fields | changes)


def test_digits_are_prepared_on_first_use_and_found_on_the_second(tmp_path, monkeypatch):
    first = data.load(config(tmp_path))
    assert first.name == "digits"
    assert first.train.images.shape == (1437, 16, 16, 3)
    assert first.test.images.shape == (360, 16, 16, 3)
    monkeypatch.setattr(sources, "_prepare", None)
    second = data.load(config(tmp_path, train_split="train[:10]", test_split=""))
    np.testing.assert_array_equal(second.train.images, first.train.images[:10])
    np.testing.assert_array_equal(second.train.ids, first.train.ids[:10])
    assert second.test is None


def test_a_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (5, 4), {"a": "red", "b": "blue"}[name]).save(tmp_path / "train" / name / "0.png")
    paths = {"folder": str(tmp_path / "train"), "test_folder": str(tmp_path / "train" / "b")}
    dataset = data.load(config(tmp_path, name="folder", image_size=3, **paths))
    np.testing.assert_array_equal(dataset.train.images[0], np.broadcast_to([255, 0, 0], (3, 3, 3)))
    assert list(dataset.train.labels) == [0, 1]
    assert dataset.test.labels is None


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_the_placement_says_whether_images_are_in_memory(tmp_path, monkeypatch, name):
    paths = {}
    if name == "folder":
        Image.new("RGB", (5, 4), "red").save(tmp_path / "0.png")
        Image.new("RGB", (5, 4), "blue").save(tmp_path / "1.png")
        paths = {"folder": str(tmp_path), "test_folder": str(tmp_path)}
    monkeypatch.setattr(devices, "free_memory", lambda: 0)
    kinds = {}
    for placement in ("device", "host", "stream", "auto"):
        dataset = data.load(config(tmp_path, name=name, image_size=4, placement=placement, **paths))
        kinds[placement] = [isinstance(split.images, np.ndarray) for split in (dataset.train, dataset.test)]
    assert kinds == {"device": [True] * 2, "host": [True] * 2, "stream": [False] * 2, "auto": [False] * 2}


def test_cifar_that_is_not_there_is_prepared(tmp_path, monkeypatch):
    asked = []

    def prepare(name, data_dir):
        asked.append((name, data_dir))
        raise InputError("no network")

    monkeypatch.setattr(cifar, "prepare", prepare)
    for name in ("cifar10", "cifar100"):
        with pytest.raises(InputError, match="no network"):
            data.load(config(tmp_path, name=name))
    assert asked == [(name, epath.Path(tmp_path / "tfds")) for name in ("cifar10", "cifar100")]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"name": "cifar1O0"},
            r"must be a data set of tfds .*, got 'cifar1O0'\. Did you mean cifar10, cifar100 or .*\?$",
        ),
        ({"name": "digit"}, r"Did you mean digits"),
        ({"name": "qqqqqqqqqqqq"}, r"See https://www\.tensorflow\.org/datasets/catalog\.$"),
        (
            {"name": "stl10"},
            r"stl10 must be prepared .* Set config\.data\.dir to .*, or run `tfds build stl10 --file_format=",
        ),
        ({"name": "imagenet_resized/32x32"}, r"`tfds build imagenet_resized/32x32 "),
        ({"name": ""}, r"must be a data set of tfds .*, got ''\."),
        (
            {"name": "digits:zzz"},
            r"The version .* must have a form such as .*, got 'digits:zzz'\. Correct it or leave it out",
        ),
        ({"name": "folder"}, r"data\.folder must name a folder if config\.data\.name is 'folder', got ''"),
        ({"folder": "photos"}, r"data\.folder must be empty if config\.data\.name is 'digits', got 'photos'"),
        ({"train_split": ""}, r"data\.train_split must name a split, got ''"),
        ({"image_size": 0}, r"data\.image_size must be 1 pixel or more, got 0"),
    ],
)
def test_wrong_fields_get_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        data.load(config(tmp_path, **changes))


def test_importing_is_cheap_and_loading_needs_no_tensorflow(tmp_path):
    program = (
        "import sys; from sas_jax import data; "
        "assert not {'flax', 'sklearn', 'tensorflow_datasets'} & set(sys.modules), sorted(sys.modules); "
        "from ml_collections import ConfigDict; "
        f"print(len(data.load(ConfigDict({config(tmp_path).to_dict()!r})).train)); "
        "assert 'tensorflow' not in sys.modules"
    )
    root = epath.Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1437\n", "")


def test_classes_keep_the_ids_of_the_whole_data_set(tmp_path):
    whole = data.load(config(tmp_path))
    kept = data.load(config(tmp_path, classes=("7", "3")))
    chosen = [np.flatnonzero(whole.train.labels == label) for label in (7, 3)]
    assert sorted(kept.train.ids) == sorted(whole.train.ids[np.concatenate(chosen)])
    assert np.bincount(kept.train.labels).tolist() == [len(each) for each in chosen]
    assert kept.class_names == ("7", "3")
