"""`python -m sas_jax.select`."""

import subprocess
import sys

import numpy as np
import pytest

import sas_jax
from sas_jax import select
from sas_jax.errors import InputError


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "e.npy", rng.normal(size=(60, 8)).astype(np.float32))
    np.save(tmp_path / "c.npy", rng.integers(3, size=60))
    return tmp_path


def test_a_process_ranks_a_file(files):
    command = ["--embeddings=e.npy", "--classes=c.npy", "--objective=facility_location", "--fraction=0.2"]
    done = subprocess.run(
        [sys.executable, "-m", "sas_jax.select", *command, "--output=r.parquet"],
        cwd=files,
        env={"JAX_PLATFORMS": "cpu", "PYTHONPATH": sas_jax.__path__[0] + "/.."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "Ranked 12 of 60 examples in 3 classes by facility_location" in done.stdout
    assert "sas_jax.Ranking.load('r.parquet').subset(fraction=0.2)" in done.stdout
    loaded = sas_jax.Ranking.load(files / "r.parquet")
    expected = sas_jax.rank(
        np.load(files / "e.npy"), np.load(files / "c.npy"), objective="facility_location", budget=12
    )
    assert loaded.subset(fraction=0.2).tolist() == expected.subset(fraction=0.2).tolist()
    assert loaded.metadata == expected.metadata


def run(embeddings, output, classes="", objective="sas", fraction="1"):
    """What the command says of these arguments."""
    return select.select(str(embeddings), str(classes), objective, float(fraction), str(output))


def test_everything_is_ranked_without_a_fraction(files):
    assert "Ranked 60 of 60 examples in 1 classes by sas" in run(files / "e.npy", files / "r.csv")
    ranking = sas_jax.Ranking.load(files / "r.csv")
    assert sorted(ranking.position.tolist()) == list(range(60))


def test_the_turning_point_is_told(files):
    said = run(files / "e.npy", files / "r.npz")
    turning = sas_jax.Ranking.load(files / "r.npz").turning_fraction
    assert f"below 0 beyond a fraction of {turning:.3f}" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": "none.npy"}, "none.npy cannot be read as a .npy file (No such file or directory)"),
        ({"embeddings": "text.npy"}, "text.npy cannot be read as a .npy file"),
        ({"embeddings": "empty.npy"}, "empty.npy cannot be read as a .npy file"),
        ({"embeddings": "short.npy"}, "short.npy cannot be read as a .npy file"),
        ({"embeddings": "objects.npy"}, "objects.npy cannot be read as a .npy file"),
        ({"embeddings": "two.npz"}, "two.npz holds no array with one row an example"),
        ({"embeddings": "scalar.npy"}, "scalar.npy holds no array with one row an example"),
        ({"classes": "e.npy"}, "Classes have one entry an example"),
        ({"objective": "fl"}, "The objective is one of facility_location, sas, similarity_sum, and this is 'fl'"),
        ({"fraction": "0"}, "A fraction is more than 0 and at most 1"),
        ({"fraction": "0.001"}, "of 60 examples is none of them"),
        ({"output": "r.txt"}, "A ranking is a .parquet, .csv or .npz file"),
        ({"output": "nowhere/r.csv"}, "The ranking cannot be written to"),
    ],
)
def test_bad_input_is_one_sentence(files, changes, message):
    (files / "text.npy").write_text("1 2 3")
    (files / "empty.npy").write_text("")
    (files / "short.npy").write_bytes((files / "e.npy").read_bytes()[:500])
    np.save(files / "objects.npy", np.array([{}, 1], object))
    np.save(files / "scalar.npy", np.float32(1))
    np.savez(files / "two.npz", a=np.ones(2), b=np.ones(2))
    arguments = {"embeddings": "e.npy", "output": "r.csv"} | changes
    for name in ("embeddings", "classes", "output"):
        if name in arguments:
            arguments[name] = f"{files}/{arguments[name]}"
    with pytest.raises(InputError) as stopped:
        run(**arguments)
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_mistake_is_one_sentence_and_exit_code_2(files):
    done = subprocess.run(
        [sys.executable, "-m", "sas_jax.select", "--embeddings=none.npy", "--output=r.csv"],
        cwd=files,
        env={"JAX_PLATFORMS": "cpu", "PYTHONPATH": sas_jax.__path__[0] + "/.."},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("sas_jax.select: none.npy cannot be read as a .npy file")
    assert done.stderr.count("\n") == 1
