import numpy as np
import pytest
from sklearn import datasets

from sas_jax import data
from sas_jax.data import digits, prepared


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = prepared.directory(str(tmp_path_factory.mktemp("tfds")))
    prepared.prepare(digits.builder_class(), folder)
    return folder


@pytest.fixture(scope="module")
def dataset(data_dir):
    path = prepared.find("digits", data_dir)
    return prepared.read(path, name="digits", train_split="train", test_split="test", image_size=8)


def test_every_scanned_digit_is_there_once_with_its_pixels_and_label(dataset):
    source = datasets.load_digits()
    assert isinstance(dataset, data.Dataset)
    assert dataset.class_names == tuple("0123456789")
    index = np.concatenate([[int(i.removeprefix("digits_")) for i in s.ids] for s in (dataset.train, dataset.test)])
    assert sorted(index) == list(range(1797))
    pixels = np.concatenate([dataset.train.images, dataset.test.images])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert pixels.shape == (1797, 8, 8, 3)
    assert (pixels.dtype, labels.dtype) == (np.uint8, np.int32)
    for channel in range(3):
        np.testing.assert_array_equal(np.round(pixels[..., channel] / 255 * 16), source.images[index])
    assert (pixels.min(), pixels.max()) == (0, 255)
    np.testing.assert_array_equal(labels, source.target[index])


def test_the_split_is_four_to_one_within_each_class(dataset):
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    counts = np.bincount(np.concatenate([dataset.train.labels, dataset.test.labels]))
    assert (np.abs(np.bincount(dataset.test.labels) - counts / 5) <= 1).all()


def test_the_split_covers_every_index_once_whatever_the_classes():
    target = np.random.default_rng(0).integers(0, 3, 101)
    split = digits.split_indices(target)
    np.testing.assert_array_equal(np.sort(np.concatenate([split["train"], split["test"]])), np.arange(101))
    assert len(split["test"]) == 21
    assert (np.diff(split["test"]) > 0).all()


def test_tfds_itself_reads_what_was_prepared(data_dir, dataset):
    builder = digits.builder_class()(data_dir=data_dir)
    source = builder.as_data_source("train")
    assert source[3]["image"].shape == (8, 8, 1), "stored as they are"
    assert source[3]["id"].decode() == dataset.train.ids[3]
    np.testing.assert_array_equal(source[3]["image"][..., 0], dataset.train.images[3, ..., 0])
