"""The command line, in this process: what is given comes through, and a mistake is one sentence and exit code 2."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

import sas_jax
from sas_jax import command, main, pipeline, preemption


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs sas_jax.main with these arguments: its exit code, standard output and standard error."""
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
    """The configs that reach the pipeline, which does nothing."""
    found = []
    monkeypatch.setattr(pipeline, "run", lambda config, *_, **__: found.append(config) or {"arms": [], "dataset": {}})
    monkeypatch.setattr("sas_jax.table.arms", lambda results: "")
    monkeypatch.setattr("sas_jax.devices.split_cpu", lambda *sizes: None)
    return found


DIGITS = "--config=configs/digits.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [DIGITS, "--config.proxy.trian.epochs=3"],
            "is not a field of the config; the nearest is config.proxy.train.e",
        ),
        ([DIGITS, "--config.seed=abc"], "config.seed must be a whole number from 0 to 2,147,483,647, got 'abc'. See"),
        ([DIGITS, "--config.seed"], "config.seed must be a whole number from 0 to 2,147,483,647, got 'true'"),
        ([DIGITS, "--config.proxy=3"], "config.proxy is a section"),
        ([DIGITS, "--config.arms[9]=3"], "config.arms[9] is not a field of the config"),
        (
            [DIGITS, "--config.train.batch_size=1e30"],
            "config.train.batch_size must be a whole number from 2 to 1,000,000",
        ),
        ([DIGITS, "--config.train.learning_rate=1e-320"], "must be a number from 1e-12 to 1e+06, got 1e-320"),
        ([DIGITS, "--config.data.folder=a\0b"], r"config.data.folder must be text in UTF-8 of at most 4,096 charact"),
        ([DIGITS, "--config.data.folder=\udcff"], r"without NUL, got '\udcff'. See configs/default.py."),
        ([DIGITS, f"--config.data.name={'x' * 100_000}"], "got 'xxxxxx"),
        (["--config=configs/none.py"], "got 'configs/none.py', which is no file. Correct the path."),
        ([f"--config={'x' * 100_000}"], "which is no file"),
        ([DIGITS, "--workdri=x"], "Did you mean: workdir"),
        ([DIGITS, f"--{'x' * 100_000}"], "one with a very long name is not"),
        ([DIGITS, "--wörkdir=1"], "Unknown command line flag 'wörkdir'"),
        ([DIGITS, f"--rerun={'x' * 100_000}"], "--rerun=xxx"),
        ([DIGITS, "digits"], "'digits' is not: write --name=value"),
        ([DIGITS, "x" * 100_000], "is not: write --name=value"),
        ([], "--config is needed and was not given"),
        (["--config="], "--config is needed and was not given"),
        ([DIGITS, "--flagfile=none"], "none"),
        ([DIGITS, "--workdir="], "--workdir has to name a directory"),
        ([DIGITS, "--stop_after=ranking"], "--stop_after has to be one of data, proxy"),
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
    if arguments[-1] == "-dash":  # as absl has it, what begins as a flag is one
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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_a_character_that_the_terminal_has_not_is_escaped(monkeypatch, encoding):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
    command._speak_any_encoding()
    print("é ü \u4e2d \udcff", flush=True)
    printed = out.getvalue().decode(encoding)
    assert printed.endswith("\\udcff\n")
    assert ("\u4e2d" in printed) == (encoding == "utf-8")
    assert ("\\xe9" in printed) == (encoding == "ascii")


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
