"""The random selectors."""

import functools
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
    # Each of 4 is first in 50 of 200 draws, within 4 standard deviations of 6.
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
        (lambda key: baselines.random(key, 0), "`n` must be a whole number of 1 or more, got 0"),
        (lambda key: baselines.random(key, 2.5), "`n` must be a whole number of 1 or more, got 2.5"),
        (lambda key: baselines.random(key, "9"), "`n` must be a whole number of 1 or more, got '9'"),
        (
            lambda key: baselines.random(key, 3, ids=["a", "b"]),
            r"`ids` must have one entry for each example, .* got \[2\]",
        ),
        (lambda key: baselines.random_balanced(key, []), "`classes` must have at least one entry, got none"),
        (lambda key: baselines.random_balanced(key, 3), r"shape \[1\], got \[\]"),
        (lambda key: baselines.random_balanced(key, [0, [1]]), "Classes must be an array"),
        (lambda key: baselines.random_balanced(key, [0, -1]), "from 0 to 2.31 - 1, got -1 as entry 1"),
        (lambda key: baselines.random_balanced(key, [0, 2**31]), "from 0 to 2.31 - 1, got 2147483648 as entry 1"),
        (lambda key: baselines.random_balanced(key, [0.5, 1]), r"text, or whole numbers .* got 0\.5 as entry 0"),
    ],
)
def test_what_cannot_be_ranked(use, message):
    with pytest.raises(InputError, match=message):
        use(jax.random.key(0))


def units(n, d=6, seed=0):
    z = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@pytest.fixture
def classes():
    return np.random.default_rng(1).integers(0, 3, 90)


@pytest.mark.parametrize("hard", [False, True])
def test_prototypes_are_in_the_order_of_the_cosine_to_the_class_mean(classes, hard):
    z = units(90)
    ranking = baselines.prototypes(z * 3.0, classes, hard=hard)
    for label in range(3):
        members = np.flatnonzero(classes == label)
        mean = sum(z[i].astype(np.float64) for i in members) / len(members)
        cosine = {i: float(z[i] @ mean / np.linalg.norm(mean)) for i in members}
        wanted = sorted(members, key=lambda i: cosine[i] if hard else -cosine[i])
        assert members[np.argsort(ranking.position[members])].tolist() == wanted
        for i in members:
            assert ranking.gain[i] == pytest.approx(1 - cosine[i] if hard else cosine[i], abs=1e-6)
    assert ranking.metadata["objective"] == ("prototypes_hard" if hard else "prototypes_easy")


def test_k_center_is_farthest_first(classes):
    z = units(90)
    ranking = baselines.k_center(z, classes, ids=[f"image_{k}" for k in range(90)])
    for label in range(3):
        members = np.flatnonzero(classes == label)
        order = members[np.argsort(ranking.position[members])]
        mean = z[members].mean(axis=0)
        assert order[0] == members[np.argmax(z[members] @ mean)]
        assert ranking.gain[order[0]] == 2
        for step in range(1, len(order)):
            distance = {i: min(np.linalg.norm(z[i] - z[j]) for j in order[:step]) for i in order[step:]}
            assert distance[order[step]] == pytest.approx(max(distance.values()), abs=1e-5)
            assert ranking.gain[order[step]] == pytest.approx(distance[order[step]], abs=1e-4)
        assert (np.diff(ranking.gain[order]) <= 0).all()
    assert ranking.ids[7] == "image_7"
    assert ranking.metadata["objective"] == "k_center"


@pytest.mark.parametrize("rows", [7, 1024])
def test_semdedup_ranks_last_what_repeats_an_example_before_it(classes, rows, monkeypatch):
    monkeypatch.setattr(baselines, "_ROWS", rows)
    z = units(90)
    z[:9] = z[9:18]  # duplicates
    classes[:9] = classes[9:18]
    ranking = baselines.semdedup(z * 2.0, classes)
    for label in range(3):
        members = np.flatnonzero(classes == label)
        typical = z[members] @ z[members].mean(axis=0)
        walk = members[np.argsort(typical, kind="stable")]
        repeats = {i: max((float(z[i] @ z[j]) for j in walk[:at]), default=-1.0) for at, i in enumerate(walk)}
        order = members[np.argsort(ranking.position[members])]
        assert [repeats[i] for i in order] == pytest.approx(sorted(repeats.values()), abs=1e-5)
        assert ranking.gain[order] == pytest.approx([1 - repeats[i] for i in order], abs=1e-5)
        pairs = np.flatnonzero(classes[:9] == label)
        last = set(order[len(order) - len(pairs) :].tolist())
        assert all((i in last) != (i + 9 in last) for i in pairs)
    assert ranking.metadata["objective"] == "semdedup"


def test_equal_embeddings_are_picked_by_index():
    z = np.repeat(units(1), 40, axis=0)
    selectors = (baselines.prototypes, functools.partial(baselines.prototypes, hard=True), baselines.k_center)
    for ranking in (select(z) for select in (*selectors, baselines.semdedup)):
        assert ranking.position.tolist() == list(range(40))


@pytest.mark.parametrize("selector", [baselines.prototypes, baselines.k_center, baselines.semdedup])
@pytest.mark.parametrize(
    ("embeddings", "classes", "message"),
    [
        (np.zeros((3, 2), np.float32), None, "zero|norm"),
        (np.ones((3, 2, 2), np.float32), None, r"`embeddings` must be \[n, d\] for .* got \[3, 2, 2\]"),
        (np.ones((3, 2), np.float32), [0, 1], "3"),
    ],
)
def test_embeddings_that_cannot_be_used(selector, embeddings, classes, message):
    with pytest.raises(InputError, match=message):
        selector(embeddings, classes)
