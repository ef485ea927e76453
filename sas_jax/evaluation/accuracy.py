"""Accuracies with confidence intervals."""

import dataclasses
import math

import jax
import numpy as np

from sas_jax.errors import InputError

# The normal distribution's 97.5 % quantile.
_Z = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The share of correct answers, with a 95 % interval that reflects only the size of the test set.

    Attributes:
        value: correct / n, in [0, 1].
        low: the Wilson interval's lower end.
        high: its upper end.
        standard_error: sqrt(value (1 - value) / n), which is 0 at 0 and 1, unlike the interval's width.
        n: number of test examples.
    """

    value: float
    low: float
    high: float
    standard_error: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """Returns the fields by name, as stored in results.json."""
        return dataclasses.asdict(self)


def accuracy(correct: np.ndarray | jax.Array) -> Accuracy:
    """Returns the share of True and its Wilson 95 % interval.

    Args:
        correct: bool [n], n at least 1.

    Returns:
        The share, its interval and its standard error.

    Raises:
        InputError: there are no examples.

    Source:
        Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    correct = np.asarray(correct)
    assert correct.ndim == 1, correct.shape
    assert correct.dtype == bool, correct.dtype
    n = len(correct)
    if n == 0:
        raise InputError("`correct` must hold at least one test example, got none. Check the test split.")
    p = int(correct.sum()) / n
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    # At 0 and 1 the interval ends at the value, which rounding must not exclude.
    return Accuracy(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), math.sqrt(p * (1 - p) / n), n)
