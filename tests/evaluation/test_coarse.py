"""CIFAR-100's superclasses against the table that is widely used with PyTorch."""

import numpy as np

from sas_jax.evaluation import coarse_classes
from sas_jax.evaluation.coarse import CIFAR100

# In alphabetical order of the fine labels; also checked against both labels of all 60,000 images (2026-11).
BY_NUMBER = (
    "4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 "
    "14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 "
    "18 1 2 15 6 0 17 8 14 13"
)
NAMES = sorted(name for members in CIFAR100.values() for name in members)


def test_equals_the_table_by_number():
    found = coarse_classes(NAMES)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [int(number) for number in BY_NUMBER.split()])
    np.testing.assert_array_equal(np.bincount(found), np.full(20, 5))


def test_goes_by_name():
    np.testing.assert_array_equal(coarse_classes(NAMES[::-1]), coarse_classes(NAMES)[::-1])


def test_other_data_sets_have_none():
    assert coarse_classes(None) is None
    assert coarse_classes([str(digit) for digit in range(10)]) is None
    assert coarse_classes(NAMES[:-1]) is None
    assert coarse_classes([*NAMES[:-1], "dog"]) is None
