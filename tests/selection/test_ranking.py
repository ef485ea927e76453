"""Rankings: their columns, subsets and turning points, and the checks of their origin."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

import sas_jax
from sas_jax.errors import InputError
from sas_jax.selection.ranking import Ranking, fingerprint


def example(ids=True):
    classes = np.array([0, 0, 2, 2, 2, 0, 2, 2])
    position = np.array([1, 0, 3, 2, 0, 2, 1, -1])
    gain = np.array([0.1, 1 / 3, -2, 0.5, 2, -0.25, 1e-20, np.nan])
    names = ['train_3"', "b,c", "ä/é.png", "3", "", " e ", "f", "train_007"] if ids else None
    return Ranking(position, gain, classes, names, {"objective": "sas", "parameters": {"budget": 7}})


def test_columns_have_their_types():
    ranking = example()
    assert (ranking.position.dtype, ranking.gain.dtype, ranking.classes.dtype) == (np.int32, np.float32, np.int32)
    assert len(ranking) == 8
    with pytest.raises(
        InputError, match=r"`classes` must have one entry for each example, as `position` has \(\[2\]\), got \[3\]"
    ):
        Ranking([0, 1], [0.0, 0.0], [0, 0, 0])
    with pytest.raises(InputError, match="got 0, which occurs 2 times"):
        Ranking([0, 0], [0.0, 0.0], [0, 0])
    with pytest.raises(InputError, match=r"`metadata` must be a mapping, got 'sas'. Give {} for none."):
        Ranking([0, 1], [0.0, 0.0], [0, 0], metadata="sas")


def test_a_ranking_is_used_without_jax(tmp_path):
    """A PyTorch program, for example, need not start another framework for a list of indices."""
    path = str(tmp_path / "r.parquet")
    example().save(path)
    code = (
        f"import sys, sas_jax; ranking = sas_jax.Ranking.load({path!r}, n=8); "
        "assert len(ranking.subset(fraction=0.5)) == 4; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": sas_jax.__path__[0] + "/.."}, check=True)


def made_from(z, ids=None):
    """Returns a ranking as `rank` makes it from these embeddings, in arbitrary order."""
    metadata = {"objective": "sas", "fingerprint": fingerprint(z), "source": "train.npy"}
    return Ranking(np.arange(len(z))[::-1], np.arange(len(z)) / 4.0, np.zeros(len(z), int), ids, metadata)


def test_what_a_ranking_is_used_on_is_known(tmp_path):
    z = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    path, names = tmp_path / "r.parquet", list("abcdef")
    made_from(z, names).save(path)
    expected = Ranking.load(path).subset(size=3).tolist()
    np.save(tmp_path / "z.npy", z)
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    for given in ({"of": z}, {"of": z.tolist()}, {"of": mapped}, {"n": 6}, {"n": np.int64(6)}, {"ids": names}):
        assert Ranking.load(path, **given).subset(size=3).tolist() == expected
    assert Ranking.load(path, of=z, ids=np.array(names), n=6).subset(size=3).tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 7}, "cannot be used on 7 examples. Load the ranking of these examples, or rank them"),
        ({"n": "6"}, "cannot be used on '6' examples\\."),
        ({"n": 6.0}, "cannot be used on 6.0 examples\\."),
        ({"of": np.eye(6, 3)}, "cannot be used on 6 examples with the fingerprint {}. Load"),
        ({"of": np.eye(5, 3)}, "cannot be used on 5 examples with the fingerprint {}. Load"),
        ({"of": [[1.0], [2.0, 3.0]]}, "`of` must be an array"),
        ({"of": np.eye(6, 3, dtype=int)}, "cannot be used on 6 examples with the fingerprint {}. Load"),
        ({"of": 2.0}, r"`of` must be the ranked array, floats \[n, ...\], got float64 \[\]. Pass the array"),
        ({"of": "test.npy"}, r"`of` must be the ranked array, floats \[n, ...\], got <U8 \[\]. Pass the array"),
        ({"of": ["a", "b"]}, r"`of` must be the ranked array, floats \[n, ...\], got <U1 \[2\]. Pass the array"),
        ({"ids": list("abcde")}, r"cannot be used on examples with ids of the shape \[5\]\."),
        (
            {"ids": list("abcdeg")},
            "used on other examples: entry 5 is 'f' in the ranking and 'g' here, and 1 of 6 differ. Load",
        ),
        (
            {"ids": list("bacdef")},
            r"entry 0 is 'a' .* 'b' here, and 2 of 6 differ \(they are the same names in a different order\)\. Load",
        ),
        ({"ids": list("abcdee")}, "must be unique, got 'e' as entry 5"),
    ],
)
def test_a_ranking_of_something_else_is_refused_with_both_origins(tmp_path, changes, message):
    z, path = np.random.default_rng(0).normal(size=(6, 3)), tmp_path / "r.csv"
    made_from(z, list("abcdef")).save(path)
    (what, given), *_ = changes.items()
    if "{}" in message:
        message = message.format(fingerprint(given))
    with pytest.raises(InputError, match=message) as found:
        Ranking.load(path, **changes)
    assert "\n" not in str(found.value)
    if "cannot be used on" in message:
        made = f"The ranking {path} was made by sas from 6 examples of train.npy with the fingerprint {fingerprint(z)}"
        assert str(found.value).startswith(made), what


def test_a_mapped_file_is_named(tmp_path):
    made_from(np.eye(3)).save(tmp_path / "r.npz")
    np.save(tmp_path / "test.npy", np.ones((3, 3)))
    with pytest.raises(InputError, match=r"used on 3 examples of test.npy with the fingerprint"):
        Ranking.load(tmp_path / "r.npz", of=np.load(tmp_path / "test.npy", mmap_mode="r"))


def test_a_ranking_that_does_not_know_its_origin_says_so(tmp_path):
    path = tmp_path / "r.npz"
    Ranking([1, 0], [np.nan, np.nan], [0, 0], metadata={"objective": "random"}).save(path)
    with pytest.raises(InputError, match=r"made by random from 2 examples and has no fingerprint .* `ids` or `n` inst"):
        Ranking.load(path, of=np.eye(2))
    with pytest.raises(InputError, match=r"made by random from 2 examples and has no ids .* `of` or `n` instead"):
        Ranking.load(path, ids=["a", "b"])
    assert len(Ranking.load(path, n=2)) == 2
    Ranking([1, 0], [np.nan, np.nan], [0, 0]).save(path)
    with pytest.raises(InputError, match="was made from 2 examples and cannot be used on 3 examples"):
        Ranking.load(path, n=3)


def test_turning_points_of_large_labels():
    ranking = Ranking([0, 1, 0, -1], [1, -1, 2, np.nan], np.array([2**31 - 1, 2**31 - 1, 0, 0]))
    assert ranking.turning_points == {0: None, 2**31 - 1: 1}


@pytest.mark.parametrize(("fraction", "size"), [(0.2, 287), (0.05, 72), (0.9999, 1437), (1.0, 1437)])
def test_a_fraction_is_exactly_that_many(fraction, size):
    rng = np.random.default_rng(0)
    classes = rng.integers(7, size=1437)
    position = np.zeros(1437, int)
    for label in range(7):
        position[classes == label] = rng.permutation((classes == label).sum())
    ranking = Ranking(position, np.zeros(1437), classes)
    subset = ranking.subset(fraction=fraction)
    assert subset.dtype == np.int64
    assert len(subset) == size
    assert subset.tolist() == ranking.subset(size=size).tolist()
    per_class = np.bincount(classes[ranking.subset(fraction=fraction, rounding="floor")], minlength=7)
    assert per_class.tolist() == [int(fraction * (classes == label).sum()) for label in range(7)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of `fraction` and `size` must be given"),
        ({"fraction": 0.5, "size": 2}, "Exactly one of `fraction` and `size` must be given"),
        ({"fraction": 0}, "at most 1, got 0"),
        ({"fraction": 1.5}, "at most 1, got 1.5"),
        ({"fraction": "0.2"}, "`fraction` must be a number, got '0.2'"),
        ({"fraction": True}, "`fraction` must be a number, got True"),
        ({"fraction": 0.01}, "`fraction` must select at least one of 8 examples, got 0.01"),
        ({"fraction": "0.2", "rounding": "floor"}, "`fraction` must be a number, got '0.2'"),
        ({"fraction": 1.5, "rounding": "floor"}, "at most 1, got 1.5"),
        ({"fraction": 1.0}, "whole number from 1 to 7,.* got 8"),
        ({"size": 8}, "whole number from 1 to 7,.* got 8"),
        ({"size": 0}, "whole number from 1 to 7,.* got 0"),
        ({"size": 2.5}, "whole number from 1 to 7,.* got 2.5"),
        ({"size": "3"}, "whole number from 1 to 7,.* got '3'"),
        ({"size": True}, "whole number from 1 to 7,.* got True"),
        ({"fraction": 0.5, "rounding": "ceil"}, "'nearest' or 'floor', got 'ceil'"),
        ({"size": 5, "rounding": "floor"}, "omitted with `size`"),
        ({"size": 5, "budgets": "equal"}, "`budgets` must be 'proportional' or 'balanced', got 'equal'"),
        (
            {"fraction": 0.5, "rounding": "floor", "budgets": "balanced"},
            "'proportional' with rounding='floor', got 'balanced'",
        ),
    ],
)
def test_subset_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        example().subset(**arguments)


def test_sizes_and_fractions_of_any_type_of_number():
    ranking = example()
    assert ranking.subset(size=np.uint8(4)).tolist() == ranking.subset(fraction=np.float32(0.5)).tolist()
    assert len(ranking.subset(fraction=np.array(0.5))) == 4


def test_turning_points():
    ranking = example()
    assert ranking.turning_points == {0: 2, 2: 3}
    assert ranking.turning_fraction == 5 / 8
    # Not ranked that far, or ranked to the end without one.
    gain = np.abs(ranking.gain)
    ranking = Ranking(ranking.position, gain, ranking.classes)
    assert ranking.turning_points == {0: 3, 2: None}
    assert ranking.turning_fraction is None


def test_fingerprints_tell_values_and_shapes_apart():
    values = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    changed = values.copy()
    changed[7, 2] = np.nextafter(changed[7, 2], 9)
    names = {fingerprint(x) for x in (values, changed, values.reshape(4, 12), values[:11])}
    assert len(names) == 4
    assert fingerprint(values.astype(np.float64)) == fingerprint(np.asfortranarray(values)) == fingerprint(values)
    assert fingerprint(values.astype(">f4")) == fingerprint(values)
    # The same hash, written out, for an array that is read in parts.
    large = np.zeros((3, 1 << 23), np.float32)
    large[2, 7] = 1
    expected = hashlib.sha256(b"(3, 8388608)" + large.tobytes()).hexdigest()[:16]
    assert fingerprint(large) == expected
