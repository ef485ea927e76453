"""Greedy on several devices: the picks and gains of one device, and no device holds the whole input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sas_jax import devices
from sas_jax.selection import greedy
from sas_jax.selection.similarity import Embeddings

N, BUDGET = 1203, 60  # not divisible by any number of devices
INITIAL = np.array([400, 100, -1])


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Embeddings are padded to one tile per device: with the usual tile size, one device would hold all of these."""
    monkeypatch.setattr(greedy, "_TILE", 16)


def embed(kind, n=N):
    """Returns embeddings float32 [n, 8] with norms of at most 1, and their similarities float32 [n, n].

    Except for the kind "rounded", their products are exact in any order of summation: multiples of 2^-8.
    """
    rng = np.random.default_rng(0)
    if kind == "copies":  # about seven copies of each, so that there are ties everywhere; some are similar to none
        z = rng.integers(-5, 6, size=(n // 7 + 1, 8))[rng.integers(n // 7 + 1, size=n)]
        z[rng.random(n) < 0.1] = 0
    elif kind == "apart":  # one of two devices lists the rows changed by a pick in three parts, the other a few in one
        z = rng.integers(0, 6, size=(n, 8))
        z[: n // 2, 4:], z[n // 2 :, :4] = 0, 0
        z[:20] = z[-20:]
    else:
        z = rng.normal(size=(n, 8))
        z *= 16 / np.linalg.norm(z, axis=1, keepdims=True)
    z = (z / 16).astype(np.float32)
    similarity = np.clip(z.astype(np.float64) @ z.T.astype(np.float64), 0, 1)
    return z, similarity.astype(np.float32)


def options(objective):
    """Returns all options at once; weights and self-similarity are multiples of 2^-3, so also exact."""
    rng = np.random.default_rng(1)
    weights = rng.integers(1, 9, size=N).astype(np.float32) / 8
    weights[::50] = 0
    of_problem = {} if objective == "sas" else {"weights": weights, "self_similarity": 0.5}
    return of_problem, {"where": rng.random(N) < 0.7, "initial": INITIAL}


def rank(objective, source, kind, mesh=None, steps=(BUDGET,), like_accelerators=False):
    z, similarity = embed(kind)
    given = {"similarity": similarity} if source == "matrix" else {"embeddings": z}
    of_problem, of_start = options(objective)
    problem = greedy.problem(**given, objective=objective, mesh=mesh, **of_problem)
    if like_accelerators:
        how = {"unroll": False, "block": 64} if source == "matrix" else {"tile": None, "block": 128}
        problem = dataclasses.replace(problem, similarity=dataclasses.replace(problem.similarity, **how))
    state = greedy.start(problem, budget=BUDGET, **of_start)
    for number in steps:
        state = greedy.advance(problem, state, number)
    return tuple(map(np.asarray, greedy.result(problem, state)))


def check(objective, kind, picks, gains, quantise, integer_greedy):
    """Checks that picks and gains are those of a greedy in integers."""
    of_problem, of_start = options(objective)
    _, similarity = embed(kind)
    np.fill_diagonal(similarity, of_problem.get("self_similarity", 1))
    units = quantise(similarity, of_problem.get("weights"))
    expected, expected_gains = integer_greedy(objective, units, BUDGET, of_start["where"], INITIAL[INITIAL >= 0])
    assert picks.tolist() == expected
    np.testing.assert_allclose(gains, np.array(expected_gains) / 2**23, rtol=2e-7)


# Each number of devices needs a program, so not every case has all of them; None is no mesh.
@pytest.mark.parametrize(
    ("objective", "source", "numbers"),
    [
        ("facility_location", "matrix", (1, 2, 8)),
        ("facility_location", "embeddings", (None, 4, 8)),
        ("sas", "matrix", (4, 8)),
        ("sas", "embeddings", (1, 2, 8)),
        ("similarity_sum", "matrix", (2,)),
        ("similarity_sum", "embeddings", (1, 8)),
    ],
)
def test_the_same_picks_and_gains_on_every_mesh(objective, source, numbers, quantise, integer_greedy):
    meshes = [None if number is None else devices.mesh(number) for number in numbers]
    for kind in ("copies", "apart", "rounded"):
        picks, gains = rank(objective, source, kind, meshes[0])
        # Only the engine knows the last bit of rounded products.
        if kind != "rounded" or source == "matrix":
            check(objective, kind, picks, gains, quantise, integer_greedy)
        for mesh in meshes[1:]:
            steps = (1, 0, BUDGET // 3, BUDGET) if kind == "copies" else (BUDGET,)
            found = rank(objective, source, kind, mesh, steps)
            np.testing.assert_array_equal(found[0], picks)
            np.testing.assert_array_equal(found[1], gains)


@pytest.mark.parametrize("source", ["matrix", "embeddings"])
def test_as_accelerators_do_it(source, quantise, integer_greedy):
    """Accelerators gather rows and list changes in other ways, which must be right on every platform."""
    for kind in ("copies", "apart"):
        found = rank("facility_location", source, kind, devices.mesh(4), like_accelerators=True)
        check("facility_location", kind, *found, quantise, integer_greedy)


@pytest.mark.parametrize(("objective", "source"), [("facility_location", "embeddings"), ("sas", "matrix")])
def test_fewer_examples_than_devices(objective, source, quantise, integer_greedy):
    """And fewer than the budget; on a mesh with an Explicit axis, the default of `jax.make_mesh`."""
    z, similarity = embed("copies", 5)
    np.fill_diagonal(similarity, 1)
    given = {"similarity": similarity} if source == "matrix" else {"embeddings": z}
    picks, gains = getattr(greedy, objective)(**given, budget=7, mesh=jax.make_mesh((8,), ("any",)))
    expected, expected_gains = integer_greedy(objective, quantise(similarity), 7)
    assert picks.tolist() == [*expected, -1, -1]
    np.testing.assert_array_equal(gains[:5], np.array(expected_gains) / 2**23)
    assert np.isnan(gains[5:]).all()


def test_similarities_have_the_same_bits_on_every_mesh(monkeypatch):
    """For embeddings in tiles of the usual size, each of which is on another device in each case."""
    monkeypatch.undo()
    rng = np.random.default_rng(2)
    z = rng.normal(size=(8 * greedy._TILE, 48))
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    index = rng.choice(len(z), 64)
    bits = {}
    for number in (1, 2, 4, 8):
        mesh = devices.mesh(number)
        source = greedy.problem(embeddings=z, objective="sas", mesh=mesh).similarity
        assert isinstance(source, Embeddings)
        assert source.tile == greedy._TILE
        covered = jax.shard_map(
            lambda source: source.covered(source.examples(jnp.asarray(index))),
            mesh=mesh,
            in_specs=(dataclasses.replace(source, values=PartitionSpec("data"), one=PartitionSpec()),),
            out_specs=PartitionSpec(None, "data"),
            check_vma=False,
        )
        bits[number] = np.asarray(jax.jit(covered)(source))
    assert len(np.unique(bits[1])) > 1000
    for number in (2, 4, 8):
        np.testing.assert_array_equal(bits[number], bits[1])


@pytest.mark.parametrize(
    ("source", "given", "wanted"),
    [
        ("embeddings", PartitionSpec("data"), PartitionSpec("data")),
        ("embeddings", None, PartitionSpec("data")),
        ("similarity", PartitionSpec(None, "data"), PartitionSpec(None, "data")),
        ("similarity", PartitionSpec("data"), PartitionSpec(None, "data")),
        ("similarity", None, PartitionSpec(None, "data")),
    ],
)
def test_what_is_given_is_spread_once(source, given, wanted):
    """Sharded input stays in place, and other input is sharded once, so that the steps need not do it."""
    mesh = devices.mesh(8)
    values = np.zeros((256, 256), np.float32)
    array = values if given is None else jax.device_put(values, NamedSharding(mesh, given))
    found = greedy.problem(**{source: array}, objective="sas", mesh=mesh).similarity.values
    assert found.sharding.is_equivalent_to(NamedSharding(mesh, wanted), 2)
    if given == wanted:
        assert pointers(found) == pointers(array)


def pointers(array):
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]


@pytest.mark.parametrize(
    ("objective", "source", "shape", "split"),
    [
        ("facility_location", "embeddings", (131_072, 128), PartitionSpec("data")),
        ("facility_location", "similarity", (32_768, 32_768), PartitionSpec(None, "data")),
    ],
)
def test_no_device_holds_it_all(objective, source, shape, split, monkeypatch):
    """In the compiled program, a device needs less than a third of the whole, including its part of the input."""
    monkeypatch.undo()
    mesh = devices.mesh(8)
    given = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, split))
    compiled = getattr(greedy, objective).lower(**{source: given}, budget=1000, mesh=mesh).compile()
    memory = compiled.memory_analysis()
    whole = 4 * shape[0] * shape[1]
    assert memory.argument_size_in_bytes < whole / 7
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes < whole / 3
