"""slurm.sbatch, run as SLURM would, with fakes of srun and scontrol that record their calls."""

import os
import re
import signal
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "launch" / "slurm.sbatch"
FLAGS = ("--config=configs/digits.py", "--config.arms=(('sas', 0.2, 0),)")


def test_it_asks_slurm_for_a_process_for_each_gpu_for_a_warning_and_for_requeueing():
    """JAX gives each SLURM process the GPU of its number."""
    text = SCRIPT.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert options["gpus-per-node"] == options["ntasks-per-node"]
    assert not {"gpus-per-task", "gpu-bind"} & set(options)
    assert options["signal"] == "TERM@120"  # to the processes; "B:" would send it to the script only
    assert {"requeue", "open-mode"} <= set(options)
    # sbatch reads no options after the first command.
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert text.rindex("#SBATCH") < text.index(commands[0])


def test_it_runs_the_command_in_all_processes(stage):
    stage.run("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7, VENV="/env")
    (call,) = stage.calls("srun")
    assert call[-5:] == ["/env/bin/python", "-m", "sas_jax.main", "--distributed", *FLAGS][-5:]
    assert "--output=runs/launch/slurm-%j-%t.log" in call
    assert "--kill-on-bad-exit=0" in call
    assert "--cpus-per-task=8" in call
    assert stage.calls("scontrol") == []


def test_a_process_gets_the_cpus_that_sbatch_was_asked_for(stage):
    """srun does not inherit them from sbatch."""
    stage.run("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7, SLURM_CPUS_PER_TASK=3)
    assert "--cpus-per-task=3" in stage.calls("srun")[0]


def test_it_outlives_the_signal_that_stops_the_run_and_queues_it_again(stage):
    """SLURM sends it to all processes, including the script."""
    stage.program("srun", f'trap "exit 75" TERM; echo up > {stage.folder}/up; while :; do sleep 0.05; done')
    process = stage.start("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7)
    stage.wait((stage.folder / "up").exists)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert stage.calls("scontrol") == [["requeue", "7"]]


def test_a_preempted_run_is_queued_again(stage):
    stage.play(srun=[75])
    stage.run("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7, SLURM_RESTART_COUNT=2, code=75)
    assert stage.calls("scontrol") == [["requeue", "7"]]


def test_requeueing_has_an_end(stage):
    stage.play(srun=[75])
    _, err = stage.run("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7, SLURM_RESTART_COUNT=2, MAX_RESTARTS=2, code=75)
    assert "MAX_RESTARTS" in err
    _, err = stage.run("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7, MAX_RESTARTS=0, code=75)  # the first start has no count
    assert "after 0 restarts (MAX_RESTARTS): submit it again to resume" in err
    assert stage.calls("scontrol") == []


@pytest.mark.parametrize("code", [1, 2, 134])
def test_a_failed_run_is_not_queued_again(stage, code):
    stage.play(srun=[code])
    stage.run("slurm.sbatch", *FLAGS, SLURM_JOB_ID=7, code=code)
    assert stage.calls("scontrol") == []


def test_a_dry_run_calls_nothing(stage):
    out, _ = stage.run("slurm.sbatch", "--dry_run", *FLAGS)
    assert "'srun'" in out
    assert not (stage.folder / "calls.jsonl").exists()


@pytest.mark.parametrize("late", ["--dry_run", "--dry_run=true"])
def test_a_dry_run_asked_for_too_late_is_no_run(stage, late):
    _, err = stage.run("slurm.sbatch", *FLAGS, late, code=2, SLURM_JOB_ID=7)
    assert "Put --dry_run first" in err
    assert stage.calls("srun") == []


def test_a_number_of_restarts_that_is_none_is_refused_before_the_run(stage):
    _, err = stage.run("slurm.sbatch", *FLAGS, code=2, SLURM_JOB_ID=7, MAX_RESTARTS="ten")
    assert "MAX_RESTARTS must be a whole number, got ten" in err
    assert stage.calls("srun") == []


def test_without_flags_or_outside_of_a_job_it_says_what_to_do(stage):
    _, err = stage.run("slurm.sbatch", code=1)
    assert "give flags of sas_jax.main" in err
    _, err = stage.run("slurm.sbatch", *FLAGS, code=1)
    assert "sbatch" in err
    assert stage.calls("srun") == []
