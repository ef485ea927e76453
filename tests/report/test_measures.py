"""The measures of a ranking and embeddings, against loops written from the definition."""

import itertools

import numpy as np
import pytest

from sas_jax.report import axes, measures
from sas_jax.results import numbers


@pytest.fixture
def ranked():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 60)
    position = np.empty(60, np.int32)
    for label in range(4):
        members = np.flatnonzero(classes == label)
        position[members] = rng.permutation(len(members))
    gain = (5.0 - position + 0.1 * classes).astype(np.float32)
    return position, gain, classes


def test_similarities_are_those_of_pairs_within_a_class():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    classes = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 0, 3])
    allowed = [max(0.0, rows[i] @ rows[j]) for i, j in itertools.combinations(range(12), 2) if classes[i] == classes[j]]
    found = measures.similarities(rows, classes, pairs=20_000)
    assert len(found) == 20_000
    assert np.abs(found[:, None] - np.array(allowed)).min(axis=1).max() < 1e-12, "a pair across classes, or with itself"
    assert np.abs(np.array(allowed)[:, None] - found).min(axis=1).max() < 1e-12, "a pair that is never drawn"


def test_similarities_draw_every_example_equally_often():
    rows = np.eye(6)[[0, 0, 1, 1, 1, 1]]  # rows 0 and 1: class 0, equal; rows 2 to 5: class 1
    rows[2] = np.eye(6)[5]  # an outlier in class 1: similarity 0 to the three others
    found = measures.similarities(rows, np.array([0, 0, 1, 1, 1, 1]), pairs=40_000)
    # The first draw is the outlier in 1/6 of the cases, and one of the three others in 3/6, which then meets the
    # outlier in 1 of 3.
    assert (found == 0).mean() == pytest.approx(1 / 6 + 3 / 6 / 3, abs=0.01)


def test_long_rows_become_unit_vectors():
    found = measures.similarities(np.array([[3.0, 0.0], [30.0, 0.0]]), np.zeros(2, int), pairs=10)
    np.testing.assert_allclose(found, 1.0)


def test_gain_curve_is_the_mean_over_classes(ranked):
    position, gain, classes = ranked
    curve = measures.gain_curve(position, gain, classes, points=51)
    for at in (0, 13, 50):
        rows = []
        for label in range(4):
            members = sorted(np.flatnonzero(classes == label), key=lambda i: position[i])
            places = [(place + 0.5) / len(members) for place in range(len(members))]
            rows.append(np.interp(curve.fraction[at], places, gain[members]))
        assert curve.mean[at] == pytest.approx(np.mean(rows), rel=1e-6)
        assert curve.low[at] <= curve.mean[at] <= curve.high[at]


def test_gain_curve_ends_with_the_budget(ranked):
    position, gain, classes = ranked
    kept = position < 3
    curve = measures.gain_curve(np.where(kept, position, -1), np.where(kept, gain, np.nan), classes)
    reached = curve.fraction[np.isfinite(curve.mean)]
    assert reached[-1] <= 3 / np.bincount(classes).max()
    assert reached[-1] > 3 / np.bincount(classes).max() - 0.01


def test_turning_points_are_the_first_negative_gains(ranked):
    position, gain, classes = ranked
    sizes = np.bincount(classes)
    expected = [
        min(position[i] for i in np.flatnonzero(classes == label) if gain[i] < 0) / sizes[label]
        for label in range(4)
        if (gain[classes == label] < 0).any()
    ]
    np.testing.assert_allclose(measures.turning_points(position, gain, classes), expected)
    assert len(measures.turning_points(position, np.abs(gain), classes)) == 0


def test_ends_share_no_pick(ranked):
    position, _, classes = ranked
    first, last = measures.ends(position, classes, 2, number=8)
    size = (classes == 2).sum()
    assert position[first].tolist() == list(range(min(8, size // 2)))
    assert position[last].tolist() == list(range(size - min(8, size // 2), size))
    assert not set(first) & set(last)


def test_shown_classes_go_from_the_largest_to_the_smallest():
    classes = np.repeat(np.arange(20), np.arange(1, 21))
    shown = measures.shown_classes(np.zeros(len(classes), np.int32), classes, number=5)
    assert len(shown) == 5
    assert (shown[0], shown[-1]) == (19, 1), "a class of one image has no two ends"
    assert shown == sorted(shown, reverse=True)


def test_purity_is_the_share_of_majorities():
    assert measures.purity(np.array([0, 0, 0, 1, 1]), np.array([5, 5, 7, 7, 7])) == pytest.approx(4 / 5)
    assert measures.majority(np.array([3, 3, 1, 1, 2])) == (1, 0.4)


def test_images_without_a_label_do_not_count_for_purity():
    classes, labels = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, -1, 7, 8, -1])
    assert measures.purity(classes, labels) == pytest.approx(3 / 4)
    assert measures.majorities(classes, labels) == {0: (5, 1.0), 1: (7, 0.5)}
    assert measures.purity(classes, np.full(6, -1)) is None
    assert measures.majorities(classes, np.full(6, -1)) == {}


def test_losses_are_thinned_by_averaging():
    records = [{"step": step, "loss": float(step)} for step in range(1, 1001)]
    x, y = measures.losses(records, "step", points=10)
    np.testing.assert_allclose(x, np.arange(10) * 100 + 50.5)
    np.testing.assert_allclose(y, x)
    x, y = measures.losses([{"step": 1, "loss": None}, {"step": 2, "loss": 3.0}], "step")
    assert (x.tolist(), y.tolist()) == ([2.0], [3.0])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.55, 0.71), (-103.2, 99.1), (0, 7), (4.0, 5.5), (0, 12345), (2, 2)]
)
def test_ticks_are_few_round_and_inside(low, high):
    found = axes.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    if high > low:
        steps = np.diff(found)
        np.testing.assert_allclose(steps, steps[0])
        leading = float(f"{steps[0]:e}".split("e")[0])
        assert min(abs(leading - factor) for factor in (1, 2, 2.5, 5, 10)) < 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (12.4, "12 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"),
     (7500, "2 h 5 min"), (None, "\u2013"), (float("nan"), "\u2013")],
)  # fmt: skip
def test_durations(seconds, text):
    assert numbers.duration(seconds).replace("\u00a0", " ") == text


def test_numbers_are_written_with_their_units():
    assert numbers.interval(0.612, 0.57, 0.653).replace("\u00a0", " ") == "61.2 % (57.0\u201365.3)"
    assert [numbers.fraction(share).replace("\u00a0", " ") for share in (0.2, 0.005, 1.0, 0.123456)] == [
        "20 %", "0.5 %", "100 %", "12.35 %"]  # fmt: skip
    assert (numbers.points(0.031), numbers.points(-0.031)) == ("+3.1", "\u22123.1")
    assert (numbers.count(50_000), numbers.count(None), numbers.decimal(float("inf"))) == ("50,000", "\u2013", "\u2013")
