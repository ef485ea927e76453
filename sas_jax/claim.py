"""Whose a run's directory is: found out before anything in it is touched."""

from typing import Any

from sas_jax import plan
from sas_jax.errors import InputError
from sas_jax.workdir import OWN_FILES, OWN_PATTERNS, Workdir, flatten, jsonable


def check(workdir: Workdir, config: dict[str, Any], inputs: dict[str, str], *, rerun: bool, restart: bool) -> None:
    """Makes sure that this run may use the directory; nothing that stands in it is changed.

    Args:
        workdir: the run's.
        config: of the run, as a dict.
        inputs: the run's stages and their fingerprints.
        rerun: stages of another config may be done again.
        restart: the run that is there may be removed.

    Raises:
        InputError: it holds files that no run made, or a run of another config or from other files.
    """
    there = [name for name in OWN_FILES if (workdir / name).exists()]
    there += [path.name for pattern in OWN_PATTERNS for path in workdir.path.glob(pattern)]
    if there and not workdir.is_marked():
        raise InputError(
            f"a workdir has to be empty or hold a run, but {workdir.path} holds {', '.join(there)} that no run made: "
            f"choose another with --workdir"
        )
    if restart:
        return
    stored = workdir.stored_config()
    if rerun:
        return
    wanted, found = (plan.that_matters(flatten(jsonable(each))) for each in (config, stored or config))
    fields = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    changed = [stage for stage in inputs if (stamp := workdir.stamp(stage)) and stamp["inputs"] != inputs[stage]]
    if not fields and not changed:
        return
    what = "; ".join(f"config.{name} was {found.get(name)}, is {wanted.get(name)}" for name in fields)
    redo = [stage for stage in inputs if not workdir.is_done(stage, inputs[stage])]
    raise InputError(
        f"{workdir.path} holds a run of another config ({what or 'files it reads, or the devices, have changed'}): "
        f"give --rerun to do {', '.join(redo) or 'nothing'} anew and keep the rest, --restart to begin from nothing, "
        f"or another --workdir"
    )


def take(workdir: Workdir, inputs: dict[str, str], *, restart: bool) -> None:
    """Makes the directory this run's: what has to be done again loses its stamp, and with `restart` all is removed."""
    if restart:
        workdir.clear()
    workdir.mark()
    for stage in inputs:
        if workdir.stamp(stage) and not workdir.is_done(stage, inputs[stage]):
            workdir.unstamp(stage)
    if not all(workdir.is_done(stage, inputs[stage]) for stage in inputs):
        for name in ("results.json", "report.html"):  # they would tell of other numbers than the stages
            (workdir / name).unlink(missing_ok=True)
