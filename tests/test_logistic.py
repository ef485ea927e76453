"""Logistic regression against scikit-learn, its own objective in float64, and its guarantees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sas_jax import logistic
from sas_jax.errors import InputError

DIGITS, LABELS = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 1400), slice(1400, None)


def objective(x, y, weights, bias, l2):
    """Implements the definition in float64."""
    x, weights, bias = (np.asarray(value, np.float64) for value in (x, weights, bias))
    picked = log_softmax(x @ weights + bias, axis=1)[np.arange(len(y)), y]
    return -picked.mean() + l2 * (weights**2).sum()


def gradient(x, y, weights, bias, l2):
    x, weights, bias = (np.asarray(value, np.float64) for value in (x, weights, bias))
    error = (np.exp(log_softmax(x @ weights + bias, axis=1)) - np.eye(len(bias))[y]) / len(y)
    return x.T @ error + 2 * l2 * weights, error.sum(axis=0)


def scikit_learn(x, y, l2):
    return LogisticRegression(C=1 / (2 * len(y) * l2), tol=1e-6, max_iter=5000).fit(x, y)


def least(x, y, l2):
    """Finds the objective's minimum by Newton's method in float64, halving steps that do not descend."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(axis=0)  # the bias absorbs it: the minimum is the same
    (n, d), c = x.shape, int(max(y)) + 1
    weights, bias = np.zeros((d, c)), np.zeros(c)
    # Equal scales of the columns keep the solve exact; a Newton step is the same in any coordinates.
    unit = np.r_[np.sqrt((x**2).mean(axis=0) + 2 * l2 + 1e-12), 1.0]
    columns = np.c_[x, np.ones(n)] / unit
    for _ in range(50):
        shares = np.exp(log_softmax(x @ weights + bias, axis=1))
        curvature = shares[:, :, None] * np.eye(c) - shares[:, :, None] * shares[:, None, :]
        hessian = np.stack([[columns.T @ (columns * curvature[:, a, b, None]) / n for b in range(c)] for a in range(c)])
        hessian = hessian.transpose(2, 0, 3, 1).reshape((d + 1) * c, -1)
        hessian += np.diag(np.repeat(np.r_[2 * l2 / unit[:-1] ** 2, 0.0], c)) + 1e-12 * np.eye((d + 1) * c)
        slope = np.vstack(gradient(x, y, weights, bias, l2)) / unit[:, None]
        step = np.linalg.solve(hessian, slope.ravel()).reshape(d + 1, c) / unit[:, None]
        before, size = objective(x, y, weights, bias, l2), 1.0
        while size > 1e-9 and objective(x, y, weights - size * step[:-1], bias - size * step[-1], l2) > before:
            size /= 2
        weights, bias = weights - size * step[:-1], bias - size * step[-1]
        if before - objective(x, y, weights, bias, l2) < 1e-12:
            break
    return objective(x, y, weights, bias, l2)


@pytest.mark.parametrize(
    ("l2", "unit", "answers"),
    # Raw digits are separable at 1e-5: scikit-learn's own loss is then wrong by 1e-5, and more points are near the
    # boundary.
    [(1e-5, 1 / 16, 2), (1e-3, 1 / 16, 2), (1e-5, 1.0, 4)],
)
def test_equals_scikit_learn_on_digits(l2, unit, answers):
    x, y = DIGITS[TRAIN] * unit, LABELS[TRAIN]
    model, reference = logistic.fit(x, y, num_classes=10, l2=l2), scikit_learn(x, y, l2)
    loss = objective(x, y, model.weights, model.bias, l2)
    # Half of the bound in the docstring of `fit` for features in any unit.
    assert loss <= objective(x, y, reference.coef_.T, reference.intercept_, l2) + 3e-5
    np.testing.assert_allclose(model.loss, loss, rtol=1e-3, atol=1e-6)
    right = np.sum(np.asarray(logistic.predict(model, DIGITS[TEST] * unit)) == LABELS[TEST])
    assert abs(right - np.sum(reference.predict(DIGITS[TEST] * unit) == LABELS[TEST])) <= answers


def test_weights_equal_scikit_learns_where_the_optimum_is_sharp():
    x, y, l2 = DIGITS[TRAIN] / 16, LABELS[TRAIN], 1e-2
    model = logistic.fit(x, y, num_classes=10, l2=l2, tolerance=1e-6)
    sklearn = scikit_learn(x, y, l2)
    loss = objective(x, y, sklearn.coef_.T, sklearn.intercept_, l2)
    np.testing.assert_allclose(model.weights, sklearn.coef_.T, atol=2e-3)
    # The bias is determined up to a constant over the classes.
    np.testing.assert_allclose(
        model.bias - model.bias.mean(), sklearn.intercept_ - sklearn.intercept_.mean(), atol=5e-3
    )
    np.testing.assert_allclose(model.loss, loss, rtol=1e-5)


def badly_scaled(n=600, d=40, c=5, seed=0):
    """Makes correlated features in units from 1e-3 to 1e3, off centre; one is constant and two are equal."""
    rng = np.random.default_rng(seed)
    y = rng.integers(c, size=n)
    hidden = rng.normal(size=(c, 6))[y] + rng.normal(size=(n, 6))
    x = np.maximum(hidden @ rng.normal(size=(6, d)) + 0.3 * rng.normal(size=(n, d)), 0) + 1
    x *= 10 ** rng.uniform(-3, 3, size=d)
    x[:, 0], x[:, 2] = 7.0, x[:, 1]
    return x.astype(np.float32), y


@pytest.mark.parametrize("l2", [1e-5, 1e-2])
def test_features_in_any_unit_reach_the_optimum_of_the_penalty_on_plain_weights(l2):
    x, y = badly_scaled()
    model = logistic.fit(x, y, num_classes=5, l2=l2)
    np.testing.assert_allclose(objective(x, y, model.weights, model.bias, l2), least(x, y, l2), atol=1e-4)
    np.testing.assert_allclose(model.loss, objective(x, y, model.weights, model.bias, l2), rtol=1e-5)


def test_the_bias_is_free_and_the_weights_are_not():
    x, y = DIGITS[TRAIN] / 16, np.minimum(LABELS[TRAIN], 2)
    model = logistic.fit(x, y, num_classes=3, l2=1e4)
    np.testing.assert_allclose(model.weights, 0, atol=1e-4)
    shares = np.bincount(y) / len(y)
    np.testing.assert_allclose(jax.nn.softmax(model.bias), shares, atol=1e-4)


def test_gradient_vanishes_at_the_solution():
    x, y, l2 = DIGITS[TRAIN] / 16, LABELS[TRAIN], 1e-3
    model = logistic.fit(x, y, num_classes=10, l2=l2)
    for part, at_zero in zip(
        gradient(x, y, model.weights, model.bias, l2), gradient(x, y, np.zeros((64, 10)), np.zeros(10), l2), strict=True
    ):
        assert np.linalg.norm(part) < 1e-3 * max(np.linalg.norm(at_zero), 0.1)


def test_how_it_ended_is_told():
    x, y = DIGITS[TRAIN] / 16, LABELS[TRAIN]
    three = logistic.fit(x, y, num_classes=10, l2=1e-3, max_iterations=3)
    assert three.iterations == 3
    assert three.gradient_norm > 1e-4
    np.testing.assert_allclose(three.loss, objective(x, y, three.weights, three.bias, 1e-3), rtol=1e-5)
    loose, tight = (logistic.fit(x, y, num_classes=10, l2=1e-3, tolerance=t) for t in (1e-2, 1e-4))
    assert 3 < loose.iterations < tight.iterations < 500
    assert tight.gradient_norm <= 1e-4 < loose.gradient_norm <= 1e-2
    assert tight.loss < loose.loss < three.loss


def test_it_stops_where_float32_sees_no_further_down():
    x, y = DIGITS[TRAIN] / 16, LABELS[TRAIN]
    model = logistic.fit(x, y, num_classes=10, l2=1e-2, tolerance=0.0, max_iterations=5000)
    assert model.iterations < 300


def test_fewer_examples_than_features_and_absent_classes():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 50)), np.arange(12) % 3
    model = logistic.fit(x, y, num_classes=7, l2=1e-4)
    np.testing.assert_array_equal(logistic.predict(model, x), y)
    assert np.isfinite(model.weights).all()


def test_no_penalty_and_a_constant_feature():
    rng = np.random.default_rng(0)
    x, y = np.c_[rng.normal(size=(300, 2)), np.full(300, 3.0)], rng.integers(2, size=300)
    model = logistic.fit(x, y, num_classes=2, l2=0.0)
    loss = objective(x, y, model.weights, model.bias, 0.0)
    np.testing.assert_allclose(loss, least(x[:, :2], y, 0.0), rtol=1e-5)


def test_equal_features_do_not_stop_the_factorisation():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 1)).repeat(300, axis=1), rng.integers(2, size=60)
    factors = logistic.preconditioner(jnp.asarray(np.cov(x.T), jnp.float32), 1e-5, num_classes=2)
    assert np.isfinite(factors).all()
    model = logistic.fit(x, y, num_classes=2, l2=1e-5)
    assert objective(x, y, model.weights, model.bias, 1e-5) <= least(x, y, 1e-5) + 1e-5


def test_preconditioner_makes_the_hessian_at_zero_the_identity():
    x, _ = badly_scaled()
    x, l2 = np.float64(x[:, 3:20]), 1e-4
    covariance = np.cov(x.T, bias=True)
    p = np.float64(logistic.preconditioner(jnp.asarray(covariance, jnp.float32), l2, num_classes=5))
    hessian = p.T @ (covariance / 5 + 2 * l2 * np.eye(17)) @ p
    # The reference omits the ridge of 1e-3 in units of the correlation.
    np.testing.assert_allclose(hessian, np.eye(17), atol=0.2)


def test_predict_takes_the_lowest_of_equal_classes():
    model = logistic.Logistic(jnp.zeros((2, 3)), jnp.asarray([0.0, 1.0, 1.0]), *[jnp.zeros(())] * 3)
    predicted = logistic.predict(model, jnp.ones((4, 2)))
    np.testing.assert_array_equal(predicted, [1, 1, 1, 1])
    assert predicted.dtype == jnp.int32


def test_one_trace_for_other_options():
    x, y = DIGITS[TRAIN] / 16, LABELS[TRAIN]
    logistic.fit(x, y, num_classes=10, l2=1e-3)
    before = logistic.solve._cache_size()
    logistic.fit(x[::-1], y[::-1], num_classes=10, l2=1e-2, tolerance=1e-2, max_iterations=7)
    assert logistic.solve._cache_size() == before


@pytest.mark.parametrize(
    ("x", "y", "options", "sentence"),
    [
        (np.zeros(3), np.zeros(3, int), {}, r"features \[n, d\] and integer labels \[n\], got float64 \[3\]"),
        (np.zeros((0, 2)), np.zeros(0, int), {}, r"got float64 \[0, 2\]"),
        (np.zeros((3, 2)), np.zeros(3), {}, r"and float64 \[3\]"),
        (np.zeros((3, 2)), np.zeros(4, int), {}, r"3 rows and labels \[4\]"),
        (np.zeros((3, 2)), np.array([0, 1, 5]), {}, r"labels in \[0, 5\), got labels from 0 to 5"),
        (np.zeros((3, 2)), np.array([0, 1, -1]), {}, "labels from -1 to 1"),
        (np.array([[0.0], [np.nan], [np.inf]]), np.zeros(3, int), {}, "NaN, .* in 2 of its 3 rows"),
        (np.array([[0.0], [1e300], [1e16]]), np.zeros(3, int), {}, "NaN, .* in 2 of its 3 rows"),
        (np.zeros((3, 2)), np.zeros(3, int), {"l2": -1.0}, "`l2` must be 0 or more, got -1.0"),
        (np.zeros((3, 2)), np.zeros(3, int), {"l2": np.nan}, "`l2` must be 0 or more"),
        (np.zeros((3, 2)), np.zeros(3, int), {"max_iterations": 0}, "`max_iterations` must be 1 or more, got 0"),
        (np.zeros((3, 2)), np.zeros(3, int), {"tolerance": -1.0}, "`tolerance` must be 0 or more, got -1.0"),
    ],
)
def test_bad_input(x, y, options, sentence):
    with pytest.raises(InputError, match=sentence):
        logistic.fit(x, y, num_classes=5, **{"l2": 1e-5} | options)


def test_arrays_on_the_device_are_checked_too():
    with pytest.raises(InputError, match="and integer labels"):
        logistic.fit(jnp.zeros((3, 2)), jnp.zeros(3), num_classes=5, l2=1e-5)
    with pytest.raises(InputError, match="1 of its 3 rows"):
        logistic.fit(jnp.zeros((3, 2)).at[1, 0].set(jnp.nan), jnp.zeros(3, int), num_classes=5, l2=1e-5)
