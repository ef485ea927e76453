"""Nearest neighbours against the definition in NumPy, and scikit-learn."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from sas_jax.errors import InputError

module = importlib.import_module("sas_jax.evaluation.knn")
DIGITS, LABELS = load_digits(return_X_y=True)


def slow(train_x, train_y, test_x, k, temperature, num_classes):
    """Implements the definition in float64, one row at a time."""
    predicted = []
    train_x = train_x / np.linalg.norm(train_x, axis=1, keepdims=True)
    for row in test_x:
        similarity = train_x @ (row / np.linalg.norm(row))
        votes = np.zeros(num_classes)
        for index in np.argsort(-similarity, kind="stable")[:k]:
            votes[train_y[index]] += np.exp(similarity[index] / temperature)
        predicted.append(np.argmax(votes))
    return np.array(predicted)


def noisy(n=300, t=100, d=16, c=7, seed=0):
    rng = np.random.default_rng(seed)
    centres, y = rng.normal(size=(c, d)), rng.integers(c, size=n + t)
    x = centres[y] + 2 * rng.normal(size=(n + t, d))
    return x[:n], y[:n], x[n:], y[n:]


def predicted(train_x, train_y, test_x, temperature, *, num_classes, k, rows=None):
    """Predicts the classes, with the training set in blocks of `rows`."""
    train_x, test_x = (jnp.asarray(x, jnp.float32) for x in (train_x, test_x))
    train_y = jnp.asarray(train_y, jnp.int32)
    found, rows = module.none_yet(len(test_x), k), rows or len(train_x)
    for start in range(0, len(train_x), rows):
        found = module.nearer(found, train_x[start : start + rows], train_y[start : start + rows], test_x)
    return np.asarray(module.vote(found, temperature, num_classes=num_classes))


@pytest.mark.parametrize("k", [1, 20, 300])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_the_definition(k, temperature):
    train_x, train_y, test_x, test_y = noisy()
    expected = slow(train_x, train_y, test_x, k, temperature, 7)
    np.testing.assert_array_equal(predicted(train_x, train_y, test_x, temperature, num_classes=7, k=k), expected)
    found = module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=k, temperature=temperature)
    assert found.value == pytest.approx(np.mean(expected == test_y))
    assert found.n == 100


def test_equals_scikit_learn_on_digits():
    train, test = slice(0, 1400), slice(1400, None)
    model = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1))
    model.fit(DIGITS[train], LABELS[train])
    found = module.knn(DIGITS[train], LABELS[train], DIGITS[test], LABELS[test], num_classes=10, k=20)
    assert found.value == pytest.approx(model.score(DIGITS[test], LABELS[test]))
    assert found.value > 0.9


def test_defaults_are_200_neighbours_at_temperature_a_tenth():
    train_x, train_y, test_x, test_y = noisy()
    found = module.knn(train_x, train_y, test_x, test_y, num_classes=7)
    assert found == module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=200, temperature=0.1)
    assert found.value == np.mean(slow(train_x, train_y, test_x, 200, 0.1, 7) == test_y)


def test_k_is_capped_at_the_training_set():
    train_x, train_y, test_x, test_y = noisy(n=50)
    found = module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=10**6)
    assert found == module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=50)


@pytest.mark.parametrize("entries", [1, 7 * 300, 33 * 300])
def test_blocks_of_any_size_give_the_same_classes(monkeypatch, entries):
    train_x, train_y, test_x, test_y = noisy()
    whole = predicted(train_x, train_y, test_x, 0.1, num_classes=7, k=20)
    accuracy = module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=20)
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", entries)
    jax.clear_caches()  # the block size is a constant of the compiled programs
    np.testing.assert_array_equal(predicted(train_x, train_y, test_x, 0.1, num_classes=7, k=20), whole)
    for rows in (7, 60, 299):  # fewer rows per block than neighbours, a whole number of blocks, and one row left over
        np.testing.assert_array_equal(predicted(train_x, train_y, test_x, 0.1, num_classes=7, k=20, rows=rows), whole)
    monkeypatch.setattr(module, "_TRAIN_BYTES", 4 * 16 * 70)
    assert module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=20) == accuracy


def test_similarities_are_never_all_held_at_once():
    n, t = 50_000, 10_000
    found = module.Nearest(jax.ShapeDtypeStruct((t, 200), jnp.float32), jax.ShapeDtypeStruct((t, 200), jnp.int32))
    shapes = [jax.ShapeDtypeStruct((n, 8), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)]
    lowered = module.nearer.lower(found, *shapes, jax.ShapeDtypeStruct((t, 8), jnp.float32))
    sizes = [
        int(np.prod([int(side) for side in shape.split("x")[:-1]]))
        for shape in {part.split(">")[0] for part in lowered.as_text().split("tensor<")[1:]}
        if "x" in shape
    ]
    assert max(sizes) <= module._BLOCK_ENTRIES < n * t


def test_ties_go_to_the_nearest_lowest_row_and_the_lowest_class():
    test_x = jnp.asarray([[1.0, 0.0]])
    same = jnp.asarray([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0]])  # all in one direction, so equally similar
    for rows in (3, 2, 1):
        for k, expected in ((1, 2), (2, 1), (3, 0)):
            assert predicted(same, [2, 1, 0], test_x, 0.1, num_classes=3, k=k, rows=rows) == expected


@pytest.mark.parametrize("unit", [1e-14, 1e14])
def test_the_features_unit_does_not_matter(unit):
    train_x, train_y, test_x, test_y = noisy()
    plain = module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=20)
    assert module.knn(train_x * unit, train_y, test_x / unit, test_y, num_classes=7, k=20) == plain


def test_small_temperatures_do_not_overflow():
    train_x, train_y, test_x, test_y = noisy()
    nearest = module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=1)
    assert module.knn(train_x, train_y, test_x, test_y, num_classes=7, k=300, temperature=1e-5) == nearest


def test_rows_of_zeros_are_like_nothing():
    train_x, train_y = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), jnp.asarray([2, 1, 0])
    found = predicted(train_x, train_y, [[0.0, 0.0], [-1.0, 1.0]], 0.1, num_classes=3, k=1)
    np.testing.assert_array_equal(found, [2, 0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"k": 0}, "`temperature` more than 0, got 0 and"),
        ({"temperature": 0.0}, "got 200 and 0.0"),
        ({"temperature": np.nan}, "got 200 and nan"),
        ({"test_x": np.zeros((4, 3))}, r"kNN must have .* the same width, got \[5, 2\] and \[4, 3\]"),
        ({"test_x": np.full((4, 2), np.nan)}, "kNN's test set must have finite features, got .* in 4 of its 4 rows"),
        (
            {"train_x": np.full((5, 2), np.nan)},
            "kNN's training set must have finite features, got .* in 5 of its 5 rows",
        ),
        ({"test_y": np.full(4, 3)}, r"kNN's test set must have labels in \[0, 3\)"),
        ({"train_y": np.zeros(4, int)}, "kNN's training set must have one label for each row"),
    ],
)
def test_bad_input(change, sentence):
    given = {
        "train_x": np.ones((5, 2)),
        "train_y": np.zeros(5, int),
        "test_x": np.ones((4, 2)),
        "test_y": np.zeros(4, int),
    }
    with pytest.raises(InputError, match=sentence):
        module.knn(**given | change, num_classes=3)
