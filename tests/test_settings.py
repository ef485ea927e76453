"""The same numbers with all settings of JAX that users may have in their shells."""

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sas_jax
from sas_jax import devices, logistic, rank_file, settings
from sas_jax.embedding import embed
from sas_jax.errors import InputError
from sas_jax.evaluation.knn import knn
from sas_jax.evaluation.probe import linear_probe
from sas_jax.latent_classes import few_labels, kmeans
from sas_jax.models import ProjectionHead, ResNet
from sas_jax.run import pipeline
from sas_jax.selection import baselines, double_greedy, greedy
from sas_jax.training import SimCLR, Trainer
from sas_jax.views import Views, view
from tests.run.test_pipeline import small_config
from tests.test_main import untimed

pytestmark = pytest.mark.usefixtures("one_stage")

SETTINGS = {
    "JAX_ENABLE_X64": ("1", lambda: jax.enable_x64(True)),
    "JAX_DEBUG_NANS": ("1", lambda: jax.debug_nans(True)),
    "JAX_DEBUG_INFS": ("1", lambda: jax.debug_infs(True)),
    "JAX_NUMPY_RANK_PROMOTION": ("raise", lambda: jax.numpy_rank_promotion("raise")),
    "JAX_NUMPY_DTYPE_PROMOTION": ("strict", lambda: jax.numpy_dtype_promotion("strict")),
    "JAX_TRANSFER_GUARD": ("disallow", lambda: jax.transfer_guard("disallow")),
    "JAX_DEFAULT_PRNG_IMPL": ("rbg", lambda: jax.default_prng_impl("rbg")),
    "JAX_THREEFRY_PARTITIONABLE": ("0", lambda: jax.threefry_partitionable(False)),
}
N = 24
RANDOM = np.random.default_rng(0)
Z = RANDOM.normal(size=(N, 5))  # float64, which JAX_ENABLE_X64 would keep
UNIT = Z / np.linalg.norm(Z, axis=1, keepdims=True)
S = np.clip(UNIT @ UNIT.T, 0, 1)
VIEWS = RANDOM.normal(size=(N, 2, 5))
CLASSES = np.arange(N) % 3
WEIGHTS = RANDOM.uniform(0.1, 1, N)
IMAGES = RANDOM.integers(0, 256, (16, 8, 8, 3), np.uint8)
# On the device before a setting is made: in a user's own jit, transfers are the user's business.
ON_DEVICE = jnp.asarray(S, jnp.float32), jnp.asarray(WEIGHTS, jnp.float32)


def columns(ranking):
    return ranking.position, ranking.gain


def first_loss():
    """Returns the loss of one training step from a fresh state; NaN stands for values not measured yet."""
    trainer = Trainer(
        SimCLR(ResNet(depth=10, width=0.125), ProjectionHead(features=8)),
        optax.sgd(0.1),
        views=Views(size=8),
        batch_size=16,
        mesh=devices.mesh(1),
    )
    key = trainer.key(0)
    arguments = (trainer.init(key), IMAGES, np.arange(16, dtype=np.int32), key)
    horizon = trainer.horizon(steps=4, steps_per_epoch=1)
    step = trainer.compile("step", *arguments, horizon)
    with settings.context():  # as in the loop that calls it
        state, seen = step(*arguments, horizon)
    return np.asarray(seen.losses)[:1], *jax.tree.leaves(state.params)[:2]


CALLS = {
    "rank sas": lambda: columns(sas_jax.rank(Z, CLASSES)),
    "rank facility_location": lambda: columns(
        sas_jax.rank(Z, CLASSES, objective="facility_location", weights=WEIGHTS, initial=[2, 3], budget=9)
    ),
    "rank similarity_sum": lambda: columns(sas_jax.rank(Z, objective="similarity_sum", mesh=devices.mesh(2))),
    "rank a matrix": lambda: columns(sas_jax.rank(similarity=S, objective="facility_location", weights=WEIGHTS)),
    "rank views": lambda: columns(sas_jax.rank(VIEWS, kind="gaussian")),
    "greedy": lambda: greedy.facility_location(embeddings=UNIT, where=CLASSES > 0, weights=WEIGHTS, budget=N),
    "double_greedy": lambda: double_greedy.double_greedy(S, key=settings.key(0)),
    "random": lambda: columns(baselines.random_balanced(settings.key(0), CLASSES)),
    "k_center": lambda: columns(baselines.k_center(Z, CLASSES)),
    "kmeans": lambda: kmeans(settings.key(0), Z, num_classes=3),
    "few labels": lambda: few_labels.spread(settings.key(0), Z, np.where(np.arange(N) < 15, CLASSES, -1))[:3],
    "probe": lambda: linear_probe(
        settings.key(0), Z, CLASSES, Z, CLASSES, num_classes=3, l2_grid=(1e-3, 0.1)
    ).to_dict()["value"],
    "streamed probe": lambda: linear_probe(
        settings.key(0), Z, CLASSES, Z, CLASSES, num_classes=3, solver="sgd"
    ).to_dict()["value"],
    "logistic": lambda: logistic.fit(Z, CLASSES, num_classes=3, l2=0.1),
    "knn": lambda: knn(Z, CLASSES, Z, CLASSES, num_classes=3, k=5).to_dict()["value"],
    "embed": lambda: embed(
        lambda _, x: jnp.mean(x, axis=1),
        {},
        IMAGES,
        views=Views(size=6),
        batch_size=4,
        num_views=2,
        key=settings.key(1),
    ).mean(-1),
    "a training step": first_loss,
}

TRACED = {
    "jit": jax.jit(lambda s, w: greedy.facility_location(s, weights=w, budget=N)),
    "vmap": jax.jit(lambda s, w: jax.vmap(lambda w: greedy.similarity_sum(s, weights=w, budget=N))(jnp.stack([w, w]))),
    "jit of embeddings": jax.jit(lambda s, w: greedy.sas(embeddings=s / 8, budget=9)),
    "view": jax.jit(lambda s, w: view(settings.key(0), s[:8].reshape(8, 8, 3), Views(size=4))),
}


@functools.cache
def expected(name):
    return leaves((CALLS[name] if name in CALLS else functools.partial(TRACED[name], *ON_DEVICE))())


def leaves(result):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)]


def same(found, name):
    for one, other in zip(found, expected(name), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_the_same_under_each_setting(name, setting):
    expected(name)
    with SETTINGS[setting][1]():
        found = leaves(CALLS[name]())
    same(found, name)


@pytest.mark.parametrize("name", TRACED)
def test_a_users_own_jit_is_the_same_under_all_settings_together(name):
    """Compiled once for all settings together: a failure with one of them is a failure with all."""
    expected(name)
    with contextlib.ExitStack() as stack:
        for _, setting in SETTINGS.values():
            stack.enter_context(setting())
        found = TRACED[name](*ON_DEVICE)
    same(leaves(found), name)


def test_the_users_settings_stay():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"), jax.default_prng_impl("rbg"):
        sas_jax.rank(Z)
        assert jnp.zeros(1, float).dtype == jnp.float64
        with pytest.raises(ValueError, match="rank"):
            jnp.ones((2, 3)) + jnp.ones(3)
        assert str(jax.random.key_impl(jax.random.key(0))) == "rbg"
        assert str(jax.random.key_impl(settings.key(0))) == settings.PRNG


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, True, 1.5, "a", None])
def test_a_seed_that_jax_would_take_for_another_is_refused(seed):
    with pytest.raises(InputError, match=r"A seed must be a whole number from 0 to 4,294,967,295, got .*\. Choose one"):
        settings.key(seed)


def test_every_seed_has_its_key():
    keys = [settings.key(seed) for seed in (0, 1, 2**31, 2**32 - 1, np.uint32(2**32 - 2), np.int64(7))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
    assert jax.jit(settings.key)(np.uint32(2**32 - 1)) == keys[3]


def test_a_jitted_function_keeps_its_methods():
    assert greedy.sas.lower(jnp.eye(3), budget=1).compile() is not None
    assert greedy.sas.__doc__.startswith("Picks the examples most similar")


@contextlib.contextmanager
def everywhere():
    """Applies all settings together, as the environment does: in every thread, including orbax's."""
    names = {name.lower(): value for name, (value, _) in SETTINGS.items()}
    before = {name: jax.config.values[name] for name in names}
    try:
        for name, value in names.items():
            jax.config.update(name, value == "1" if isinstance(before[name], bool) else value)
        assert not any(jax.config.values[name] == before[name] for name in names)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_a_run_is_the_same_under_all_settings_together(tmp_path):
    config = small_config(arms=(("selected", 0.2, 0),))
    with everywhere():
        found = pipeline.run(config, tmp_path / "set", log=lambda _: None)
    plain = pipeline.run(config, tmp_path / "plain", log=lambda _: None)
    assert untimed(found) == untimed(plain)
    for name in ("embeddings.npy", "latent_classes.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "set" / name), np.load(tmp_path / "plain" / name))
    one, other = (sas_jax.Ranking.load(str(tmp_path / run / "ranking.parquet")) for run in ("set", "plain"))
    np.testing.assert_array_equal(one.position, other.position)
    np.testing.assert_array_equal(one.gain, other.gain)


def test_a_command_is_the_same_under_all_settings_in_its_environment(tmp_path):
    """With the settings present before the first import."""
    np.save(tmp_path / "Z.npy", Z)
    root = Path(__file__).parent.parent
    environment = os.environ | {name: value for name, (value, _) in SETTINGS.items()} | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "sas_jax.select", "--embeddings=Z.npy", "--kmeans=3", "--output=set.npz"]
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    rank_file.rank_file(str(tmp_path / "Z.npy"), str(tmp_path / "plain.npz"), kmeans=3)
    one, other = (sas_jax.Ranking.load(str(tmp_path / f"{run}.npz")) for run in ("set", "plain"))
    np.testing.assert_array_equal(one.classes, other.classes)
    np.testing.assert_array_equal(one.position, other.position)
