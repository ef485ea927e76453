"""Greedy maximisation of the objectives: exact, ties to the lowest index, and usable under jit and vmap.

Each step picks the candidate with the largest gain. The gains are exact (see fixed_point.py), so the picks depend
neither on the order of summation nor on the number of devices. windows.py describes what makes it fast.

`facility_location`, `sas` and `similarity_sum` make all picks in one call. Long runs can be split into steps:

    problem = greedy.problem(embeddings=z, objective="sas")
    state = greedy.start(problem, budget=10_000)
    state = greedy.advance(problem, state, 1_000)  # repeat; state.step is the number of picks so far
    picks, gains = greedy.result(problem, state)

Source: Nemhauser, Wolsey & Fisher, An analysis of approximations for maximizing submodular set functions (1978);
Joshi & Mirzasoleiman, Data-efficient contrastive self-supervised learning (ICML 2023), algorithm 1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from sas_jax import collectives, settings
from sas_jax.errors import InputError, exactly_one
from sas_jax.selection import checks, fixed_point, windows
from sas_jax.selection.objectives import OBJECTIVES, Sizes
from sas_jax.selection.similarity import Embeddings, Matrix, one_of_embeddings, one_of_matrix

_TILE = 1024
"""Rows of embeddings per product on CPU, with the 64 of a block: as fast as NumPy's product of large matrices."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["similarity", "scale"], meta_fields=["objective", "mesh", "size"]
)
@dataclasses.dataclass(frozen=True)
class Problem:
    """An objective to maximise, and the similarities it is defined on."""

    similarity: Matrix | Embeddings
    scale: jax.Array  # float32: the divisor of the weights
    objective: str
    mesh: Mesh | None
    size: int  # number of examples, without padding


class State(NamedTuple):
    """The state of a greedy run; n includes padding."""

    gains: fixed_point.Total  # [n], of each candidate given the picks so far
    memory: Any  # of the objective
    available: jax.Array  # bool [n]: candidates not picked yet
    picks: jax.Array  # int32 [budget + window], -1 where not picked yet
    picked_gains: jax.Array  # float32 [budget + window], nan where not picked yet
    budget: jax.Array  # int32
    step: jax.Array  # int32: number of picks so far


@settings.fixed
def problem(
    similarity: ArrayLike | None = None,
    *,
    objective: str,
    embeddings: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    self_similarity: float | None = None,
    mesh: Mesh | None = None,
) -> Problem:
    """Builds the problem that `start` and `advance` take.

    Args:
        similarity: float [n, n], as for `facility_location`. Or give embeddings.
        objective: "sas", "facility_location" or "similarity_sum".
        embeddings: float [n, d], norms of at most 1.
        weights: float [n], 0 or more; not for "sas".
        self_similarity: in [0, 1], static.
        mesh: static: the devices to shard the work over; not under vmap.

    Returns:
        The Problem, a pytree.

    Raises:
        InputError: the objective is unknown, a shape or dtype is wrong, or weights are given for "sas".
    """
    checks.choice("objective", objective, tuple(OBJECTIVES))
    values = _checked(similarity, embeddings)
    n = values.shape[0]
    shards = 1 if mesh is None else mesh.size
    on_cpu = (jax.default_backend() if mesh is None else mesh.devices.flat[0].platform) == "cpu"
    axis = None if mesh is None else mesh.axis_names[0]
    if OBJECTIVES[objective].cut:
        checks.no_weights(weights, objective)
        self_similarity = 0.0  # of no effect
    scale = jnp.float32(1)
    if weights is not None:
        weights = jnp.asarray(weights)
        if weights.shape != (n,) or not jnp.issubdtype(weights.dtype, jnp.floating):
            raise InputError(
                f"`weights` must be float [{n}], got {weights.dtype} {list(weights.shape)}. Give one for each example."
            )
        weights, scale = fixed_point.normalised(_undifferentiated(weights.astype(jnp.float32)))
    if similarity is not None:
        padding = -n % shards
        values = values if not padding else jnp.pad(values, ((0, 0), (0, padding)))
        weights = weights if weights is None else jnp.pad(weights, (0, padding))
        one = one_of_matrix(values, weights, self_similarity, rows=1 if on_cpu else 64)
        source: Matrix | Embeddings = Matrix(
            values, weights, self_similarity, axis, block=16 if on_cpu else 64, unroll=on_cpu, one=one
        )
    else:
        tile = _TILE if on_cpu else None
        padding = -n % (shards * (tile or 1))
        values = values if not padding else jnp.pad(values, ((0, padding), (0, 0)))
        weights = weights if weights is None else jnp.pad(weights, (0, padding))
        to_itself = 1.0 if self_similarity is None else self_similarity
        one = one_of_embeddings(values, to_itself)
        source = Embeddings(values, weights, to_itself, axis, block=64 if on_cpu else 128, tile=tile, one=one)
    if mesh is not None:
        # Sharded once here; otherwise each call of `advance` would shard it again.
        source = _placed(source, _split(source), mesh)
    return Problem(source, scale, objective, mesh, n)


@settings.fixed
@functools.partial(jax.jit, static_argnames="budget")
def start(problem: Problem, *, budget: int, where: ArrayLike | None = None, initial: ArrayLike | None = None) -> State:
    """Returns the state before the first pick.

    Args:
        problem: from `problem`.
        budget: the maximum number of picks; static.
        where: bool [n], the candidates. All if None.
        initial: int [k], the indices of examples already chosen, each once, -1 for none.

    Returns:
        The State, a pytree.

    Raises:
        InputError: a shape or dtype is wrong.
    """
    if (checks.integer(budget) or 0) < 1:
        raise InputError(
            f"`budget` must be a whole number of picks, 1 or more, got {checks.shown(budget)}. Correct it."
        )
    n = problem.size
    where = jnp.ones(n, bool) if where is None else jnp.asarray(where)
    if where.shape != (n,) or where.dtype != bool:
        raise InputError(
            f"`where` must be bool [{n}], True for candidates, got {where.dtype} {list(where.shape)}. Give one bool "
            "for each example."
        )
    initial = jnp.zeros(0, jnp.int32) if initial is None else jnp.asarray(initial)
    if initial.ndim != 1 or not jnp.issubdtype(initial.dtype, jnp.integer):
        raise InputError(
            f"`initial` must be integers [k], indices of examples already chosen, got {initial.dtype} "
            f"{list(initial.shape)}. Convert them."
        )
    initial = initial.astype(jnp.int32)
    local = problem.similarity
    padded = (local.values.shape[1] if isinstance(local, Matrix) else local.values.shape[0]) - n
    available = jnp.pad(where.at[jnp.where(initial < 0, n, initial)].set(False, mode="drop"), (0, padded))
    length = budget + _sizes(problem).window

    def run(similarity, available, initial):
        gains, memory = OBJECTIVES[problem.objective].start(similarity, initial)
        picks, picked_gains = jnp.full(length, -1, jnp.int32), jnp.full(length, jnp.nan, jnp.float32)
        return State(gains, memory, available, picks, picked_gains, jnp.int32(budget), jnp.int32(0))

    return _on_devices(problem, run, available, initial)


@settings.fixed
@jax.jit
def advance(problem: Problem, state: State, steps: ArrayLike) -> State:
    """Picks up to `steps` more examples, while budget and candidates last.

    Args:
        problem: from `problem`.
        state: from `start`, or from the previous call.
        steps: the number of further picks, int [].

    Returns:
        The new state.
    """
    objective, sizes = OBJECTIVES[problem.objective], _sizes(problem)

    def run(similarity, state, steps):
        left = collectives.total(jnp.sum(state.available, dtype=jnp.int32), similarity.axis)
        end = state.step + jnp.minimum(jnp.minimum(state.budget - state.step, left), steps)

        def several(state):
            window = windows.best(state.gains, state.available, sizes.window, similarity)
            chosen, memory = objective.choose(similarity, state.memory, window, end - state.step, sizes)
            gains = objective.update(similarity, state.gains, state.memory, memory, window, chosen, sizes)
            index = window.examples.index[chosen.slots]
            picked = jnp.arange(index.shape[0]) < chosen.number
            local = index - collectives.place(similarity.axis) * similarity.size
            local = jnp.where(picked & (local >= 0), local, similarity.size)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=state.step, axis=0)
            return State(
                gains,
                memory,
                state.available.at[local].set(False, mode="drop"),
                put(state.picks, jnp.where(picked, index, -1)),
                put(state.picked_gains, chosen.gains),
                state.budget,
                state.step + chosen.number,
            )

        return jax.lax.while_loop(lambda state: state.step < end, several, state)

    return _on_devices(problem, run, state, jnp.asarray(steps, jnp.int32))


@settings.fixed
def result(problem: Problem, state: State) -> tuple[jax.Array, jax.Array]:
    """Returns the picks and their gains.

    Args:
        problem: from `problem`.
        state: from `start` or `advance`.

    Returns:
        (picks int32 [budget], gains float32 [budget]) in the order of picking; -1 and nan where not picked (yet).
    """
    budget = state.picks.shape[0] - _sizes(problem).window
    return state.picks[:budget], state.picked_gains[:budget] * (problem.scale * problem.similarity.one)


def _sizes(problem: Problem) -> Sizes:
    """Returns the block sizes for the objective, the number of examples per device and the platform."""
    similarity = problem.similarity
    columns = similarity.values.shape[1 if isinstance(similarity, Matrix) else 0]
    n = columns // (1 if problem.mesh is None else problem.mesh.size)
    on_cpu = similarity.unroll if isinstance(similarity, Matrix) else similarity.tile is not None
    if not on_cpu:
        window, changed = 128, 4096
    elif isinstance(similarity, Embeddings):
        window, changed = similarity.block, 1024
    elif OBJECTIVES[problem.objective].remembers and n <= 1024:
        window, changed = 16, 128
    else:
        window, changed = 32, 512
    return Sizes(min(window, columns), changed, top_k=on_cpu)


def _on_devices(problem: Problem, function: Callable, *arguments: Any) -> State:
    """Runs function(similarity, *arguments), by shard_map on a mesh, where a State and bools [n] are sharded."""
    similarity, mesh = problem.similarity, problem.mesh
    if mesh is None:
        return function(similarity, *arguments)
    split: Any = PartitionSpec(mesh.axis_names[0])
    whole: Any = PartitionSpec()
    memory = split if OBJECTIVES[problem.objective].remembers else ()
    of_state = State(fixed_point.Total(split, split), memory, split, whole, whole, whole, whole)
    of_arguments = [
        of_state if isinstance(argument, State) else split if argument.dtype == bool else whole
        for argument in arguments
    ]
    specs = (_split(similarity), *of_arguments)
    # Replicated outputs are computed identically on all devices; check_vma cannot see that in loops.
    run = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=of_state, check_vma=False)
    return run(*_placed((similarity, *arguments), specs, mesh))


def _split(similarity: Matrix | Embeddings) -> Any:
    """Returns how a similarity is sharded: the same pytree, with a PartitionSpec for each array."""
    split: Any = PartitionSpec(similarity.axis)
    columns: Any = PartitionSpec(None, similarity.axis)
    whole: Any = PartitionSpec()
    return dataclasses.replace(
        similarity,
        values=columns if isinstance(similarity, Matrix) else split,
        weights=None if similarity.weights is None else split,
        one=whole,
    )


def _placed(values: Any, specs: Any, mesh: Mesh) -> Any:
    """Shards values by specs: required on a mesh of Explicit axes, JAX's default, and a hint otherwise."""
    return jax.device_put(values, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))


def _checked(similarity, embeddings) -> jax.Array:
    """Returns whichever of the two was given, as float32, if its shape and dtype are valid."""
    exactly_one({"`similarity`": similarity is not None, "`embeddings`": embeddings is not None})
    values = jnp.asarray(embeddings if similarity is None else similarity)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise InputError(f"`similarity` and `embeddings` must be floating point, got {values.dtype}. Convert them.")
    if embeddings is not None and (values.ndim != 2 or values.shape[0] == 0):
        raise InputError(f"`embeddings` must be [n, d], one row per example, got {list(values.shape)}. Reshape them.")
    if similarity is not None and (values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] == 0):
        raise InputError(f"`similarity` must be [n, n], got {list(values.shape)}. Give all pairs of the same examples.")
    return _undifferentiated(values.astype(jnp.float32))


@jax.custom_jvp
def _undifferentiated(values: jax.Array) -> jax.Array:
    """Returns the values; raises under differentiation, because gains are sums of integers with derivative 0."""
    return values


@_undifferentiated.defjvp
def _refuse_derivative(primals, tangents):
    raise InputError(
        "Picks and gains have no derivative, because gains are sums of integers. Differentiate the objective at the "
        "picks, and pass jax.lax.stop_gradient of the similarity, embeddings and weights to this function."
    )


def _run(objective, similarity, embeddings, budget, where, initial, weights, self_similarity, mesh):
    """Implements the three public functions."""
    mesh = checks.mesh(mesh)
    whole = problem(
        similarity,
        objective=objective,
        embeddings=embeddings,
        weights=weights,
        self_similarity=self_similarity,
        mesh=mesh,
    )
    return result(whole, advance(whole, start(whole, budget=budget, where=where, initial=initial), budget))


@settings.fixed
@functools.partial(jax.jit, static_argnames=("budget", "self_similarity", "mesh"))
def facility_location(
    similarity: ArrayLike | None = None,
    *,
    embeddings: ArrayLike | None = None,
    budget: int,
    where: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    self_similarity: float | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Picks the examples that together represent all best: they maximise the sum over i of max over j picked of s_ij.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns. Or give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j); no [n, n] array is made.
        budget: the number of examples to pick; static.
        where: bool [n], the candidates; the others are not picked, but still have to be represented. All if None.
        initial: int [k], the indices of examples already chosen, each once, -1 for none. They count as picked, but are
            not candidates, not among the picks returned and not part of the budget.
        weights: float [n], 0 or more: the weight of representing each example. All 1 if None.
        self_similarity: in [0, 1], static: each example's similarity to itself. None keeps a matrix's diagonal, and is
            1 for embeddings. 0 requires each example to be represented by another one.
        mesh: static: the devices to shard the work over; not under vmap. An array that is already sharded over them
            (rows of embeddings, columns of a matrix) is not moved, so that no device ever holds all of it.

    Returns:
        (picks int32 [budget], gains float32 [budget]) in the order of picking; if there are fewer candidates than the
        budget, -1 and nan fill the rest. Gains never increase. Ties go to the lowest index.

    Raises:
        InputError: a shape or dtype is wrong.
    """
    return _run("facility_location", similarity, embeddings, budget, where, initial, weights, self_similarity, mesh)


@settings.fixed
@functools.partial(jax.jit, static_argnames=("budget", "mesh"))
def sas(
    similarity: ArrayLike | None = None,
    *,
    embeddings: ArrayLike | None = None,
    budget: int,
    where: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Picks the examples most similar in expectation to those not picked: the sum over i not picked, j picked of s_ij.

    The sum is a cut: its gains turn negative near half of the examples, but the budget is filled all the same. The
    diagonal is ignored.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns. Or give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j); no [n, n] array is made.
        budget: the number of examples to pick; static.
        where: bool [n], the candidates; the others are not picked, and count as such in the sum. All if None.
        initial: int [k], the indices of examples already chosen, each once, -1 for none. They count as picked, but are
            not candidates, not among the picks returned and not part of the budget.
        mesh: static: the devices to shard the work over; not under vmap. An array that is already sharded over them
            (rows of embeddings, columns of a matrix) is not moved, so that no device ever holds all of it.

    Returns:
        (picks int32 [budget], gains float32 [budget]) in the order of picking; if there are fewer candidates than the
        budget, -1 and nan fill the rest. Gains never increase. Ties go to the lowest index.

    Raises:
        InputError: a shape or dtype is wrong.

    Source: Joshi & Mirzasoleiman (ICML 2023), algorithm 1.
    """
    return _run("sas", similarity, embeddings, budget, where, initial, None, None, mesh)


@settings.fixed
@functools.partial(jax.jit, static_argnames=("budget", "self_similarity", "mesh"))
def similarity_sum(
    similarity: ArrayLike | None = None,
    *,
    embeddings: ArrayLike | None = None,
    budget: int,
    where: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    self_similarity: float | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Picks the examples with the largest total similarity to all, as the authors' released code does.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns. Or give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j); no [n, n] array is made.
        budget: the number of examples to pick; static.
        where: bool [n], the candidates. All if None.
        initial: int [k], the indices of examples already chosen, each once, -1 for none. They count as picked, but are
            not candidates, not among the picks returned and not part of the budget.
        weights: float [n], 0 or more: the weight of representing each example. All 1 if None.
        self_similarity: in [0, 1], static: each example's similarity to itself. None keeps a matrix's diagonal, and is
            1 for embeddings.
        mesh: static: the devices to shard the work over; not under vmap. An array that is already sharded over them
            (rows of embeddings, columns of a matrix) is not moved, so that no device ever holds all of it.

    Returns:
        (picks int32 [budget], gains float32 [budget]) in the order of picking; if there are fewer candidates than the
        budget, -1 and nan fill the rest. Gains never increase. Ties go to the lowest index.

    Raises:
        InputError: a shape or dtype is wrong.
    """
    return _run("similarity_sum", similarity, embeddings, budget, where, initial, weights, self_similarity, mesh)
