"""The labels that a probe sees."""

import jax
import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.evaluation import labelled

KEY = jax.random.key(0)
# Ten classes of 3 to 400 examples, in random order, with gaps in their numbers.
LABELS = np.random.default_rng(0).permutation(np.repeat(3 * np.arange(10), [3, 5, 8, 20, 50, 90, 100, 150, 174, 400]))


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_a_fraction_is_drawn_in_proportion_with_one_of_each_class(fraction):
    found = labelled.few(KEY, LABELS, fraction=fraction)
    assert len(found) == max(10, round(fraction * 1000))
    assert found.dtype == np.int64
    assert (np.diff(found) > 0).all()
    classes, sizes = np.unique(LABELS, return_counts=True)
    drawn = np.array([np.sum(LABELS[found] == each) for each in classes])
    assert (drawn >= 1).all()
    # The guaranteed one of each small class is taken from the large ones, in proportion to their sizes.
    free = drawn > 1
    share = drawn[free].sum() / sizes[free].sum() if free.any() else 0
    assert (np.abs(drawn - share * sizes)[free] <= 1).all()


def test_draws_nest_and_depend_on_key_and_labels_alone():
    one, ten = (labelled.few(KEY, LABELS, fraction=fraction) for fraction in (0.01, 0.1))
    assert np.isin(one, ten).all()
    np.testing.assert_array_equal(ten, labelled.few(jax.random.key(0), LABELS.copy(), fraction=0.1))
    assert not np.array_equal(ten, labelled.few(jax.random.key(1), LABELS, fraction=0.1))


def test_every_example_is_drawn_as_often_as_the_others_of_its_class():
    labels = np.repeat([0, 1], [5, 15])
    times = np.bincount(
        np.concatenate([labelled.few(jax.random.key(seed), labels, fraction=0.4) for seed in range(400)]), minlength=20
    )
    # 2 of 5 and 6 of 15, four hundred times: 160 on average, with a standard deviation of 10.
    assert np.abs(times - 160).max() < 45


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_held_out_is_a_share_of_each_class_and_never_all_of_it(share):
    out = labelled.held_out(KEY, LABELS, share=share)
    for each, size in zip(*np.unique(LABELS, return_counts=True), strict=True):
        assert np.isin(LABELS[out], each).sum() == min(np.floor(share * size + 0.5), size - 1)


def test_a_class_of_one_is_not_held_out():
    assert not labelled.held_out(KEY, np.arange(7)).any()


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.1, np.nan])
def test_bad_fraction(fraction):
    with pytest.raises(InputError, match="`fraction` must be more than 0 and at most 1"):
        labelled.few(KEY, LABELS, fraction=fraction)
