"""An accuracy and how far it can be trusted."""

import dataclasses
import math

import jax
import numpy as np

from sas_jax.errors import InputError

# The normal distribution's 97.5 % quantile.
_Z = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A share of correct answers, with its 95 % interval from the test set's size alone.

    Attributes:
        value: correct / n, in [0, 1].
        low: the Wilson interval's lower end.
        high: its upper end.
        standard_error: sqrt(value (1 - value) / n); it is 0 at 0 and 1, where the interval is not.
        n: test examples.
    """

    value: float
    low: float
    high: float
    standard_error: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """Returns the fields by name, as results.json holds them."""
        return dataclasses.asdict(self)


def accuracy(correct: np.ndarray | jax.Array) -> Accuracy:
    """The share of True and its Wilson 95 % interval.

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
    # At 0 and 1 the interval touches the value; rounding must not leave the value outside.
    return Accuracy(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), math.sqrt(p * (1 - p) / n), n)
