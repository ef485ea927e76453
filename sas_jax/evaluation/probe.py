"""The linear probe: logistic regression on frozen features."""

import numpy as np
from jax.typing import ArrayLike

from sas_jax import logistic
from sas_jax.evaluation.accuracy import Accuracy, accuracy


def linear_probe(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    *,
    num_classes: int,
    l2: float = 1e-5,
    max_iterations: int = 1000,
) -> Accuracy:
    """Fits a linear classifier to the training features and returns its accuracy on the test features.

    Args:
        train_x: [n, d] float, the features as the encoder gives them.
        train_y: int [n], in [0, num_classes).
        test_x: [t, d] float.
        test_y: int [t], in [0, num_classes).
        num_classes: c.
        l2: weight of sum(W^2) beside the mean cross-entropy; the bias has no penalty.
        max_iterations: L-BFGS iterations at most.

    Raises:
        InputError: features and labels do not fit together or are not finite.
    """
    test_x, test_y = logistic.checked_examples(test_x, test_y, num_classes=num_classes, what="The probe's test set")
    logistic.check_widths(train_x, test_x, what="The probe")
    model = logistic.fit(train_x, train_y, num_classes=num_classes, l2=l2, max_iterations=max_iterations)
    return accuracy(np.asarray(logistic.predict(model, test_x) == test_y))
