"""The whole method: runs the stages that are not done yet, in the order of the data flow."""

from collections.abc import Callable, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sas_jax import config_checks, devices, environment, latent_classes, plan, settings
from sas_jax.errors import InputError
from sas_jax.estimate import Estimate
from sas_jax.latent_classes import Known
from sas_jax.results import collect as results
from sas_jax.run import claim, stages
from sas_jax.run.state import Run, given_embeddings
from sas_jax.selection.selectors import LISTED
from sas_jax.training import DEFAULT, check_batch
from sas_jax.workdir import Workdir, jsonable, write_json

STAGES: dict[str, Callable[[Run], None]] = {
    "data": stages.data,
    "proxy": stages.proxy,
    "embed": stages.embeddings,
    "classes": stages.classes,
    "rank": stages.rankings,
    "subset": stages.subsets,
    "train": stages.train,
    "evaluate": stages.evaluate,
    "report": stages.make_report,
}
"""The stages by name, in order."""


@settings.fixed
def run(
    config: ConfigDict,
    workdir: epath.PathLike,
    *,
    stop_after: str = "report",
    rerun: bool = False,
    restart: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs the stages of a run that are not done yet.

    Args:
        config: as configs/default.py makes it.
        workdir: directory of the run's files; each run has its own.
        stop_after: the last stage, one of `STAGES`.
        rerun: if the directory holds a run of another config, redo the stages that depend on the difference.
        restart: remove the run in the directory, and start from scratch.
        log: called with progress messages for the user.

    Returns:
        The content of results.json, as far as the run went.

    Raises:
        InputError: an argument or an input file is invalid; stages that were finished before are kept.
    """
    plan.one_of("--stop_after", stop_after, tuple(STAGES))
    config_checks.check(config)
    directory = Workdir(workdir, writes=devices.is_writer())
    with directory.held():
        return _carry_out(Run(config, directory, log), stop_after, rerun=rerun, restart=restart)


def _carry_out(run: Run, stop_after: str, *, rerun: bool, restart: bool) -> dict[str, Any]:
    wanted = list(STAGES)[: list(STAGES).index(stop_after) + 1]
    given, inputs = run.config.to_dict(), run.stamps.inputs
    if run.workdir.writes:
        claim.check(run.workdir, given, inputs, rerun=rerun, restart=restart, log=run.log)
    n = _check_sizes(run, wanted, fresh=restart)
    if run.workdir.writes:
        claim.take(run.workdir, inputs, restart=restart)
        for name, value in (("config.json", jsonable(given)), ("environment.json", environment.describe())):
            with run.workdir.writing(name) as path:
                write_json(path, value)
    devices.wait_for_all("the workdir is taken")
    run.on_speed = Estimate(run.config, _images_to_train_on(run, wanted, n), run.log).report
    run.evaluates = "evaluate" in wanted
    try:
        for name in wanted:
            STAGES[name](run)
    finally:
        run.metrics.close()
    if run.stamps.done_before:
        run.log(f"already done: {', '.join(run.stamps.done_before)}")
    return results.collect(run.config, inputs, run.workdir)


def _images_to_train_on(run: Run, wanted: Sequence[str], n: int) -> int:
    """Returns the number of images per epoch, of n, summed over all encoders that are not trained yet."""
    left = [arm for arm in run.arms if "train" in wanted and not run.stamps.is_done(f"train/{arm.name}")]
    sizes = [n if arm.step_rule == "steps" else run.chosen.size(arm, n) for arm in left]
    if "evaluate" in wanted:
        with_labels = [arm for arm in run.arms if plan.trains_supervised(run.config, arm)]
        sizes += [run.chosen.size(arm, n) for arm in with_labels if not run.stamps.is_done(f"supervised/{arm.name}")]
    return sum(sizes)


def _check_sizes(run: Run, wanted: Sequence[str], *, fresh: bool) -> int:
    """Checks that the wanted stages fit the images and the devices, before anything is done or removed.

    Returns the number of training images.
    """
    config, stamp = run.config, run.workdir.stamp("data")
    facts = stamp if stamp and not fresh and run.stamps.is_done("data") else run.data.found[1]
    n = facts["train_size"]
    trained: list[tuple[str, int, int, ConfigDict, str]] = []
    if "train" in wanted:
        for arm in run.arms:
            size = run.chosen.size(arm, n)
            seen = n if arm.step_rule == "steps" else size
            trained.append((arm.name, size, seen, config.train, "config.train"))
    elif any(arm.selector == LISTED for arm in run.arms):
        run.data.listed()
    if config.proxy.embeddings:
        if run.workdir.writes:
            given_embeddings(config, n, log=lambda _: None)
    elif "proxy" in wanted:
        trained.append(("proxy", n, n, config.proxy.train, "config.proxy.train"))
        run.trainers.proxy.start()  # raises an InputError if config.proxy.encoder.init is unusable
    if "train" in wanted:
        run.trainers.arm(DEFAULT).start()
    size_of_mesh = devices.mesh().size
    for name, size, seen, section, where in trained:
        steps = section.epochs * (seen // section.batch_size)
        check_batch(name, size, section.batch_size, steps=steps, section=where)
        if section.batch_size % size_of_mesh:
            raise InputError(
                f"{where}.batch_size must be divisible by the {size_of_mesh} devices, got {section.batch_size}. "
                f"Choose {-(-section.batch_size // size_of_mesh) * size_of_mesh}."
            )
    for name in plan.partitions_of_arms(config) if "classes" in wanted else ():
        if not run.stamps.is_done(plan.classes_stage(name)):
            section = plan.in_partition(config, name).latent_classes
            known = Known(facts["name"], n, facts["num_labelled"], lambda: run.data.found[0])
            latent_classes.check(section, known)
    return n
