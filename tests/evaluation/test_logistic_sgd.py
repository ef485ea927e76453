"""The streamed probe against L-BFGS; it never holds all features."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from sas_jax import logistic
from sas_jax.errors import InputError
from sas_jax.evaluation import blocks, logistic_sgd

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = (DIGITS / 16).astype(np.float32)
X, Y, TEST_X, TEST_Y = DIGITS[:1400], LABELS[:1400], DIGITS[1400:], LABELS[1400:]
BY_CLASS = np.argsort(Y, kind="stable")
KEY = jax.random.key(0)


class Watched:
    """Features that are not an array: rows by slice; records the number of rows of each request."""

    def __init__(self, x):
        self._x, self.shape, self.dtype, self.asked = x, x.shape, x.dtype, []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.asked.append(len(self._x[rows]))
        return self._x[rows]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 320 rows: five for the digits' training set."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 64 * 320)


def accuracy(model):
    return np.mean(logistic_sgd.predict(model, TEST_X) == TEST_Y)


@pytest.mark.parametrize("l2", [1e-5, 1e-3])
@pytest.mark.parametrize("small", [False, True])
def test_is_as_good_as_lbfgs(l2, small, request):
    """Rows are sorted by class, which blocks of neighbouring rows would not cope with."""
    if small:
        request.getfixturevalue("small_blocks")
    exact = logistic.fit(X, Y, num_classes=10, l2=l2)
    found = logistic_sgd.fit(KEY, X[BY_CLASS], Y[BY_CLASS], num_classes=10, l2=l2)
    right = np.mean(np.asarray(logistic.predict(exact, TEST_X)) == TEST_Y)
    assert abs(accuracy(found) - right) <= 0.0051  # half a point: two of 397 digits
    assert exact.loss - 1e-5 <= found.loss <= exact.loss + 5e-4
    assert found.gradient_norm < 0.03


def test_how_it_ended_is_told():
    found = logistic_sgd.fit(KEY, X, Y, num_classes=10, l2=1e-3, steps=30, epochs=1)
    assert found.iterations == 30
    logits = X @ np.asarray(found.weights) + np.asarray(found.bias)
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    weights = np.float64(found.weights)
    loss = -np.log(shares[np.arange(1400), Y]).mean() + 1e-3 * (weights**2).sum()
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    error = (shares - np.eye(10)[Y]) / 1400
    road = np.float64(logistic.preconditioner(np.cov(X.T, bias=True).astype(np.float32), 1e-3, num_classes=10))
    slope = road.T @ ((X - X.mean(axis=0)).T @ error + 2e-3 * weights)
    norm = np.sqrt((slope**2).sum() + 10 * (error.sum(axis=0) ** 2).sum())
    np.testing.assert_allclose(found.gradient_norm, norm, rtol=1e-3)


def test_epochs_and_steps_are_each_a_least():
    assert logistic_sgd.fit(KEY, X, Y, num_classes=10, l2=1e-3, steps=1, epochs=7).iterations == 7 * (1400 // 512)


@pytest.mark.usefixtures("small_blocks")
def test_a_mapped_file_and_anything_with_slices_give_the_same(tmp_path):
    np.save(tmp_path / "x.npy", X)
    options = {"num_classes": 10, "l2": 1e-3, "steps": 20}
    plain = logistic_sgd.fit(KEY, X, Y, **options)
    watched = Watched(X)
    for given in (np.load(tmp_path / "x.npy", mmap_mode="r"), watched):
        found = logistic_sgd.fit(KEY, given, Y, **options)
        np.testing.assert_array_equal(found.weights, plain.weights)
        np.testing.assert_array_equal(logistic_sgd.predict(found, given), logistic_sgd.predict(plain, X))
    assert max(watched.asked) <= 320
    other = logistic_sgd.fit(jax.random.key(1), X, Y, **options)
    assert not np.array_equal(other.weights, plain.weights)


@pytest.mark.usefixtures("small_blocks")
def test_an_epoch_visits_every_example_once_in_mixed_blocks():
    seen = list(logistic_sgd._shuffled(np.random.default_rng(0), X[BY_CLASS], np.arange(1400), 320))
    np.testing.assert_array_equal(np.sort(np.concatenate([numbers for _, numbers in seen])), np.arange(1400))
    for block, numbers in seen:
        np.testing.assert_array_equal(block, X[BY_CLASS][numbers])
        assert (np.diff(numbers) == 1).mean() < 0.1
    assert len(seen) == 5
    assert max(len(block) for block, _ in seen) == 320
    # A block of neighbouring rows would contain only three classes.
    assert np.mean([len(np.unique(Y[BY_CLASS][numbers])) for _, numbers in seen[:4]]) > 5


@pytest.mark.usefixtures("small_blocks")
def test_moments_keep_their_digits_far_from_zero():
    far = X + np.float32(300)
    mean, covariance = logistic_sgd._moments(far, 320, "the test")
    np.testing.assert_allclose(mean, np.float64(far).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(np.float64(far).T, bias=True), atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_predict_in_blocks_is_predict():
    model = logistic.fit(X, Y, num_classes=10, l2=1e-2, max_iterations=20)
    np.testing.assert_array_equal(logistic_sgd.predict(model, TEST_X), logistic.predict(model, TEST_X))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": np.where(np.arange(1400)[:, None] < 3, np.nan, X)}, "finite features, got .* in 3 of its 1400 rows"),
        ({"x": np.where(np.arange(1400)[:, None] > 1397, 1e300, X.astype(float))}, "2 of its 1400 rows"),
        ({"y": Y[:5]}, r"1400 rows and labels \[5\]"),
        ({"y": Y + 1}, r"labels in \[0, 10\), got labels from 1 to 10"),
        ({"l2": -1.0}, "`l2` must be 0 or more and"),
        ({"l2": np.inf}, "got inf, "),
        ({"steps": 0}, "`steps` and `epochs` 1 or more, got 1e-05, 0 and"),
        ({"epochs": 0}, "and 0. Typical values"),
    ],
)
def test_bad_input(change, sentence):
    options = {"x": X, "y": Y, "num_classes": 10, "l2": 1e-5} | change
    with pytest.raises(InputError, match=sentence):
        logistic_sgd.fit(KEY, **options)


def test_features_to_predict_are_checked():
    model = logistic.Logistic(np.zeros((64, 10)), np.zeros(10), 0, 0.0, 0.0)
    with pytest.raises(InputError, match=r"test set must have finite features, got .* in 397 of its 397"):
        logistic_sgd.predict(model, np.full((397, 64), np.nan))
