"""The random selectors."""

import tracemalloc

import jax
import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.selection import baselines


def test_random_ranks_everything_in_one_class():
    ranking = baselines.random(jax.random.key(0), 100, ids=[f"image_{k}" for k in range(100)])
    assert sorted(ranking.position.tolist()) == list(range(100))
    assert np.isnan(ranking.gain).all()
    assert not ranking.classes.any()
    assert ranking.metadata["objective"] == "random"
    assert ranking.ids[7] == "image_7"


def test_random_is_a_function_of_the_key_and_uniform():
    assert (baselines.random(jax.random.key(1), 50).position == baselines.random(jax.random.key(1), 50).position).all()
    first = [int(np.argmin(baselines.random(jax.random.key(seed), 4).position)) for seed in range(200)]
    # Each of 4 is first in 50 of 200 draws, give or take 4 standard deviations of 6.
    assert all(abs(first.count(k) - 50) < 25 for k in range(4))


def test_random_balanced_keeps_the_proportions():
    classes = np.repeat([0, 3, 7], [40, 100, 60])
    ranking = baselines.random_balanced(jax.random.key(2), classes)
    for label in (0, 3, 7):
        assert sorted(ranking.position[classes == label].tolist()) == list(range((classes == label).sum()))
    subset = ranking.subset(fraction=0.1)
    assert np.bincount(classes[subset]).tolist() == [4, 0, 0, 10, 0, 0, 0, 6]
    other = baselines.random_balanced(jax.random.key(3), classes)
    assert (other.position != ranking.position).any()
    assert ranking.metadata["objective"] == "random_balanced"


def test_labels_may_have_any_numbers():
    classes = np.repeat([0, 2, 1], [4, 10, 6])
    key = jax.random.key(4)
    expected = baselines.random_balanced(key, classes)
    tracemalloc.start()
    ranking = baselines.random_balanced(key, np.array([0, 50_000_000, 100_000_000])[classes])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert ranking.position.tolist() == expected.position.tolist()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda key: baselines.random(key, 0), "of 1 example or more, and n is 0;"),
        (lambda key: baselines.random(key, 2.5), "of 1 example or more, and n is 2.5;"),
        (lambda key: baselines.random(key, "9"), "of 1 example or more, and n is '9';"),
        (lambda key: baselines.random(key, 3, ids=["a", "b"]), r"position has \[3\] and ids \[2\]"),
        (lambda key: baselines.random_balanced(key, []), "of 1 example or more, and there are no classes;"),
        (lambda key: baselines.random_balanced(key, 3), r"so \[1\], and these have \[\]"),
        (lambda key: baselines.random_balanced(key, [0, [1]]), "Classes must be an array"),
        (lambda key: baselines.random_balanced(key, [0, -1]), "from 0 to 2.31 - 1, and entry 1 is -1;"),
        (lambda key: baselines.random_balanced(key, [0, 2**31]), "from 0 to 2.31 - 1, and entry 1 is 2147483648;"),
        (lambda key: baselines.random_balanced(key, [0.5, 1]), "integers, 0 or more, and these are float64;"),
    ],
)
def test_what_cannot_be_ranked(use, message):
    with pytest.raises(InputError, match=message):
        use(jax.random.key(0))
