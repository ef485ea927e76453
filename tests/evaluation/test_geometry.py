"""The paper's geometry against its definitions, written out example by example in NumPy."""

import importlib
import itertools
import json

import numpy as np
import pytest

from sas_jax.errors import InputError
from sas_jax.evaluation import accuracy, blocks, geometry

module = importlib.import_module("sas_jax.evaluation.geometry")


def unit(x):
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norms > 0, norms, 1)


def slow_alignment(views):
    """Computes E over x of E over its pairs of different views of |f(x1) - f(x2)|^2: Huang et al., equation (4)."""
    views = unit(np.float64(views))
    pairs = list(itertools.permutations(range(views.shape[1]), 2))
    return np.mean([np.mean([np.sum((each[a] - each[b]) ** 2) for a, b in pairs]) for each in views])


def slow_centre(views, labels, number):
    """Computes E over x in the class of E over its views of f(x'): Huang et al., section 2."""
    members = [
        np.mean(unit(np.float64(each)), axis=0) for each, label in zip(views, labels, strict=True) if label == number
    ]
    return np.mean(members, axis=0)


def slow_right(centres, features, labels):
    nearest = [
        np.nanargmin([np.linalg.norm(each - centre) for centre in centres]) for each in unit(np.float64(features))
    ]
    return np.array(nearest) == labels


def example(n=230, m=2, d=7, c=5, seed=0):
    """Makes classes around directions and views around examples, at all scales; some examples have no label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(c, size=n)
    where = rng.normal(size=(c, d))
    middle = where[labels] + rng.normal(size=(n, d))
    views = middle[:, None] + 0.3 * rng.normal(size=(n, m, d))
    views *= 10 ** rng.uniform(-3, 3, size=(n, m, 1))
    labels[::9] = -1
    features = where[rng.integers(c, size=90)] + rng.normal(size=(90, d))
    return views.astype(np.float32), labels, features.astype(np.float32), rng.integers(c, size=90)


@pytest.fixture(params=[1, 2000, 1 << 26])
def block_bytes(request, monkeypatch):
    """Blocks of one row, of some rows, and of all."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("m", [2, 3])
def test_equals_the_definitions(m):
    views, labels, features, test_labels = example(m=m)
    subset = np.flatnonzero(np.random.default_rng(1).random(len(labels)) < 0.3)
    found = geometry(views, labels, num_classes=5, subset=subset, test=(features, test_labels))
    centres = []
    for part, of in ((found.whole, np.arange(len(labels))), (found.subset, subset)):
        some, marks = views[of], labels[of]
        centres.append(np.array([slow_centre(some, marks, number) for number in range(5)]))
        off = {(a, b): centres[-1][a] @ centres[-1][b] for a, b in itertools.combinations(range(5), 2)}
        assert (part.n, part.classes) == (len(of), 5)
        assert part.alignment == pytest.approx(slow_alignment(some), rel=1e-5)
        assert part.largest_product == pytest.approx(max(off.values()), abs=1e-6)
        assert part.closest_classes == max(off, key=off.get)
        assert part.mean_product == pytest.approx(np.mean(list(off.values())), abs=1e-6)
        assert part.nearest_centre == accuracy(slow_right(centres[-1], features, test_labels))
    apart = [np.linalg.norm(a - b) for a, b in zip(*centres, strict=True)]
    np.testing.assert_allclose(found.distances, apart, atol=1e-6)
    assert found.largest_distance == pytest.approx(max(apart), abs=1e-6)


def test_each_measure_by_itself_is_what_geometry_tells():
    views, labels, features, test_labels = example()
    where = np.arange(len(labels)) % 3 == 0
    found = geometry(views, labels, num_classes=5, subset=np.flatnonzero(where), test=(features, test_labels))
    whole, part = (module.centres(views, labels, num_classes=5, where=each) for each in (None, where))
    assert whole.alignment == found.whole.alignment
    assert module.largest_product(part.vectors) == (found.subset.largest_product, found.subset.closest_classes)
    np.testing.assert_array_equal(module.distances(part.vectors, whole.vectors), found.distances)
    assert module.nearest_centre(whole.vectors, features, test_labels) == found.whole.nearest_centre
    np.testing.assert_array_equal(part.sizes, np.bincount(labels[where & (labels >= 0)], minlength=5))
    np.testing.assert_allclose(np.diagonal(module.products(part.vectors)), np.sum(part.vectors**2, axis=1))


def test_the_whole_as_its_own_subset_is_no_distance_away():
    views, labels, *_ = example()
    found = geometry(views, labels, num_classes=5, subset=np.arange(len(labels)))
    assert found.subset == found.whole
    assert found.distances == (0.0,) * 5


def test_perfect_and_worst_views():
    x = np.random.default_rng(0).normal(size=(50, 4))
    labels = np.zeros(50, int)
    same = module.centres(np.stack([x, 7 * x], axis=1), labels, num_classes=1)
    opposite = module.centres(np.stack([x, -x], axis=1), labels, num_classes=1)
    assert same.alignment == pytest.approx(0, abs=1e-10)
    assert opposite.alignment == pytest.approx(4, rel=1e-6)
    np.testing.assert_allclose(opposite.vectors, 0, atol=1e-7)


def test_a_class_that_the_subset_lacks():
    views, labels, features, test_labels = example()
    subset = np.flatnonzero((labels != 2) & (labels != 4))
    found = geometry(views, labels, num_classes=6, subset=subset, test=(features, test_labels))
    assert (found.whole.classes, found.subset.classes) == (5, 3)
    assert [each is None for each in found.distances] == [False, False, True, False, True, True]
    centres = np.array(
        [slow_centre(views[subset], labels[subset], k) if k in (0, 1, 3) else [np.nan] * 7 for k in range(6)]
    )
    assert found.subset.nearest_centre == accuracy(slow_right(centres, features, test_labels))
    assert not set(found.subset.closest_classes) & {2, 4, 5}


def test_one_class_has_no_products():
    views, *_ = example(n=20)
    found = geometry(views, np.zeros(20, int), num_classes=1)
    assert found.whole.largest_product is found.whole.closest_classes is found.whole.mean_product is None
    largest, pair = module.largest_product(np.ones((1, 3)))
    assert (np.isnan(largest), pair) == (True, (-1, -1))


@pytest.mark.filterwarnings("error")
def test_to_dict_is_json_without_nan():
    views, labels, features, test_labels = example()
    subset = np.flatnonzero(labels == 2)
    for options in ({}, {"subset": subset}, {"subset": subset, "test": (features, test_labels)}):
        told = geometry(views, labels, num_classes=5, **options).to_dict()
        back = json.loads(json.dumps(told, allow_nan=False))
        assert set(back) == {"whole", "subset", "distances", "largest_distance"}
        assert (back["subset"] is None) == ("subset" not in options)
        if "test" in options:
            assert back["whole"]["nearest_centre"]["low"] < back["whole"]["nearest_centre"]["high"]
            assert back["largest_distance"] == back["distances"][2]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_features_unit_does_not_matter(size):
    views, labels, features, test_labels = example()
    plain = geometry(views, labels, num_classes=5, test=(features, test_labels))
    scaled = geometry(views * np.float32(size), labels, num_classes=5, test=(features * np.float32(size), test_labels))
    assert scaled.whole.alignment == pytest.approx(plain.whole.alignment, rel=1e-4)
    assert scaled.whole.nearest_centre == plain.whole.nearest_centre


def test_reads_slices_and_no_more_than_a_block(tmp_path, monkeypatch):
    views, labels, features, test_labels = example()
    whole = geometry(views, labels, num_classes=5, test=(features, test_labels))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * (2 * 7 + 5) * 10)
    np.save(tmp_path / "views.npy", views)
    asked = []

    class Watched:
        shape, dtype = views.shape, views.dtype
        mapped = np.load(tmp_path / "views.npy", mmap_mode="r")

        def __getitem__(self, rows):
            asked.append(rows)
            return self.mapped[rows]

    found = geometry(Watched(), labels, num_classes=5, test=(features, test_labels))
    assert [(rows.start, rows.stop) for rows in asked] == [(at, at + 10) for at in range(0, 230, 10)]
    assert found.whole.alignment == pytest.approx(whole.whole.alignment, rel=1e-6)
    assert found.whole.nearest_centre == whole.whole.nearest_centre


def test_ties_go_to_the_lowest_class():
    found = module.nearest_centre(np.array([[1.0, 0], [1.0, 0], [0, 1.0]]), np.ones((2, 2)), np.array([0, 1]))
    assert found.value == 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"views": np.zeros((10, 1, 3))}, r"of two or more views.* got \[10, 1, 3\] and \[10\]"),
        ({"views": np.zeros((10, 3))}, r"got \[10, 3\] and \[10\]"),
        ({"labels": np.zeros(9, int)}, r"got \[10, 2, 3\] and \[9\]"),
        ({"labels": np.full(10, 4)}, "integers below 4, got int64 up to 4"),
        ({"labels": np.zeros(10)}, "got float64"),
        ({"views": np.full((10, 2, 3), np.inf)}, "must be finite"),
        ({"subset": np.zeros(0, int)}, "at least one example, got none"),
        (
            {"test": (np.zeros((5, 4)), np.zeros(5, int))},
            r"features \[t, 3\], of the same width .* got \[5, 4\] and \[5\]",
        ),
        ({"test": (np.zeros((5, 3)), np.zeros(4, int))}, r"got \[5, 3\] and \[4\]"),
        ({"test": (np.full((5, 3), np.nan), np.zeros(5, int))}, "must be finite"),
        ({"test": (np.zeros((5, 3)), np.full(5, -1))}, "at least one test example"),
    ],
)
def test_bad_input(change, sentence):
    given = {"views": np.ones((10, 2, 3)), "labels": np.zeros(10, int)} | change
    with pytest.raises(InputError, match=sentence):
        geometry(**given, num_classes=4)
