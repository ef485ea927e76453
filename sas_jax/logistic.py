"""Multinomial logistic regression by L-BFGS, in one jitted loop.

The objective is

    mean over i of cross-entropy(x_i W + b, y_i)  +  l2 * sum(W^2),

on the features as given; the bias is not penalised. Features of an encoder are badly scaled and correlated, and L-BFGS
on them directly takes many times as many iterations, so the same objective is minimised in other coordinates: W = P V
and b = sqrt(c) v - mean W, with P such that P'(Cov / c + 2 l2 I) P is the identity. The Hessian at zero is then the
identity too, up to the directions that softmax leaves free. The penalty stays l2 * sum(W^2) and the optimum the same;
only fewer iterations are needed. Measured on 10,000 x 512 correlated ReLU features, 100 classes, l2 1e-5, tolerance
1e-3 (2026-11): 565 iterations in the original coordinates, 327 with each feature divided by its standard deviation, 140
in these.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from sas_jax import arrays, settings
from sas_jax.errors import InputError

# Squares of larger features would overflow float32 sums.
LARGEST_FEATURE = 1e15


class Logistic(NamedTuple):
    """A fitted model, and how the fit ended.

    Attributes:
        weights: float32 [d, c], on the features as given.
        bias: float32 [c].
        iterations: int32 [], number of L-BFGS iterations.
        loss: float32 [], the objective, penalty included, at these weights.
        gradient_norm: float32 [], the gradient's norm in the solver's coordinates, to compare with `tolerance`.
    """

    weights: jax.Array
    bias: jax.Array
    iterations: jax.Array
    loss: jax.Array
    gradient_norm: jax.Array


@settings.fixed
def fit(
    x: ArrayLike, y: ArrayLike, *, num_classes: int, l2: float, max_iterations: int = 1000, tolerance: float = 1e-5
) -> Logistic:
    """Fits multinomial logistic regression from zeros, in float32.

    Args:
        x: [n, d], finite features.
        y: int [n], in [0, num_classes).
        num_classes: c, at least 1.
        l2: weight of sum(W^2), at least 0. scikit-learn's `C` is 1 / (2 n l2).
        max_iterations: maximum number of L-BFGS iterations, at least 1.
        tolerance: at least 0; stops once the gradient's norm in the solver's coordinates, which does not depend on the
            features' units, is at most this. It also stops once ten iterations in a row have not lowered the loss:
            float32 cannot resolve a lower one, and a line search that fails costs seventeen evaluations. At 1e-5 the
            loss ended at most 6e-5 above its minimum (Newton's method in float64) in all measurements, on AMD and Intel
            processors. 1e-4 is too loose if the classes are separable and the minimum is flat: on raw digits it changed
            4 of 397 test predictions.

    Returns:
        The model. If `gradient_norm` is above `tolerance`, the fit stopped for one of the two other reasons.

    Raises:
        InputError: the examples do not fit together, or an option is out of range.
    """
    x, y = checked_examples(x, y, num_classes=num_classes, what="The logistic regression's training set")
    if not 0 <= l2 < np.inf:
        raise InputError(f"`l2` must be 0 or more, got {l2}. A typical value is 1e-5.")
    if max_iterations < 1:
        raise InputError(f"`max_iterations` must be 1 or more, got {max_iterations}. Raise it.")
    if not tolerance >= 0:
        raise InputError(f"`tolerance` must be 0 or more, got {tolerance}. A typical value is 1e-5.")
    return solve(x, y, l2, tolerance, max_iterations, num_classes=num_classes)


@settings.fixed
@jax.jit
def predict(model: Logistic, x: jax.Array) -> jax.Array:
    """Returns the most likely class of each row of `x`, float [n, d], as int32 [n]; ties go to the lowest class."""
    logits = _product(jnp.asarray(x, jnp.float32), model.weights) + model.bias
    return jnp.argmax(logits, axis=1).astype(jnp.int32)


@settings.fixed
def checked_examples(x: ArrayLike, y: ArrayLike, *, num_classes: int, what: str) -> tuple[jax.Array, jax.Array]:
    """Checks features and labels, and returns them on the device, float32 [n, d] and int32 [n].

    Args:
        x: [n, d] features, n at least 1.
        y: int [n] labels.
        num_classes: labels must be in [0, num_classes).
        what: the subject of the message, such as "the test set".

    Raises:
        InputError: they are not finite features with one label in range for each row.
    """
    x, y = (value if isinstance(value, jax.Array) else arrays.array(what, value) for value in (x, y))
    check_labels(x, y, num_classes=num_classes, what=what)
    with np.errstate(over="ignore"):
        x = jnp.asarray(x, jnp.float32)
    # Written so that NaN counts as too large.
    check_finite(int(jnp.sum(~jnp.all(jnp.abs(x) <= LARGEST_FEATURE, axis=1))), x.shape[0], what=what)
    return x, jnp.asarray(y, jnp.int32)


def check_labels(x: Any, y: np.ndarray | jax.Array, *, num_classes: int, what: str) -> None:
    """Raises InputError unless `y` holds a label in [0, num_classes) for each row of `x`, whose values are not read.

    Args:
        x: features [n, d], of which only shape and dtype are used.
        y: labels.
        num_classes: labels must be below it.
        what: the subject of the message.
    """
    if len(x.shape) != 2 or 0 in x.shape or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"{what} must be features [n, d] and integer labels [n], got {x.dtype} {list(x.shape)} and {y.dtype} "
            f"{list(y.shape)}. Give one row of features and one class number for each example."
        )
    if y.shape != tuple(x.shape[:1]):
        raise InputError(
            f"{what} must have one label for each row of features, got {x.shape[0]} rows and labels {list(y.shape)}. "
            "Give arrays of the same examples."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{what} must have labels in [0, {num_classes}), got labels from {low} to {high}. Set num_classes to the "
            "highest label plus one, and leave out unlabelled examples."
        )


def check_finite(bad: int, rows: int, *, what: str) -> None:
    """Raises InputError if any rows, `bad` of `rows`, hold values not finite or beyond LARGEST_FEATURE."""
    if bad:
        raise InputError(
            f"{what} must have finite features, got NaN, infinity or a number beyond {LARGEST_FEATURE:g} in {bad} of "
            f"its {rows} rows. Check whether the encoder's training diverged."
        )


def check_widths(train_x: Any, test_x: Any, *, what: str) -> None:
    """Raises InputError if training and test features, each [rows, d], differ in d."""
    train, test = np.shape(train_x), np.shape(test_x)
    if train[1:] != test[1:]:
        raise InputError(
            f"{what} must have training and test features of the same width, got {list(train)} and {list(test)}. "
            "Compute both with the same encoder."
        )


class _Search(NamedTuple):
    """The loop's state; loss and gradient_norm are those at `parameters`."""

    parameters: tuple[jax.Array, jax.Array]
    state: optax.OptState
    iterations: jax.Array
    loss: jax.Array
    gradient_norm: jax.Array
    lowest: jax.Array
    stalled: jax.Array


@settings.fixed
@partial(jax.jit, static_argnames=("num_classes",))
def solve(
    x: jax.Array,
    y: jax.Array,
    l2: float | jax.Array,
    tolerance: float | jax.Array,
    max_iterations: int | jax.Array,
    *,
    num_classes: int,
) -> Logistic:
    """The jitted body of `fit`, without its checks: x float32 [n, d], y int32 [n], num_classes static."""
    mean = jnp.mean(x, axis=0)
    centred = x - mean
    to_weights = preconditioner(_product(centred.T, centred) / x.shape[0], l2, num_classes=num_classes)
    z = _product(centred, to_weights)

    def original(parameters):
        return _product(to_weights, parameters[0]), parameters[1] * jnp.sqrt(num_classes)

    def objective(parameters):
        weights, bias = original(parameters)
        logits = _product(z, parameters[0]) + bias
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.mean(losses) + l2 * jnp.sum(weights**2)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(search):
        value, gradient = value_and_grad(search.parameters, state=search.state)
        updates, state = solver.update(
            gradient, search.state, search.parameters, value=value, grad=gradient, value_fn=objective
        )
        # The line search has evaluated both at the new parameters.
        loss, gradient = optax.tree.get(state, "value"), optax.tree.get(state, "grad")
        return _Search(
            parameters=optax.apply_updates(search.parameters, updates),
            state=state,
            iterations=search.iterations + 1,
            loss=loss,
            gradient_norm=optax.tree.norm(gradient),
            lowest=jnp.minimum(loss, search.lowest),
            stalled=jnp.where(loss < search.lowest, 0, search.stalled + 1),
        )

    def unfinished(search):
        return (search.iterations < max_iterations) & (search.gradient_norm > tolerance) & (search.stalled < 10)

    zeros = (jnp.zeros((x.shape[1], num_classes)), jnp.zeros(num_classes))
    nothing, infinity = jnp.int32(0), jnp.float32(jnp.inf)
    search = lax.while_loop(
        unfinished, step, _Search(zeros, solver.init(zeros), nothing, infinity, infinity, infinity, nothing)
    )
    weights, bias = original(search.parameters)
    return Logistic(weights, bias - _product(mean, weights), search.iterations, search.loss, search.gradient_norm)


def preconditioner(covariance: jax.Array, l2: float | jax.Array, *, num_classes: int) -> jax.Array:
    """Returns P such that P'(Cov / c + 2 l2 I) P is nearly the identity, the coordinates in which fits converge fast.

    Args:
        covariance: float32 [d, d], of the features.
        l2: weight of sum(W^2), at least 0.
        num_classes: c.

    Returns:
        float32 [d, d]; W = P V.
    """
    # Each feature is scaled first, so that the factored matrix is a correlation matrix whatever the features' units.
    scale = jnp.sqrt(jnp.diagonal(covariance) / num_classes + 2 * l2)
    scale = jnp.where(scale > 0, scale, 1.0)
    # The 1e-3 bounds its condition number: collinear features must not break a float32 Cholesky. If it fails anyway,
    # scaling each feature still converges well, and any P leads to the same optimum.
    ridge = 2 * l2 / scale**2 + 1e-3
    correlation = covariance / scale[:, None] / scale / num_classes + jnp.diag(ridge)
    factor = jnp.linalg.cholesky(correlation)
    identity = jnp.eye(len(scale))
    factor = jnp.where(jnp.all(jnp.isfinite(factor)), factor, identity)
    return jax.scipy.linalg.solve_triangular(factor, jnp.diag(1 / scale), lower=True).T


def _product(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
