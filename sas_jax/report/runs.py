"""A finished run, read from its workdir."""

import dataclasses
import json
import os
from typing import Any

import numpy as np
from etils import epath

from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.files import is_remote
from sas_jax.report import shapes
from sas_jax.workdir import Metrics, Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """What a workdir holds of a run that was evaluated.

    Attributes:
      workdir: Where it is.
      results: The content of results.json.
      config: That of config.json.
      environment: That of environment.json; empty where it cannot be read.
    """

    workdir: Workdir
    results: dict[str, Any]
    config: dict[str, Any]
    environment: dict[str, Any]

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, less those of arms and of a proxy that the run no longer has."""
        arms = {arm["name"] for arm in self.results["arms"]}
        given = bool((self.config.get("proxy") or {}).get("embeddings"))

        def is_current(stage: str) -> bool:
            kind, slash, name = stage.partition("/")
            return name in arms if slash else not (kind == "proxy" and given)

        lines = Metrics(self.workdir).lines()
        return [line for line in lines if not shapes.defect(line, shapes.METRIC) and is_current(line["stage"])]

    def embeddings(self) -> np.ndarray | None:
        """float32 [n, d]; None where there is no such file, or it is damaged."""
        try:
            found = files.array(self.workdir / "embeddings.npy")
        except (OSError, ValueError, EOFError):
            return None
        return found if found.ndim == 2 and found.dtype.kind == "f" else None


def read(path: str) -> Run:
    """Reads a run.

    Args:
      path: Its workdir.

    Raises:
      InputError: There is no run, it has not been evaluated, or its results are damaged.
    """
    workdir = Workdir(path, writes=False)
    if not workdir.path.is_dir():
        what = "a file" if workdir.path.exists() else "not there"
        raise InputError(f"a report is made from the workdir of a run, but {path} is {what}: give its directory")
    config = _json(workdir, "config.json")
    if config is None:
        raise InputError(
            f"a report is made from the workdir of a run, but {path} has no config.json: give a directory that "
            f"python -m sas_jax.main made"
        )
    results = _json(workdir, "results.json")
    if results is None:
        raise InputError(
            f"a report is made from results.json, but {path} has none, for its run has not measured an arm yet: run it "
            f"on with python -m sas_jax.main, without --stop_after"
        )
    for name, content, shape in (("config", config, shapes.CONFIG), ("results", results, shapes.RESULTS)):
        if defect := shapes.defect(content, shape):
            raise InputError(_damaged(workdir / f"{name}.json", defect))
    if not any(stage.startswith("evaluate") for stage in results["stages"]):
        raise InputError(
            f"a report is made from a run that was evaluated, but {path} has not come so far: run it on with "
            f"python -m sas_jax.main, without --stop_after"
        )
    try:
        environment = _json(workdir, "environment.json")
    except InputError:  # it only tells of the machine
        environment = None
    return Run(workdir, results, config, environment or {})


def names(paths: list[str]) -> list[str]:
    """Returns short names of directories: of each path the last parts, as many as tell all apart.

    Raises:
      InputError: One stands there twice.
    """
    parts = [path.rstrip("/").split("/") if is_remote(path) else os.path.realpath(path).split("/") for path in paths]
    whole = ["/".join(each) for each in parts]
    for path, one in zip(paths, whole, strict=True):
        if whole.count(one) > 1:
            raise InputError(
                f"runs that are compared have to be different ones, but {path} stands there twice: mend it"
            )
    deepest = max(map(len, parts))
    short = (["/".join(each[-depth:]) for each in parts] for depth in range(1, deepest + 1))
    return next(found for found in short if len(set(found)) == len(found))


def _json(workdir: Workdir, name: str) -> dict[str, Any] | None:
    """A file's object; None where there is no such file."""
    path = workdir / name
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(_damaged(path, error.strerror or "it cannot be read")) from error
    except (ValueError, RecursionError) as error:
        raise InputError(_damaged(path, "it is not JSON")) from error
    if not isinstance(value, dict):
        raise InputError(_damaged(path, "it is not a JSON object"))
    return value


def _damaged(path: epath.Path, defect: str) -> str:
    return (
        f"{path} should be as python -m sas_jax.main wrote it, but is damaged ({defect}): remove this file, and "
        f"run that again"
    )
