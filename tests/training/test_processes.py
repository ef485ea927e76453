"""Training in separate processes: killed, stopped, on two hosts, and after losing one host."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sas_jax.preemption import EXIT_PREEMPTED

CHILD = Path(__file__).parent / "child.py"
STEPS = 15  # of three epochs


def start(directory, *arguments, environment=()):
    """Starts the child, with its output in a file beside the directory."""
    # Streamed and resident images give the same bits as users compile them, but not without optimisation.
    plainly = () if any(each.startswith("--devices") for each in arguments) else ("XLA_FLAGS",)
    settings = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", *plainly)}
    with (directory.parent / f"{directory.name}.log").open("a") as out:
        return subprocess.Popen(
            [sys.executable, str(CHILD), str(directory), *arguments],
            env=settings | {"JAX_PLATFORMS": "cpu"} | dict(environment), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def log(directory):
    return (directory.parent / f"{directory.name}.log").read_text()


def lines(directory):
    """Returns the lines of metrics.jsonl, without times."""
    path = directory / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in line.items() if not k.endswith(("_seconds", "_per_second"))} for line in found]


def finish(directory, *arguments):
    process = start(directory, *arguments)
    assert process.wait(timeout=300) == 0, log(directory)
    return parameters(directory)


def parameters(directory):
    with np.load(directory / "final.npz") as file:
        return [file[name] for name in file.files]


def assert_same(directory, whole):
    """Checks for the same bits and the same metrics: no gap, no duplicate."""
    for a, b in zip(parameters(directory), parameters(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert lines(directory) == lines(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs without disturbance."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    finish(directory)
    return directory


def until(condition, process, seconds=120):
    """Waits for the condition, or for the process to end."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def kill_again_and_again(directory, kills, *arguments):
    """Kills (-9) at random moments after each start has come further than the one before; returns these moments."""
    chance = random.Random(0)
    moments = []
    for _ in range(kills):
        before = len(lines(directory))
        process = start(directory, "--step_seconds=0.2", *arguments)
        # Half of the kills come while it writes its first line again, or a checkpoint; the others at some later point.
        until(lambda before=before: len(lines(directory)) > before, process)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        moments.append(len(lines(directory)))
    return moments


@pytest.mark.parametrize("streamed", [False, True])
def test_killed_again_and_again_it_ends_with_the_same_bits(whole, tmp_path, streamed):
    arguments = ["--streamed"] if streamed else []
    kills = int(os.environ.get("SAS_JAX_KILLS", 3))
    directory = tmp_path / "run"
    moments = kill_again_and_again(directory, kills - kills // 2 if streamed else kills, *arguments)
    finish(directory, *arguments)
    assert_same(directory, whole)
    assert moments[0] > 0  # it had begun
    assert "resumes at step" in log(directory)


@pytest.mark.parametrize("streamed", [False, True])
def test_asked_to_end_it_saves_and_says_so_by_its_exit_code(whole, tmp_path, streamed):
    arguments = ["--streamed"] if streamed else []
    directory = tmp_path / "run"
    process = start(directory, "--step_seconds=0.3", "--checkpoint_seconds=1e9", *arguments)
    until(lambda: lines(directory), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == EXIT_PREEMPTED, log(directory)
    assert "stopped by SIGTERM" in log(directory)
    assert "Traceback" not in log(directory)
    saved = max(int(path.name) for path in (directory / "proxy").iterdir() if path.name.isdecimal())
    assert saved >= lines(directory)[-1]["step"]
    finish(directory, *arguments)
    assert f"resumes at step {saved} of {STEPS}" in log(directory)
    assert_same(directory, whole)


def start_two(directory, *arguments):
    """Starts two hosts; one has the workdir of the other, and must not write to it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return [
        start(
            directory, "--distributed", "--devices=2", *arguments,
            environment={"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(place)},
        )
        for place in range(2)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def on_four(tmp_path_factory):
    directory = tmp_path_factory.mktemp("four") / "run"
    finish(directory, "--devices=4")
    return directory


def assert_close(directory, expected):
    """Checks the losses of the same run, up to the order of sums across processes."""
    assert [line["step"] for line in lines(directory)] == [line["step"] for line in lines(expected)]
    found, wanted = ([line["loss"] for line in lines(each)] for each in (directory, expected))
    np.testing.assert_allclose(found, wanted, rtol=2e-3)


@pytest.mark.parametrize("streamed", [False, True])
def test_two_hosts_give_the_losses_of_one(on_four, tmp_path, streamed):
    """Two devices each, against four of one process; when streaming, each host reads its part of every batch."""
    directory = tmp_path / "run"
    processes = start_two(directory, *(["--streamed"] if streamed else []))
    assert [process.wait(timeout=300) for process in processes] == [0, 0], log(directory)
    assert_close(directory, on_four)


def test_two_hosts_stop_at_the_same_step_and_go_on(on_four, tmp_path):
    """Only one of them gets SIGTERM."""
    directory = tmp_path / "run"
    processes = start_two(directory, "--step_seconds=0.3", "--checkpoint_seconds=1e9")
    until(lambda: lines(directory), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=120) for process in processes] == [EXIT_PREEMPTED] * 2, log(directory)
    assert "Traceback" not in log(directory)
    processes = start_two(directory)
    assert [process.wait(timeout=300) for process in processes] == [0, 0], log(directory)
    assert "resumes at step" in log(directory)
    assert_close(directory, on_four)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_dies_does_not_leave_the_other_hanging(tmp_path, victim):
    directory = tmp_path / "run"
    processes = start_two(directory, "--step_seconds=0.3", "--heartbeat_seconds=10")
    until(lambda: lines(directory), processes[0])
    processes[victim].kill()
    start = time.monotonic()
    assert processes[1 - victim].wait(timeout=60) != 0, log(directory)
    processes[victim].wait()
    assert time.monotonic() - start < 30  # the heartbeat's 10 seconds, twice, and some more for a busy machine
