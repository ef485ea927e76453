"""The linear probe against scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sas_jax.errors import InputError
from sas_jax.evaluation import linear_probe

DIGITS, LABELS = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 1400), slice(1400, None)
GIVEN = {
    "train_x": DIGITS[TRAIN] / 16,
    "train_y": LABELS[TRAIN],
    "test_x": DIGITS[TEST] / 16,
    "test_y": LABELS[TEST],
}


@pytest.mark.parametrize("l2", [1e-5, 1e-2, 1.0])
def test_equals_scikit_learn_on_digits(l2):
    found = linear_probe(**GIVEN, num_classes=10, l2=l2)
    model = LogisticRegression(C=1 / (2 * 1400 * l2), max_iter=5000, tol=1e-6).fit(DIGITS[TRAIN] / 16, LABELS[TRAIN])
    # Two of 397 test digits may lie on the boundary.
    assert found.value == pytest.approx(model.score(DIGITS[TEST] / 16, LABELS[TEST]), abs=0.0051)
    assert found.n == 397


def test_default_penalty_is_the_papers():
    assert linear_probe(**GIVEN, num_classes=10) == linear_probe(**GIVEN, num_classes=10, l2=1e-5)


def test_iterations_are_passed_on():
    assert (
        linear_probe(**GIVEN, num_classes=10, max_iterations=1).value
        < 0.89
        < linear_probe(**GIVEN, num_classes=10).value
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test_x": np.zeros((397, 3))}, r"The probe wants .* one width, and was given \[1400, 64\] and \[397, 3\]"),
        ({"test_y": np.full(397, 10)}, r"The probe's test set wants labels in \[0, 10\)"),
        ({"test_x": np.full((397, 64), np.nan)}, "The probe's test set wants finite features"),
        ({"train_x": np.full((1400, 64), np.nan)}, "training set wants finite features, and 1400 of its 1400 rows"),
    ],
)
def test_bad_input(change, sentence):
    with pytest.raises(InputError, match=sentence):
        linear_probe(**GIVEN | change, num_classes=10)
