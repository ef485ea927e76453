"""xpk.sh with a fake xpk that records its calls."""

import shutil
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
    ask, call = stage.calls("xpk")
    assert ask == ["workload", "list", *AT, f"--filter-by-job={workload(stage)}"]
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
    assert f"--script-dir={clone[-1]}" in call  # only committed files, nothing of runs/ or .venv/
    assert f"workload {workload(stage)} (2 x v6e-16)" in err


def test_the_line_for_the_workers_is_shell_that_does_what_it_is_for(stage):
    """With a fake pip and Python: the installation, the data, then the run and its exit code."""
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    line = stage.calls("xpk")[1][-1].removeprefix("--command=")
    stage.program("pip", f'printf "%s\\n" "$@" >> {stage.folder}/pip')
    stage.program(
        "python", f'printf "%s\\n" "$@" >> {stage.folder}/python; if [ "$1" = -c ]; then exit 1; else exit 75; fi'
    )
    ran = subprocess.run(["bash", "-c", line], env=stage.environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 75
    assert "no data was copied" in ran.stdout
    assert (stage.folder / "pip").read_text().splitlines()[-1] == ".[tpu,gcp]"
    code, *flags = (stage.folder / "python").read_text().splitlines()[1:]
    compile(code, "copy", "exec")
    assert "'gs://my-bucket/sas_jax/data/'" in code
    assert flags[-1] == FLAGS[-1]


def test_a_submission_that_fails_is_deleted(stage):
    stage.play(**{"xpk workload create": [1]})
    stage.run("xpk.sh", "run", *FLAGS, code=1, **ALL)
    _, create, delete = stage.calls("xpk")
    assert delete[:2] == ["workload", "delete"]
    assert delete[2] == create[2]
    assert not (stage.records / "xpk").exists()


def listed(*names):
    """Returns xpk's list of a cluster with these workloads; the task line has the requested name."""
    return "\n".join(["[XPK] Task: `List Jobs with filter-by-job=digits`", "Jobset Name   Status", *names])


def test_what_never_came_to_be_counts_as_deleted(stage):
    stage.play(
        **{"xpk workload create": [1], "xpk workload delete": [1], "xpk workload list": [listed("digits-0   Running")]}
    )
    stage.run("xpk.sh", "run", *FLAGS, code=1, **ALL)
    assert stage.names("xpk") == ["list", "create", "delete", "list"]
    assert not (stage.records / "xpk").exists()
    stage.play()
    stage.run("xpk.sh", "run", *FLAGS, **ALL)


@pytest.mark.parametrize("silent", [False, True])
def test_what_could_not_be_deleted_is_kept_in_mind(stage, silent):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    name = workload(stage)
    stage.play(**{"xpk workload delete": [1], "xpk workload list": [1 if silent else listed(f"{name}   Running")]})
    _, err = stage.run("xpk.sh", "delete", NAME="digits", code=1)
    assert f"{name} could not be deleted and may be billed" in err
    assert str(stage.records / "xpk") in err
    assert workload(stage) == name


def test_where_the_cluster_cannot_be_asked_nothing_is_recorded(stage):
    stage.play(**{"xpk workload list": [1]})
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=1, **ALL)
    assert "nothing was submitted" in err
    assert stage.names("xpk") == ["list"]
    assert not (stage.records / "xpk").exists()


@pytest.mark.parametrize("program", ["gcloud", "git", "flock", "xpk", "kubectl"])
def test_a_program_that_is_missing_is_named_before_anything_is_done(stage, program):
    for name in {"bash", "dirname", "flock"} - {program}:
        (stage.bin / name).symlink_to(shutil.which(name))
    (stage.bin / program).unlink(missing_ok=True)
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=2, **ALL, PATH=stage.bin)
    assert f"{program} must be on PATH" in err
    assert not stage.records.exists()


def test_ctrl_c_while_it_submits_says_what_may_stand_and_leaves_no_clone(stage):
    temporary = stage.folder / "temporary"
    temporary.mkdir()
    stage.play(**{"xpk workload create": ["HANG"]})
    err = stage.interrupted("create", 1, "xpk.sh", "run", *FLAGS, program="xpk", **ALL, TMPDIR=temporary)
    assert f"{workload(stage)} may have been submitted and billed" in err
    assert stage.names("xpk") == ["list", "create"]
    assert stage.calls("git")[-1][-1].startswith(str(temporary))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "delete"])
def test_while_it_submits_others_may_only_look(stage, command):
    stage.play(**{"xpk workload create": ["HANG"]})
    first = stage.start("xpk.sh", "run", *FLAGS, **ALL)
    stage.wait(lambda: "create" in stage.names("xpk"))
    flags = FLAGS if command == "run" else ()
    _, err = stage.run("xpk.sh", command, *flags, code=2, **ALL)
    assert f"got process {first.pid}. End it first" in err
    stage.run("xpk.sh", "status", NAME="digits")
    assert stage.names("xpk") == ["list", "create", "list"]


def test_delete_deletes_what_was_submitted(stage):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    name = workload(stage)
    stage.run("xpk.sh", "delete", NAME="digits")
    assert stage.calls("xpk")[2:] == [["workload", "delete", f"--workload={name}", *AT, "--force"]]
    stage.run("xpk.sh", "delete", NAME="digits", code=2)
    assert len(stage.calls("xpk")) == 3


def test_status_and_logs_are_of_this_workload(stage):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    name = workload(stage)
    stage.run("xpk.sh", "status", NAME="digits")
    assert stage.calls("xpk")[-1] == ["workload", "list", *AT, f"--filter-by-job={name}"]
    stage.play(**{"gcloud logging read": ["newest\nolder\noldest"]})
    out, _ = stage.run("xpk.sh", "logs", NAME="digits", LOG_LINES=5)
    assert out.splitlines() == ["oldest", "older", "newest"]
    assert f'"{name}"' in stage.calls()[-1][2]
    assert {"--project=my-project", "--limit=5", "--freshness=30d"} <= set(stage.calls()[-1])


@pytest.mark.parametrize("deleted", [False, True])
def test_fetch_copies_the_workdir_also_after_delete(stage, deleted):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    if deleted:
        stage.run("xpk.sh", "delete", NAME="digits")
    stage.run("xpk.sh", "fetch", NAME="digits")
    here = stage.checkout / "runs" / "digits"
    assert stage.calls() == [["storage", "rsync", "gs://my-bucket/sas_jax/runs/digits", str(here), "--recursive"]]
    assert here.is_dir()


def test_a_second_run_of_the_name_is_refused(stage):
    stage.run("xpk.sh", "run", *FLAGS, **ALL)
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=2, **ALL)
    assert "was submitted already" in err
    assert stage.names("xpk") == ["list", "create"]


@pytest.mark.parametrize(
    ("setting", "value"), [("NUM_SLICES", "two"), ("MAX_RESTARTS", "ten"), ("LOG_LINES", "-1"), ("BUCKET", "my-bucket")]
)
def test_a_setting_that_cannot_be_is_refused(stage, setting, value):
    _, err = stage.run("xpk.sh", "run", *FLAGS, code=2, **(ALL | {setting: value}))
    assert f"{setting} must be" in err
    assert value in err
    assert stage.calls("xpk") == []


def test_a_dry_run_asked_for_too_late_is_no_run(stage):
    _, err = stage.run("xpk.sh", "run", *FLAGS, "--dry_run", code=2, **ALL)
    assert "Put --dry_run before --" in err
    assert stage.calls("xpk") == []


def test_a_record_that_cannot_be_used_is_said_to_be_so(stage):
    stage.records.mkdir(parents=True)
    (stage.records / "xpk").write_text("PROJECT=my-project\n")
    _, err = stage.run("xpk.sh", "delete", code=2, **ALL)
    assert "got an invalid one (ZONE is missing)" in err
    assert stage.calls("xpk") == []


@pytest.mark.parametrize("command", ["status", "logs", "fetch", "delete"])
def test_what_was_not_submitted_from_here_is_not_touched(stage, command):
    _, err = stage.run("xpk.sh", command, code=2, **ALL)
    assert "was not submitted from this checkout" in err
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
