"""xpk.sh against an xpk that notes its calls."""

import subprocess

import pytest

ALL = {
    "NAME": "digits",
    "PROJECT": "my-project",
    "ZONE": "us-east5-b",
    "CLUSTER": "my-cluster",
    "TPU_TYPE": "v6e-16",
    "BUCKET": "gs://my-bucket/sas_jax",
}
FLAGS = ("--", "--config=configs/digits.py", "--config.arms=(('sas', 0.2, 0),)")
AT = ["--cluster=my-cluster", "--project=my-project", "--zone=us-east5-b"]


def workload(stage):
    (line,) = (x for x in (stage.records / "xpk").read_text().splitlines() if x.startswith("RUN_TOKEN="))
    return "digits-" + line.partition("=")[2]


def test_run_submits_the_commit_with_restarts(stage):
    _, err = stage.run("xpk.sh", "run", *FLAGS, **ALL, NUM_SLICES=2, MAX_RESTARTS=3)
    (call,) = stage.calls("xpk")
    assert call[:2] == ["workload", "create"]
    assert {
        f"--workload={workload(stage)}", *AT, "--tpu-type=v6e-16", "--num-slices=2", "--max-restarts=3",
        "--restart-on-exit-codes=1,75",
    } <= set(call)  # fmt: skip
    assert call[-1].endswith(
        "exec python -m sas_jax.main --distributed --workdir=gs://my-bucket/sas_jax/runs/digits "
        "--config=configs/digits.py '--config.arms=(('\\''sas'\\'', 0.2, 0),)'"
    )
    clone = stage.calls("git")[-1]
    assert f"--script-dir={clone[-1]}" in call  # what is committed, and nothing of runs/ or .venv/
    assert f"workload {workload(stage)} (2 x v6e-16)" in err


def test_the_line_for_the_workers_is_shell_that_does_what_it_is_for(stage):
    """With a pip and a Python that are played: the install, the data, then the run and its exit code."""
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    line = stage.calls("xpk")[0][-1].removeprefix("--command=")
    stage.program("pip", f'printf "%s\\n" "$@" >> {stage.folder}/pip')
    stage.program(
        "python", f'printf "%s\\n" "$@" >> {stage.folder}/python; if [ "$1" = -c ]; then exit 1; else exit 75; fi'
    )
    ran = subprocess.run(["bash", "-c", line], env=stage.environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 75
    assert "no data came" in ran.stdout
    assert (stage.folder / "pip").read_text().splitlines()[-1] == ".[tpu,gcp]"
    code, *flags = (stage.folder / "python").read_text().splitlines()[1:]
    compile(code, "copy", "exec")
    assert "'gs://my-bucket/sas_jax/data/'" in code
    assert flags[-1] == FLAGS[-1]


def test_a_submission_that_fails_is_deleted(stage):
    stage.play(**{"xpk workload create": [1]})
    stage.run("xpk.sh", "run", *FLAGS, code=1, **ALL)
    create, delete = stage.calls("xpk")
    assert delete[:2] == ["workload", "delete"]
    assert delete[2] == create[2]
    assert not (stage.records / "xpk").exists()


def test_what_could_not_be_deleted_is_kept_in_mind(stage):
    stage.play(**{"xpk workload create": [1], "xpk workload delete": [1]})
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=1, **ALL)
    assert f"{workload(stage)} could not be deleted and may cost" in err


def test_delete_deletes_what_was_submitted(stage):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    name = workload(stage)
    stage.run("xpk.sh", "delete", NAME="digits")
    assert stage.calls("xpk")[1:] == [["workload", "delete", f"--workload={name}", *AT, "--force"]]
    stage.run("xpk.sh", "delete", NAME="digits", code=2)
    assert len(stage.calls("xpk")) == 2


def test_status_logs_and_fetch_are_of_this_workload(stage):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    name = workload(stage)
    stage.run("xpk.sh", "status", NAME="digits")
    assert stage.calls("xpk")[-1] == ["workload", "list", *AT, f"--filter-by-job={name}"]
    stage.run("xpk.sh", "logs", NAME="digits")
    assert f'"{name}"' in stage.calls()[-1][2]


def test_a_second_run_of_the_name_is_refused(stage):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=2, **ALL)
    assert "was submitted already" in err
    assert len(stage.calls("xpk")) == 1


@pytest.mark.parametrize("command", ["status", "logs", "fetch", "delete"])
def test_what_was_not_submitted_from_here_is_not_touched(stage, command):
    _, err = stage.run("xpk.sh", command, code=2, **ALL)
    assert "was not submitted from here" in err
    assert stage.calls() == stage.calls("xpk") == []


@pytest.mark.parametrize("missing", ["NAME", "PROJECT", "ZONE", "CLUSTER", "TPU_TYPE", "BUCKET"])
def test_a_setting_that_is_missing_is_asked_for(stage, missing):
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=1, **(ALL | {missing: None}))
    assert f"{missing}: set it to" in err
    assert stage.calls("xpk") == []


def test_a_dry_run_calls_nothing_and_writes_nothing(stage):
    for command in ("run", "status", "logs", "fetch", "delete"):
        out, _ = stage.run("xpk.sh", command, "--dry_run", *(FLAGS if command == "run" else ()), **ALL)
        assert out
    assert not (stage.folder / "calls.jsonl").exists()
    assert not (stage.folder / "launch").exists()
