"""Ranks a file of embeddings and writes a file with the ranking."""

import dataclasses
import os
import time

import numpy as np

from sas_jax import arrays, devices, files, settings
from sas_jax.errors import InputError, shown
from sas_jax.latent_classes.passes import cluster
from sas_jax.progress import Progress
from sas_jax.selection import budgets as division
from sas_jax.selection import checks, ranking_files
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.pairwise import KINDS
from sas_jax.selection.rank import rank
from sas_jax.selection.ranking import Ranking


@settings.fixed
def rank_file(
    embeddings: str,
    output: str,
    *,
    classes: str = "",
    kmeans: int | None = None,
    seed: int = 0,
    objective: str = "sas",
    fraction: float = 1.0,
    budgets: str = division.PROPORTIONAL,
    kind: str = "cosine",
    tau: float = 0.5,
    normalize: bool = True,
    self_similarity: float | None = None,
    weights: str = "",
    initial: str = "",
    where: str = "",
    ids: str = "",
) -> str:
    """Ranks a file of embeddings on all devices and saves the ranking, with progress on stderr.

    The state is kept in OUTPUT.partial until the ranking is saved: after an interruption, the same call resumes.

    Args:
        embeddings: path of a .npy of floats [n, d], or [n, m, d] for m views of each example. It is memory-mapped.
        output: path of a .parquet, .csv or .npz. Its metadata name the given files, without their folders.
        classes: path of a .npy of integers [n], 0 or more: the latent classes. If empty, all are one class.
        kmeans: instead of `classes`, the number of classes, 1 or more, that k-means finds on the rows, or on the means
            of the views; rows and views are first divided by their norms if `normalize`.
        seed: for `kmeans`, from 0 to 2^32 - 1.
        fraction: in (0, 1]: rank only as many examples as this subset has; 1 ranks every candidate.
        weights: path of a .npy of numbers [n].
        initial: path of a .npy of integers [k].
        where: path of a .npy of bools [n].
        ids: path of a text file with the examples' names, one per line.
        objective, budgets, kind, tau, normalize, self_similarity: see `sas_jax.rank`, also for the files' contents.

    Returns:
        A summary for the user.

    Raises:
        InputError: an argument is invalid; the message says which one and how to fix it.
    """
    began = time.perf_counter()
    ranking_files.check_writable(output)
    partial = files.beside(files.expanded(output), ".partial")
    if kmeans is not None and (checks.integer(kmeans) or 0) < 1:
        raise InputError(
            f"--kmeans must be a whole number, 1 or more, got {shown(kmeans)}. Give a number of classes, or omit "
            f"--kmeans."
        )
    if classes and kmeans:
        raise InputError("Only one of --classes and --kmeans may be given, got both. Omit one.")
    values = files.mapped(embeddings)
    budget = None if fraction == 1 else division.size_of(fraction, len(values))
    paths = {"classes": classes, "weights": weights, "initial": initial, "where": where}
    given = {name: files.mapped(path) if path else None for name, path in paths.items()}
    names = np.array(files.lines(ids)) if ids else None
    if kmeans:
        # rank checks these as well, but only after k-means, which can take minutes.
        checks.choice("objective", objective, tuple(OBJECTIVES))
        checks.choice("kind of similarity", kind, KINDS)
        division.check(budgets)
        checks.weights(given["weights"], len(values))
        checks.initial(given["initial"], len(values))
        checks.candidates(given["where"], len(values))
        checks.ids(names, len(values))
        given["classes"] = _cluster(values, kmeans, seed=seed, normalize=normalize)
    with Progress("ranked") as progress:
        ranking = rank(
            values,
            given["classes"],
            objective=objective,
            kind=kind,
            tau=tau,
            normalize=normalize,
            budget=budget,
            budgets=budgets,
            weights=given["weights"],
            initial=given["initial"],
            where=given["where"],
            self_similarity=self_similarity,
            ids=names,
            mesh=devices.mesh(),
            progress=progress,
            resume=os.fspath(partial),
        )
    told = {name: os.path.basename(path) for name, path in paths.items() if path} | {"fraction": fraction}
    told |= {"kmeans": kmeans, "seed": seed} if kmeans else {}
    metadata = {**ranking.metadata, "source": os.path.basename(embeddings), "select": told}
    ranking = dataclasses.replace(ranking, metadata=metadata)
    ranking.save(output)
    partial.unlink(missing_ok=True)  # another process may have ranked the same at the same time
    return _summary(ranking, output, fraction, time.perf_counter() - began)


def _cluster(values: np.ndarray, number: int, *, seed: int, normalize: bool) -> np.ndarray:
    """Clusters the rows, or the means of the views, as the pipeline does; both are normalised first if `normalize`."""
    rows = checks.embeddings(values, normalize=normalize)
    try:
        return cluster(settings.key(seed), _means(rows), num_classes=number)
    except InputError as error:
        text = str(error).replace("`num_classes`", "--kmeans").replace("`x`", "--embeddings")
        raise InputError(text) from error


def _means(rows: arrays.LazyRows) -> arrays.Rows:
    """Returns one row per example: the mean of its views, if there are several."""
    return rows if rows.ndim == 2 else np.asarray(rows).mean(1)


def _summary(ranking: Ranking, output: str, fraction: float, seconds: float) -> str:
    ranked, sizes = int((ranking.position >= 0).sum()), np.unique(ranking.classes, return_counts=True)[1]
    objective, chosen = ranking.metadata["objective"], ranking.metadata["select"].get("initial")
    turning = ranking.turning_fraction if OBJECTIVES[objective].cut else None
    within = f"{len(sizes):,} classes of {sizes.min():,} to {sizes.max():,}" if len(sizes) > 1 else "one class"
    how = f"fraction={fraction}" if ranked == round(fraction * len(ranking)) else f"size={ranked}"
    return (
        f"Ranked {ranked:,} of {len(ranking):,} examples in {within} by {objective} in {seconds:.1f} s: {output}."
        + ("" if turning is None else f" Gains are below 0 beyond a fraction of {turning:.3f}.")
        + f"\nThe indices to keep{f', in addition to those of {chosen}' if chosen else ''}: "
        f"sas_jax.Ranking.load({output!r}).subset({how})"
    )
