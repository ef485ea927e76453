"""GreeDi against the paper's two rounds of a naive greedy, in integers.

Embeddings are multiples of 1/16 here, so that every product is exact and every tie a tie.
"""

import functools
import itertools
import math
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.selection import greedi, greedy
from sas_jax.selection.fixed_point import ONE

OBJECTIVES = ["facility_location", "sas", "similarity_sum"]


def grid(rng, n, d=6):
    """Embeddings [n, d] of multiples of 1/16, some of them twice, with norms of at most 1 for d up to 7."""
    z = rng.integers(-6, 7, size=(n, d)) / 16
    z[rng.integers(n, size=n // 8)] = z[rng.integers(n, size=n // 8)]
    return z.astype(np.float32)


def units(z, itself=1.0):
    """Similarity in units of 1 / ONE, int64."""
    z = z.astype(np.float64)
    similarity = np.rint(np.maximum(0, z @ z.T) * ONE).astype(np.int64)
    np.fill_diagonal(similarity, round(itself * ONE))
    return similarity


def value(objective, similarity, picked, drawn=None):
    """The objectives from their definitions, in units of 1 / ONE; with a sample, what stands for them."""
    n, picked = len(similarity), list(picked)
    if not picked:
        return 0
    if objective == "facility_location":
        return int(similarity[:, picked].max(1)[slice(None) if drawn is None else drawn].sum())
    total = 0
    for j in picked:
        others = [i for i in (range(n) if drawn is None else drawn) if i != j]
        total += int(similarity[others, j].sum()) * (n - 1) // max(len(others), 1)
        if objective == "similarity_sum":
            total += int(similarity[j, j])
        else:
            total -= sum(int(similarity[i, j]) for i in picked if i != j)
    return total


def naive(objective, similarity, candidates, budget, drawn=None):
    """Picks and gains by trying every candidate at every step; ties to the lowest index."""
    picked, gains = [], []
    for _ in range(min(budget, len(candidates))):
        before = value(objective, similarity, picked, drawn)
        each = {e: value(objective, similarity, [*picked, e], drawn) - before for e in candidates if e not in picked}
        picked.append(min(each, key=lambda e: (-each[e], e)))
        gains.append(each[picked[-1]])
    return picked, gains


def slow(objective, key, similarity, budget, partitions, where=None, sample=None):
    """The picks and gains, and whether a part's own picks were better than those from the union."""
    n = len(similarity)
    candidates = np.arange(n) if where is None else np.flatnonzero(where)
    drawn = None if sample is None else greedi.draw(key, n, sample).tolist()
    dealt = greedi.deal(key, len(candidates), partitions)
    parts = [candidates[dealt == part].tolist() for part in range(partitions)]
    own = [naive(objective, similarity, part, budget, drawn) for part in parts]
    union = sorted(pick for picks, _ in own for pick in picks)
    best = naive(objective, similarity, union, budget, drawn)
    of_part = False
    for solution in own:
        if len(solution[0]) == budget and sum(solution[1]) > sum(best[1]):
            best, of_part = solution, True
    picks, _ = best
    values = [value(objective, similarity, picks[:k]) for k in range(budget + 1)]
    return picks, np.diff(values), of_part


def check(objective, key, z, budget, partitions, where=None, sample=None, **kwargs):
    """GreeDi is the slow form; returns whether a part's own picks were better."""
    similarity = units(z, kwargs.get("self_similarity", 0 if objective == "sas" else 1))
    expected, gains, of_part = slow(objective, key, similarity, budget, partitions, where, sample)
    run = functools.partial(getattr(greedi, objective), key, z, budget=budget, partitions=partitions, where=where)
    picks, found = run(sample=sample, **kwargs)
    assert picks.tolist() == expected
    assert (picks.dtype, found.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(found, (gains / ONE).astype(np.float32))
    return of_part


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("n", "budget", "partitions"), [(1, 1, 1), (40, 6, 1), (40, 6, 3), (12, 4, 9), (12, 12, 2)])
def test_greedi_is_two_rounds_of_the_naive_greedy(objective, n, budget, partitions):
    """Parts that are empty or smaller than the budget included."""
    for seed in range(3):
        check(objective, jax.random.key(seed), grid(np.random.default_rng(seed), n), budget, partitions)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_candidates_are_picked_and_all_are_represented(objective):
    rng = np.random.default_rng(1)
    z, where = grid(rng, 40), rng.random(40) < 0.4
    check(objective, jax.random.key(1), z, 5, 3, where)
    check(objective, jax.random.key(1), z, 5, 3, where, sample=20)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("sample", [1, 15, 40])
def test_a_sample_stands_for_all(objective, sample):
    """All runs compute gains on the sample, the result's gains are on all; a sample of all is no sample."""
    z, key = grid(np.random.default_rng(2), 40), jax.random.key(2)
    check(objective, key, z, 6, 3, sample=sample)
    if sample == 40:
        run = functools.partial(getattr(greedi, objective), key, z, budget=6, partitions=3)
        for sampled, whole in zip(run(sample=40), run(), strict=True):
            assert sampled.tolist() == whole.tolist()


@pytest.mark.parametrize("objective", ["facility_location", "similarity_sum"])
@pytest.mark.parametrize("itself", [0.0, 0.25])
def test_similarity_to_itself(objective, itself):
    z = grid(np.random.default_rng(3), 30)
    check(objective, jax.random.key(3), z, 5, 2, self_similarity=itself)
    check(objective, jax.random.key(3), z, 5, 2, sample=10, self_similarity=itself)


@pytest.mark.parametrize("objective", ["facility_location", "sas"])
def test_the_best_part_is_kept_where_it_beats_the_merged_picks(objective):
    """Greedy on more candidates is not always better; among these keys there are some where it is worse."""
    z = grid(np.random.default_rng(2), 12, d=4)
    better = [check(objective, jax.random.key(seed), z, 3, 2) for seed in range(12)]
    assert any(better)
    assert not all(better)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_part_is_greedy(objective):
    z = grid(np.random.default_rng(5), 70)
    picks, gains = getattr(greedi, objective)(jax.random.key(0), z, budget=20, partitions=1)
    expected, expected_gains = getattr(greedy, objective)(embeddings=z, budget=20)
    assert picks.tolist() == expected.tolist()
    assert gains.tolist() == expected_gains.tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_replay(objective, check_replay):
    """Where products are rounded, gains are exact to 1e-6 of the first and each pick is the best to as much."""
    z = np.random.default_rng(6).normal(size=(300, 32))
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    similarity = np.maximum(0, z.astype(np.float64) @ z.T.astype(np.float64))
    np.fill_diagonal(similarity, 1)
    picks, gains = getattr(greedi, objective)(jax.random.key(0), z, budget=100, partitions=1)
    exact = check_replay(objective, similarity, picks.tolist())
    np.testing.assert_allclose(gains, exact, atol=1e-6 * exact[0])
    assert (np.diff(gains) <= 0).all()


def test_guarantees_of_facility_location():
    """Against the best of all choices: of every key, and in the mean over keys, with as many parts as picks."""
    for seed in range(4):
        z = grid(np.random.default_rng(seed), 11, d=4)
        similarity = units(z)
        best = max(value("facility_location", similarity, s) for s in itertools.combinations(range(11), 3)) / ONE
        keys = jax.random.split(jax.random.key(seed), 25)
        runs = [greedi.facility_location(key, z, budget=3, partitions=3) for key in keys]
        values = [gains.sum(dtype=np.float64) for _, gains in runs]
        assert min(values) >= max((1 - 1 / math.e) / 3, 1 / 3) * best
        assert np.mean(values) >= (1 - 1 / math.e) / 2 * best
        assert max(values) <= best + 1e-6


def test_the_error_of_a_sample_is_bounded():
    """The bound on epsilon in the docstring, for every choice of two at once and with nine samples of ten."""
    n, budget, sample = 40, 2, 30
    similarity = units(grid(np.random.default_rng(7), n))
    choices = list(itertools.combinations(range(n), budget))
    covered = np.stack([similarity[:, choice].max(1) for choice in choices]) / ONE  # [choices, n]
    epsilon = math.sqrt((budget * math.log(n) + math.log(2 / 0.1)) / (2 * sample))
    errors = []
    for key in jax.random.split(jax.random.key(0), 20):
        drawn = greedi.draw(key, n, sample)
        errors.append(np.abs(covered[:, drawn].mean(1) - covered.mean(1)).max())
    assert np.mean(np.array(errors) <= epsilon) >= 0.9


def test_similarity_sum_is_that_of_greedy_whatever_the_parts():
    z = grid(np.random.default_rng(8), 70)
    expected, _ = greedy.similarity_sum(embeddings=z, budget=20)
    for partitions in (2, 7, 70):
        picks, _ = greedi.similarity_sum(jax.random.key(partitions), z, budget=20, partitions=partitions)
        assert picks.tolist() == expected.tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_picks_are_the_same_on_one_device_and_on_many(objective):
    z = grid(np.random.default_rng(9), 70)
    run = functools.partial(getattr(greedi, objective), jax.random.key(0), z, budget=6, partitions=3)
    alone = run()
    for num_devices in (2, 8):
        picks, gains = run(mesh=devices.mesh(num_devices))
        assert picks.tolist() == alone[0].tolist()
        assert gains.tolist() == alone[1].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_blocks_do_not_matter(objective, monkeypatch):
    """On the host, and in a call to the devices."""
    z = grid(np.random.default_rng(10), 300)
    run = functools.partial(getattr(greedi, objective), jax.random.key(0), budget=6, partitions=2)
    whole, sampled = run(z), run(z, sample=200)
    monkeypatch.setattr(greedi, "_BLOCK", 37 * z.shape[1])
    monkeypatch.setattr(greedi, "_CHUNK", 2 * greedi._TILE)
    for expected, found in ((whole, run(z)), (sampled, run(z, sample=200))):
        assert found[0].tolist() == expected[0].tolist()
        assert found[1].tolist() == expected[1].tolist()


def test_mapped_files_and_other_types(tmp_path):
    z = grid(np.random.default_rng(11), 40)
    np.save(tmp_path / "z.npy", z)
    run = functools.partial(greedi.facility_location, jax.random.key(0), budget=6, partitions=2)
    expected = run(z)
    others = [np.load(tmp_path / "z.npy", mmap_mode="r"), z.astype(np.float64), z.astype(jnp.bfloat16), jnp.asarray(z)]
    for other in others:
        found = run(other)
        assert found[0].tolist() == expected[0].tolist()
        assert found[1].tolist() == expected[1].tolist()


def test_no_n_by_n_is_made():
    """Neither on the host nor on the devices is there a tenth of it."""
    n = 6000
    z = grid(np.random.default_rng(12), n)
    run = functools.partial(greedi.facility_location, jax.random.key(0), z, budget=3, partitions=2)
    run()
    tracemalloc.start()
    run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < n * n * 4 / 10

    shapes = [(n, 6), (n,), (n, 6), (n,), (n,), (n,)]
    types = [jnp.float32, jnp.int32, jnp.float32, jnp.int32, jnp.int32, jnp.int32]
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
    compiled = greedi._between.lower(*arguments, jax.ShapeDtypeStruct((), jnp.int32), 0, 1.0).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 10


def test_what_is_dealt_and_drawn_is_even_and_a_function_of_the_key():
    key = jax.random.key(13)
    dealt = greedi.deal(key, 30_000, 3)
    np.testing.assert_allclose(np.bincount(dealt, minlength=3), 10_000, atol=4 * 82)  # four standard deviations
    assert (dealt == greedi.deal(key, 30_000, 3)).all()
    assert (dealt != greedi.deal(jax.random.key(14), 30_000, 3)).any()
    drawn = greedi.draw(key, 1000, 400)
    assert (np.diff(drawn) > 0).all()
    assert 0 <= drawn[0] < 50
    assert 950 <= drawn[-1] < 1000
    assert drawn.tolist() == greedi.draw(key, 1000, 400).tolist() != greedi.draw(jax.random.key(14), 1000, 400).tolist()


GOOD = {"budget": 3, "partitions": 2}
Z = np.full((5, 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("z", "arguments", "message"),
    [
        (Z[0], {}, r"Embeddings have the shape \[n, d\], and these have \[2\]"),
        (Z[:0], {}, r"Embeddings have the shape \[n, d\], and these have \[0, 2\]"),
        (np.ones((5, 2), np.int32), {}, "Embeddings must be floating point, and the type is int32"),
        (np.where(np.arange(5)[:, None] == 3, np.nan, Z), {}, "finite rows.*that of row 3 is nan"),
        (np.where(np.arange(5)[:, None] == 4, 1e300, 0.5), {}, "finite rows.*that of row 4 is inf"),
        (2 * Z, {}, r"norms of at most 1, and that of row 0 is 1\.4142136; divide"),
        (Z, {"budget": 6}, "The budget is a whole number from 1 to the 5 candidates, and this is 6"),
        (Z, {"budget": 0}, "The budget is a whole number from 1 to the 5 candidates, and this is 0"),
        (Z, {"budget": 3, "where": np.arange(5) < 2}, "The budget is a whole number from 1 to the 2 candidates"),
        (Z, {"budget": 2.5}, "The budget is a whole number.* and this is 2.5"),
        (Z, {"partitions": 6}, "The number of partitions is a whole number from 1 to the 5 candidates, and this is 6"),
        (Z, {"partitions": 0}, "The number of partitions is a whole number"),
        (Z, {"sample": 6}, "The sample is a whole number from 1 to the 5 examples, and this is 6"),
        (Z, {"sample": 0}, "The sample is a whole number"),
        (Z, {"where": np.ones(4, bool)}, r"where= marks the candidates, bool \[5\], and this is bool \[4\]"),
        (Z, {"where": np.zeros(5, bool)}, "where= marks the candidates, and there is none"),
        (Z, {"self_similarity": 1.5}, "self_similarity is from 0 to 1, and this is 1.5"),
        (Z, {"mesh": 2}, "mesh= is a jax.sharding.Mesh of one axis, and this is 2"),
    ],
)
def test_input_errors(z, arguments, message):
    with pytest.raises(InputError, match=message):
        greedi.facility_location(jax.random.key(0), z, **GOOD | arguments)
