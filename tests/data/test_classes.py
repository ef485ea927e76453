import dataclasses

import numpy as np
import pytest

from sas_jax.data import Dataset, Split
from sas_jax.data.classes import ChosenImages, keep
from sas_jax.data.streamed import StreamedImages
from sas_jax.errors import InputError

NAMES = ("cat", "dog", "eel", "fox")


class Streamed(StreamedImages):
    def __init__(self, images):
        super().__init__(len(images), images.shape[1])
        self.images = images

    def _decode(self, indices, out):
        out[:] = self.images[indices]


def split(labels, *, seed=0, streamed=False):
    labels = np.array(labels, np.int32)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    return Split(
        images=Streamed(images) if streamed else images,
        labels=labels,
        ids=np.array([f"id{seed}_{i}" for i in range(len(labels))]),
        marks=rng.integers(0, 2**60, len(labels)).astype(np.uint64),
    )


def dataset(train=(3, 0, 1, 3, -1, 2, 1), test=(1, 3, 0), **how):
    return Dataset("toy", split(train, **how), split(test, seed=1, **how), NAMES)


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_kept_is_the_images_of_these_classes_in_their_order_with_their_own_ids(streamed):
    whole = dataset(streamed=streamed)
    kept = keep(whole, ("fox", "dog"))
    wanted = [0, 2, 3, 6]
    np.testing.assert_array_equal(kept.train.images[:], whole.train.images[:][wanted])
    np.testing.assert_array_equal(kept.train.ids, whole.train.ids[wanted])
    np.testing.assert_array_equal(kept.train.marks, whole.train.marks[wanted])
    assert kept.train.labels.tolist() == [0, 1, 0, 1]
    assert kept.test.labels.tolist() == [1, 0]
    assert kept.class_names == ("fox", "dog")
    assert isinstance(kept.train.images, ChosenImages) == streamed


def test_streamed_images_are_taken_at_any_indices():
    kept, memory = (keep(dataset(streamed=streamed), ("dog", "cat")).train.images for streamed in (True, False))
    for indices in (1, slice(None, None, -1), np.array([2, 0, 0]), np.array([True, False, True])):
        np.testing.assert_array_equal(kept[indices], memory[indices])


def test_all_classes_leave_out_only_what_has_no_label():
    kept = keep(dataset(), NAMES)
    assert kept.train.labels.tolist() == [3, 0, 1, 3, 2, 1]


def test_without_test_images_there_are_none():
    assert keep(Dataset("toy", split((0, 1)), None, NAMES), ("cat",)).test is None


UNLABELLED = dataclasses.replace(split((0, 1)), labels=None)


@pytest.mark.parametrize(
    ("given", "names", "sentence"),
    [
        (dataset(), ("cta",), r"must name classes of toy, got 'cta'\. Did you mean 'cat'\?"),
        (dataset(), (3,), r"got 3\. Did you mean"),
        (dataset(), ("cat", "fox", "cat"), r"must name each class once, got 'cat' twice\. Remove one"),
        (Dataset("toy", split((0, 1)), None, None), ("cat",), r"without labels, got 1 names for toy\. Clear it"),
        (dataset(train=(0, 1)), ("eel",), r"that have training images, got classes without any"),
        (dataset(), ("eel",), r"that have test images, got classes without any"),
        (Dataset("toy", split((0, 1)), UNLABELLED, NAMES), ("cat",), r"that have test images, got classes without any"),
    ],
)
def test_what_cannot_be_kept_is_said(given, names, sentence):
    with pytest.raises(InputError, match=sentence):
        keep(given, names)
