"""The linear probe: logistic regression on frozen features."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from sas_jax import arrays, logistic, settings
from sas_jax.errors import InputError
from sas_jax.evaluation import blocks, labelled, logistic_sgd
from sas_jax.evaluation.accuracy import Accuracy, accuracy

SOLVERS = ("auto", "lbfgs", "sgd")

# Above this working memory, "auto" chooses SGD. A constant instead of the device's memory, so that a run gives the same
# result on every machine: 50,000 x 512 and 100 classes (CIFAR-100) take 0.3 GiB, 100,000 x 512 and 200 (TinyImageNet)
# 0.7, 1,281,167 x 2,048 and 1,000 (ImageNet) 39.
LARGEST_FIT_BYTES = 4 << 30


@dataclasses.dataclass(frozen=True)
class Probe:
    """A linear probe's accuracy and how it was obtained.

    Attributes:
        accuracy: on the test features.
        l2: the penalty of the fit.
        train_size: number of examples it was fitted to.
        solver: "lbfgs" or "sgd".
        validated: if the penalty was chosen by validation, (l2, accuracy on the held-out part) in the grid's order.
    """

    accuracy: Accuracy
    l2: float
    train_size: int
    solver: str
    validated: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the accuracy's fields and the others in one dict, as stored in results.json."""
        rest = {"l2": self.l2, "train_size": self.train_size, "solver": self.solver}
        return self.accuracy.to_dict() | rest | {"validated": [list(pair) for pair in self.validated]}


@settings.fixed
def linear_probe(
    key: jax.Array,
    train_x: blocks.Rows | Sequence,
    train_y: ArrayLike,
    test_x: blocks.Rows | Sequence,
    test_y: ArrayLike,
    *,
    num_classes: int,
    l2: float = 1e-5,
    l2_grid: Sequence[float] = (),
    fraction: float = 1.0,
    max_iterations: int = 1000,
    solver: str = "auto",
) -> Probe:
    """Fits a linear classifier to the training features and measures its accuracy on the test features.

    Args:
        key: a typed PRNG key, for which labels are drawn, which are held out, and the order of SGD. The draw depends
            only on the key and the labels, so that encoders compared with one key get the same examples.
        train_x: [n, d] float, the features, used unscaled; for SGD also a memory-mapped .npy or anything that can be
            sliced by row (and, with a fraction or a grid, indexed by int [k]).
        train_y: int [n], in [0, num_classes).
        test_x: [t, d] float, or like `train_x`.
        test_y: int [t], in [0, num_classes).
        num_classes: c.
        l2: weight of sum(W^2), added to the mean cross-entropy; the bias is not penalised.
        l2_grid: if given, l2 is chosen from these by the accuracy on a fifth of the training examples, held out class
            by class (ties go to the larger penalty), and the probe is then refitted to all of them. If no class has two
            examples, nothing can be held out and `l2` is used. The test examples play no part in it.
        fraction: the share of the labels that the classifier sees, in (0, 1]; at least one per class, see
            `labelled.few`.
        max_iterations: maximum number of L-BFGS iterations.
        solver: "lbfgs"; "sgd", which holds one block of the features at a time; or "auto": L-BFGS if it fits in
            `LARGEST_FIT_BYTES`, else SGD.

    Returns:
        The accuracy, and the L2 used.

    Raises:
        InputError: features and labels do not fit together or are not finite, or an option is out of range.
    """
    if solver not in SOLVERS:
        raise InputError(f"`solver` must be one of {', '.join(SOLVERS)}, got {solver!r}. Choose one.")
    train, test = _given(train_x, train_y), _given(test_x, test_y)
    logistic.check_labels(*train, num_classes=num_classes, what="The probe's training set")
    logistic.check_labels(*test, num_classes=num_classes, what="The probe's test set")
    logistic.check_widths(train[0], test[0], what="The probe")
    draw, hold, order = jax.random.split(key, 3)
    if fraction != 1:
        train = _taken(train, labelled.few(draw, train[1], fraction=fraction))
    if solver == "auto":
        n, d = train[0].shape
        solver = "sgd" if fit_bytes(n, d, num_classes) > LARGEST_FIT_BYTES else "lbfgs"

    def correct(fitted: _Examples, measured: _Examples, penalty: float, what: str) -> np.ndarray:
        if solver == "sgd":
            model = logistic_sgd.fit(order, *fitted, num_classes=num_classes, l2=penalty)
            return logistic_sgd.predict(model, measured[0], what=what) == measured[1]
        x, y = logistic.checked_examples(blocks.whole(measured[0]), measured[1], num_classes=num_classes, what=what)
        model = logistic.fit(
            blocks.whole(fitted[0]), fitted[1], num_classes=num_classes, l2=penalty, max_iterations=max_iterations
        )
        return np.asarray(logistic.predict(model, x) == y)

    validated: list[tuple[float, float]] = []
    if len(l2_grid) and (out := labelled.held_out(hold, train[1])).any():
        rest, part = _taken(train, np.flatnonzero(~out)), _taken(train, np.flatnonzero(out))
        for penalty in l2_grid:
            right = correct(rest, part, penalty, "The probe's held-out part")
            validated.append((float(penalty), float(right.mean())))
        l2 = max(validated, key=lambda pair: (pair[1], pair[0]))[0]
    right = correct(train, test, l2, "The probe's test set")
    return Probe(accuracy(right), float(l2), len(train[1]), solver, tuple(validated))


_Examples = tuple[blocks.Rows, np.ndarray]  # features [n, d] and labels int [n]


def _given(x: Any, y: ArrayLike) -> _Examples:
    arrays.check_dense("The probe's features", x)
    return x if hasattr(x, "shape") else np.asarray(x), arrays.array("The probe's labels", y)


def _taken(examples: _Examples, indices: np.ndarray) -> _Examples:
    return blocks.Taken(examples[0], indices), examples[1][indices]


def fit_bytes(n: int, d: int, num_classes: int) -> int:
    """Returns the bytes of working memory that L-BFGS takes for n examples of d features, features included."""
    return 4 * n * (3 * d + 2 * num_classes)
