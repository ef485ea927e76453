"""Greedy maximisation of the objectives: exact, ties to the lowest index, and a pure function that jit and vmap take.

Each step picks the candidate with the largest gain. The gains are exact (see fixed_point.py), so the picks depend
neither on the order of summation nor on the number of devices.

Source: Nemhauser, Wolsey & Fisher, An analysis of approximations for maximizing submodular set functions (1978);
Joshi & Mirzasoleiman, Data-efficient contrastive self-supervised learning (ICML 2023), algorithm 1.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from sas_jax.errors import InputError
from sas_jax.selection import fixed_point
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.similarity import Embeddings, Matrix, Similarity


class State(NamedTuple):
    """Where a greedy run stands."""

    gains: fixed_point.Total  # [n], of each candidate given what is picked
    memory: Any  # the objective's
    available: jax.Array  # bool [n]: candidates not picked yet
    picks: jax.Array  # int32 [budget], -1 where not picked yet
    picked_gains: jax.Array  # float32 [budget], nan where not picked yet
    step: jax.Array  # int32: how many are picked


def start(similarity: Similarity, where: jax.Array, *, objective: str, budget: int) -> State:
    """The state before the first pick; `where` is bool [n], the candidates."""
    gains, memory = OBJECTIVES[objective].start(similarity)
    picks, picked_gains = jnp.full(budget, -1, jnp.int32), jnp.full(budget, jnp.nan, jnp.float32)
    return State(gains, memory, where, picks, picked_gains, jnp.int32(0))


def advance(state: State, similarity: Similarity, steps: jax.Array | int, *, objective: str) -> State:
    """Picks up to `steps` more, as far as the budget and the candidates go."""
    left = jnp.minimum(state.picks.shape[0] - state.step, jnp.sum(state.available, dtype=jnp.int32))

    def pick(_, state):
        index = fixed_point.argmax(state.gains, state.available)
        gain = fixed_point.to_float(jax.tree.map(lambda part: part[index], state.gains))
        gains, memory = OBJECTIVES[objective].pick(similarity, state.gains, state.memory, index)
        return State(
            gains,
            memory,
            state.available.at[index].set(False),
            state.picks.at[state.step].set(index),
            state.picked_gains.at[state.step].set(gain),
            state.step + 1,
        )

    return jax.lax.fori_loop(0, jnp.minimum(left, steps), pick, state)


def _run(objective, similarity, embeddings, budget, where, self_similarity, mesh) -> tuple[jax.Array, jax.Array]:
    """What the three public functions share: the checks of shapes, the padding to the mesh, the run."""
    values = _checked(similarity, embeddings)
    n = values.shape[0]
    if budget < 1:
        raise InputError(f"The budget is a number of picks, 1 or more, and is {budget}.")
    where = jnp.ones(n, bool) if where is None else jnp.asarray(where)
    if where.shape != (n,) or where.dtype != bool:
        raise InputError(
            f"`where` marks the candidates among {n} examples, so bool [{n}]; it is {where.dtype} {list(where.shape)}."
        )
    if mesh is not None:
        padding = -n % mesh.size
        across = similarity is not None
        values = jnp.pad(values, ((0, padding), (0, padding if across else 0)))
        where = jnp.pad(where, (0, padding))
        axis = mesh.axis_names[0]
        spec = PartitionSpec(None, axis) if across else PartitionSpec(axis)
        values = jax.lax.with_sharding_constraint(values, NamedSharding(mesh, spec))
    if similarity is not None:
        source: Similarity = Matrix.of(values, self_similarity=self_similarity)
    else:
        source = Embeddings(values, 1.0 if self_similarity is None else self_similarity)
    state = start(source, where, objective=objective, budget=budget)
    state = advance(state, source, budget, objective=objective)
    return state.picks, state.picked_gains


def _checked(similarity, embeddings) -> jax.Array:
    """The one of the two that was given, if its shape and type will do."""
    if (similarity is None) == (embeddings is None):
        raise InputError("Give either a similarity matrix or embeddings=, one of the two.")
    values = jnp.asarray(embeddings if similarity is None else similarity)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise InputError(f"Similarity and embeddings are floating point, and this is {values.dtype}; convert it.")
    if embeddings is not None and (values.ndim != 2 or values.shape[0] == 0):
        raise InputError(f"Embeddings have the shape [n, d], one row an example, and these have {list(values.shape)}.")
    if similarity is not None and (values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] == 0):
        raise InputError(f"A similarity matrix has the shape [n, n], and this one has {list(values.shape)}.")
    return values.astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=("budget", "self_similarity", "mesh"))
def facility_location(
    similarity: ArrayLike | None = None,
    *,
    embeddings: ArrayLike | None = None,
    budget: int,
    where: ArrayLike | None = None,
    self_similarity: float | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Picks the examples that together represent all best: the largest sum over i of max over j picked of s_ij.

    Args:
      similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns. Or give embeddings.
      embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j), and no n x n is made.
      budget: how many to pick; static.
      where: bool [n], the candidates; the others are not picked, and count among those to be represented. All if None.
      self_similarity: in [0, 1], static: each example's similarity to itself. None leaves a matrix's diagonal as it is,
        and is 1 from embeddings. 0 asks that an example be represented by another one.
      mesh: static: spread the work over its devices; not under vmap.

    Returns:
      (picks int32 [budget], gains float32 [budget]) in the order of picking; where the candidates are fewer than the
      budget, picks of -1 and gains of nan follow. Gains never rise. Ties go to the lowest index.

    Raises:
      InputError: a shape or dtype that does not fit.
    """
    return _run("facility_location", similarity, embeddings, budget, where, self_similarity, mesh)


@functools.partial(jax.jit, static_argnames=("budget", "mesh"))
def sas(
    similarity: ArrayLike | None = None,
    *,
    embeddings: ArrayLike | None = None,
    budget: int,
    where: ArrayLike | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Picks the examples most similar in expectation to those not picked: the sum over i not picked, j picked of s_ij.

    The sum is a cut: its gains turn negative near half of the examples, and the budget is filled all the same. The
    diagonal plays no part.

    Args:
      similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns. Or give embeddings.
      embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j), and no n x n is made.
      budget: how many to pick; static.
      where: bool [n], the candidates; the others are not picked, and count as not picked. All if None.
      mesh: static: spread the work over its devices; not under vmap.

    Returns:
      (picks int32 [budget], gains float32 [budget]) in the order of picking; where the candidates are fewer than the
      budget, picks of -1 and gains of nan follow. Gains never rise. Ties go to the lowest index.

    Raises:
      InputError: a shape or dtype that does not fit.

    Source: Joshi & Mirzasoleiman (ICML 2023), algorithm 1.
    """
    return _run("sas", similarity, embeddings, budget, where, None, mesh)


@functools.partial(jax.jit, static_argnames=("budget", "self_similarity", "mesh"))
def similarity_sum(
    similarity: ArrayLike | None = None,
    *,
    embeddings: ArrayLike | None = None,
    budget: int,
    where: ArrayLike | None = None,
    self_similarity: float | None = None,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Picks the examples with the largest similarity to all, in that order: what the authors' released code computes.

    Args:
      similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns. Or give embeddings.
      embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j), and no n x n is made.
      budget: how many to pick; static.
      where: bool [n], the candidates. All if None.
      self_similarity: in [0, 1], static: each example's similarity to itself. None leaves a matrix's diagonal as it is,
        and is 1 from embeddings.
      mesh: static: spread the work over its devices; not under vmap.

    Returns:
      (picks int32 [budget], gains float32 [budget]) in the order of picking; where the candidates are fewer than the
      budget, picks of -1 and gains of nan follow. Gains never rise. Ties go to the lowest index.

    Raises:
      InputError: a shape or dtype that does not fit.
    """
    return _run("similarity_sum", similarity, embeddings, budget, where, self_similarity, mesh)
