"""The checks of a ranking's columns, against the obvious check class by class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax.errors import InputError
from sas_jax.selection import columns

NAN = float("nan")


def is_ranking(position, classes):
    """Returns whether each class has the positions 0, 1, 2, ... once each, and -1 elsewhere: the definition."""
    for label in set(classes):
        of_class = [p for p, c in zip(position, classes, strict=True) if c == label]
        ranked = sorted(p for p in of_class if p != -1)
        if ranked != list(range(len(ranked))):
            return False
    return True


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 3), st.sampled_from([0, 1, 2**31 - 1])), min_size=1, max_size=7))
def test_positions_are_checked_as_defined(rows):
    position, classes = zip(*rows, strict=True)
    gains = np.full(len(rows), NAN)
    if is_ranking(position, classes):
        found, _ = columns.check(position, gains, classes, None)
        assert found[0].tolist() == list(position)
        assert found[2].tolist() == list(classes)
    else:
        with pytest.raises(InputError, match=r"`position` must be (0 to|-1 for)"):
            columns.check(position, gains, classes, None)


def test_columns_get_their_types():
    (position, gain, classes, ids), _ = columns.check(
        np.array([1, 0, -1], np.int8), [0.1, 2, NAN], np.array([7, 7, 2**31 - 1], np.uint64), [3, 4, 5]
    )
    assert (position.dtype, gain.dtype, classes.dtype) == (np.int32, np.float32, np.int32)
    assert gain[0] == np.float32(0.1)
    assert classes.tolist() == [7, 7, 2**31 - 1]
    assert ids.tolist() == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": [], "gain": [], "classes": []}, r"`position` must be .* at least one entry, got \[0\]"),
        ({"position": [[0, 1, -1]]}, r"`position` must be .* got \[1, 3\]"),
        ({"position": 0}, r"`position` must be .* got \[\]"),
        ({"position": [[0, 1], [2]]}, "Positions must be an array, got a list that NumPy cannot convert"),
        ({"gain": [1.0, 0.5]}, r"`gain` must have one entry for each example, .* got \[2\]"),
        ({"classes": [0, 0, 0, 0]}, r"`classes` must have one entry for each example, .* got \[4\]"),
        ({"ids": ["a", "b"]}, r"`ids` must have one entry for each example, as `position` has \(\[3\]\), got \[2\]"),
        ({"position": [0.5, 1.0, -1.0]}, "`position` must be integers, -1 where not ranked, got float64"),
        ({"position": np.array([0, 1, 2**64 - 1], np.uint64)}, "got 18446744073709551615 as entry 2"),
        ({"position": [0.0, 1.0, 1e300]}, "got 1e\\+300 as entry 2"),
        ({"position": ["0", "1", "-1"]}, "`position` must be integers, -1 where not ranked, got <U2"),
        ({"position": [True, False, True]}, "`position` must be integers, -1 where not ranked, got bool"),
        (
            {"position": [0, 2, -1]},
            "must be 0 to 1, each once, for the 2 ranked examples of class 5, and -1 .* got 2 as entry 1",
        ),
        ({"position": [0, 2**40, -1]}, "got 1099511627776 as entry 1"),
        ({"position": [0, 1, -2]}, "got -2 as entry 2"),
        ({"position": [0, 0, -1]}, "must be 0 to 1, each once, in class 5, got 0, which occurs 2 times"),
        ({"classes": [5, 5, -1]}, "Classes must be text, or whole numbers from 0 .*got -1 as entry 2"),
        ({"classes": [5.0, 5.0, 5.5]}, r"Classes must be text, or whole numbers .* got 5\.5 as entry 2"),
        ({"gain": ["1", "2", "3"]}, "`gain` must be floating point, nan where not ranked, got <U1"),
        ({"gain": [True, True, False]}, "`gain` must be floating point, nan where not ranked, got bool"),
        ({"gain": [1.0, np.inf, NAN]}, "`gain` must be finite where .* got inf as entry 1 at position 1"),
        ({"gain": [1.0, 1e39, NAN]}, "got inf as entry 1 at position 1"),
        ({"gain": [1.0, NAN, NAN]}, "got nan as entry 1 at position 1"),
        ({"gain": [1.0, 0.5, 0.0]}, "got 0.0 as entry 2 at position -1"),
        ({"ids": ["a", "b", "a"]}, "must be unique, got 'a' as entry 2"),
    ],
)
def test_what_is_no_ranking_is_refused(changes, message):
    good = {"position": [0, 1, -1], "gain": [1.0, 0.5, NAN], "classes": [5, 5, 5], "ids": None}
    columns.check(**good)
    with pytest.raises(InputError, match=message) as found:
        columns.check(**(good | changes))
    assert "\n" not in str(found.value)


def test_two_classes_are_told_apart():
    with pytest.raises(InputError, match="must be 0 to 1, each once, in class 9, got 1, which"):
        columns.check([0, 1, 1, 1], np.full(4, NAN), [3, 9, 3, 9], None)
    with pytest.raises(InputError, match="must be 0 to 1, each once, in class 9, got 0, which"):
        columns.check([0, 0, -1, 0], np.full(4, NAN), [3, 9, 5, 9], None)
    with pytest.raises(
        InputError, match=r"must be 0 to 0, each once, for the 1 ranked examples of class 9, and -1 .* got 1 as entry 3"
    ):
        columns.check([0, -1, 1, 1], np.full(4, NAN), [3, 9, 3, 9], None)
