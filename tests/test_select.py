"""`python -m sas_jax.select`."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import sas_jax
from sas_jax import command

ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": sas_jax.__path__[0] + "/.."}


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "e.npy", rng.normal(size=(60, 8)).astype(np.float32))
    np.save(tmp_path / "c.npy", rng.integers(3, size=60))
    return tmp_path


def start(folder, *arguments):
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def test_a_process_ranks_a_file(files):
    flags = ["--embeddings=e.npy", "--classes=c.npy", "--objective=facility_location", "--fraction=0.2"]
    done = start(files, "-m", "sas_jax.select", *flags, "--output=r.parquet")
    # On a slow machine, ranking exceeds the two seconds after which progress is shown.
    assert (done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("ranked ")]) == (0, [])
    assert "Ranked 12 of 60 examples in 3 classes of " in done.stdout
    assert "sas_jax.Ranking.load('r.parquet').subset(fraction=0.2)" in done.stdout
    found = sas_jax.Ranking.load(files / "r.parquet", of=np.load(files / "e.npy"))
    expected = sas_jax.rank(
        np.load(files / "e.npy"), np.load(files / "c.npy"), objective="facility_location", budget=12
    )
    assert found.subset(fraction=0.2).tolist() == expected.subset(fraction=0.2).tolist()
    assert sorted(path.name for path in files.iterdir()) == ["c.npy", "e.npy", "r.parquet"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--embeddings=none.npy", "--output=r.csv"], "none.npy must be a .npy file, got one that cannot be read"),
        (["--embeddings=e.npy"], "--output must be given, got none"),
        (["--embeddings=e.npy", "--output=r.csv", "--kmeans=0"], "kmeans"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(files, flags, message):
    done = start(files, "-m", "sas_jax.select", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sas_jax.select: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_interruption_says_how_to_go_on_and_all_cores_are_used(files):
    code = (
        "import sys, sas_jax.rank_file\n"
        "sas_jax.devices.cpu_count = lambda: 3\n"
        "def interrupted(*_, mesh, **__): print(mesh.size, 'devices'); raise KeyboardInterrupt\n"
        "sas_jax.rank_file.rank = interrupted\n"
        "sys.argv = ['select.py', '--embeddings=e.npy', '--output=r.csv']\n"
        "import runpy; runpy.run_module('sas_jax.select', run_name='__main__')"
    )
    done = start(files, "-c", code)
    assert (done.returncode, done.stdout) == (130, "3 devices\n")
    assert done.stderr.endswith("interrupted; run the same command to resume\n")


def test_a_platform_that_is_not_there_is_one_sentence(files):
    environment = ENVIRONMENT | {"JAX_PLATFORMS": "nonsense"}
    arguments = [sys.executable, "-m", "sas_jax.select", "--embeddings=e.npy", "--output=r.npz"]
    done = subprocess.run(arguments, cwd=files, env=environment, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("sas_jax.select: JAX_PLATFORMS must name a platform that is available on this machine and")
    assert "got 'nonsense' (Unable to initialize backend 'nonsense'" in line
    assert line.endswith("). Unset JAX_PLATFORMS, or set it to cpu.")


@pytest.mark.parametrize(
    "setting", [{"JAX_ENABLE_X64": "maybe"}, {"JAX_NUM_CPU_DEVICES": "x"}, {"JAX_DEFAULT_PRNG_IMPL": "none"}]
)
def test_a_setting_that_jax_does_not_know_is_one_sentence(setting):
    """JAX raises on import."""
    command = [sys.executable, "-m", "sas_jax.select", "--embeddings=none.npy", "--output=r.csv"]
    done = subprocess.run(command, env=ENVIRONMENT | setting, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert line.startswith("sas_jax: JAX settings in the environment must be valid, got an invalid one (")
    assert line.endswith("). Correct or unset it.")
    assert next(iter(setting.values())) in line
    assert (done.returncode, done.stdout) == (2, "")


def test_a_number_of_cpu_devices_below_one_is_refused(monkeypatch):
    def devices():
        raise RuntimeError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(command, "_setting", lambda name: {"JAX_NUM_CPU_DEVICES": 0}[name])
    assert command._without_devices() == "JAX_NUM_CPU_DEVICES must be 1 or more, got 0. Correct or unset it."


@pytest.mark.parametrize(
    ("platforms", "error", "sentence"),
    [
        ("cuda", AssertionError(), "JAX_PLATFORMS must name .* got 'cuda' .AssertionError.. Unset"),
        (
            "tpu,cpu",
            RuntimeError("No TPU.\nA second line."),
            "JAX_PLATFORMS must name .* got 'tpu,cpu' .No TPU.. Unset",
        ),
        (None, RuntimeError("No driver"), "JAX must find a platform .* got 'none' .No driver.. Unset"),
    ],
)
def test_no_device_is_told_whatever_jax_raises(monkeypatch, platforms, error, sentence):
    def devices():
        raise error

    assert command._without_devices() == ""
    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(command, "_setting", lambda name: {"JAX_PLATFORMS": platforms}.get(name))
    assert re.fullmatch(sentence + " JAX_PLATFORMS, or set it to cpu.", command._without_devices().replace("\n", "|"))
