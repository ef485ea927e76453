"""Greedy compiles for sixteen TPU chips that are not present, and the compiler reports the memory of each."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from sas_jax.selection import greedy

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu compiles this, which jax[tpu] brings: make test-tpu"
)

CHIPS = 16
HBM = 16 * 2**30  # bytes of a v5e chip


@pytest.fixture(autouse=True)
def unsaved():
    """JAX would save programs compiled for absent chips, but cannot load them."""
    shortest = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", shortest)


@pytest.fixture(scope="module")
def mesh():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TPU_SKIP_MDS_QUERY", "1")  # otherwise libtpu asks the network for the machine's type
        topology = topologies.get_topology_desc("v5e:4x4", platform="tpu")
    return topologies.make_mesh(topology, (CHIPS,), ("data",))


def described(values, shardings):
    """Returns the shapes, dtypes and shardings of arrays, which are too large for this machine."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), values, shardings
    )


def needed(compiled):
    """Returns the bytes on each chip: the program's own peak, or all arguments, outputs and temporaries."""
    memory = compiled.memory_analysis()
    parts = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return max(parts, memory.peak_memory_in_bytes)


@pytest.mark.parametrize("objective", ["facility_location", "sas"])
@pytest.mark.parametrize(
    ("source", "shape", "split", "limit"),
    [
        ("embeddings", (1_048_576, 128), PartitionSpec("data"), 4),
        ("similarity", (65_536, 65_536), PartitionSpec(None, "data"), 1.01),
    ],
)
def test_a_chip_holds_its_part(mesh, objective, source, shape, split, limit):
    """At most `limit` times its part of the input, so never all of it at any moment."""
    replicated = NamedSharding(mesh, PartitionSpec())
    given = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, split))
    part = 4 * shape[0] * shape[1] / CHIPS
    budget = shape[0] // 5

    problem = jax.eval_shape(lambda x: greedy.problem(**{source: x}, objective=objective, mesh=mesh), given)
    assert problem.similarity.values.shape == shape
    similarity = dataclasses.replace(problem.similarity, values=given)
    problem = dataclasses.replace(problem, similarity=similarity, scale=described(problem.scale, replicated))
    start = greedy.start.lower(problem, budget=budget).compile()
    assert part < needed(start) < min(limit * part, HBM)

    state = described(
        jax.eval_shape(lambda problem: greedy.start(problem, budget=budget), problem), start.output_shardings
    )
    assert state.gains.high.sharding.shard_shape(state.gains.high.shape) == (shape[0] // CHIPS,)
    assert state.picks.sharding.is_fully_replicated
    steps = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated)
    advance = greedy.advance.lower(problem, state, steps).compile()
    assert part < needed(advance) < min(limit * part, HBM)
