"""The public function that ranks examples, given embeddings or similarities and latent classes."""

import functools
import hashlib
import json
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import sas_jax
from sas_jax import arrays, devices, files, settings
from sas_jax.errors import InputError, exactly_one
from sas_jax.selection import budgets as division
from sas_jax.selection import checks, classwise, columns
from sas_jax.selection.budgets import PROPORTIONAL
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.pairwise import KINDS, embed_views, pairwise
from sas_jax.selection.ranking import Ranking, fingerprint
from sas_jax.selection.work import Work


@settings.fixed
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
    budgets: str = PROPORTIONAL,
    where: np.ndarray | None = None,
    initial: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    self_similarity: float | None = None,
    ids: np.ndarray | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: str | None = None,
) -> Ranking:
    """Ranks the examples of each latent class in the order in which greedy picks them.

    Args:
        embeddings: float [n, d], or [n, m, d] for m views of each example (see pairwise.py). Or give the similarity.
        classes: int [n], 0 or more, or str [n]: the latent classes; similarity counts only within a class. Each
            distinct value is one class; see `Ranking.classes` for text. None: all are one class.
        similarity: float [n, n], symmetric, in [0, 1], instead of embeddings.
        objective: "sas", "facility_location" or "similarity_sum".
        kind: of similarity from embeddings: "cosine", "clipped_cosine" or "gaussian".
        tau: the width of "gaussian", > 0, in units of squared distance.
        normalize: divide the rows (or views) by their norms. Otherwise, no norm may exceed 1.
        budget: the total number of examples to rank; None ranks every candidate.
        budgets: how a budget is divided: "proportional" to the sizes of the classes, or "balanced": the same number
            from each class, as long as it has enough (see budgets.py). It is also the default of `Ranking.subset`.
        where: bool [n], the candidates; the others are not ranked, but still have to be represented. None: all.
        initial: int [k], the examples already chosen. They count as picked before the ranking, but are not ranked and
            not part of the budget.
        weights: float [n], 0 or more: the weight of representing each example; not for "sas".
        self_similarity: in [0, 1]: each example's similarity to itself. None: 1, or the diagonal of a given matrix.
        ids: str [n], the examples' names, saved in the ranking's files.
        mesh: the devices to use; one device if None. If they belong to several processes, all must call this with the
            same arguments; the classes are distributed over the processes, and each returns the whole ranking.
        progress: called about once a second with the number of picks so far and the total.
        resume: a file for the state of a long run, one per process, saved every minute and on Ctrl-C. If it exists and
            is from the same run, the run resumes. It is kept when the ranking is complete, and the same call then
            returns at once: remove it when the ranking is saved.

    Returns:
        The Ranking.

    Raises:
        InputError: an argument is invalid; the message says which one and how to fix it.
    """
    checks.choice("objective", objective, tuple(OBJECTIVES))
    checks.choice("kind of similarity", kind, KINDS)
    tau = checks.positive("tau", tau)
    normalize = checks.flag("normalize", normalize)
    division.check(budgets)
    mesh = checks.mesh(mesh)
    if progress is not None and not callable(progress):
        raise InputError(
            f"`progress` must be a function of two numbers, got {checks.shown(progress)}. Pass one, or omit it."
        )
    if self_similarity is not None:
        self_similarity = checks.unit_interval("self_similarity", self_similarity)
    exactly_one({"`similarity`": similarity is not None, "`embeddings`": embeddings is not None})
    parameters: dict[str, Any] = {"self_similarity": self_similarity}
    if embeddings is None:
        kind = "matrix"
        given = checks.array("A similarity matrix", similarity)
        values: Any = checks.similarity(given)
    else:
        given = checks.array("Embeddings", embeddings)
        parameters |= {"normalize": normalize} | ({"tau": tau} if kind == "gaussian" else {})
        values = checks.embeddings(given, normalize=normalize)
    n = len(values)
    classes, class_names = checks.classes(classes, n)
    where = checks.candidates(where, n)
    initial = checks.initial(initial, n)
    weights = checks.weights(weights, n)
    ids = checks.ids(ids, n)
    if OBJECTIVES[objective].cut:
        checks.no_weights(weights, objective)
    where[initial] = False
    number = int(where.sum())
    budget = checks.budget(budget, number)
    parameters |= {"budget": budget, "candidates": number}
    if budgets != PROPORTIONAL:
        parameters["budgets"] = budgets
    if len(initial):
        parameters["initial"] = {"number": len(initial), "fingerprint": _digest(np.sort(initial))}
    if weights is not None:
        parameters["weights"] = _digest(weights)
    metadata = {
        "objective": objective,
        "kind": kind,
        "parameters": parameters,
        "versions": {"sas_jax": sas_jax.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "fingerprint": fingerprint(given),
    }
    if class_names is not None:
        metadata[columns.CLASS_NAMES] = class_names

    of, members = classwise.divide(classes)
    found = [] if weights is None else [checks.weights_range(weights, of)]
    sizes = np.array([len(each) for each in members])
    steps = division.divide(sizes, np.bincount(of[where], minlength=len(members)), budget, budgets=budgets).tolist()
    run = classwise.Run(
        objective=objective,
        members=members,
        steps=steps,
        where=where,
        initial=initial,
        weights=weights,
        self_similarity=self_similarity,
        mesh=devices.mesh(1) if mesh is None else mesh,
    )
    processes = devices.processes(run.mesh)
    same = json.dumps(
        [metadata, _digest(classes), _digest(where), run.mesh.size]
        + ([] if len(processes) == 1 else [jax.process_index(), processes])
    )
    total = sum(steps[label] for labels in run.dealt for label in labels)
    with Work(n, total, progress, None if resume is None else files.expanded(resume), same) as work:
        if kind == "matrix":
            # A single class is not copied.
            found.append(run.from_matrices(lambda of: values if len(of) == n else values[np.ix_(of, of)], work))
        elif kind == "cosine":
            z = values if values.ndim == 2 else np.asarray(embed_views(np.asarray(values)))
            if not OBJECTIVES[objective].cut and not (normalize and values.ndim == 2):  # unit rows have no small norms
                to_itself = 1.0 if self_similarity is None else self_similarity
                found.append(checks.self_similarity_warning(_largest_square(z), to_itself))
            run.from_embeddings(z, work)
        else:
            local = None if mesh is None else devices.local_mesh(mesh)
            pairs = functools.partial(_pair_matrix, kind=kind, tau=tau, mesh=local)
            shape = -1, 1 if values.ndim == 2 else values.shape[1], values.shape[-1]
            found.append(run.from_matrices(lambda of: pairs(values[of].reshape(shape)), work, 1.0))
    if len(processes) > 1:
        work.join()
    for warning in filter(None, found):
        warnings.warn(warning, UserWarning, stacklevel=2)
    return Ranking(work.position, work.gain, classes, ids, metadata)


def _largest_square(z: arrays.Rows) -> float:
    """Returns the largest squared norm of the rows."""
    starts = range(0, len(z), arrays.BLOCK_ROWS)
    blocks = (z[start : start + arrays.BLOCK_ROWS] for start in starts)
    return max(float(np.einsum("nd,nd->n", rows, rows).max()) for rows in blocks)


def _pair_matrix(views: np.ndarray, *, kind: str, tau: float, mesh: Mesh | None) -> np.ndarray:
    """Computes `pairwise` of the views [k, m, d] of a class, at a padded size."""
    k = len(views)
    padded = np.pad(views, ((0, classwise.padded(k) - k), (0, 0), (0, 0)))
    return np.asarray(pairwise(padded, kind=kind, tau=tau, mesh=mesh))[:k, :k]


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
