"""The examples of a data set that a list names, in either order and by ids."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax.data.index_files import IndexList
from sas_jax.data.subsets import resolve
from sas_jax.errors import InputError

SHUFFLED = np.array([f"train_{i:05d}" for i in (4, 0, 3, 1, 2)])  # the order in which tfds stores CIFAR
FOLDER = np.array(["cat/1.png", "cat/2.png", "dog/1.png"])
JOINED = np.array(["train_1", "unlabelled_0", "train_0", "unlabelled_2", "unlabelled_1"])


def listed(indices=None, ids=None):
    return IndexList("x.pkl", None if indices is None else np.array(indices, np.int64), ids and tuple(ids))


def silent(_):
    raise AssertionError("nothing was dropped")


@pytest.mark.parametrize(
    ("given_list", "ids", "options", "expected"),
    [
        (listed([4, 0]), SHUFFLED, {"order": "positions"}, [0, 4]),
        (listed([4, 0]), SHUFFLED, {"order": "original"}, [0, 1]),
        (listed([4, 0]), SHUFFLED, {"order": "original", "split": "train"}, [0, 1]),
        (listed([9], ["train_00003"]), SHUFFLED, {}, [2]),
        (listed([1], ["train_00003"]), SHUFFLED, {"order": "positions"}, [1]),
        (listed([1], ["train_00003"]), SHUFFLED, {"order": "original"}, [3]),
        (listed([1], ["train_00003"]), SHUFFLED, {"order": "ids"}, [2]),
        (listed([2, 0]), FOLDER, {}, [0, 2]),  # these ids have no numbers
        (listed(None, ["dog/1.png", "cat/1.png"]), FOLDER, {}, [0, 2]),
        (listed(None, ["/data/dog/1.png", "cat/1.png"]), FOLDER, {"root": "/data"}, [0, 2]),
        (listed(None, ["/data/dog/1.png"]), FOLDER, {"root": "/data/"}, [2]),
        (listed([2, 0], ["2", "0"]), FOLDER, {}, [0, 2]),  # lines that are integers
        (listed([2, 0]), np.sort(SHUFFLED), {}, [0, 2]),  # both orders are equal here
        (listed([2, 0]), np.array(["0", "1", "2"]), {}, [0, 2]),
        (listed([2, 0]), np.array(["2", "7", "0"]), {"order": "original", "split": "train"}, [0, 2]),
        (listed([2, 0]), np.array(["2", "7", "0"]), {"order": "ids"}, [0, 2]),
        (listed([0, 1]), np.array(["digits_0001", "digits_0017", "digits_0000"]), {"order": "original"}, [0, 2]),
        (listed([0, 1]), JOINED, {"order": "original", "split": "train"}, [0, 2]),
        (listed([0, 1]), JOINED, {"order": "original", "split": "unlabelled"}, [1, 4]),
        (listed([0, 2, 4]), JOINED, {"order": "original", "split": "train+unlabelled"}, [1, 2, 3]),
        (listed([0, 3]), JOINED, {"order": "original", "split": "unlabelled+train"}, [1, 2]),
    ],
)
def test_a_list_names_examples(given_list, ids, options, expected):
    found = resolve(given_list, ids, log=silent, **options)
    assert found.tolist() == expected
    assert found.dtype == np.int64


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_original_order_means_the_same_images_wherever_they_lie(data):
    """Compares with the slow, obvious form, which looks up each name."""
    stored = data.draw(st.permutations(range(data.draw(st.integers(1, 12)))))
    ids = np.array([f"a_b_{i:03d}" for i in stored])
    wanted = data.draw(st.lists(st.sampled_from(range(len(stored))), min_size=1, unique=True))
    expected = sorted(ids.tolist().index(f"a_b_{i:03d}") for i in wanted)
    assert resolve(listed(wanted), ids, order="original").tolist() == expected
    assert resolve(listed(None, [f"a_b_{i:03d}" for i in wanted]), ids).tolist() == expected
    positions = resolve(listed(wanted), ids, order="positions").tolist()
    assert positions == sorted(wanted)


WRONG = [
    (
        [0, 0, 3, 0],
        {"order": "positions"},
        r"The 4 entries of x.pkl must name .*, got 2 repeated \(the first is 0\)",
        [0, 3],
    ),
    ([0, 5, -1], {"order": "positions"}, r"2 that name none of its 5 examples \(the first is 5\)", [0]),
    ([2, 0, 0, 9, 9], {"order": "original"}, r"2 that name none .* 9\) and 1 repeated \(the first is 0\)", [1, 4]),
    ([-(2**62), 1, 2**62], {"order": "original"}, r"2 that name none .* is -4611686018427387904\)", [3]),
]


@pytest.mark.parametrize(("indices", "options", "message", "left"), WRONG)
def test_what_names_nothing_or_twice_is_counted_and_refused_or_dropped(indices, options, message, left):
    with pytest.raises(
        InputError, match=message + r"\. Check that the list is for this data set, correct it, or set config"
    ):
        resolve(listed(indices), SHUFFLED, log=silent, **options)
    told = []
    assert resolve(listed(indices), SHUFFLED, drop=True, log=told.append, **options).tolist() == left
    assert len(told) == 1
    assert re.search(message, told[0])
    assert told[0].endswith(f". These are dropped; {len(left)} remain.")


def test_ids_that_name_nothing_or_twice_are_counted_and_refused_or_dropped():
    names = listed(None, ["cat/1.png", "x" * 200, "cat/1.png", "/elsewhere/cat/2.png"])
    message = r"2 that name none of its 3 examples \(the first is 'x{80}\.\.\.'\) and 1 repeated .* is 'cat/1.png'\)"
    with pytest.raises(InputError, match=message):
        resolve(names, FOLDER, root="/data")
    assert resolve(names, FOLDER, root="/data", drop=True, log=lambda _: None).tolist() == [0]


@pytest.mark.parametrize("drop", [False, True])
def test_a_list_of_another_data_set_is_refused_even_where_things_may_be_dropped(drop):
    for names, options in ((listed([7, 8]), {"order": "positions"}), (listed(None, ["a", "b"]), {})):
        with pytest.raises(
            InputError, match=r"2 that name none .*\. Check that the list is for this data set, and which order"
        ):
            resolve(names, SHUFFLED, drop=drop, **options)


@pytest.mark.parametrize(
    ("given_list", "ids", "options", "message"),
    [
        (
            listed([0]),
            SHUFFLED,
            {},
            r"config.selection.file_order must be 'positions' or 'original' for .*x.pkl, got 'auto', "
            r"which cannot tell them apart here \(the first image is 'train_00004'\)\. Choose 'original' if",
        ),
        (listed([0]), JOINED, {}, "got 'auto', which cannot tell them apart here"),
        (listed([0], ["0"]), SHUFFLED, {}, "got 'auto', which cannot tell them apart here"),
        (listed([0]), FOLDER, {"order": "original"}, "must have numbers, such as train_16399, .*, got 'cat/1.png'"),
        (
            listed([0]),
            JOINED,
            {"order": "original"},
            r"file_split must .*, got '' with the splits train, unlabelled\. .* several as train\+unlabelled",
        ),
        (
            listed([0]),
            JOINED,
            {"order": "original", "split": "test"},
            "train, unlabelled.*, got 'test'",
        ),
        (listed([0]), JOINED, {"order": "original", "split": "train+test"}, r"got 'test'\. Correct it"),
        (
            listed([0]),
            np.delete(JOINED, 2),
            {"order": "original", "split": "train+unlabelled"},
            "The split 'train' must be complete",
        ),
        (listed([0]), np.array(["a_1", "a_01"]), {"order": "original"}, "must be unique, got one that occurs twice"),
        (listed([0]), np.array(["1", "0"]), {"order": "original", "split": "a+b"}, "one without a name"),
        (
            listed(None, ["a"]),
            SHUFFLED,
            {"order": "positions"},
            "x.pkl must list indices for config.selection.file_order=positions, got ids",
        ),
        (listed([0]), SHUFFLED, {"order": "sorted"}, "one of auto, positions, original, ids, got 'sorted'"),
    ],
)
def test_what_is_not_clear_is_one_sentence(given_list, ids, options, message):
    with pytest.raises(InputError, match=message) as found:
        resolve(given_list, ids, **options)
    assert "\n" not in str(found.value)
