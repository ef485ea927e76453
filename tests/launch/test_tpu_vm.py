"""tpu_vm.sh with a fake gcloud: the right commands in the right order, and no resource left behind or lost."""

import os
import shutil
import signal
from pathlib import Path

import pytest

ALL = {
    "NAME": "digits",
    "PROJECT": "my-project",
    "ZONE": "us-east5-b",
    "ACCELERATOR_TYPE": "v6e-16",
    "BUCKET": "gs://my-bucket/sas_jax",
}
FLAGS = ("--", "--config=configs/digits.py", "--config.arms=(('sas', 0.2, 0),)")
EMPTY = ["sas_jax w-0 empty", "sas_jax w-1 empty"]
IDLE = ["sas_jax w-0 idle", "sas_jax w-1 idle"]
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
    """Returns the queued resource that a call of gcloud names."""
    return next(word for word in call if word.startswith("sas-jax-"))


def started(stage):
    """Returns the shell code of each start of a run on all workers."""
    return [word for call in stage.calls() for word in call if "runner.sh <<" in word]


def test_create_asks_waits_and_records(stage):
    stage.play(states=["WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    _, err = stage.run("tpu_vm.sh", "create", **ALL)
    assert stage.names() == ["list", "create"] + ["describe"] * 4
    ask = stage.calls()[1]
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
    } <= set(stage.calls()[1])  # fmt: skip


@pytest.mark.parametrize(
    "states",
    [["WAITING_FOR_RESOURCES", "FAILED"], ["SUSPENDED"], ["PROVISIONING", "DELETING"], ["ACCEPTED", "NOT_FOUND"]],
)
def test_a_request_that_fails_is_deleted(stage, states):
    stage.play(states=states)
    stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert stage.names()[-1] == "delete"
    assert queued(stage.calls()[-1]) == queued(stage.calls()[1])
    assert not (stage.records / "tpu_vm").exists()


def test_a_request_that_is_refused_is_deleted_in_case_it_was_made(stage):
    verbs = "gcloud compute tpus queued-resources"
    stage.play(states=["NOT_FOUND"], **{f"{verbs} create": [1], f"{verbs} delete": [1]})
    stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert stage.names() == ["list", "create", "delete", "describe"]
    assert not (stage.records / "tpu_vm").exists()


def test_what_could_not_be_deleted_is_kept_in_mind_and_named(stage):
    stage.play(**{"gcloud compute tpus queued-resources delete": [1]}, states=["FAILED"])
    _, err = stage.run("tpu_vm.sh", "create", code=1, **ALL)
    name = queued(stage.calls()[1])
    assert str(stage.records / "tpu_vm") in err
    assert f"{name} could not be deleted and may be billed" in err
    assert record(stage)["RUN_TOKEN"] in name
    stage.play()
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    assert queued(stage.calls()[-1]) == name
    assert not (stage.records / "tpu_vm").exists()


def test_ctrl_c_while_it_asks_leaves_a_record_of_what_may_stand(stage):
    stage.play(**{"gcloud compute tpus queued-resources create": ["HANG"]})
    err = stage.interrupted("create", 1, "tpu_vm.sh", "create", **ALL)
    assert "remains and may be billed" in err
    assert stage.names() == ["list", "create"]
    assert record(stage)["RUN_TOKEN"] in queued(stage.calls()[-1])


def test_where_google_cloud_cannot_be_asked_nothing_is_recorded(stage):
    stage.play(**{"gcloud compute tpus queued-resources list": [1]})
    _, err = stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert "nothing was requested" in err
    assert stage.names() == ["list"]
    assert not (stage.records / "tpu_vm").exists()


@pytest.mark.parametrize("hangs", ["queued-resources create", "queued-resources describe"])
def test_two_creates_of_one_name_ask_for_one_slice(stage, hangs):
    stage.play(**{f"gcloud compute tpus {hangs}": ["HANG"]})
    first = stage.start("tpu_vm.sh", "create", **ALL)
    stage.wait(lambda: hangs.split()[1] in stage.names())
    before = record(stage)
    _, err = stage.run("tpu_vm.sh", "create", code=2, **ALL)
    assert f"got process {first.pid}. End it first" in err
    assert stage.names().count("create") == 1
    assert record(stage) == before


@pytest.mark.parametrize("command", ["create", "setup", "run", "delete"])
def test_while_run_watches_others_may_only_look(stage, command):
    created(stage, CAPACITY="spot")
    stage.play(states=["ACTIVE"], reports=[RUNNING])
    watcher = stage.start("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    stage.wait(lambda: "ssh" in stage.names())
    flags = FLAGS if command == "run" else ()
    _, err = stage.run("tpu_vm.sh", command, *flags, NAME="digits", code=2)
    assert f"got process {watcher.pid}. End it first" in err
    stage.run("tpu_vm.sh", "status", NAME="digits")
    stage.run("tpu_vm.sh", "fetch", NAME="digits")
    stage.run("tpu_vm.sh", command, "--dry_run", *flags, NAME="digits")
    assert not {"create", "delete", "scp"} & set(stage.names())
    assert watcher.poll() is None


@pytest.mark.parametrize(("command", "left"), [("run", "sleep"), ("run", "ssh"), ("setup", "scp")])
def test_what_a_killed_command_left_behind_holds_no_lock(stage, command, left):
    created(stage)
    if left == "sleep":
        stage.program("sleep", f"echo sleep > {stage.folder}/left; exec {shutil.which('sleep')} 300")
        stage.play(states=["ACTIVE"], reports=[RUNNING])
    else:
        stage.play(states=["ACTIVE"], **{f"gcloud compute tpus tpu-vm {left}": ["HANG"]})
    killed = stage.start("tpu_vm.sh", command, *(FLAGS if command == "run" else ()), NAME="digits")
    stage.wait(lambda: left in stage.names() or (stage.folder / "left").exists())
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=60)
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    os.killpg(killed.pid, signal.SIGKILL)  # processes left by it are in its group


def test_create_again_waits_for_what_was_asked(stage):
    """After Ctrl-C during the wait, no second slice is requested."""
    stage.play(states=["WAITING_FOR_RESOURCES"])
    err = stage.interrupted("describe", 1, "tpu_vm.sh", "create", **ALL)
    assert "remains and may be billed" in err
    assert "delete" not in stage.names()
    stage.play(states=["ACTIVE"])
    stage.run("tpu_vm.sh", "create", NAME="digits")
    assert stage.names().count("create") == 1
    assert len({queued(call) for call in stage.calls() if "list" not in call}) == 1


def test_gcloud_may_fail_to_answer_for_a_while(stage):
    stage.play(states=["UNAVAILABLE", "UNAVAILABLE", "ACTIVE"])
    stage.run("tpu_vm.sh", "create", **ALL)
    assert "delete" not in stage.names()


def test_when_gcloud_never_answers_the_request_is_left_alone(stage):
    stage.play(states=["UNAVAILABLE"])
    _, err = stage.run("tpu_vm.sh", "create", code=1, **ALL)
    assert "remains and may be billed" in err
    assert "delete" not in stage.names()
    assert (stage.records / "tpu_vm").exists()


def test_setup_takes_the_commit_to_all_workers(stage):
    created(stage)
    stage.run("tpu_vm.sh", "setup", NAME="digits")
    assert stage.names("git") == ["-C", "bundle"]  # git status and git bundle
    assert str(stage.records / "sas_jax.bundle") in stage.calls()[0]
    assert stage.names() == ["scp", "ssh"]
    for call in stage.calls():
        assert "--worker=all" in call
    assert '"[tpu,gcp]"' in stage.calls()[1][-2]


def test_run_starts_on_all_workers_and_ends_with_their_exit_code(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[IDLE, RUNNING, ["sas_jax w-0 ended 0", RUNNING[1]], ended(0, 0)])
    out, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert stage.names() == ["describe", "ssh", "ssh"] + ["describe", "ssh"] * 3
    start = stage.calls()[2]
    assert "--worker=all" in start
    line = next(word for word in start if word.startswith("--command="))
    assert "-m sas_jax.main --distributed --workdir=gs://my-bucket/sas_jax/runs/digits --config=" in line
    assert "ended 0" in out
    assert "billed until" in err


def test_a_failed_run_is_not_started_again(stage):
    created(stage, CAPACITY="spot")
    stage.play(states=["ACTIVE"], reports=[RUNNING, ended(0, 2)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", code=2)
    assert stage.names() == ["describe", "ssh"] * 2


@pytest.mark.parametrize("report", [ended(75, 75), ["sas_jax w-0 lost", "sas_jax w-1 ended 134"]])
def test_a_run_that_was_stopped_on_a_slice_that_stays_is_started_again(stage, report):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[IDLE, RUNNING, report, RUNNING, ended(0, 0)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    first, again = started(stage)
    assert first == again
    assert stage.names().count("scp") == 1
    assert not {"create", "delete"} & set(stage.names())


def test_a_preempted_slice_is_deleted_asked_for_anew_and_goes_on(stage):
    created(stage, CAPACITY="spot")
    old = record(stage)["RUN_TOKEN"]
    stage.play(
        states=["ACTIVE", "ACTIVE", "SUSPENDING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"],
        reports=[IDLE, RUNNING, EMPTY, ended(0, 0)],
    )
    _, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert "was preempted" in err
    assert stage.names() == [
        "describe", "ssh", "ssh", "describe", "ssh", "describe", "delete", "create",
        "describe", "describe", "describe", "describe", "ssh", "scp", "ssh", "ssh", "describe", "ssh",
    ]  # fmt: skip
    new = record(stage)["RUN_TOKEN"]
    assert new != old
    delete, create = stage.calls()[6:8]
    assert queued(delete).endswith(old)
    assert queued(create).endswith(new)
    assert "--spot" in create
    first, again = started(stage)
    assert first == again
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    assert queued(stage.calls()[-1]).endswith(new)


def test_a_slice_that_is_taken_before_it_is_there_is_one_more_restart(stage):
    created(stage, CAPACITY="spot")
    taken = ["ACTIVE", "SUSPENDED", "PROVISIONING", "SUSPENDED", "PROVISIONING", "ACTIVE"]
    stage.play(states=taken, reports=[RUNNING, EMPTY, ended(0, 0)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", MAX_RESTARTS=2)
    assert stage.names().count("create") == stage.names().count("delete") == 2
    stage.play(states=taken, reports=[RUNNING])
    _, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", MAX_RESTARTS=1, code=1)
    assert "MAX_RESTARTS" in err
    assert stage.names().count("create") == 3
    assert (stage.records / "tpu_vm").exists()


@pytest.mark.parametrize(
    ("what", "codes", "reports", "starts"),
    [
        ("scp", [1, 0], [EMPTY, EMPTY], 1),
        ("ssh", [255, 0], [EMPTY, EMPTY], 1),  # installing fails
        ("ssh", [0, 255, 0], [EMPTY, IDLE], 2),  # starting fails
    ],
)
def test_a_new_slice_that_is_not_reached_at_once_is_tried_again(stage, what, codes, reports, starts):
    created(stage, CAPACITY="spot")
    stage.play(
        states=["ACTIVE", "SUSPENDED", "ACTIVE"], reports=[RUNNING, *reports, RUNNING, ended(0, 0)],
        **{f"gcloud compute tpus tpu-vm {what}": codes},
    )  # fmt: skip
    _, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", MAX_RESTARTS=2)
    assert err.count("not all workers were reached") == 1
    assert len(started(stage)) == starts
    assert stage.names().count("create") == 1


def test_workers_that_are_never_reached_are_given_up(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[IDLE], **{"gcloud compute tpus tpu-vm ssh": [255]})
    _, err = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", MAX_RESTARTS=2, code=1)
    assert "MAX_RESTARTS" in err
    assert len(started(stage)) == 3


def test_run_waits_for_a_slice_that_is_not_there_yet(stage):
    """Ctrl-C while it waits for a new slice, then the same command; it waits longer than workers may not answer."""
    created(stage, CAPACITY="spot")
    stage.play(states=["WAITING_FOR_RESOURCES"] * 25 + ["CREATING", "ACTIVE"], reports=[EMPTY, RUNNING, ended(0, 0)])
    out, _ = stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert out.count("WAITING_FOR_RESOURCES") == 1
    assert not {"create", "delete"} & set(stage.names())
    assert len(started(stage)) == 1


def test_restarts_have_the_commit_of_setup(stage):
    created(stage)
    stage.run("tpu_vm.sh", "setup", NAME="digits")
    stage.play(states=["ACTIVE"], reports=[IDLE, ended(75, 75), ended(0, 0)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert stage.names().count("scp") == 2
    assert stage.names("git").count("bundle") == 1
    stage.run("tpu_vm.sh", "setup", NAME="digits")
    assert stage.names("git").count("bundle") == 2
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    assert not (stage.records / "sas_jax.bundle").exists()


def test_run_also_sets_up_where_setup_was_forgotten(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[EMPTY, ended(0, 0)])
    stage.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", MAX_RESTARTS=0)
    assert stage.names("git").count("bundle") == stage.names().count("scp") == len(started(stage)) == 1


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
    err = stage.interrupted("ssh", 3, "tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert "remains and is billed" in err
    assert "delete" not in stage.names()


def test_status_logs_and_fetch(stage):
    created(stage)
    stage.play(states=["ACTIVE"], reports=[RUNNING])
    out, err = stage.run("tpu_vm.sh", "status", NAME="digits")
    assert "sas_jax w-1 running" in out
    assert "billed: sas-jax-digits-" in err
    stage.play(**{"gcloud compute tpus": [1]})
    stage.run("tpu_vm.sh", "status", NAME="digits", code=1)
    assert stage.names()[-3:] == ["describe", "describe", "ssh"]  # a queued slice has no TPU yet


@pytest.mark.parametrize("deleted", [False, True])
def test_fetch_copies_logs_and_workdir_also_after_delete(stage, deleted):
    created(stage)
    if deleted:
        stage.run("tpu_vm.sh", "delete", NAME="digits")
    stage.run("tpu_vm.sh", "fetch", NAME="digits")
    logs, workdir = stage.calls()[-2:]
    bucket, here = "gs://my-bucket/sas_jax", stage.checkout / "runs" / "digits"
    assert logs == ["storage", "rsync", f"{bucket}/logs/digits", str(stage.records / "logs"), "--recursive"]
    assert workdir == ["storage", "rsync", f"{bucket}/runs/digits", str(here), "--recursive"]
    assert (stage.records / "logs").is_dir()
    assert here.is_dir()


@pytest.mark.parametrize("missing", ["logs", "runs"])
def test_fetch_gets_what_there_is(stage, missing):
    """It fails: there is no workdir if the run failed at once, and no logs if the bucket accepts none."""
    created(stage)
    stage.play(**{f"gcloud storage rsync gs://my-bucket/sas_jax/{missing}": [1]})
    stage.run("tpu_vm.sh", "fetch", NAME="digits", code=1)
    assert stage.names() == ["rsync", "rsync"]


def test_a_name_can_be_used_again_after_delete(stage):
    created(stage)
    first = record(stage)["RUN_TOKEN"]
    stage.run("tpu_vm.sh", "delete", NAME="digits")
    created(stage, BUCKET="gs://other")
    assert record(stage)["RUN_TOKEN"] != first
    stage.run("tpu_vm.sh", "fetch", NAME="digits")
    assert "gs://other/runs/digits" in stage.calls()[-1]
    stage.run("tpu_vm.sh", "delete", NAME="digits")


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
    assert "was not created from this checkout" in err
    assert stage.calls() == []


@pytest.mark.parametrize("command", ["create", "status", "delete"])
@pytest.mark.parametrize(
    ("text", "why"),
    [("", "PROJECT is missing"), ("PROJECT=my-project\n", "ZONE is missing"), ("<?xml?>\n", "unknown field <?xml?>")],
)
def test_a_record_that_cannot_be_used_is_said_to_be_so(stage, command, text, why):
    stage.records.mkdir(parents=True)
    (stage.records / "tpu_vm").write_text(text)
    _, err = stage.run("tpu_vm.sh", command, code=2, **ALL)
    assert f"{stage.records / 'tpu_vm'} must be the record of digits, got an invalid one ({why}" in err
    assert stage.calls() == []


@pytest.mark.parametrize("command", ["create", "delete"])
def test_a_folder_where_the_record_has_to_be_is_said_to_be_in_the_way(stage, command):
    (stage.records / "tpu_vm").mkdir(parents=True)
    _, err = stage.run("tpu_vm.sh", command, code=2, **ALL)
    assert "must be a file" in err
    assert stage.calls() == []


@pytest.mark.parametrize("program", ["gcloud", "git", "flock"])
def test_a_program_that_is_missing_is_named_before_anything_is_done(stage, program):
    for name in {"bash", "dirname", "flock"} - {program}:
        (stage.bin / name).symlink_to(shutil.which(name))
    (stage.bin / program).unlink(missing_ok=True)
    _, err = stage.run("tpu_vm.sh", "create", code=2, **ALL, PATH=stage.bin)
    assert f"{program} must be on PATH" in err
    assert stage.calls() == []
    assert not stage.records.exists()


def test_another_project_than_that_of_the_record_is_refused(stage):
    created(stage)
    _, err = stage.run("tpu_vm.sh", "delete", NAME="digits", PROJECT="other", code=2)
    assert "PROJECT must be my-project, as when digits was created, got other" in err
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
        ("POLL_SECONDS", "30x"),
        ("MAX_RESTARTS", "ten"),
        ("MAX_RESTARTS", "08"),
        ("LOG_LINES", "1; true"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(stage, setting, value):
    _, err = stage.run("tpu_vm.sh", "create", code=2, **(ALL | {setting: value}))
    assert value in err
    assert stage.calls() == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("make",), ("create", "--dryrun"), ("create", "delete"), ("delete", "--", "--config=a"), ("run",),
     ("run", "--", "--config=a", "--workdir=runs/a"), ("run", "--", "--config=a", "--dry_run"),
     ("run", "--", "--dry_run=true")],
)  # fmt: skip
def test_a_command_line_that_cannot_be_is_refused(stage, arguments):
    if arguments[:1] == ("run",):
        created(stage)
    stage.run("tpu_vm.sh", *arguments, code=2, **ALL)
    assert stage.calls() == []


def runs(pid):
    """Returns whether a process runs; one that has ended has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.fixture
def live(stage):
    """Two workers, with home folders, that really run their shell code; their Python exits as scheduled."""
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
    # git creates the folder that the worker's code expects.
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


def test_a_run_that_has_ended_is_reported_again_and_starts_anew_after_setup(live):
    live.run("tpu_vm.sh", "setup", NAME="digits")
    (live.folder / "code").write_text("3")
    for _ in range(2):
        _, err = live.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", code=3)
        assert "has ended with exit code 3" in err
    assert len(started(live)) == 1
    live.run("tpu_vm.sh", "setup", NAME="digits")
    (live.folder / "code").write_text("0")
    live.run("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    assert len(started(live)) == 2


def test_a_run_that_ends_while_it_is_looked_at_is_not_lost(live):
    """It writes its exit code and then ends, so the report finds no process but finds the code."""
    for home in (live.folder / "workers").iterdir():
        (home / "run").mkdir()
        (home / "run" / "pid").write_text("1")
    live.program("grep", "echo 0 > ~/run/exit_code; exit 1")
    out, _ = live.run("tpu_vm.sh", "status", NAME="digits")
    assert out.count("ended 0") == 2


def test_logs_go_to_the_bucket_while_the_run_goes_on(live):
    """The fake Python ends once a log was copied; a minute is shortened here."""
    real = shutil.which("sleep")
    live.program("sleep", f'[ "$1" = 60 ] && exec {real} 0.05; exec {real} "$@"')
    for home in (live.folder / "workers").iterdir():
        (home / "sas_jax-venv/bin/python").write_text(
            f'#!/bin/bash\n[ "$1" = -c ] && exit\nfor k in {{1..1200}}; do\n'
            f"  grep -q '\"cp\".*{home.name}.log' {live.folder}/calls.jsonl && exit 4\n  {real} 0.05\ndone\n"
        )
    live.run("tpu_vm.sh", "run", *FLAGS, NAME="digits", code=4, POLL_SECONDS=0.2)


def test_logs_shows_the_end_of_each_workers_log(live):
    for home in (live.folder / "workers").iterdir():
        (home / "run").mkdir()
        (home / "run" / "log").write_text("first\nnext\nlast\n")
    out, _ = live.run("tpu_vm.sh", "logs", NAME="digits", LOG_LINES=2)
    assert out.splitlines() == ["w-0: next", "w-0: last", "w-1: next", "w-1: last"]
    live.program("gcloud", r'printf "w-1: b\nw-0: b\nw-1: a\n"')  # interleaved, as from several workers
    out, _ = live.run("tpu_vm.sh", "logs", NAME="digits")
    assert out.splitlines() == ["w-0: b", "w-1: b", "w-1: a"]


def test_workers_start_once_and_say_when_they_were_lost(live):
    workers = live.folder / "workers"
    starts = [workers / f"w-{k}" / "started" for k in range(2)]
    for path in starts:
        python = path.parent / "sas_jax-venv/bin/python"
        python.write_text(f'#!/bin/bash\n[ "$1" = -c ] || {{ echo $$ >> {path}; exec sleep 60; }}\n')
    live.run("tpu_vm.sh", "setup", NAME="digits")
    (workers / "w-1").rename(live.folder / "out of reach")
    process = live.start("tpu_vm.sh", "run", *FLAGS, NAME="digits")
    live.wait(lambda: starts[0].exists() and starts[0].read_text())
    process.terminate()
    process.communicate(timeout=60)
    (live.folder / "out of reach").rename(workers / "w-1")
    process = live.start("tpu_vm.sh", "run", *FLAGS, NAME="digits")  # starts the worker that is not running
    live.wait(lambda: starts[1].exists() and starts[1].read_text())
    process.terminate()
    process.communicate(timeout=60)
    out, err = live.run("tpu_vm.sh", "setup", NAME="digits", code=1)
    assert "so nothing is installed there" in out + err
    out, _ = live.run("tpu_vm.sh", "status", NAME="digits")
    assert out.count("running") == 2
    for path in starts:
        pid = int(path.read_text())  # a single line: it was started once
        runner = int((path.parent / "run" / "pid").read_text())
        os.kill(runner, signal.SIGKILL)
        os.kill(pid, signal.SIGTERM)
        live.wait(lambda runner=runner: not runs(runner))
    out, _ = live.run("tpu_vm.sh", "status", NAME="digits")
    assert out.count("lost") == 2


def test_a_dry_run_calls_nothing_and_writes_nothing(stage):
    for command in ("create", "setup", "run", "status", "logs", "fetch", "delete"):
        flags = FLAGS if command == "run" else ()
        out, _ = stage.run("tpu_vm.sh", command, "--dry_run", *flags, **ALL)
        assert out
    assert not (stage.folder / "calls.jsonl").exists()
    assert not (stage.folder / "launch").exists()
