"""The command line, in this process: flags arrive, and a mistake is one sentence and exit code 2."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import app, flags

import sas_jax
from sas_jax import command, main, preemption
from sas_jax.run import pipeline


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs sas_jax.main with these arguments; returns its exit code, standard output and standard error."""
    monkeypatch.setattr(command, "_use_compilation_cache", lambda: None)
    monkeypatch.setattr(preemption, "listen", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def call(*arguments):
        flags.FLAGS.unparse_flags()
        for name in ("config", "config_field", "workdir", "stop_after"):
            flags.FLAGS[name].value = flags.FLAGS[name].default
        monkeypatch.setattr(sys, "argv", ["sas_jax/main.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.run(main.main)
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def configs(monkeypatch):
    """Records the configs that reach the pipeline, which does nothing."""
    found = []
    monkeypatch.setattr(pipeline, "run", lambda config, *_, **__: found.append(config) or {"arms": [], "dataset": {}})
    monkeypatch.setattr("sas_jax.results.printed.text", lambda results: "")
    monkeypatch.setattr("sas_jax.devices.split_cpu", lambda *sizes: None)
    return found


DIGITS = "--config=configs/digits.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [DIGITS, "--config.proxy.trian.epochs=3"],
            "got config.proxy.trian.epochs. Did you mean config.proxy.train.e",
        ),
        ([DIGITS, "--config.seed=abc"], "config.seed must be a whole number from 0 to 2,147,483,647, got 'abc'. See"),
        ([DIGITS, "--config.seed"], "config.seed must be a whole number from 0 to 2,147,483,647, got 'true'"),
        ([DIGITS, "--config.proxy=3"], "got the section config.proxy"),
        ([DIGITS, "--config.arms[9]=3"], "got config.arms[9]"),
        (
            [DIGITS, "--config.train.batch_size=1e30"],
            "config.train.batch_size must be a whole number from 2 to 1,000,000",
        ),
        ([DIGITS, "--config.train.learning_rate=1e-320"], "must be a number from 1e-12 to 1e+06, got 1e-320"),
        ([DIGITS, "--config.data.folder=a\0b"], r"config.data.folder must be UTF-8 text of at most 4,096 charact"),
        ([DIGITS, "--config.data.folder=\udcff"], r"without NUL, got '\udcff'. See configs/default.py."),
        ([DIGITS, f"--config.data.name={'x' * 100_000}"], "got 'xxxxxx"),
        (["--config=configs/none.py"], "got 'configs/none.py', which is not a file. Correct the path, or"),
        ([f"--config={'x' * 100_000}"], "which is not a file"),
        ([DIGITS, "--workdri=x"], "Did you mean: workdir"),
        ([DIGITS, f"--{'x' * 100_000}"], "got an unknown one with a very long name"),
        ([DIGITS, "--wörkdir=1"], "Unknown command line flag 'wörkdir'"),
        ([DIGITS, f"--rerun={'x' * 100_000}"], "--rerun=xxx"),
        ([DIGITS, "digits"], "got 'digits'. Write --name=value"),
        ([DIGITS, "x" * 100_000], ". Write --name=value"),
        ([], "--config must be given, got none"),
        (["--config="], "--config must be given, got none"),
        ([DIGITS, "--flagfile=none"], "none"),
        ([DIGITS, "--workdir="], "--workdir must name a directory"),
        ([DIGITS, "--stop_after=ranking"], "--stop_after must be one of 'data', 'proxy'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(run, tmp_path, arguments, message):
    workdir = [] if any("workd" in given for given in arguments) else [f"--workdir={tmp_path / 'run'}"]
    code, out, err = run(*arguments, *workdir)
    assert message in err
    assert err.startswith("sas_jax.main: ")
    assert err.count("\n") == 1
    assert len(err) < 330
    assert (code, out) == (2, "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--config.seed=3"], "seed", 3),
        (["-config.seed=3"], "seed", 3),
        (["--config.seed", "3", "--stop_after=data"], "seed", 3),
        (["--config.seed=3", "--config.seed=5"], "seed", 5),
        (["--config.train.remat"], "train.remat", True),
        (["--config.train.remat", "--stop_after=data"], "train.remat", True),
        (["--config.train.remat", "false"], "train.remat", False),
        (["--noconfig.evaluation.geometry"], "evaluation.geometry", False),
        (["--config.data.folder=a=b"], "data.folder", "a=b"),
        (["--config.data.folder="], "data.folder", ""),
        (["--config.data.folder=two\nlines"], "data.folder", "two\nlines"),
        (["--config.data.folder", "-dash"], "data.folder", "true"),
        (["--config_field=seed=3"], "seed", 3),
    ],
)
def test_a_field_is_set_in_any_way_that_flags_have(run, configs, tmp_path, arguments, name, value):
    if arguments[-1] == "-dash":  # for absl, every argument that begins like a flag is one
        assert "Unknown command line flag 'dash'" in run(DIGITS, *arguments)[2]
        return
    code, _, err = run(*arguments, DIGITS, f"--workdir={tmp_path}")
    assert code == 0, err
    found = configs[0]
    for part in name.split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


def test_fields_in_a_file_of_flags(run, configs, tmp_path):
    (tmp_path / "flags.txt").write_text(f"{DIGITS}\n--config.seed=7\n")
    code, _, err = run(f"--flagfile={tmp_path / 'flags.txt'}", f"--workdir={tmp_path}", "--config.train.epochs=2")
    assert code == 0, err
    assert (configs[0].seed, configs[0].train.epochs) == (7, 2)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_names_that_are_not_ascii_where_the_locale_is(tmp_path, environment):
    images = tmp_path / "bilder-é"
    images.mkdir()
    for name in ("ü.png", "中.png", "😀.png"):
        (images / name).touch()
    ids = sorted(path.name for path in images.iterdir())
    sas_jax.rank(np.eye(3), ids=ids).save(str(tmp_path / "é.csv"))
    command = [sys.executable, "-m", "sas_jax.export", f"--ranking={tmp_path / 'é.csv'}", "--fraction=1"]
    command += [f"--output={tmp_path / 'ö.txt'}", f"--images={images}", f"--links={tmp_path / 'ä'}"]
    base = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    root = Path(__file__).parent.parent
    done = subprocess.run(command, env=base | environment, cwd=root, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert b"Kept 3 of 3" in done.stdout
    assert (tmp_path / "ö.txt").read_text() == "".join(f"{images}/{name}\n" for name in ids)
    assert sorted(path.name for path in (tmp_path / "ä").glob("*.png")) == ids


@pytest.fixture
def called(monkeypatch, capsys):
    """Runs a function as a command; returns its exit code and its standard error."""

    def call(main):
        monkeypatch.setattr(command, "_use_compilation_cache", lambda: None)
        monkeypatch.setattr(command.preemption, "listen", lambda: None)
        monkeypatch.setattr(app, "run", lambda main, flags_parser: main([]))
        monkeypatch.setattr(sys, "argv", ["sas_jax/main.py"])
        with pytest.raises(SystemExit) as ended:
            command._run(main, "")
        return ended.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        *((name, "write", "Free disk space") for name in ("ENOSPC", "EDQUOT")),
        ("EFBIG", "write", "Raise the limit on file sizes (ulimit -f)"),
        *((name, "access", "Change its permissions or choose a writable place") for name in ("EROFS", "EACCES")),
    ],
)
def test_a_file_that_cannot_be_written_is_a_sentence(called, name, what, fix):
    def main():
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "runs/x/embeddings.npy")

    code, said = called(main)
    assert code == command.EXIT_INPUT
    assert said.startswith(f"sas_jax.main: cannot {what} a file: [Errno ")
    assert "embeddings.npy" in said
    assert said.endswith(f". {fix}, then run the command again.\n")
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
    """A home that is a file or not writable, no home, a folder set by the user; no folder named "~" is created."""
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
    assert "compiled programs are not cached, so each start takes longer (" in said
    assert "Set JAX_COMPILATION_CACHE_DIR to a writable directory." in said
    assert said.count("\n") == 1
    assert not jax.config.values["jax_enable_compilation_cache"]
    assert list(tmp_path.iterdir()) == before
