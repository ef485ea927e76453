"""The commit that a run records is that of sas_jax itself."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sas_jax import environment


def git(folder, *arguments):
    named = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    settings = {name: value for name, value in os.environ.items() if name not in named}
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=settings).stdout.strip()


def commit_of(monkeypatch, package):
    package.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(environment.__file__), package / "environment.py")
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    return environment._commit


@pytest.mark.parametrize("place", [".venv/lib/sas_jax", "vendor/sas_jax", "sas_jax"])
@pytest.mark.parametrize("added", [False, True])
def test_a_repository_around_the_package_is_not_its_own(tmp_path, monkeypatch, place, added):
    """Only a repository with the package at its top, and committed, is a checkout of it."""
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs").write_text("")
    commit = commit_of(monkeypatch, tmp_path / place)
    git(tmp_path, "add", "." if added else "theirs")
    git(tmp_path, "commit", "-qm", "theirs")
    own = added and place == "sas_jax"
    assert commit() == (git(tmp_path, "rev-parse", "--short=12", "HEAD") if own else None)
    if own:
        (tmp_path / "sas_jax" / "environment.py").write_text("changed")
        assert commit().endswith("-dirty")


def test_a_repository_that_the_environment_names_is_not_asked(tmp_path, monkeypatch):
    """As in a git hook."""
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "theirs")
    before = environment._commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert environment._commit() == before


def test_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment._commit() is None
