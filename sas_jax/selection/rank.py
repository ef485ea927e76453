"""From embeddings, or similarities, and latent classes to a ranking: what a user calls.

Classes come in all sizes, and a program is compiled for one shape. So classes are padded to one of a few sizes; those
of a size are ranked by one program, one after the other on each device, the devices side by side.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

import sas_jax
from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.selection import budgets, checks, greedy
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.ranking import Ranking, fingerprint
from sas_jax.selection.similarity import KINDS, Embeddings, Matrix, Similarity, embed_views, pairwise

_LARGEST_MATRIX = 8192
"""Classes of up to this size are ranked from a matrix of their own, 256 MB at most; larger ones from embeddings."""


def rank(
    embeddings: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    *,
    similarity: np.ndarray | None = None,
    objective: str = "sas",
    kind: str = "cosine",
    tau: float = 0.5,
    normalize: bool = True,
    budget: int | None = None,
    where: np.ndarray | None = None,
    self_similarity: float | None = None,
    ids: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Ranking:
    """Ranks the examples of each latent class in the order in which greedy picks them.

    Args:
      embeddings: float [n, d], or [n, m, d] for m views of each example (see similarity.py). Or give the similarity.
      classes: int [n], 0 or more: the latent classes, within which similarity counts. None: all are one class.
      similarity: float [n, n], symmetric, in [0, 1], instead of embeddings.
      objective: "sas", "facility_location" or "similarity_sum".
      kind: of similarity from embeddings: "cosine", "clipped_cosine" or "gaussian".
      tau: the width of "gaussian", > 0, in units of squared distance.
      normalize: divide the rows (or views) by their norms. Without, no norm may exceed 1.
      budget: how many examples to rank in all, the classes in proportion; None ranks every candidate.
      where: bool [n], the candidates; the others count among those to be represented. None: all.
      self_similarity: in [0, 1]: each example's similarity to itself. None is 1, or a given matrix's diagonal.
      ids: str [n], the examples' names, which the ranking's files then carry.
      mesh: whose devices to use; one device where None.

    Returns:
      The Ranking.

    Raises:
      InputError: something given cannot be used; the message says what, and what to do.
    """
    checks.choice("objective", objective, tuple(OBJECTIVES))
    checks.choice("kind of similarity", kind, KINDS)
    checks.positive("tau", tau)
    if self_similarity is not None:
        self_similarity = checks.unit_interval("self_similarity", self_similarity)
    if (embeddings is None) == (similarity is None):
        raise InputError("Give either embeddings or similarity=, one of the two.")
    given = np.asanyarray(similarity if embeddings is None else embeddings)
    parameters: dict[str, Any] = {"self_similarity": self_similarity}
    if embeddings is None:
        kind = "matrix"
        values = checks.similarity(given)
    else:
        parameters |= {"normalize": bool(normalize)} | ({"tau": float(tau)} if kind == "gaussian" else {})
        values = checks.embeddings(given, normalize=normalize)
    n = len(values)
    classes = checks.classes(classes, n)
    where = checks.candidates(where, n)
    ids = checks.ids(ids, n)
    number = int(where.sum())
    budget = checks.budget(budget, number)
    parameters |= {"budget": budget, "candidates": number}

    labels, places, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(places, kind="stable"), np.cumsum(sizes)[:-1])
    steps = budgets.divide(sizes, np.bincount(places[where], minlength=len(labels)), budget).tolist()
    mesh = devices.mesh(1) if mesh is None else mesh
    to_itself = 1.0 if self_similarity is None else self_similarity
    position, gain = np.full(n, -1, np.int32), np.full(n, np.nan, np.float32)
    if kind == "matrix":
        ranked = _rank_matrices(
            lambda of: values if len(of) == n else values[np.ix_(of, of)],  # one class: no copy
            members,
            steps,
            where,
            objective=objective,
            self_similarity=self_similarity,
        )
    elif kind == "cosine":
        z = values if values.ndim == 2 else np.asarray(embed_views(values))
        ranked = _rank_embeddings(z, members, steps, where, objective=objective, self_similarity=to_itself, mesh=mesh)
    else:
        views = values if values.ndim == 3 else values[:, None]
        ranked = _rank_matrices(
            lambda of: _pair_matrix(views[of], kind=kind, tau=float(tau), mesh=mesh),
            members,
            steps,
            where,
            objective=objective,
            self_similarity=to_itself,
        )
    for picks, gains in ranked:
        position[picks] = np.arange(len(picks))
        gain[picks] = gains
    metadata = {
        "objective": objective,
        "kind": kind,
        "parameters": parameters,
        "versions": _versions(),
        "fingerprint": fingerprint(given),
    }
    return Ranking(position, gain, classes, ids, metadata)


Ranked = Iterator[tuple[np.ndarray, np.ndarray]]
"""For each class its picks, as indices among all examples, and their gains."""


def _rank_embeddings(
    z: np.ndarray,
    members: list[np.ndarray],
    steps: list[int],
    where: np.ndarray,
    *,
    objective: str,
    self_similarity: float,
    mesh: Mesh,
) -> Ranked:
    """Ranks classes from embeddings [n, d]; `steps` is how many to pick of each class."""
    # One row more, of zeros and no candidate, is what classes are padded with.
    z, where = np.pad(z, ((0, 1), (0, 0))), np.pad(where, (0, 1))
    groups: dict[int, list[int]] = {}
    for label, wanted in enumerate(steps):
        if wanted:
            groups.setdefault(_padded(len(members[label])), []).append(label)
    for size, labels in sorted(groups.items()):
        if size > _LARGEST_MATRIX:
            for label in labels:
                padded = _pad(members[label], size, len(z) - 1)
                source = Embeddings(jnp.asarray(z[padded]), self_similarity)
                picks, gains = _rank_one(source, where[padded], steps[label], objective=objective)
                yield padded[np.asarray(picks)[: steps[label]]], np.asarray(gains)[: steps[label]]
            continue
        # Classes are dealt to the devices in turn; a power of two of places for each, so that few shapes are compiled.
        places = 1 << (-(-len(labels) // mesh.size) - 1).bit_length()
        table = np.full((places * mesh.size, size), len(z) - 1, np.int32)
        table_steps = np.zeros(places * mesh.size, np.int32)
        at = [turn % mesh.size * places + turn // mesh.size for turn in range(len(labels))]
        for row, label in zip(at, labels, strict=True):
            table[row] = _pad(members[label], size, len(z) - 1)
            table_steps[row] = steps[label]
        picks, gains = map(
            np.asarray,
            _rank_many(z, where, table, table_steps, objective=objective, self_similarity=self_similarity, mesh=mesh),
        )
        for row in at:
            yield table[row][picks[row, : table_steps[row]]], gains[row, : table_steps[row]]


def _rank_matrices(
    matrix_of: Callable[[np.ndarray], np.ndarray],
    members: list[np.ndarray],
    steps: list[int],
    where: np.ndarray,
    *,
    objective: str,
    self_similarity: float | None,
) -> Ranked:
    """Ranks classes one after the other, each from the matrix that `matrix_of` gives of its members."""
    for of, wanted in zip(members, steps, strict=True):
        if not wanted:
            continue
        # A single class is not padded: its matrix is the largest thing there is.
        padding = _padded(len(of)) - len(of) if len(members) > 1 else 0
        source = Matrix.of(np.pad(matrix_of(of), ((0, padding), (0, padding))), self_similarity=self_similarity)
        picks, gains = _rank_one(source, np.pad(where[of], (0, padding)), wanted, objective=objective)
        yield of[np.asarray(picks)[:wanted]], np.asarray(gains)[:wanted]


@functools.partial(jax.jit, static_argnames="objective")
def _rank_one(source: Similarity, where: jax.Array, steps: jax.Array, *, objective: str):
    state = greedy.start(source, where, objective=objective, budget=source.size)
    state = greedy.advance(state, source, steps, objective=objective)
    return state.picks, state.picked_gains


@functools.partial(jax.jit, static_argnames=("objective", "self_similarity", "mesh"))
def _rank_many(
    z: jax.Array,
    where: jax.Array,
    table: jax.Array,
    steps: jax.Array,
    *,
    objective: str,
    self_similarity: float,
    mesh: Mesh,
):
    """Ranks classes [classes, size] of padded size, each device its part of them one after the other.

    A loop, because under vmap every class would take as many steps, and every step as many rows, as the slowest.
    """

    def part(z, where, table, steps):
        def one(c, ranked):
            source = Embeddings(z[table[c]], self_similarity).matrix()
            picks, gains = _rank_one(source, where[table[c]], steps[c], objective=objective)
            return ranked[0].at[c].set(picks), ranked[1].at[c].set(gains)

        # Only the places that are taken: those without steps stand at the end.
        nothing = jnp.full(table.shape, -1, jnp.int32), jnp.full(table.shape, jnp.nan, jnp.float32)
        return jax.lax.fori_loop(0, jnp.sum(steps > 0), one, nothing)

    split, whole = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
    # The devices do not communicate, so there is nothing for check_vma to check.
    return jax.shard_map(
        part, mesh=mesh, in_specs=(whole, whole, split, split), out_specs=(split, split), check_vma=False
    )(z, where, table, steps)


def _pair_matrix(views: np.ndarray, *, kind: str, tau: float, mesh: Mesh) -> np.ndarray:
    """The pair form on views [k, m, d] of a class, computed at a padded size."""
    k = len(views)
    padded = np.pad(views, ((0, _padded(k) - k), (0, 0), (0, 0)))
    return np.asarray(pairwise(padded, kind=kind, tau=tau, mesh=mesh))[:k, :k]


def _padded(size: int) -> int:
    """The next of 32, 64, 128, 256, 384, 512, 768, 1024, 1536, ...: the sizes that programs are compiled for."""
    power = 1 << (max(size, 32) - 1).bit_length()
    return power * 3 // 4 if power > 256 and size <= power * 3 // 4 else power


def _pad(members: np.ndarray, size: int, padding: int) -> np.ndarray:
    return np.pad(members, (0, size - len(members)), constant_values=padding)


def _versions() -> dict[str, str]:
    return {"sas_jax": sas_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}
