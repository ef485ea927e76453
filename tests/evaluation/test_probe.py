"""The linear probe against scikit-learn; few labels, the penalty by validation, and the choice of the solver."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sas_jax import logistic
from sas_jax.errors import InputError
from sas_jax.evaluation import accuracy, blocks, labelled, linear_probe, logistic_sgd, probe

DIGITS, LABELS = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 1400), slice(1400, None)
KEY = jax.random.key(0)
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
GIVEN = {
    "train_x": DIGITS[TRAIN] / 16,
    "train_y": LABELS[TRAIN],
    "test_x": DIGITS[TEST] / 16,
    "test_y": LABELS[TEST],
}


@pytest.mark.parametrize("l2", [1e-5, 1e-2, 1.0])
def test_equals_scikit_learn_on_digits(l2):
    found = linear_probe(KEY, **GIVEN, num_classes=10, l2=l2)
    model = LogisticRegression(C=1 / (2 * 1400 * l2), max_iter=5000, tol=1e-6).fit(DIGITS[TRAIN] / 16, LABELS[TRAIN])
    # Two of the 397 test digits may lie on the boundary.
    assert found.accuracy.value == pytest.approx(model.score(DIGITS[TEST] / 16, LABELS[TEST]), abs=0.0051)
    assert (found.accuracy.n, found.train_size, found.solver, found.l2, found.validated) == (397, 1400, "lbfgs", l2, ())


def test_default_penalty_is_the_papers():
    assert linear_probe(KEY, **GIVEN, num_classes=10) == linear_probe(KEY, **GIVEN, num_classes=10, l2=1e-5)


def test_iterations_are_passed_on():
    few, many = (linear_probe(KEY, **GIVEN, num_classes=10, max_iterations=times) for times in (1, 1000))
    assert few.accuracy.value < 0.89 < many.accuracy.value


@pytest.mark.parametrize("fraction", [0.01, 0.1])
def test_a_fraction_is_a_probe_on_the_drawn_examples(fraction):
    found = linear_probe(KEY, **GIVEN, num_classes=10, fraction=fraction, l2=1e-3)
    drawn = labelled.few(jax.random.split(KEY, 3)[0], GIVEN["train_y"], fraction=fraction)
    only = GIVEN | {"train_x": GIVEN["train_x"][drawn], "train_y": GIVEN["train_y"][drawn]}
    assert found == linear_probe(KEY, **only, num_classes=10, l2=1e-3)
    assert found.train_size == len(drawn) == round(1400 * fraction)


def test_the_draw_is_the_same_for_all_encoders():
    """The features must not matter, because arms are compared on the same few labels."""
    drawn = []
    few = labelled.few
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelled, "few", lambda *args, **options: drawn.append(few(*args, **options)) or drawn[-1])
        for unit in (1.0, -3.0):
            other = GIVEN | {"train_x": unit * GIVEN["train_x"][:, :32], "test_x": GIVEN["test_x"][:, :32]}
            linear_probe(KEY, **other, num_classes=10, fraction=0.02, max_iterations=2)
    np.testing.assert_array_equal(*drawn)


def test_the_penalty_is_chosen_on_held_out_training_examples():
    grid = (1e-4, 1e-2, 1.0)
    found = linear_probe(KEY, **GIVEN, num_classes=10, l2_grid=grid, fraction=0.2)
    draw, hold, _ = jax.random.split(KEY, 3)
    drawn = labelled.few(draw, GIVEN["train_y"], fraction=0.2)
    x, y = GIVEN["train_x"][drawn], GIVEN["train_y"][drawn]
    out = labelled.held_out(hold, y)
    assert 0.15 < out.mean() < 0.25
    by_hand = []
    for l2 in grid:
        model = LogisticRegression(C=1 / (2 * np.sum(~out) * l2), max_iter=5000).fit(x[~out], y[~out])
        by_hand.append(model.score(x[out], y[out]))
    np.testing.assert_allclose([share for _, share in found.validated], by_hand, atol=1.5 / out.sum())
    assert [l2 for l2, _ in found.validated] == list(grid)
    best = max(share for _, share in found.validated)
    assert found.l2 == max(l2 for l2, share in found.validated if share == best)
    # And then fitted to all of them.
    assert found.accuracy == linear_probe(KEY, **GIVEN, num_classes=10, l2=found.l2, fraction=0.2).accuracy
    assert found.train_size == 280


@pytest.mark.parametrize("grid", [(1e-4, 1e-2), (1e-2, 1e-4)])
def test_of_equally_good_penalties_the_larger_is_chosen(grid):
    labels = np.arange(40) % 2
    x = np.c_[2.0 * labels - 1, np.zeros(40)]
    found = linear_probe(KEY, x, labels, x, labels, num_classes=2, l2_grid=grid)
    assert [share for _, share in found.validated] == [1.0, 1.0]
    assert found.l2 == 1e-2


def test_validation_helps_where_the_default_overfits():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=700)
    x = rng.normal(size=(700, 60))
    x[:, 0] += 1.5 * labels
    given = {"train_x": x[:100], "train_y": labels[:100], "test_x": x[100:], "test_y": labels[100:]}
    plain, chosen = (linear_probe(KEY, **given, num_classes=2, l2_grid=grid) for grid in ((), PENALTIES))
    assert chosen.accuracy.value > plain.accuracy.value + 0.02
    assert chosen.l2 > plain.l2


def test_test_data_plays_no_part_in_the_choice():
    options = {"num_classes": 10, "l2_grid": (1e-3, 1.0), "fraction": 0.1}
    found = linear_probe(KEY, **GIVEN, **options)
    wrong = linear_probe(KEY, **GIVEN | {"test_y": (GIVEN["test_y"] + 1) % 10}, **options)
    assert (wrong.l2, wrong.validated) == (found.l2, found.validated)
    assert wrong.accuracy.value < 0.2


def test_one_example_a_class_keeps_the_given_penalty():
    options = {"num_classes": 10, "l2": 3e-3, "fraction": 0.001}
    assert linear_probe(KEY, **GIVEN, **options, l2_grid=PENALTIES) == linear_probe(KEY, **GIVEN, **options)


def test_sgd_is_within_half_a_point_of_lbfgs():
    exact, sgd = (linear_probe(KEY, **GIVEN, num_classes=10, solver=solver) for solver in ("lbfgs", "sgd"))
    assert abs(sgd.accuracy.value - exact.accuracy.value) <= 0.0051
    assert (exact.solver, sgd.solver) == ("lbfgs", "sgd")


def test_what_is_too_large_for_lbfgs_is_streamed(monkeypatch):
    size = probe.fit_bytes(1400, 64, 10)
    monkeypatch.setattr(probe, "LARGEST_FIT_BYTES", size - 1)
    given = {name: value.astype(np.float32) if name.endswith("x") else value for name, value in GIVEN.items()}
    monkeypatch.setattr(logistic, "fit", None)
    whole = linear_probe(KEY, **given, num_classes=10)
    assert whole == linear_probe(KEY, **given, num_classes=10, solver="sgd")
    # A part that fits in memory is not streamed.
    monkeypatch.undo()
    monkeypatch.setattr(probe, "LARGEST_FIT_BYTES", size - 1)
    assert linear_probe(KEY, **given, num_classes=10, fraction=0.1).solver == "lbfgs"


def test_streams_from_a_mapped_file_with_fractions_and_a_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 64 * 320)
    monkeypatch.setattr(logistic_sgd, "fit", functools.partial(logistic_sgd.fit, steps=300))
    files = {}
    for name in ("train_x", "test_x"):
        np.save(tmp_path / f"{name}.npy", GIVEN[name].astype(np.float32))
        files[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    options = {"num_classes": 10, "solver": "sgd", "fraction": 0.5, "l2_grid": (1e-3, 1.0)}
    found = linear_probe(KEY, **GIVEN | files, **options)
    assert found == linear_probe(KEY, **GIVEN, **options)
    assert found.train_size == 700
    assert found.l2 == 1e-3


def test_threshold_is_what_lbfgs_takes():
    for n, d, c in ((20_000, 64, 10), (20_000, 32, 100)):
        shapes = jax.ShapeDtypeStruct((n, d), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)
        memory = logistic.solve.lower(*shapes, 1e-5, 1e-5, 100, num_classes=c).compile().memory_analysis()
        taken = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        assert 0.7 * probe.fit_bytes(n, d, c) < taken < 1.1 * probe.fit_bytes(n, d, c)


def test_to_dict_is_json_with_the_accuracys_fields():
    found = probe.Probe(accuracy(np.arange(7) < 5), 1e-3, 70, "lbfgs", ((1e-3, 0.9), (1.0, 0.8)))
    as_dict = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert as_dict == found.to_dict()
    assert set(as_dict) == {
        *("value", "low", "high", "standard_error", "n"),
        *("l2", "train_size", "solver", "validated"),
    }
    assert as_dict["low"] < as_dict["value"] < as_dict["high"]


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test_x": np.zeros((397, 3))}, r"The probe must have .* the same width, got \[1400, 64\] and \[397, 3\]"),
        ({"test_y": np.full(397, 10)}, r"The probe's test set must have labels in \[0, 10\)"),
        ({"train_y": np.full(1400, -1)}, r"The probe's training set must have labels in \[0, 10\)"),
        ({"test_x": np.full((397, 64), np.nan)}, "The probe's test set must have finite features"),
        (
            {"train_x": np.full((1400, 64), np.nan)},
            "training set must have finite features, got .* in 1400 of its 1400 rows",
        ),
    ],
)
def test_bad_input(change, sentence, solver):
    with pytest.raises(InputError, match=sentence):
        # Test features are used only after the fit; these tests need no good fit.
        linear_probe(KEY, **GIVEN | change, num_classes=10, solver=solver, max_iterations=1)


def test_bad_solver():
    with pytest.raises(InputError, match="must be one of auto, lbfgs, sgd, got 'adam'"):
        linear_probe(KEY, **GIVEN, num_classes=10, solver="adam")
