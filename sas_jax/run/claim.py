"""Checks whether a run may use a directory, before anything in it is changed, and claims it for the run."""

import re
from collections.abc import Callable
from typing import Any

from etils import epath

from sas_jax import plan
from sas_jax.errors import InputError
from sas_jax.files import reason, remove
from sas_jax.workdir import OWNER, Workdir, flatten, jsonable, read_sealed, sealed, write_json


def check(
    workdir: Workdir,
    config: dict[str, Any],
    inputs: dict[str, str],
    *,
    rerun: bool,
    restart: bool,
    log: Callable[[str], None],
) -> None:
    """Checks that this run may use the directory, without changing anything in it.

    Args:
        workdir: the run's directory.
        config: the run's config, as a dict.
        inputs: the run's stages and their fingerprints.
        rerun: whether stages of another config may be redone.
        restart: whether the run in the directory may be removed.
        log: called with a message if the stored config is damaged.

    Raises:
        InputError: the directory holds files that no run made, or a run with another config or other input files.
    """
    there = [path.name for path in workdir.own()]
    if there and not workdir.is_marked():
        raise InputError(
            f"--workdir must be empty or hold a run, got {workdir.path} with {', '.join(there)}, which no run made. "
            "Choose another."
        )
    workdir.check_kinds()
    if restart or rerun:
        return
    try:
        stored = workdir.stored_config()
    except InputError as error:  # not needed: the stamps record what each stage depends on
        stored = None
        log(f"{workdir / 'config.json'} is damaged ({reason(error.__cause__ or error)}) and will be rewritten")
    wanted, found = (plan.that_matters(flatten(jsonable(each))) for each in (config, stored or config))
    # A field that the stored config lacks is newer than the run; if it matters, it has changed a stage's inputs.
    fields = [name for name, value in sorted(found.items()) if name not in wanted or wanted[name] != value]
    changed = [stage for stage in inputs if (stamp := workdir.stamp(stage)) and stamp["inputs"] != inputs[stage]]
    if not fields and not changed:
        return
    what = "; ".join(f"config.{name} was {found.get(name)}, is now {wanted.get(name)}" for name in fields)
    redo = [stage for stage in inputs if not workdir.is_done(stage, inputs[stage])]
    fix = f"redo {', '.join(redo)} and keep the rest" if redo else "keep all of its results"
    raise InputError(
        f"{workdir.path} must hold a run of this config, got a different one "
        f"({what or 'its input files or the devices have changed'}). Give --rerun to {fix}, --restart to start over, "
        "or another --workdir."
    )


def take(workdir: Workdir, inputs: dict[str, str], *, restart: bool) -> None:
    """Claims the directory: removes the stamps of stages to redo or, with `restart`, everything of the old run."""
    if restart:
        workdir.clear()
    workdir.mark()
    for stage in inputs:
        if workdir.stamp(stage) and not workdir.is_done(stage, inputs[stage]):
            workdir.unstamp(stage)
    if not all(workdir.is_done(stage, inputs[stage]) for stage in inputs):
        for name in ("results.json", "report.html"):  # their numbers would be outdated
            (workdir / name).unlink(missing_ok=True)


def take_checkpoints(folder: epath.Path, inputs: str, *, vouched: bool, log: Callable[[str], None]) -> None:
    """Claims the checkpoint folder of a training stage; checkpoints of other inputs are never resumed.

    Args:
        folder: the stage's folder, created if it is missing.
        inputs: the fingerprint of the stage.
        vouched: whether the stage is stamped, so that the checkpoints are known to belong to these inputs.
        log: called with a message if it is unknown which inputs the checkpoints belong to.
    """
    owner, checkpoints = folder / OWNER, folder / "checkpoints"
    try:
        of = _owner(owner)
    except (OSError, ValueError) as error:
        of = None
        log(f"{owner} is damaged ({reason(error)}) and will be rewritten")
    if of == inputs:
        return
    if of is not None and not vouched:
        remove(folder)
    elif checkpoints.exists() and not vouched:
        aside = folder / "checkpoints-of-unknown-inputs"
        remove(aside)
        checkpoints.rename(aside)
        log(f"{checkpoints} may belong to another config: renamed to {aside.name}, training starts over")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(owner, sealed({"inputs": inputs}))


def _owner(path: epath.Path) -> str | None:
    """Returns the fingerprint of the checkpoints next to the file, or None; raises if the file is damaged."""
    if not path.exists():
        return None
    text = path.read_bytes()
    if re.fullmatch(rb"[0-9a-f]{16}", text):  # the format of earlier versions
        return text.decode()
    inputs = read_sealed(path).get("inputs")
    if not isinstance(inputs, str):
        raise ValueError("its inputs are missing or not text")
    return inputs
