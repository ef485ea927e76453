"""Runs the whole method with one command.

    python -m sas_jax.main --config=configs/NAME.py [--workdir=runs/NAME] [--config.section.field=value ...]

Trains the proxy, measures similarity, ranks, trains the arms and compares them. Stages that are already done in the
workdir are skipped.
"""

import sys

from absl import flags

from sas_jax import command
from sas_jax.errors import InputError

CONFIG = flags.DEFINE_string(
    "config", "", "Config file of the run, or the name of a shipped config; configs/default.py explains the fields."
)
FIELDS = flags.DEFINE_multi_string(
    "config_field", [], "Config field to override, section.field=value; also written --config.section.field=value."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory for the run's files; by default runs/<config name>.")
STOP_AFTER = flags.DEFINE_string(
    "stop_after",
    "report",
    "Last stage to run: data, proxy, embed, classes, rank, subset, train, evaluate or report.",
)
RERUN = flags.DEFINE_bool(
    "rerun", False, "If the config has changed, redo the stages that depend on the changes and keep the rest."
)
RESTART = flags.DEFINE_bool("restart", False, "Remove the run in the workdir and start over.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Run on several hosts, with this command on each; docs/training.md says how they find each other.",
)


def main() -> None:
    """Runs the pipeline as the flags say, and prints the results as tables."""
    command.require(CONFIG)
    # Imported after parsing the flags, so that a mistyped flag is reported at once.
    from sas_jax import config_file, devices, plan
    from sas_jax.results import printed
    from sas_jax.run import pipeline

    config = config_file.read(CONFIG.value, fields=FIELDS.value)
    name = plan.config_name(CONFIG.value)
    if WORKDIR.value == "":
        raise InputError("--workdir must name a directory, got ''. Name one, or leave the flag out.")
    workdir = WORKDIR.value or f"runs/{name}"
    if WORKDIR.value is None:
        print(f"workdir: {workdir} (change it with --workdir)")
    if config.train.deterministic or config.proxy.train.deterministic:
        devices.make_deterministic()
    if DISTRIBUTED.value:
        devices.join(heartbeat_seconds=config.runtime.heartbeat_seconds)
    devices.split_cpu(config.data.image_size, config.train.batch_size, config.proxy.train.batch_size)
    results = pipeline.run(
        config,
        workdir,
        stop_after=STOP_AFTER.value,
        rerun=RERUN.value,
        restart=RESTART.value,
        log=lambda text: print(text, flush=True) if devices.is_writer() else None,
    )
    if not devices.is_writer():
        return
    sys.stdout.write(printed.text(results))
    if STOP_AFTER.value == "report":
        print(f"report: {workdir}/report.html")
    else:
        print(f"stopped after {STOP_AFTER.value} (--stop_after); run again without --stop_after to continue")


if __name__ == "__main__":
    command.run(main, interrupted="; run the same command without --restart to resume from the last checkpoint")
