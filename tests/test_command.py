"""What the commands share: errors of files in a sentence, and where compiled programs are kept."""

import errno
import os
import sys

import jax
import pytest
from absl import app

from sas_jax import command


@pytest.fixture
def called(monkeypatch, capsys):
    """Runs a function as a command; returns its exit code and what it said on stderr."""

    def call(main):
        monkeypatch.setattr(command, "_use_compilation_cache", lambda: None)
        monkeypatch.setattr(command.preemption, "listen", lambda: None)
        monkeypatch.setattr(app, "run", lambda main, flags_parser: main([]))
        monkeypatch.setattr(sys, "argv", ["sas_jax/main.py"])
        with pytest.raises(SystemExit) as ended:
            command._run(main, "")
        return ended.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES"])
def test_a_file_that_cannot_be_written_is_a_sentence(called, name):
    def main():
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "runs/x/embeddings.npy")

    code, said = called(main)
    assert code == command.EXIT_INPUT
    assert said.startswith("sas_jax.main: a file cannot be written ([Errno ")
    assert "embeddings.npy" in said
    assert said.count("\n") == 1


def test_a_full_standard_output_is_a_sentence(called, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, said = called(lambda: print("a table"))
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert code == command.EXIT_INPUT
    assert "No space left on device" in said


@pytest.fixture
def settings():
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_compiled_programs_are_kept_in_the_home_directory(tmp_path, monkeypatch, settings, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    command._use_compilation_cache()
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / ".cache" / "sas_jax" / "xla")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["/dev/null", "/proc/none", None, "given", "link"])
def test_where_they_cannot_be_kept_that_is_said_once(tmp_path, monkeypatch, settings, capsys, place):
    """A home that is no folder or cannot be written, no home, a folder of the user's own; no folder "~" is made."""
    monkeypatch.chdir(tmp_path)
    given = None
    if place is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    elif place == "given":
        (tmp_path / "file").write_text("")
        given = str(tmp_path / "file" / "cache")
    elif place == "link":
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        monkeypatch.setenv("HOME", str(tmp_path / "loop"))
    else:
        monkeypatch.setenv("HOME", place)
    jax.config.update("jax_compilation_cache_dir", given)
    before = list(tmp_path.iterdir())
    command._use_compilation_cache()
    said = capsys.readouterr().err
    assert "compiled programs are not kept, so that each start takes longer (" in said
    assert "Set JAX_COMPILATION_CACHE_DIR to a directory that can be written." in said
    assert said.count("\n") == 1
    assert not jax.config.values["jax_enable_compilation_cache"]
    assert list(tmp_path.iterdir()) == before
