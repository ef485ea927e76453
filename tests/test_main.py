"""The command as a user runs it: processes, exit codes, one sentence for a mistake, and kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
SMALL = [
    "--config=configs/digits.py",
    "--config.data.image_size=8",
    "--config.proxy.encoder.width=0.125",
    "--config.encoder.width=0.125",
    "--config.proxy.train.epochs=2",
    "--config.train.epochs=3",
    "--config.embedding.views=1",
    "--config.train.batch_size=64",
    "--config.arms=(('selected', 0.2, 0), ('random', 0.2, 1, 'byol'))",
    "--config.evaluation.probe_iterations=30",
    "--config.runtime.checkpoint_epochs=1",
]
MORE = [  # for make test-kill
    "--config.arms=(('selected', 0.2, 0), ('random', 0.2, 1, 'byol', 'steps'), ('k_center', 0.2, 0))",
    "--config.evaluation.supervised_fractions=(0.2,)",
]


def start(*arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    """In a separate process; tests/test_command.py has the other cases."""
    code, out, err = run(
        "-m", "sas_jax.main", "--config=configs/digits.py", "--config.seed=abc", f"--workdir={tmp_path / 'run'}"
    )
    assert err.startswith("sas_jax.main: config.seed must be a whole number from 0 to 2,147,483,647, got 'abc'.")
    assert err.count("\n") == 1
    assert (code, out) == (2, "")
    assert not (tmp_path / "run").exists()


def untimed(value):
    """Returns a value without the fields that hold times."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if not k.endswith(("_seconds", "_per_second"))}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def progress(workdir):
    """Returns how far a run has come: its finished stages and its number of lines of metrics."""
    metrics = workdir / "metrics.jsonl"
    return len(list(workdir.glob("stamps/*.json"))) + (len(metrics.read_text().splitlines()) if metrics.exists() else 0)


def test_a_comparison_killed_at_random_points_ends_with_the_same_numbers(tmp_path):
    """kill -9 at any point: proxy, embedding, ranking, arms of two methods, their evaluation; `embed` at the end."""
    kills = int(os.environ.get("SAS_JAX_KILLS", 1))
    command = ["-m", "tests.one_stage", "sas_jax.main", *SMALL, *(MORE if kills > 1 else [])]
    code, out, err = run(*command, f"--workdir={tmp_path / 'whole'}")
    assert code == 0, err
    assert "Linear probe" in out
    assert f"report: {tmp_path / 'whole'}/report.html" in out
    rng = np.random.default_rng(kills)
    for point in sorted(rng.integers(1, progress(tmp_path / "whole") - 2, kills)):
        process = start(*command, f"--workdir={tmp_path / 'killed'}")
        deadline = time.monotonic() + 300
        while progress(tmp_path / "killed") < point:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()  # waits, and closes the pipes
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "report.html").exists()
    code, _, err = run(*command, f"--workdir={tmp_path / 'killed'}")
    assert code == 0, err
    whole, killed = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed"))
    assert untimed(whole) == untimed(killed)
    lines = [
        [untimed(json.loads(line)) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    assert lines[0] == lines[1]
    np.testing.assert_array_equal(
        np.load(tmp_path / "whole" / "embeddings.npy"), np.load(tmp_path / "killed" / "embeddings.npy")
    )

    for i in range(3):
        Image.new("RGB", (9, 9), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
    arguments = [
        "-m",
        "tests.one_stage",
        "sas_jax.embed",
        f"--encoder={tmp_path / 'whole'}",
        f"--images={tmp_path}",
        f"--output={tmp_path / 'out' / 'E.npy'}",
    ]
    code, out, err = run(*arguments)
    assert code == 0, err
    features = np.load(tmp_path / "out" / "E.npy")
    assert features.shape == (3, 8)
    assert len(np.unique(features, axis=0)) == 3
    assert (tmp_path / "out" / "E.ids.txt").read_text() == "0.png\n1.png\n2.png\n"
    assert "3 x 8 features from sas-0.20-s0" in out
    code, out, err = run(*arguments[:-1])
    assert (code, out) == (2, "")
    assert "--output must be given, got none" in err
