"""local.sh: its processes, signals and exit codes with a fake Python, and a whole run with the real one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sas_jax import Ranking

ROOT = Path(__file__).parent.parent.parent
FLAGS = ("--", "--config=configs/digits.py", "--config.arms=(('sas', 0.2, 0),)")
SMALL = (
    "--config=configs/digits.py", "--config.proxy.train.epochs=2", "--config.train.epochs=1",
    "--config.embedding.views=2", "--config.evaluation.geometry=False",
    "--config.arms=(('sas', 0.2, 0), ('random', 0.2, 0))",
)  # fmt: skip


def play(stage, line):
    """Sets what each process does; $K is its number."""
    stage.program("python", f'K=$JAX_PROCESS_ID\necho "process $K"\necho "$@" > {stage.folder}/said-$K\n{line}')


def wait_for(*paths):
    end = time.monotonic() + 30
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_process_is_told_who_it_is(stage):
    play(stage, f'env | grep ^JAX_ > "{stage.folder}/env-$K"')
    out, _ = stage.run("local.sh", "3", *FLAGS)
    environments = [
        dict(line.split("=") for line in (stage.folder / f"env-{k}").read_text().splitlines()) for k in range(3)
    ]
    assert [each.pop("JAX_PROCESS_ID") for each in environments] == ["0", "1", "2"]
    assert environments[0] == environments[1] == environments[2]
    assert environments[0]["JAX_NUM_PROCESSES"] == "3"
    assert environments[0]["JAX_PLATFORMS"] == "cpu"
    host, port = environments[0]["JAX_COORDINATOR_ADDRESS"].split(":")
    assert host == "localhost"
    assert 1024 < int(port) < 65536
    for k in range(3):
        said = (stage.folder / f"said-{k}").read_text()
        assert said.strip() == " ".join(["-m", "sas_jax.main", "--distributed", *FLAGS[1:]])
        assert (stage.folder / f"runs/launch/local/process-{k}.log").read_text() == f"process {k}\n"
    assert out == "process 0\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_to_all(stage, number):
    play(stage, 'trap "echo saved; exit 75" TERM; echo up > up-$K; while :; do sleep 0.05; done')
    process = stage.start("local.sh", "3", *FLAGS)
    wait_for(*(stage.folder / f"up-{k}" for k in range(3)))
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode == 75
    for k in range(3):
        assert "saved" in (stage.folder / f"runs/launch/local/process-{k}.log").read_text()


def test_where_one_fails_the_others_are_asked_to_end_and_its_exit_code_is_given(stage):
    play(
        stage,
        'if [ "$K" = 1 ]; then while ! [ -s up-2 ]; do sleep 0.01; done; exit 3; fi\n'
        'trap "echo saved; exit 75" TERM; echo up > up-$K; while :; do sleep 0.05; done',
    )
    _, err = stage.run("local.sh", "3", *FLAGS, code=3)
    assert "process 1 ended with exit code 3" in err
    assert "saved" in (stage.folder / "runs/launch/local/process-2.log").read_text()


def test_who_does_not_end_is_killed(stage):
    first = '[ "$K" = 0 ] && { until [ -s pid ]; do sleep 0.1; done; exit 2; }'  # not before the other is running
    play(stage, f'{first}\ntrap "" TERM\necho $$ > pid\nexec sleep 60')
    started = time.monotonic()
    stage.run("local.sh", "2", *FLAGS, code=2, GRACE_SECONDS=1)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((stage.folder / "pid").read_text()), 0)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--", "--config=a"), ("0", "--", "--config=a"), ("two",), ("2",), ("2", "3"), ("2", *FLAGS, "--dry_run")],
)
def test_a_command_line_that_cannot_be_is_refused(stage, arguments):
    play(stage, "true")
    process = stage.start("local.sh", *arguments)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (1, 2)
    assert err
    assert not (stage.folder / "said-0").exists()


def test_a_time_to_end_that_is_no_number_is_refused_before_the_start(stage):
    play(stage, "true")
    _, err = stage.run("local.sh", "2", *FLAGS, code=2, GRACE_SECONDS="abc")
    assert "GRACE_SECONDS must be a whole number, got abc" in err
    assert not (stage.folder / "said-0").exists()


def test_a_dry_run_starts_nothing(stage):
    play(stage, "true")
    out, _ = stage.run("local.sh", "2", "--dry_run", *FLAGS)
    assert "JAX_PROCESS_ID=0 'python' '-m' 'sas_jax.main' '--distributed'" in out
    assert "JAX_PROCESS_ID=1" in out
    assert not (stage.folder / "said-0").exists()
    assert not (stage.folder / "runs").exists()


def real(folder, *flags, processes=2):
    """Returns a runner of the command itself or of local.sh 2 with the real Python; its output goes to folder/logs."""
    settings = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    start = [ROOT / "launch/local.sh", "2", "--"] if processes == 2 else [sys.executable, "-m", "sas_jax.main"]
    return subprocess.Popen(
        [*start, *SMALL, *flags], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=settings | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu", "LOGS": str(folder / "logs")},
    )  # fmt: skip


def metrics(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def said(folder):
    return [path.read_text() for path in sorted((folder / "logs").glob("*.log"))]


@pytest.mark.skipif("SAS_JAX_REHEARSAL" not in os.environ, reason="takes minutes: make test-launch runs it")
def test_two_processes_come_to_the_report_of_one(tmp_path):
    """After SIGTERM, both stop at the same step, and the same command resumes.

    Rounding depends on the division of sums among processes, and training amplifies it (one process on 1, 2 and 4
    devices differs as much), so the losses are only close. The ranking of the same embeddings is the same.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    assert real(tmp_path, f"--workdir={one}", processes=1).wait(timeout=300) == 0
    process = real(tmp_path, f"--workdir={two}")
    end = time.monotonic() + 300
    while not metrics(two) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 75, said(tmp_path)
    assert all("stopped by SIGTERM" in log for log in said(tmp_path))
    assert real(tmp_path, f"--workdir={two}").wait(timeout=600) == 0, said(tmp_path)
    assert "resumes at step" in said(tmp_path)[0]
    assert (two / "report.html").exists()
    lines = [[(line["stage"], line["step"]) for line in metrics(workdir)] for workdir in (one, two)]
    assert lines[0] == lines[1]
    losses = [[line["loss"] for line in metrics(workdir)] for workdir in (one, two)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)

    ranked = tmp_path / "ranked"
    given = (f"--config.proxy.embeddings={one}/embeddings.npy", "--stop_after=rank", f"--workdir={ranked}")
    assert real(tmp_path, *given).wait(timeout=300) == 0, said(tmp_path)
    rankings = [Ranking.load(workdir / "ranking.parquet") for workdir in (one, ranked)]
    np.testing.assert_array_equal(rankings[0].classes, rankings[1].classes)
    np.testing.assert_array_equal(rankings[0].position, rankings[1].position)
