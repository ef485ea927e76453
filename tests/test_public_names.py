"""`import sas_jax` is cheap, and loads the public names on first use."""

import subprocess
import sys

import pytest

import sas_jax


def test_importing_is_cheap():
    code = (
        "import sys, sas_jax; before = set(sys.modules); sas_jax.rank; sas_jax.Ranking; "
        "heavy = {'flax', 'optax', 'orbax', 'tensorflow', 'tensorflow_datasets', 'torch'}; "
        "assert 'jax' not in before and not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": sas_jax.__path__[0] + "/.."}, check=True)


def test_the_names_are_there():
    from sas_jax.selection import rank, ranking

    assert sas_jax.rank is rank.rank
    assert sas_jax.Ranking is ranking.Ranking
    assert issubclass(sas_jax.InputError, ValueError)
    assert {"rank", "Ranking", "load_encoder", "InputError"} <= set(dir(sas_jax))
    with pytest.raises(AttributeError, match="has no attribute 'rnak'"):
        sas_jax.rnak  # noqa: B018
