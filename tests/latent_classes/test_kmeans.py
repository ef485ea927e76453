"""k-means against scikit-learn, against Lloyd's iteration in NumPy, and its guarantees."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from sklearn.cluster import KMeans as Reference
from sklearn.datasets import load_digits

from sas_jax.devices import mesh
from sas_jax.errors import InputError

module = importlib.import_module("sas_jax.latent_classes.kmeans")
kmeans = module.kmeans
KEY = jax.random.key(3)


def rows(x):
    return module.Rows(jnp.asarray(x), len(x))


@functools.partial(jax.jit, static_argnums=2)
def seeds(key, x, k):
    return module.seeds(key, rows(x), num_classes=k)


def mixture(n=1500, d=8, k=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d)) * 2
    return (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def lloyd(x, centres, iterations):
    """Implements the definition in float64: nearest centre (argmin takes the lowest), then means, until convergence."""
    x, labels = np.float64(x), None
    for _ in range(iterations):
        new = np.argmin(((x[:, None] - centres[None]) ** 2).sum(-1), axis=1)
        if labels is not None and (new == labels).all():
            break
        labels = new
        centres = np.stack([x[labels == c].mean(axis=0) for c in range(len(centres))])
    return centres, labels


@pytest.mark.parametrize(
    ("x", "k"),
    [(load_digits().data, 10), (mixture(), 12), (mixture(seed=1) * 1e-3 + 5, 12)],
    ids=["digits", "mixture", "mixture-off-centre"],
)
def test_inertia_within_a_percent_of_scikit_learn(x, k):
    reference = Reference(k, n_init=5, random_state=0).fit(x)
    assert kmeans(KEY, x, num_classes=k).inertia <= 1.01 * reference.inertia_


def test_inertia_is_that_of_the_labels_and_centres_returned():
    x = mixture()
    run = kmeans(KEY, x, num_classes=12, restarts=2)
    np.testing.assert_allclose(run.inertia, ((np.float64(x) - run.centres[run.labels]) ** 2).sum(), rtol=1e-5)
    assert run.labels.dtype == np.int32
    assert run.centres.dtype == np.float32


def test_converged_result_is_a_fixed_point_of_lloyds_iteration():
    x = mixture()
    run = kmeans(KEY, x, num_classes=12, restarts=1, iterations=500)
    centres, labels = lloyd(x, np.float64(run.centres), 1)
    np.testing.assert_array_equal(run.labels, labels)
    np.testing.assert_allclose(run.centres, centres, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 3, 200])
def test_lloyd_equals_numpy_from_the_same_seeds(iterations):
    x = mixture(n=400, k=6)
    start = np.asarray(seeds(KEY, x, 6))
    centres, _ = lloyd(x, np.float64(start), iterations)
    np.testing.assert_allclose(module._lloyd(rows(x), jnp.asarray(start), iterations), centres, atol=1e-5)


@pytest.mark.parametrize("entries", [1, 8 * 7])
def test_blocks_of_any_size_give_the_same_classes(monkeypatch, entries):
    x = jnp.asarray(mixture(n=205))  # blocks of 7 leave 2 rows, so the last block overlaps

    def run():
        # A new function each time, because the block size is a constant of the compiled program.
        return jax.jit(lambda x: module._finish(rows(x), module._lloyd(rows(x), x[:8], 100)))(x)

    whole = run()
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", entries)
    blocked = run()
    np.testing.assert_array_equal(blocked[0], whole[0])
    np.testing.assert_allclose(blocked[1], whole[1], atol=1e-5)
    np.testing.assert_allclose(blocked[2], whole[2], rtol=1e-5)


@pytest.mark.parametrize("k", [module._FEWEST_SCATTERED - 1, module._FEWEST_SCATTERED])
def test_sums_and_numbers_of_each_class_are_numpys_and_padding_is_left_out(k):
    x, labels = mixture(n=500), np.random.default_rng(1).integers(k + 1, size=500)  # k means no class
    sums, numbers = jax.jit(module._added_by_class, static_argnums=2)(x, labels, k)
    expected = np.zeros((k + 1, x.shape[1]))
    np.add.at(expected, labels, x)
    np.testing.assert_allclose(sums, expected[:k], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(numbers, np.bincount(labels, minlength=k + 1)[:k])


def test_a_million_rows_into_a_thousand_classes_take_one_matrix():
    n, d, k = 1_300_000, 512, 1000
    matrix = n * d * 4
    x, key = jax.ShapeDtypeStruct((n, d), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    solved = module.solve.lower(key, x, num_classes=k, iterations=9).compile().memory_analysis()
    assert solved.argument_size_in_bytes + solved.temp_size_in_bytes < 1.05 * matrix
    # Scaling overwrites its argument.
    scaled = module._to_unit_box.lower(x, number=n).compile().memory_analysis()
    assert scaled.alias_size_in_bytes == matrix
    assert scaled.temp_size_in_bytes < 0.01 * matrix


def test_the_rows_given_are_not_written_over():
    x = mixture(n=64, k=3)  # float32: no conversion needed
    on_device, before = jnp.asarray(x), x.copy()
    for given in (x, on_device):
        kmeans(KEY, given, num_classes=3, restarts=1)
        np.testing.assert_array_equal(np.asarray(given), before)


def test_same_key_same_result_and_another_key_another_seeding():
    x = mixture()
    first, again = (kmeans(KEY, x, num_classes=12, restarts=1) for _ in range(2))
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.centres, again.centres)
    assert first.inertia == again.inertia
    drawn = [np.asarray(seeds(jax.random.key(s), x, 12)) for s in (0, 1)]
    assert (drawn[0] != drawn[1]).any()


def test_restarts_return_the_best_run():
    x = mixture()
    points, scale, _ = module._to_unit_box(jnp.array(x), number=len(x))
    keys = jax.random.split(jax.random.key(6), 4)
    # Few iterations, so that the runs end differently.
    runs = [float(module.solve(key, points, num_classes=12, iterations=1)[2]) for key in keys]
    assert np.argmin(runs) not in (0, 3)
    best = kmeans(jax.random.key(6), x, num_classes=12, restarts=4, iterations=1).inertia
    np.testing.assert_allclose(best, min(runs) * float(scale) ** 2, rtol=1e-6)


def test_classes_are_numbered_by_their_first_row():
    labels = kmeans(KEY, mixture(), num_classes=12).labels
    np.testing.assert_array_equal(labels[np.sort(np.unique(labels, return_index=True)[1])], np.arange(12))


def test_seeds_are_rows_and_reach_every_far_cluster():
    rng = np.random.default_rng(0)
    corners = np.eye(20, dtype=np.float32) * 10
    x = np.concatenate([corners, corners[:1].repeat(2000, axis=0)]) + 1e-2 * rng.normal(size=(2020, 20))
    found = np.asarray(seeds(KEY, np.float32(x), 20))
    # Uniformly drawn seeds would nearly all come from the crowd at the first corner.
    assert len({int(np.argmax(seed)) for seed in found}) == 20
    assert all((np.abs(np.float32(x) - seed).max(axis=1) == 0).any() for seed in found)


def test_seeding_cost_is_near_scikit_learns():
    from sklearn.cluster import kmeans_plusplus

    x = mixture(k=40)

    def cost(seeds):
        return ((x[:, None] - seeds[None]) ** 2).sum(-1).min(axis=1).sum()

    ours = [cost(np.asarray(seeds(jax.random.key(s), x, 40))) for s in range(8)]
    theirs = [cost(kmeans_plusplus(x, 40, random_state=s)[0]) for s in range(8)]
    assert np.mean(ours) < 1.03 * np.mean(theirs)


def test_empty_class_starts_again_at_the_farthest_row():
    x = np.concatenate([np.zeros((20, 2)), [[9.0, 0.0]], np.ones((20, 2))]).astype(np.float32)
    # The second centre is far from all rows and loses them; the row at (9, 0) is the farthest from the first centre.
    start = jnp.asarray([[0.5, 0.5], [100.0, 100.0]])
    centres = np.asarray(module._lloyd(rows(x), start, 1))
    np.testing.assert_allclose(centres[0], x.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(centres[1], [9.0, 0.0])


def test_every_class_has_rows_even_where_rows_repeat_and_iterations_run_out():
    x = np.repeat(np.arange(7, dtype=np.float32)[:, None] ** 2, [500, 1, 1, 1, 1, 1, 300], axis=0)
    for iterations in (1, 100):
        run = kmeans(KEY, x, num_classes=7, restarts=1, iterations=iterations)
        np.testing.assert_array_equal(np.bincount(run.labels), [500, 1, 1, 1, 1, 1, 300])
        assert run.inertia == pytest.approx(0, abs=1e-6)


def test_filling_takes_the_farthest_row_that_has_company():
    x = np.array([[0.0], [1.0], [3.0], [50.0]], np.float32)
    labels, centres = module._fill_empty(
        x, np.array([0, 0, 0, 2], np.int32), np.array([[0.0], [9.0], [0.0]], np.float32)
    )
    np.testing.assert_array_equal(labels, [0, 0, 1, 2])
    np.testing.assert_array_equal(centres, [[0.0], [3.0], [0.0]])


def test_ties_go_to_the_lowest_centre():
    labels, distance = module._nearest(jnp.asarray([[0.0], [4.0]]), jnp.asarray([[2.0], [-2.0], [2.0]]))
    np.testing.assert_array_equal(labels, [0, 0])
    np.testing.assert_allclose(distance, [4.0, 4.0])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_features_unit_does_not_matter(scale):
    x = mixture()
    plain, scaled = (kmeans(KEY, np.float32(x * s), num_classes=12, restarts=1) for s in (1.0, scale))
    np.testing.assert_array_equal(plain.labels, scaled.labels)
    np.testing.assert_allclose(scaled.centres / scale, plain.centres, rtol=1e-3, atol=1e-4)


def test_one_class_and_one_class_per_row():
    x = mixture(n=30)
    one = kmeans(KEY, x, num_classes=1)
    assert (one.labels == 0).all()
    np.testing.assert_allclose(one.centres[0], x.mean(axis=0), atol=1e-5)
    each = kmeans(KEY, x, num_classes=30)
    np.testing.assert_array_equal(each.labels, np.arange(30))


def test_one_trace_for_all_restarts(monkeypatch):
    traces = []
    monkeypatch.setattr(module, "_lloyd", lambda x, c, i, real=module._lloyd: traces.append(1) or real(x, c, i))
    kmeans(KEY, mixture(n=211), num_classes=5, restarts=4)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (np.zeros((3, 2)), {"num_classes": 4}, "`num_classes` must be at most the 3 rows of `x`, got 4"),
        (np.zeros((3, 2)), {"num_classes": 0}, "`num_classes` must be 1 or more, got 0"),
        (np.zeros((3, 2)), {"num_classes": 1, "restarts": 0}, "`restarts` must be 1 or more"),
        (np.zeros((3, 2)), {"num_classes": 1, "iterations": 0}, "`iterations` must be 1 or more"),
        (np.zeros(3), {"num_classes": 1}, r"must be real numbers \[n, d\], got float64 \[3\]"),
        (np.array([["a"]]), {"num_classes": 1}, "must be real numbers"),
        (np.zeros((3, 2)) * 1j, {"num_classes": 1}, "must be real numbers"),
        (np.array([[0.0], [np.nan], [np.inf]]), {"num_classes": 1}, "infinity or numbers beyond 3.4e38 in 2 of 3 rows"),
        (np.array([[0.0], [1e300]]), {"num_classes": 1}, "infinity or numbers beyond 3.4e38 in 1 of 2 rows"),
        (np.repeat(np.eye(3), 5, axis=0), {"num_classes": 4}, "at most the 3 distinct rows of `x`, got 4 for 15 rows"),
    ],
)
def test_bad_input(x, options, sentence):
    with pytest.raises(InputError, match=sentence):
        kmeans(KEY, x, **options)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_a_mesh_finds_the_same_centres(devices):
    x = mixture(n=403)
    one = kmeans(KEY, x, num_classes=13, restarts=2)
    split = kmeans(KEY, x, num_classes=13, restarts=2, mesh=mesh(devices))
    np.testing.assert_array_equal(split.labels, one.labels)
    np.testing.assert_allclose(split.centres, one.centres, atol=1e-5)
    np.testing.assert_allclose(split.inertia, one.inertia, rtol=1e-5)


def test_a_mesh_with_devices_of_padding_alone_and_with_empty_classes():
    x = np.repeat(np.arange(5, dtype=np.float32)[:, None] ** 2, 2, axis=0)[:9]  # three of the 8 devices have no rows
    run = kmeans(KEY, x, num_classes=5, restarts=1, iterations=1, mesh=mesh(8))
    np.testing.assert_array_equal(run.labels, [0, 0, 1, 1, 2, 2, 3, 3, 4])
    start = jnp.asarray([[0.5, 0.5], [100.0, 100.0]])  # as in the test on one device above
    x = np.concatenate([np.zeros((20, 2)), [[9.0, 0.0]], np.ones((20, 2))]).astype(np.float32)

    def lloyd(x):
        return module._lloyd(module.Rows(x, 41, "data"), start, 1)

    split = jax.shard_map(lloyd, mesh=mesh(4), in_specs=P("data"), out_specs=P(), check_vma=False)
    np.testing.assert_allclose(split(np.pad(x, ((0, 3), (0, 0)), constant_values=50)), module._lloyd(rows(x), start, 1))


def test_blocks_are_bounded_and_never_a_few_rows():
    assert module.block_rows(100, 128) * 128 == 2**20
    assert module.block_rows(8192, 128) == 128
    assert module.block_rows(10**6, 128) == 128
