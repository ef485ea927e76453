"""An installed wheel: the commands and configs, used outside of any checkout."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sas_jax import __main__ as sas_jax_command
from sas_jax import config_file

ROOT = Path(__file__).parent.parent
SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "MANIFEST.in")
SMALL = (
    "--config=digits",
    "--config.data.image_size=8",
    "--config.proxy.encoder.width=0.125",
    "--config.encoder.width=0.125",
    "--config.proxy.train.epochs=1",
    "--config.train.epochs=1",
    "--config.embedding.views=1",
    "--config.train.batch_size=64",
    "--config.arms=(('selected', 0.2, 0),)",
    "--config.evaluation.probe_iterations=30",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy, so that the checkout gets no build folder."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in ("sas_jax", "configs", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir=dist", "."], cwd=source, check=True)
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Returns the folder of the installation, for PYTHONPATH: it precedes this environment's own sas_jax."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", f"--target={folder}"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    return folder


def test_the_wheel_holds_the_package_and_the_configs_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert all(name.startswith("sas_jax/") and "test_" not in name for name in names)
    here = [path for folder in ("sas_jax", "configs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    here = [path.relative_to(ROOT) for path in here if "__pycache__" not in path.parts]
    expected = {str("sas_jax" / path if path.parts[0] == "configs" else path) for path in here}
    assert set(names) == expected, "setup.cfg's package_data says which files beside modules are in the wheel"


def test_digits_from_the_wheel_where_a_folder_is_called_configs(installed, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("default = None\n")
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, installed / "bin" / "sas-jax", "run", *SMALL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "report: runs/digits/report.html" in done.stdout
    assert json.loads((tmp_path / "runs/digits/results.json").read_text())["arms"]
    environment_of_the_run = json.loads((tmp_path / "runs/digits/environment.json").read_text())
    assert environment_of_the_run["commit"] is None, "it is the wheel's package that ran"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.py")))
def test_a_shipped_config_is_read_by_its_name_from_any_folder(name, tmp_path, monkeypatch):
    by_path = config_file.read(f"configs/{name}.py")
    monkeypatch.chdir(tmp_path)
    assert config_file.read(name).to_dict() == by_path.to_dict()


def test_a_config_of_ones_own_builds_on_a_shipped_one_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ("from configs import digits as d", "def get_config():", " c = d.get_config()", " c.seed = 7", " return c")
    (tmp_path / "digits.py").write_text("\n".join(lines))
    assert config_file.read("digits.py").seed == 7
    assert config_file.read("digits").seed == 0


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs sas-jax; returns the module that it runs, its arguments, and its output."""

    def call(*arguments):
        ran = []
        monkeypatch.setattr(runpy, "run_module", lambda name, **_: ran.append((name, sys.argv[1:])))
        monkeypatch.setattr(sys, "argv", ["sas-jax", *arguments])
        try:
            sas_jax_command.main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        return code, ran, capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("command", "module"),
    [("run", "main"), ("select", "select"), ("export", "export"), ("embed", "embed"), ("report", "report")],
)
def test_each_command_is_a_module_with_the_same_arguments(run, command, module):
    assert run(command, "--a=b", "c") == (0, [(f"sas_jax.{module}", ["--a=b", "c"])], ("", ""))


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)])
def test_help_is_short_and_names_commands_and_configs(run, arguments):
    code, ran, (out, err) = run(*arguments)
    assert (code, ran, err) == (0, [], "")
    assert len(out.splitlines()) < 20
    for name in (*sas_jax_command.MODULES, *config_file.shipped(), str(ROOT / "configs")):
        assert name in out


@pytest.mark.parametrize(("name", "fix"), [("rnu", "Did you mean run?"), ("zzz", "Run sas-jax --help."), ("", "Run")])
def test_an_unknown_command_is_one_sentence(run, name, fix):
    code, ran, (out, err) = run(name)
    assert (code, ran, out) == (2, [], "")
    assert err.startswith("sas-jax: the first argument must be one of run, select, export, embed, report, got")
    assert fix in err
    assert err.count("\n") == 1
