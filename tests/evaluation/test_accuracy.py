"""The accuracy's interval against its definition."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.evaluation import Accuracy, accuracy


def flags(right, n):
    return np.arange(n) < right


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 7), (180, 360), (355, 360), (5, 5), (7000, 10_000)])
def test_ends_solve_wilsons_equation(right, n):
    found = accuracy(flags(right, n))
    assert (found.value, found.n) == (right / n, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    # At an end q, the observed share lies exactly 1.96 standard deviations away, with the deviation that q implies.
    for end in (found.low, found.high):
        assert (found.value - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / n, abs=1e-12)
    assert found.high > found.low
    assert found.standard_error == pytest.approx(np.std(flags(right, n)) / np.sqrt(n))


def test_interval_covers_the_truth_as_often_as_it_says():
    drawn = np.random.default_rng(0).random((2000, 200)) < 0.9
    covered = [found.low <= 0.9 <= found.high for found in map(accuracy, drawn)]
    assert 0.93 < np.mean(covered) < 0.97


def test_to_dict_is_json_and_comes_back():
    found = accuracy(jnp.asarray(flags(3, 4)))
    assert Accuracy(**json.loads(json.dumps(found.to_dict()))) == found
    assert set(found.to_dict()) == {"value", "low", "high", "standard_error", "n"}


def test_no_examples():
    with pytest.raises(InputError, match="at least one test example, got none"):
        accuracy(np.zeros(0, bool))
