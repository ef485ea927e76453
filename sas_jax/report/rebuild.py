"""Rebuilds reports from the files in runs' workdirs."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sas_jax.errors import InputError
from sas_jax.files import expanded, reason, write_whole
from sas_jax.report import build, comparison, runs


def rebuild(
    workdirs: Sequence[str],
    *,
    output: str = "",
    load_dataset: Callable[[Any], Any],
    load_ranking: Callable[[str], Any],
) -> str:
    """Rebuilds the report of a run, or writes one page that compares several.

    Args:
        workdirs: The workdirs of runs that were evaluated.
        output: The path of the page; by default report.html in the workdir, or for several runs ./compare.html.
        load_dataset: Maps the data section of a config to its images, labels, ids and class names
            (`sas_jax.data.load`).
        load_ranking: Maps a path to a ranking (`Ranking.load`).

    Returns:
        A message for the user.

    Raises:
        InputError: An argument or a run is unusable.
    """
    if not workdirs:
        raise InputError(
            "WORKDIR must be the directory of a run, got none. Run, for example, python -m sas_jax.report runs/digits."
        )
    found = [runs.read(workdir) for workdir in workdirs]
    path = expanded(output or (f"{workdirs[0]}/report.html" if len(workdirs) == 1 else "compare.html"))
    if path.suffix != ".html":
        raise InputError(f"--output must end in .html, got {output}. Correct it.")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--output must be a file in an existing directory, got {path}. Choose another.")
    if len(found) > 1:
        names = runs.names([os.fspath(run.workdir.path) for run in found])
        _write(path, comparison.html(found, names))
        return f"report: {path}, of {len(found)} runs"
    text, without = _one(found[0], load_dataset, load_ranking)
    _write(path, text)
    told = [f"report: {path}" + (f" (without pictures: {without})" if without else "")]
    return "\n".join(told + [f"left out: {each}" for each in found[0].damage])


def _write(path: epath.Path, text: str) -> None:
    try:
        write_whole(path, lambda aside: aside.write_text(text))
    except OSError as error:  # such as in the directory of another user's run
        raise InputError(f"--output must be a writable file, got {path} ({reason(error)}). Choose another.") from error


def _one(run: runs.Run, load_dataset: Callable[[Any], Any], load_ranking: Callable[[str], Any]) -> tuple[str, str]:
    """Returns the page of a run, and why it has no pictures, or "" if it has."""
    ranking = load_ranking(os.fspath(run.workdir / "ranking.parquet"))
    known: dict[str, Any] = {
        "results": run.results,
        "config": run.config,
        "environment": run.environment,
        "metrics": run.metrics(),
        "ranking": ranking,
        "embeddings": run.embeddings(),
    }
    try:
        dataset = _dataset(run, load_dataset, len(ranking.position))
        labels = dataset.train.labels
        return build.html(
            **known,
            images=dataset.train.images,
            labels=None if labels is None or (np.asarray(labels) < 0).all() else labels,
            class_names=dataset.class_names,
        ), ""
    except (InputError, OSError) as error:
        why = str(error).rstrip(".")
        return build.html(**known, without_images=why), why


def _dataset(run: runs.Run, load_dataset: Callable[[Any], Any], n: int) -> Any:
    """Loads the images, and decodes only those that are shown."""
    try:
        dataset = load_dataset(ConfigDict(run.config["data"] | {"placement": "stream"}))
    except AttributeError as error:
        raise InputError(f"the run's config lacks a field ({error})") from error
    content = (run.workdir.stamp("data") or {}).get("train_content")
    if len(dataset.train) != n or (content is not None and content != dataset.train.fingerprint()):
        raise InputError(f"the images of {dataset.name} are no longer those of the run")
    return dataset
