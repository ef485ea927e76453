"""Arrays of all kinds that users have, and one sentence for values that cannot become one."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse

import sas_jax
from sas_jax import arrays, settings
from sas_jax.errors import InputError
from sas_jax.evaluation.knn import knn
from sas_jax.evaluation.probe import linear_probe
from sas_jax.latent_classes import few_labels, kmeans
from sas_jax.selection import baselines

N = 8
Z = np.random.default_rng(0).normal(size=(N, 3))
CLASSES = np.arange(N) % 2
MASK = np.arange(N) == 3


def masked(values):
    values = np.asarray(values)
    return np.ma.array(values, mask=np.broadcast_to(MASK.reshape(-1, *[1] * (values.ndim - 1)), values.shape))


@pytest.mark.parametrize(
    "use",
    [
        lambda: sas_jax.rank(masked(Z)),
        lambda: sas_jax.rank(similarity=masked(np.eye(N))),
        lambda: sas_jax.rank(Z, masked(CLASSES)),
        lambda: sas_jax.rank(Z, objective="facility_location", weights=masked(np.ones(N))),
        lambda: sas_jax.rank(Z, where=masked(CLASSES == 0)),
        lambda: sas_jax.rank(Z, initial=masked(np.arange(N))),
        lambda: sas_jax.rank(Z, ids=masked(np.array(list("abcdefgh")))),
        lambda: sas_jax.Ranking(masked(np.arange(N)), np.full(N, np.nan), np.zeros(N, int)),
        lambda: baselines.random_balanced(settings.key(0), masked(CLASSES)),
        lambda: kmeans(settings.key(0), masked(Z), num_classes=2),
        lambda: few_labels.spread(settings.key(0), Z, masked(CLASSES)),
        lambda: knn(masked(Z), CLASSES, Z, CLASSES, num_classes=2),
        lambda: linear_probe(settings.key(0), Z, CLASSES, masked(Z), CLASSES, num_classes=2),
    ],
)
def test_masked_entries_are_no_values(use):
    with pytest.raises(InputError, match=r"must have no masked entries, got (1|3|8) masked of \d+. Fill them, or"):
        use()


def test_a_masked_array_without_masked_entries_is_one():
    expected = sas_jax.rank(Z, CLASSES)
    found = sas_jax.rank(np.ma.array(Z, mask=False), np.ma.array(CLASSES))
    np.testing.assert_array_equal(found.position, expected.position)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (scipy.sparse.csr_matrix, "csr_matrix"),
        (scipy.sparse.coo_array, "coo_array"),
        (scipy.sparse.lil_array, "lil_array"),
        (lambda x: sparse.BCOO.fromdense(jnp.asarray(x)), "BCOO"),
    ],
)
def test_a_sparse_matrix_is_called_sparse(make, name):
    given = make(np.eye(N))
    for use in (
        lambda: sas_jax.rank(similarity=given),
        lambda: sas_jax.rank(given),
        lambda: kmeans(settings.key(0), given, num_classes=2),
        lambda: knn(given, CLASSES, Z, CLASSES, num_classes=2),
    ):
        with pytest.raises(InputError, match=rf"a dense array, got a sparse {name} of shape .8, 8.. Give"):
            use()


@pytest.mark.parametrize(
    ("given", "expected", "names"),
    [
        ([3, 1, 3], [3, 1, 3], None),
        ([3.0, 1.0, 3.0], [3, 1, 3], None),  # a column that once had an empty entry
        (np.array([2, 0, 2], np.uint8), [2, 0, 2], None),
        ([True, False, True], [1, 0, 1], None),
        (np.array([2, 0, 2], np.float16), [2, 0, 2], None),
        (np.array([7, 0, 2**31 - 1], np.longdouble), [7, 0, 2**31 - 1], None),
        (["dog", "cat", "dog"], [1, 0, 1], ["cat", "dog"]),
        (np.array(["dog", "cat", "dog"], np.dtypes.StringDType()), [1, 0, 1], ["cat", "dog"]),
        (np.array(["10", "9", "10"], object), [0, 1, 0], ["10", "9"]),  # pandas' strings and categories
        (np.array([7, 5, 7], object), [7, 5, 7], None),
        (np.array([True, False, True], object), [1, 0, 1], None),
    ],
)
def test_a_class_is_a_distinct_value(given, expected, names):
    found, found_names = arrays.classes("Classes", np.asarray(given))
    assert found.dtype == np.int32
    assert found.tolist() == expected
    assert found_names == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, -1, 2], r"whole numbers from 0 to 2\^31 - 1, got -1 as entry 1. Number them from 0, and leave out"),
        ([0.0, np.nan, 2.0], "got nan as entry 1"),
        ([0.0, 0.5, 2.0], r"got 0\.5 as entry 1"),
        ([0, 2**31, 2], "got 2147483648 as entry 1"),
        ([0, np.inf, 2], "got inf as entry 1"),
        (np.array([0, np.inf, 2], np.float16), "got inf as entry 1"),
        (np.array([0, "1e4000", 2], np.longdouble), "got inf as entry 1"),
        ([0j, 1j, 2], "whole numbers or text, got complex128"),
        (np.array(["a", None, "b"], object), "all of one type, got None as entry 1, and 'a' as entry 0. Convert"),
        (
            np.array(["a", float("nan"), "b"], object),
            "all of one type, got nan as entry 1, and 'a' as entry 0. Convert",
        ),
        (np.array([1, "1", 2], object), "all of one type, got '1' as entry 1, and 1 as entry 0. Convert"),
        (np.array([(1,), (2,), (3,)], "i,"), "whole numbers or text, got "),
        (np.array([None, 1, 2], object), "all of one type, got None as entry 0. Convert"),
    ],
)
def test_classes_that_cannot_be_used(given, message):
    with pytest.raises(InputError, match=message) as found:
        arrays.classes("Classes", np.asarray(given))
    assert "\n" not in str(found.value)


def test_a_ranking_within_classes_that_are_text():
    """As for the classes' numbers, whose order breaks ties of the budgets; the ranking keeps the names."""
    names = np.array(["dog", "cat"])[CLASSES]
    expected, found = sas_jax.rank(Z, 1 - CLASSES, budget=5), sas_jax.rank(Z, names, budget=5)
    np.testing.assert_array_equal(found.position, expected.position)
    assert found.classes.tolist() == expected.classes.tolist()
    assert found.subset(size=3).tolist() == expected.subset(size=3).tolist()
    assert found.metadata["class_names"] == ["cat", "dog"]
    assert "class_names" not in expected.metadata
    for ranking in (
        baselines.random_balanced(settings.key(0), names),
        baselines.k_center(Z, names),
        sas_jax.Ranking(found.position, found.gain, names),
    ):
        assert ranking.metadata["class_names"] == ["cat", "dog"]
        assert ranking.classes.tolist() == expected.classes.tolist()
