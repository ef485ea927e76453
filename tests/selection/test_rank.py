"""`rank` against greedy class by class, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sas_jax
from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.selection import classwise, pairwise

OBJECTIVES = ["facility_location", "sas", "similarity_sum"]


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def in_order(ranking, label):
    """Returns the members of a class in the order of picking."""
    members = np.flatnonzero((ranking.classes == label) & (ranking.position >= 0))
    return members[np.argsort(ranking.position[members])]


@pytest.fixture
def check(check_replay):
    """Checks a ranking against each class's part of an n x n similarity."""

    def check(ranking, matrix, classes, objective, where=None):
        for label in np.unique(classes):
            members = np.flatnonzero(classes == label)
            found = in_order(ranking, label)
            if len(found):
                gains = check_replay(
                    objective,
                    matrix[np.ix_(members, members)],
                    np.searchsorted(members, found),
                    None if where is None else where[members],
                )
                np.testing.assert_allclose(ranking.gain[found], gains, atol=1e-6 * max(1, gains[0]))

    return check


def cosines(z):
    matrix = np.maximum(0, z.astype(np.float64) @ z.T.astype(np.float64))
    np.fill_diagonal(matrix, 1)
    return matrix.astype(np.float32)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_whole_classes_may_be_ranked_apart(objective):
    """As docs/scaling.md describes for several hosts: the same picks, and the same share of a fraction within one."""
    rng = np.random.default_rng(4)
    classes = rng.permutation(np.repeat(np.arange(12), rng.integers(5, 60, size=12)))
    z = unit(rng, len(classes), 4, 16).mean(axis=1)
    whole = sas_jax.rank(z, classes, objective=objective, normalize=False)
    chosen = np.isin(np.arange(len(z)), whole.subset(fraction=0.2))
    for shard in range(2):
        of = np.flatnonzero(classes % 2 == shard)
        apart = sas_jax.rank(z[of], classes[of], objective=objective, normalize=False)
        np.testing.assert_array_equal(apart.position, whole.position[of])
        subset = classes[of[apart.subset(fraction=0.2)]]
        for label in np.unique(classes[of]):
            assert abs(np.sum(subset == label) - np.sum(classes[chosen] == label)) <= 1


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("num_devices", [None, 8])
def test_classes_of_all_sizes(objective, num_devices, check):
    """Labels with gaps, class sizes from 1 to 300, rows of any norm, on one device and on a user's mesh of eight."""
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.repeat([0, 4, 5, 9, 100, 101, 2**31 - 1], [1, 2, 33, 300, 32, 40, 64]))
    z = unit(rng, len(classes), 16)
    mesh = None if num_devices is None else jax.make_mesh((num_devices,), ("x",))  # its axis is Explicit
    ranking = sas_jax.rank(
        z * rng.uniform(0.1, 9, (len(z), 1)), classes, objective=objective, mesh=mesh, ids=np.arange(len(z)).astype(str)
    )
    check(ranking, cosines(z), classes, objective)
    assert (ranking.position >= 0).all()
    assert ranking.classes.tolist() == classes.tolist()
    assert ranking.ids[5] == "5"
    assert len(ranking.subset(fraction=0.2)) == round(0.2 * len(z))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_large_classes_go_without_a_matrix(objective, monkeypatch, check):
    rng = np.random.default_rng(1)
    z, classes = unit(rng, 90, 12), np.repeat([0, 1], [50, 40])
    monkeypatch.setattr(classwise, "_LARGEST_MATRIX", 32)
    check(sas_jax.rank(z, classes, objective=objective), cosines(z), classes, objective)


@pytest.mark.parametrize("classes", [None, np.arange(60) % 3])
def test_from_a_matrix(classes, check):
    rng = np.random.default_rng(2)
    matrix = cosines(unit(rng, 60, 8))
    ranking = sas_jax.rank(similarity=matrix, classes=classes)
    check(ranking, matrix, np.zeros(60, int) if classes is None else classes, "sas")
    assert ranking.metadata["kind"] == "matrix"


@pytest.mark.parametrize("kind", pairwise.KINDS)
def test_from_views(kind, check):
    rng = np.random.default_rng(3)
    views, classes = unit(rng, 70, 3, 6), np.repeat([0, 1], [45, 25])
    matrix = np.asarray(pairwise.pairwise(views, kind=kind, tau=0.6)).copy()
    np.fill_diagonal(matrix, 1)
    for mesh in (None, devices.mesh(8)):
        ranking = sas_jax.rank(3 * views, classes, kind=kind, tau=0.6, objective="facility_location", mesh=mesh)
        check(ranking, matrix, classes, "facility_location")
        assert ranking.metadata["kind"] == kind


def test_pipeline_embeddings_keep_their_norms(check):
    rng = np.random.default_rng(4)
    views = unit(rng, 50, 4, 6)
    z = views.mean(1)
    of_means = sas_jax.rank(z, objective="facility_location", normalize=False)
    assert of_means.position.tolist() == sas_jax.rank(views, objective="facility_location").position.tolist()
    check(of_means, cosines(z), np.zeros(50, int), "facility_location")


@pytest.mark.parametrize(("budgets", "other"), [("proportional", "balanced"), ("balanced", "proportional")])
def test_a_budget_ranks_as_far_as_its_subset(budgets, other):
    rng = np.random.default_rng(5)
    z, classes = unit(rng, 120, 8), rng.choice(5, 120, p=[0.5, 0.2, 0.2, 0.05, 0.05])
    full, part = sas_jax.rank(z, classes), sas_jax.rank(z, classes, budget=31, budgets=budgets)
    assert part.subset(size=31).tolist() == full.subset(size=31, budgets=budgets).tolist()
    assert full.subset(size=31, budgets=budgets).tolist() != full.subset(size=31, budgets=other).tolist()
    with pytest.raises(
        InputError, match=f"budgets='{other}' must be of.*31 of 120 candidates with budgets='{budgets}'"
    ):
        part.subset(size=31, budgets=other)
    ranked = np.flatnonzero(part.position >= 0)
    assert ranked.tolist() == part.subset(size=31).tolist()
    assert part.position[ranked].tolist() == full.position[ranked].tolist()
    assert np.isnan(part.gain[part.position < 0]).all()
    with pytest.raises(InputError, match="from 1 to 31"):
        part.subset(size=32)


def test_only_candidates_are_ranked(check):
    rng = np.random.default_rng(6)
    z, classes, where = unit(rng, 100, 8), rng.integers(3, size=100), rng.random(100) < 0.5
    where[classes == 2] = False
    ranking = sas_jax.rank(z, classes, where=where, objective="facility_location")
    assert ((ranking.position >= 0) == where).all()
    check(ranking, cosines(z), classes, "facility_location", where)
    assert len(sas_jax.rank(z, classes, where=where, budget=10).subset(size=10)) == 10


def test_self_similarity(check):
    z = unit(np.random.default_rng(7), 40, 4)
    matrix = cosines(z)
    np.fill_diagonal(matrix, 0)
    for given in ({"embeddings": z}, {"similarity": cosines(z)}, {"embeddings": z[:, None], "kind": "clipped_cosine"}):
        ranking = sas_jax.rank(**given, objective="facility_location", self_similarity=0.0)
        check(ranking, matrix, np.zeros(40, int), "facility_location")
    # A matrix keeps its own diagonal by default.
    check(
        sas_jax.rank(similarity=matrix, objective="facility_location"), matrix, np.zeros(40, int), "facility_location"
    )


def test_few_programs_for_many_classes():
    rng = np.random.default_rng(8)
    classes = np.repeat(np.arange(40), rng.integers(3, 128, 40))
    before = classwise.rank_many._cache_size()
    sas_jax.rank(unit(rng, len(classes), 4), classes)
    assert classwise.rank_many._cache_size() == before + 1


@pytest.mark.parametrize("size", [1, 31, 32, 33, 200, 257, 385, 513, 769, 50_000])
def test_padded_sizes(size):
    padded = classwise.padded(size)
    assert size <= padded <= max(32, 2 * size)
    assert classwise.padded(padded) == padded
    assert size < 257 or padded < 1.5 * size


def test_few_classes_share_a_program_and_many_do_not():
    assert classwise.shared_sizes({}) == {}
    assert classwise.shared_sizes({32: 1, 512: 100, 64: 20}) == dict.fromkeys([32, 64, 512], 512)
    assert classwise.shared_sizes({512: 100, 768: 150}) == {512: 768, 768: 768}
    assert classwise.shared_sizes({512: 1000, 768: 1, 1024: 10}) == {512: 512, 768: 1024, 1024: 1024}
    sizes = sorted({classwise.padded(size) for size in range(1, 8193)})
    shared = classwise.shared_sizes(dict.fromkeys(sizes, 20))
    assert list(shared) == sizes
    assert all(size <= to and shared[to] == to for size, to in shared.items())
    assert sum(20 * (to**2 - size**2) for size, to in shared.items()) < len(sizes) * 2**25


def test_a_class_has_the_same_picks_at_another_size():
    rng = np.random.default_rng(12)
    z, classes = unit(rng, 240, 16), np.repeat([0, 1], [40, 200])
    together, alone = sas_jax.rank(z, classes), sas_jax.rank(z[:40])
    assert together.position[:40].tolist() == alone.position.tolist()
    assert together.gain[:40].tolist() == alone.gain.tolist()


def test_the_metadata_says_where_it_comes_from():
    z = unit(np.random.default_rng(9), 20, 4)
    ranking = sas_jax.rank(z, kind="gaussian", tau=0.5, budget=np.int64(7))
    assert ranking.metadata["objective"] == "sas"
    assert ranking.metadata["kind"] == "gaussian"
    assert ranking.metadata["parameters"] == {
        "self_similarity": None,
        "normalize": True,
        "tau": 0.5,
        "budget": 7,
        "candidates": 20,
    }
    assert ranking.metadata["versions"]["jax"] == jax.__version__
    assert ranking.metadata["fingerprint"] == sas_jax.rank(z).metadata["fingerprint"]
    assert ranking.metadata["fingerprint"] != sas_jax.rank(-z).metadata["fingerprint"]


@pytest.mark.parametrize("convert", [np.float16, np.float64, jnp.asarray, lambda z: jnp.asarray(z, jnp.bfloat16), list])
def test_embeddings_of_other_types(convert):
    z = (np.random.default_rng(10).integers(-8, 9, (30, 5)) + 0.5).astype(np.float32)
    assert sas_jax.rank(convert(z)).position.tolist() == sas_jax.rank(z).position.tolist()


def test_rows_of_extreme_norm():
    z = unit(np.random.default_rng(11), 30, 5).astype(np.float64)
    expected = sas_jax.rank(z).position.tolist()
    for scale in (1e-150, 1e150):
        assert sas_jax.rank(z * scale).position.tolist() == expected


def bad_embeddings(**changes):
    z = unit(np.random.default_rng(12), 20, 4)
    for row, value in changes.items():
        z[int(row[1:])] = value
    return z


def bad_matrix(i, j, value):
    matrix = cosines(unit(np.random.default_rng(13), 12, 4))
    matrix[i, j] = value
    return matrix


GOOD = bad_embeddings()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of `similarity` and `embeddings`"),
        ({"embeddings": GOOD, "similarity": np.eye(20)}, "Exactly one of `similarity` and `embeddings`"),
        ({"embeddings": bad_embeddings(r3=np.nan, r7=np.inf)}, "must be finite, got NaN or infinity .* rows 3, 7"),
        ({"embeddings": bad_embeddings(**{f"r{k}": np.nan for k in range(9)})}, "in rows 0, 1, 2, 3, 4 and 4 more"),
        ({"embeddings": bad_embeddings(r5=0)}, "got a norm of 0 in row 5"),
        ({"embeddings": bad_embeddings(r2=1), "normalize": False}, "with normalize=False, got larger ones in row 2"),
        ({"embeddings": GOOD[0]}, r"`embeddings` must be \[n, d\].*\[4\]"),
        ({"embeddings": GOOD[:0]}, r"`embeddings` must be \[n, d\].*\[0, 4\]"),
        ({"embeddings": np.ones((3, 2), int)}, "must be floating point, got int64"),
        ({"embeddings": np.array([["a", "b"]])}, "must be floating point, got <U1"),
        ({"similarity": np.eye(4)[:3]}, r"`similarity` must be .*\[3, 4\]"),
        ({"similarity": np.eye(4, dtype=int)}, "must be floating point"),
        ({"similarity": bad_matrix(2, 5, 1.5)}, "from 0 to 1, got 1.5 at row 2, column 5"),
        ({"similarity": bad_matrix(2, 5, -0.5)}, "from 0 to 1, got -0.5 at row 2, column 5"),
        ({"similarity": bad_matrix(2, 5, np.nan)}, "from 0 to 1, got nan at row 2, column 5"),
        (
            {"similarity": bad_matrix(2, 5, 0.123)},
            "must be symmetric, got 0.123 at row 2, column 5 and .* at row 5, column 2",
        ),
        ({"embeddings": GOOD, "classes": np.zeros(19, int)}, r"shape \[20\], got \[19\]"),
        ({"embeddings": GOOD, "classes": np.zeros((20, 1), int)}, r"shape \[20\], got \[20, 1\]"),
        ({"embeddings": GOOD, "classes": np.arange(20) - 2}, "got -2 as entry 0"),
        ({"embeddings": GOOD, "classes": np.arange(20) / 2}, r"text, or whole numbers .* got 0\.5 as entry 1"),
        ({"embeddings": GOOD, "classes": np.full(20, 2**31)}, "got 2147483648 as entry 0"),
        (
            {"embeddings": GOOD, "objective": "facility"},
            "sas.*got 'facility'. Did you mean 'facility_location'",
        ),
        ({"embeddings": GOOD, "objective": "xyz"}, "sas, facility_location, similarity_sum, got 'xyz'. Choose"),
        ({"embeddings": GOOD, "kind": "cosin"}, "cosine, clipped_cosine, gaussian, .*Did you mean 'cosine'"),
        ({"embeddings": GOOD, "tau": 0}, "tau must be more than 0, got 0"),
        ({"embeddings": GOOD, "self_similarity": 2}, "self_similarity must be from 0 to 1, got 2"),
        ({"embeddings": GOOD, "budget": 21}, "from 1 to the 20 candidates, got 21"),
        ({"embeddings": GOOD, "budget": 0}, "from 1 to the 20 candidates, got 0"),
        ({"embeddings": GOOD, "budget": 0.5}, "from 1 to the 20 candidates, got 0.5"),
        ({"embeddings": GOOD, "budget": 9, "where": np.arange(20) < 8}, "from 1 to the 8 candidates, got 9"),
        ({"embeddings": GOOD, "where": np.ones(19, bool)}, r"bool \[20\], .* got bool \[19\]"),
        ({"embeddings": GOOD, "where": np.ones(20)}, r"bool \[20\], .* got float64 \[20\]"),
        ({"embeddings": GOOD, "where": np.zeros(20, bool)}, "at least one candidate, got none"),
        ({"embeddings": GOOD, "ids": ["a"]}, r"shape \[20\], got \[1\]"),
        ({"embeddings": GOOD, "progress": 3}, "`progress` must be a function of two numbers, got 3"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(InputError, match=message) as found:
        sas_jax.rank(**arguments)
    assert "\n" not in str(found.value)


def test_a_matrix_that_is_off_by_rounding_is_taken():
    matrix = cosines(unit(np.random.default_rng(14), 30, 4)) * np.float32(1 + 3e-7)
    matrix[3, 4] = np.nextafter(matrix[3, 4], 2, dtype=np.float32)
    assert (sas_jax.rank(similarity=matrix).position >= 0).all()
