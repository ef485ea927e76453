"""A finished run, read from its workdir."""

import dataclasses
import os
from typing import Any

import numpy as np

from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.files import is_remote
from sas_jax.results.schema import Results
from sas_jax.typed import Anything
from sas_jax.workdir import Metrics, Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """The files of an evaluated run.

    Attributes:
        workdir: The run's directory.
        results: The content of results.json.
        config: The content of config.json.
        environment: The content of environment.json; empty if it cannot be read.
        damage: A sentence for each damaged file that the report can do without.
    """

    workdir: Workdir
    results: dict[str, Any]
    config: dict[str, Any]
    environment: dict[str, Any]
    damage: list[str]

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the records of metrics.jsonl, except those of arms or a proxy that the run no longer has."""
        arms = {arm["name"] for arm in self.results["arms"]}
        given = bool((self.config.get("proxy") or {}).get("embeddings"))

        def is_current(stage: str) -> bool:
            kind, slash, name = stage.partition("/")
            return name in arms if slash else not (kind == "proxy" and given)

        return [line for line in Metrics(self.workdir).lines() if is_current(line["stage"])]

    def embeddings(self) -> np.ndarray | None:
        """Returns float32 [n, d], or None if the file is missing or damaged."""
        path = self.workdir / "embeddings.npy"
        if not path.exists():
            return None
        try:
            if why := self.workdir.damage(path.name):
                raise ValueError(why)
            found = files.array(path)
            if found.ndim != 2 or found.dtype.kind != "f":
                raise ValueError(f"it holds {found.dtype} {list(found.shape)}, expected floats [n, d]")
        except Exception as error:  # for a damaged header, any error of Python's own parser
            self.damage.append(f"{path} is damaged ({files.reason(error)})")
            return None
        return found


def read(path: str) -> Run:
    """Reads a run.

    Args:
        path: Its workdir.

    Raises:
        InputError: There is no run, it was not evaluated, or its config or results are damaged.
    """
    workdir = Workdir(path, writes=False)
    if not workdir.path.is_dir():
        what = "is a file" if workdir.path.exists() else "does not exist"
        raise InputError(
            f"WORKDIR must be the directory of a run, got {path}, which {what}. Give the --workdir of one."
        )
    config = workdir.stored_config()
    if config is None:
        raise InputError(
            f"WORKDIR must be the directory of a run, got {path}, which has no config.json. Give the --workdir of one."
        )
    results = workdir.read("results.json", Results)
    if results is None:
        raise InputError(
            f"WORKDIR must hold an evaluated run, got {path}, which has no results.json yet. Resume it with python -m "
            "sas_jax.main, without --stop_after."
        )
    if not any(stage.startswith("evaluate") for stage in results["stages"]):
        raise InputError(
            f"WORKDIR must hold an evaluated run, got {path}, which has no evaluation yet. Resume it with python -m "
            "sas_jax.main, without --stop_after."
        )
    damage = []
    try:
        environment = workdir.read("environment.json", dict[str, Anything])
    except InputError as error:  # the file only describes the machine
        environment = None
        damage.append(str(error))
    if lines := Metrics(workdir).damaged():
        damage.append(f"{workdir / 'metrics.jsonl'} has {lines} damaged lines")
    return Run(workdir, results, config, environment or {}, damage)


def names(paths: list[str]) -> list[str]:
    """Returns short names of directories: the last parts of each path, as many as needed to distinguish all.

    Raises:
        InputError: A directory is given twice.
    """
    parts = [path.rstrip("/").split("/") if is_remote(path) else os.path.realpath(path).split("/") for path in paths]
    whole = ["/".join(each) for each in parts]
    for path, one in zip(paths, whole, strict=True):
        if whole.count(one) > 1:
            raise InputError(f"The runs that are compared must differ, got {path} twice. Leave one out.")
    deepest = max(map(len, parts))
    short = (["/".join(each[-depth:]) for each in parts] for depth in range(1, deepest + 1))
    return next(found for found in short if len(set(found)) == len(found))
