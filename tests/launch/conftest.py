"""A stage for the scripts in launch/: the programs they call are played by fake.py."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
GCLOUD = shutil.which("gcloud")  # the real one, which can check the command lines


class Stage:
    """Runs scripts with fakes first on PATH."""

    def __init__(self, folder):
        self.folder = folder
        self.started: list[subprocess.Popen] = []
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.records = folder / "launch" / "digits"
        self.checkout = folder / "checkout"  # the scripts take this for their checkout and write here
        self.checkout.mkdir()
        (self.checkout / "launch").symlink_to(ROOT / "launch")
        self.play()
        for name in ("gcloud", "xpk", "kubectl", "git", "srun", "sbatch", "scontrol"):
            self.program(name, (Path(__file__).parent / "fake.py").read_text(), f"{sys.executable} -I")

    def program(self, name, text, interpreter="/bin/bash"):
        path = self.bin / name
        path.write_text(f"#!{interpreter}\n{text}\n")
        path.chmod(0o755)
        return path

    def play(self, **play):
        """Sets what the fakes do from now on."""
        (self.folder / "play.json").write_text(json.dumps(play))

    def environment(self, **settings):
        ours = {"FAKE": self.folder, "LAUNCH_DIR": self.folder / "launch", "POLL_SECONDS": "0.01", "HOME": self.folder}
        base = {"PATH": f"{self.bin}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
        return base | {name: str(value) for name, value in (ours | settings).items() if value is not None}

    def start(self, script, *arguments, **settings):
        self.started.append(subprocess.Popen(
            [str(self.checkout / "launch" / script), *arguments],
            env=self.environment(**settings), text=True, cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ))  # fmt: skip
        return self.started[-1]

    def end(self):
        """Ends the processes that a test left running."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def run(self, script, *arguments, code=0, **settings):
        """Runs a script, checks its exit code, and returns its (output, messages)."""
        process = self.start(script, *arguments, **settings)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        return out, err

    def interrupted(self, verb, times, script, *arguments, program="gcloud", **settings):
        """Sends Ctrl-C once this verb of the program was called `times` times, and returns the script's messages."""
        process = self.start(script, *arguments, **settings)
        self.wait(lambda: self.names(program).count(verb) >= times)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        return err

    def wait(self, there):
        end = time.monotonic() + 60
        while not there():
            assert time.monotonic() < end
            time.sleep(0.01)

    def calls(self, program="gcloud"):
        path = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call[1:] for call in calls if call[0] == program]

    def names(self, program="gcloud"):
        """Returns the verb of each call, in order."""
        verbs = ("create", "describe", "delete", "list", "ssh", "scp", "rsync", "cp", "read", "bundle", "clone")
        return [next((word for word in call if word in verbs), call[0]) for call in self.calls(program)]


@pytest.fixture
def ctrl_c():
    """Makes started programs react to Ctrl-C even if the tests run in the background, where programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stage(tmp_path, ctrl_c, gcloud_calls):
    stage = Stage(tmp_path)
    yield stage
    stage.end()
    for call in stage.calls():
        shape = " ".join(word.partition("=")[0] for word in call if not word.startswith(("sas-jax-", "/")))
        gcloud_calls.setdefault(shape, shlex.join(["gcloud", *call]))


@pytest.fixture(scope="module")
def gcloud_calls(tmp_path_factory):
    """Command lines, one of each shape, that the real gcloud must accept if it is installed; nothing is sent.

    It checks all command lines of a module at once, because it takes seconds to start.
    """
    lines: dict[str, str] = {}
    yield lines
    if GCLOUD is None or not lines:
        return
    folder = tmp_path_factory.mktemp("gcloud")
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in lines.values()]))
    lint = subprocess.run(
        [GCLOUD, "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    results = json.loads(lint.stdout)
    assert len(results) == len(lines)
    assert not [result["error_message"] for result in results if not result["success"]]
