"""tpu_vm.sh against a gcloud that plays its part: the right commands in the right order, and nothing left or lost."""

import os
import signal
import time

import pytest

ALL = {
    "NAME": "digits",
    "PROJECT": "my-project",
    "ZONE": "us-east5-b",
    "ACCELERATOR_TYPE": "v6e-16",
    "BUCKET": "gs://my-bucket/sas_jax",
}
FLAGS = ("--", "--config=configs/digits.py", "--config.arms=(('sas', 0.2, 0),)")
RUNNING = ["sas_jax w-0 running", "sas_jax w-1 running"]


def ended(*codes):
    return [f"sas_jax w-{k} ended {code}" for k, code in enumerate(codes)]


def created(stage, **settings):
    stage.play(states=["ACTIVE"])
    stage.run("tpu_vm.sh", "create", **(ALL | settings))
    (stage.folder / "calls.jsonl").unlink()


def record(stage):
    return dict(line.split("=", 1) for line in (stage.records / "tpu_vm").read_text().splitlines())


def queued(call):
    """The queued resource that a call of gcloud names."""
    return next(word for word in call if word.startswith("sas-jax-"))


def interrupted(stage, verb, times, *arguments, **settings):
    """What tpu_vm.sh says to Ctrl-C, which comes when this verb was called so often."""
    process = stage.start("tpu_vm.sh", *arguments, **settings)
    end = time.monotonic() + 30
    while stage.names().count(verb) < times:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    return err


def test_create_asks_waits_and_records(stage):
    stage.play(states=["WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    _, err = stage.run("tpu_vm.sh", "create", **ALL)
    assert stage.names() == ["create"] + ["describe"] * 4
    ask = stage.calls()[0]
    name = queued(ask)
    assert name.startswith("sas-jax-digits-")
    assert ask[:4] == ["compute", "tpus", "queued-resources", "create"]
    assert {
        f"--node-id={name}-node", "--project=my-project", "--zone=us-east5-b", "--accelerator-type=v6e-16",
        "--runtime-version=v2-alpha-tpuv6e",
    } <= set(ask)  # fmt: skip
    assert not {"--spot", "--reserved"} & set(ask)
    assert err.count("WAITING_FOR_RESOURCES") == 1
    assert f"billed: {name} (queued resource) and {name}-node" in err
    assert record(stage)["RUN_TOKEN"] == name.rpartition("-")[2]


@pytest.mark.parametrize(
    ("accelerator", "version"),
    [
        ("v6e-8", "v2-alpha-tpuv6e"),
        ("v5p-16", "v2-alpha-tpuv5"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v4-16", "tpu-ubuntu2204-base"),
    ],
)
def test_each_generation_has_its_runtime(stage, accelerator, version):
    out, _ = stage.run("tpu_vm.sh", "create", "--dry_run", **(ALL | {"ACCELERATOR_TYPE": accelerator}))
    assert f"--accelerator-type={accelerator} --runtime-version={version} " in out


@pytest.mark.parametrize(("capacity", "flag"), [("spot", "--spot"), ("reserved", "--reserved")])
def test_capacity_and_the_other_settings_reach_gcloud(stage, capacity, flag):
    stage.play(states=["ACTIVE"])
    stage.run(
        "tpu_vm.sh", "create",
        **ALL, CAPACITY=capacity, VALID_UNTIL="6h", SERVICE_ACCOUNT="me@my-project.iam", RUNTIME_VERSION="newer",
    )  # fmt: skip
    assert {
        flag, "--valid-until-duration=6h", "--service-account=me@my-project.iam", "--runtime-version=newer",
    } <= set(stage.calls()[0])  # fmt: skip


@pytest.mark.parametrize("states", [["WAITING_FOR_RESOURCES", "FAILED"], ["SUSPENDED"]])
def test_a_request_that_fails_is_deleted(stage, states):
    stage.play(states=states)
    stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert stage.names()[-1] == "delete"
    assert queued(stage.calls()[-1]) == queued(stage.calls()[0])
    assert not (stage.records / "tpu_vm").exists()


def test_a_request_that_is_refused_is_deleted_in_case_it_was_made(stage):
    verbs = "gcloud compute tpus queued-resources"
    stage.play(states=["NOT_FOUND"], **{f"{verbs} create": [1], f"{verbs} delete": [1]})
    stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert stage.names() == ["create", "delete", "describe"]
    assert not (stage.records / "tpu_vm").exists()


def test_what_could_not_be_deleted_is_kept_in_mind_and_named(stage):
    stage.play(**{"gcloud compute tpus queued-resources delete": [1]}, states=["FAILED"])
    _, err = stage.run("tpu_vm.sh", "create", code=1, **ALL)
    name = queued(stage.calls()[0])
    assert f"{name} could not be deleted and may cost" in err
    assert record(stage)["RUN_TOKEN"] in name
    stage.play()
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    assert queued(stage.calls()[-1]) == name
    assert not (stage.records / "tpu_vm").exists()


def test_create_again_waits_for_what_was_asked(stage):
    """No second slice, after Ctrl-C while it waited."""
    stage.play(states=["WAITING_FOR_RESOURCES"])
    err = interrupted(stage, "describe", 1, "create", **ALL)
    assert "stands and may cost" in err
    assert "delete" not in stage.names()
    stage.play(states=["ACTIVE"])
    stage.run("tpu_vm.sh", "create", NAME="digits")
    assert stage.names().count("create") == 1
    assert len({queued(call) for call in stage.calls()}) == 1


def test_gcloud_may_fail_to_answer_for_a_while(stage):
    stage.play(states=["UNAVAILABLE", "UNAVAILABLE", "ACTIVE"])
    stage.run("tpu_vm.sh", "create", **ALL)
    assert "delete" not in stage.names()


def test_when_gcloud_never_answers_the_request_is_left_alone(stage):
    stage.play(states=["UNAVAILABLE"])
    _, err = stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert "stands and may cost" in err
    assert "delete" not in stage.names()
    assert (stage.records / "tpu_vm").exists()


def test_setup_takes_the_commit_to_all_workers(stage):
    created(stage)
    stage.run("tpu_vm.sh", "setup", NAME="digits")
    assert stage.names("git") == ["-C", "bundle"]  # status and bundle
    assert stage.names() == ["scp", "ssh"]
    for call in stage.calls():
        assert "--worker=all" in call
    assert '"[tpu,gcp]"' in stage.calls()[1][-2]


def test_run_starts_on_all_workers_and_ends_with_their_exit_code(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[RUNNING, RUNNING, ["sas_jax w-0 ended 0", RUNNING[1]], ended(0, 0)])
    out, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert stage.names() == ["ssh"] + ["describe", "ssh"] * 4
    start = stage.calls()[0]
    assert "--worker=all" in start
    line = next(word for word in start if word.startswith("--command="))
    assert "-m sas_jax.main --distributed --workdir=gs://my-bucket/sas_jax/runs/digits --config=" in line
    assert "ended 0" in out
    assert "costs until" in err


def test_a_failed_run_is_not_started_again(stage):
    created(stage, CAPACITY="spot")
    stage.play(states=["ACTIVE"], reports=[RUNNING, ended(0, 2)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", code=2)
    assert stage.names() == ["ssh", "describe", "ssh", "describe", "ssh"]


@pytest.mark.parametrize("report", [ended(75, 75), ["sas_jax w-0 lost", "sas_jax w-1 ended 134"]])
def test_a_run_that_was_stopped_on_a_slice_that_stays_is_started_again(stage, report):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[RUNNING, report, RUNNING, ended(0, 0)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    starts = [call for call in stage.calls() if any("runner.sh" in word and "RUNNER" in word for word in call)]
    assert len(starts) == 2
    assert starts[0] == starts[1]
    assert not {"create", "delete"} & set(stage.names())


def test_a_preempted_slice_is_deleted_asked_for_anew_and_goes_on(stage):
    created(stage, CAPACITY="spot")
    old = record(stage)["RUN_TOKEN"]
    stage.play(
        states=["ACTIVE", "SUSPENDING", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE"], reports=[RUNNING, ended(0, 0)],
    )  # fmt: skip
    _, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert "was preempted" in err
    assert stage.names() == [
        "ssh", "describe", "ssh", "describe", "delete", "create", "describe", "describe",
        "scp", "ssh", "ssh", "describe", "ssh",
    ]  # fmt: skip
    new = record(stage)["RUN_TOKEN"]
    assert new != old
    delete, create = stage.calls()[4:6]
    assert queued(delete).endswith(old)
    assert queued(create).endswith(new)
    assert "--spot" in create
    lines = [next((word for word in call if "RUNNER" in word), None) for call in stage.calls()]
    assert len({line for line in lines if line}) == 1  # the same command
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    assert queued(stage.calls()[-1]).endswith(new)


@pytest.mark.parametrize(("capacity", "state"), [("on_demand", "SUSPENDED"), ("spot", "NOT_FOUND"), ("spot", "FAILED")])
def test_a_slice_that_somebody_else_ended_is_not_made_anew(stage, capacity, state):
    created(stage, CAPACITY=capacity)
    stage.play(states=["ACTIVE", state], reports=[RUNNING])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", code=1)
    assert not {"create", "delete"} & set(stage.names())
    assert (stage.records / "tpu_vm").exists()


def test_restarts_have_an_end(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[ended(75, 75)])
    _, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", MAX_RESTARTS=2, code=1)
    assert "MAX_RESTARTS" in err
    assert stage.names().count("scp") == 2


def test_workers_may_be_out_of_reach_for_a_while(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[255, 255, RUNNING, ended(0, 0)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert stage.names().count("scp") == 0


def test_ctrl_c_leaves_run_and_slice_as_they_are(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[RUNNING])
    err = interrupted(stage, "ssh", 3, "run", *FLAGS, NAME="digits")
    assert "runs on and costs" in err
    assert "delete" not in stage.names()


def test_status_logs_and_fetch(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[RUNNING])
    out, err = stage.run("tpu_vm.sh", "status", NAME="digits")
    assert "sas_jax w-1 running" in out
    assert "billed: sas-jax-digits-" in err
    now = stage.records / "logs" / "now"
    now.mkdir(parents=True)
    (now / "0.log").write_text("first\nlast\n")
    out, _ = stage.run("tpu_vm.sh", "logs", NAME="digits", LOG_LINES=1)
    assert "last" in out
    assert "first" not in out
    assert f"--output-directory={now}" in stage.calls()[-1]


def test_delete_deletes_what_was_created_and_asks_for_nothing_else(stage):
    created(stage)
    token = record(stage)["RUN_TOKEN"]
    _, err = stage.run("tpu_vm.sh", "delete", NAME="digits")
    (call,) = stage.calls()
    assert call == [
        "compute", "tpus", "queued-resources", "delete", f"sas-jax-digits-{token}",
        "--project=my-project", "--zone=us-east5-b", "--force", "--quiet",
    ]  # fmt: skip
    assert f"sas-jax-digits-{token}-node" in err
    stage.run("tpu_vm.sh", "delete", NAME="digits", code=2)
    assert len(stage.calls()) == 1


@pytest.mark.parametrize("command", ["setup", "run", "status", "logs", "fetch", "delete"])
def test_what_was_not_created_from_here_is_not_touched(stage, command):
    flags = FLAGS if command == "run" else ()
    _, err = stage.run("tpu_vm.sh", command, *flags, code=2, **ALL)
    assert "was not created from here" in err
    assert stage.calls() == []


def test_another_project_than_that_of_the_record_is_refused(stage):
    created(stage)
    _, err = stage.run("tpu_vm.sh", "delete", NAME="digits", PROJECT="other", code=2)
    assert "PROJECT is other, but digits was created with my-project" in err
    assert stage.calls() == []


@pytest.mark.parametrize("missing", ["NAME", "PROJECT", "ZONE", "ACCELERATOR_TYPE", "BUCKET"])
def test_a_setting_that_is_missing_is_asked_for(stage, missing):
    _, err = stage.run("tpu_vm.sh", "create", code=1, **(ALL | {missing: None}))
    assert f"{missing}: set it to" in err
    assert stage.calls() == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("NAME", "Digits_1"),
        ("BUCKET", "my-bucket"),
        ("BUCKET", "gs://b/"),
        ("CAPACITY", "cheap"),
        ("ACCELERATOR_TYPE", "v9"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(stage, setting, value):
    _, err = stage.run("tpu_vm.sh", "create", code=2, **(ALL | {setting: value}))
    assert value in err
    assert stage.calls() == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("make",), ("create", "--dryrun"), ("create", "delete"), ("delete", "--", "--config=a"), ("run",),
     ("run", "--", "--config=a", "--workdir=runs/a")],
)  # fmt: skip
def test_a_command_line_that_cannot_be_is_refused(stage, arguments):
    if arguments[:1] == ("run",):
        created(stage)
    stage.run("tpu_vm.sh", *arguments, code=2, **ALL)
    assert stage.calls() == []


@pytest.fixture
def live(stage):
    """Two workers whose lines of shell are really run, in homes of their own; their Python exits as the play says."""
    stage.program("hostname", 'echo "$FAKE_HOST"')
    stage.program("python3", "exit 0")
    for k in range(2):
        home = stage.folder / "workers" / f"w-{k}"
        for folder in (".local/bin", "sas_jax-venv/bin", "sas_jax"):
            (home / folder).mkdir(parents=True)
        python = stage.program(f"python-{k}", f'[ "$1" = -c ] || {{ echo "$@"; exit "$(cat {stage.folder}/code)"; }}')
        python.rename(home / "sas_jax-venv/bin/python")
        uv = stage.program(f"uv-{k}", "exit 0")
        uv.rename(home / ".local/bin/uv")
    # git makes the folder that the worker's line goes to.
    stage.program("git", 'for last; do :; done; [[ " $* " != *" clone "* ]] || mkdir -p "$last"')
    created(stage)
    return stage


def test_the_lines_for_the_workers_do_what_they_are_for(live):
    (live.folder / "code").write_text("0")
    live.run("tpu_vm.sh", "setup", NAME="digits")
    out, _ = live.run("tpu_vm.sh", "status", NAME="digits")
    assert out.count("idle") == 2
    out, _ = live.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", POLL_SECONDS=0.2)
    assert "sas_jax w-0 ended 0" in out
    assert "sas_jax w-1 ended 0" in out
    for home in (live.folder / "workers").iterdir():
        log = (home / "run" / "log").read_text()
        assert log.strip() == (
            "-m sas_jax.main --distributed --workdir=gs://my-bucket/sas_jax/runs/digits "
            "--config=configs/digits.py --config.arms=(('sas', 0.2, 0),)"
        )
    data = [call for call in live.calls() if call[:2] == ["storage", "rsync"]]
    assert sorted(call[2:4] for call in data) == [
        ["gs://my-bucket/sas_jax/data", str(live.folder / "workers" / f"w-{k}" / "tensorflow_datasets")]
        for k in range(2)
    ]
    kept = [call for call in live.calls() if call[:2] == ["storage", "cp"]]
    assert len(kept) == 2
    assert {call[3] for call in kept} == {"gs://my-bucket/sas_jax/logs/digits/"}
    assert {call[2].rpartition("Z-")[2] for call in kept} == {"w-0.log", "w-1.log"}


def test_workers_start_once_and_say_when_they_were_lost(live):
    (live.folder / "code").write_text("0")
    for home in (live.folder / "workers").iterdir():
        python = home / "sas_jax-venv/bin/python"
        python.write_text(f"#!/bin/bash\necho $$ >> {home}/started\nexec sleep 30\n")
    process = live.start("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    starts = [home / "started" for home in (live.folder / "workers").iterdir()]
    end = time.monotonic() + 30
    while not all(path.exists() and path.read_text() for path in starts):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=30)
    out, err = live.run("tpu_vm.sh", "setup", NAME="digits", code=1)
    assert "nothing is changed under it" in out + err
    process = live.start("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    while live.names().count("ssh") < 6:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=30)
    for path in starts:
        pid = int(path.read_text())  # one line: started once
        runner = int((path.parent / "run" / "pid").read_text())
        os.kill(runner, signal.SIGKILL)
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.1)
    out, _ = live.run("tpu_vm.sh", "status", NAME="digits")
    assert out.count("lost") == 2


def test_a_dry_run_calls_nothing_and_writes_nothing(stage):
    for command in ("create", "setup", "run", "status", "logs", "fetch", "delete"):
        flags = FLAGS if command == "run" else ()
        out, _ = stage.run("tpu_vm.sh", command, "--dry_run", *flags, **ALL)
        assert out
    assert not (stage.folder / "calls.jsonl").exists()
    assert not (stage.folder / "launch").exists()
