"""BYOL, SimSiam and MoCo: their losses in slow NumPy, their extra state, learning, and bit-exact resuming."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from sas_jax import devices
from sas_jax.evaluation import knn
from sas_jax.models import ProjectionHead
from sas_jax.training import BYOL, COLLAPSED, MoCo, SimCLR, SimSiam, Trainer, fit, losses
from sas_jax.views import Views, plain
from sas_jax.workdir import Metrics, Workdir

SIZE, BATCH, N = 8, 16, 64


class Encoder(nn.Module):
    """The smallest network that shows what a ResNet would: BatchNorm couples the images of a batch."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(16, (3, 3), use_bias=False)(images)
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)).mean(axis=(1, 2))


ENCODER = Encoder()


def head(**fields):
    return ProjectionHead(hidden=24, features=16, **fields)


METHODS = {
    "simclr": SimCLR(ENCODER, head()),
    "simsiam": SimSiam(ENCODER, head(), head(output_norm=False)),
    "byol": BYOL(ENCODER, head(output_norm=False), momentum=0.9, final_momentum=1.0, predictor=head(output_norm=False)),
    "moco": MoCo(
        ENCODER, head(hidden_norm=False, output_norm=False), momentum=0.9, final_momentum=0.9, queue_size=64, groups=4
    ),
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def pairs():
    return np.random.default_rng(1).standard_normal((BATCH, 2, SIZE, SIZE, 3)).astype(np.float32)


def trainer_of(method, **options):
    views = Views(size=SIZE, jitter=0.0, grey=0.0)
    return Trainer(method, optax.adam(1e-3), views=views, batch_size=BATCH, mesh=devices.mesh(1), **options)


def started(name):
    """Returns a method's variables, with different target and network."""
    state = trainer_of(METHODS[name]).init(jax.random.key(0))
    kept = jax.tree.map(lambda x: x, state.kept)
    if "target" in kept:
        kept["target"] = jax.tree.map(lambda x: x * 1.1 + 0.01, kept["target"])
    return {"params": state.params, "batch_stats": state.batch_stats, **kept}


def applied(name, variables, pairs):
    method = METHODS[name]
    changing = [each for each in variables if each != "params"] + ["seen"]
    return jax.jit(lambda v, x: method.apply(v, x, method="loss", mutable=changing))(variables, pairs)


def batch_through(module, params, x):
    """Passes float [n, ...] through a module as one BatchNorm batch."""
    return np.asarray(module.apply({"params": params}, x, train=True, mutable=["batch_stats"])[0], np.float64)


def through(method, params, x, *names):
    for name in names:
        x = batch_through(getattr(method, name), params[name], x)
    return x


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_simsiam_is_the_mean_of_both_negative_cosines(pairs):
    variables = started("simsiam")
    method, params = METHODS["simsiam"], variables["params"]
    z = [through(method, params, pairs[:, v], "encoder", "head") for v in range(2)]
    p = [batch_through(method.predictor, params["predictor"], each) for each in z]
    expected = np.mean([-(cosine(p[0][i], z[1][i]) + cosine(p[1][i], z[0][i])) / 2 for i in range(BATCH)])
    assert float(applied("simsiam", variables, pairs)[0]) == pytest.approx(expected, abs=1e-4)


def test_byol_is_the_squared_distance_to_the_targets_projection(pairs):
    variables = started("byol")
    method, params, target = METHODS["byol"], variables["params"], variables["target"]["params"]
    p = [through(method, params, pairs[:, v], "encoder", "head", "predictor") for v in range(2)]
    t = [through(method, target, pairs[:, v], "encoder", "head") for v in range(2)]
    p, t = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (np.array(p), np.array(t)))
    distances = [np.sum((p[v, i] - t[1 - v, i]) ** 2) for i in range(BATCH) for v in range(2)]
    assert float(applied("byol", variables, pairs)[0]) == pytest.approx(2 * np.mean(distances) / 4 - 1, abs=1e-4)


def test_moco_finds_its_key_in_the_queue(pairs):
    variables = started("moco")
    method, params, target = METHODS["moco"], variables["params"], variables["target"]["params"]
    queue = np.asarray(variables["queue"]["keys"], np.float64)
    group = BATCH // method.groups

    def encoded(params, view, which):
        """Encodes images in BatchNorm batches, given as lists of images."""
        out = np.empty((BATCH, 16))
        for members in which:
            out[members] = through(method, params, view[members], "encoder", "head")
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    in_order = [list(range(g * group, (g + 1) * group)) for g in range(method.groups)]
    interleaved = [list(range(g, BATCH, method.groups)) for g in range(method.groups)]
    q = [encoded(params, pairs[:, v], in_order) for v in range(2)]
    k = [encoded(target, pairs[:, v], interleaved) for v in range(2)]
    terms = []
    for v in range(2):
        for i in range(BATCH):
            logits = [q[v][i] @ k[1 - v][i], *(q[v][i] @ each for each in queue)]
            shares = np.exp(np.array(logits) / method.temperature)
            terms.append(-math.log(shares[0] / shares.sum()))
    loss, updated = applied("moco", variables, pairs)
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-4)
    # The keys of both views go to the front, and the oldest are dropped.
    expected = np.concatenate([k[0], k[1], queue])[:64]
    np.testing.assert_allclose(updated["queue"]["keys"], expected, atol=1e-4)


def test_no_group_of_mocos_queries_meets_its_keys(pairs):
    """The keys in the BatchNorm batch of an image are one of each group of queries, which are in order."""
    variables = started("moco")
    n, groups = BATCH, METHODS["moco"].groups
    before = applied("moco", variables, pairs)[1]["queue"]["keys"][:n]
    queries = np.arange(n).reshape(groups, n // groups)
    for image in (0, 5):
        changed = pairs.copy()
        changed[image, 0] += 1.0
        after = applied("moco", variables, changed)[1]["queue"]["keys"][:n]
        keys = np.flatnonzero(np.abs(after - before).max(axis=1) > 1e-4)
        assert image in keys
        assert len(keys) == n // groups
        shared = [len(set(q) & set(keys.tolist())) for q in queries.tolist()]
        assert max(shared) == n // groups // groups


@pytest.mark.parametrize("name", ["byol", "moco"])
def test_the_target_gets_no_gradient(name, pairs):
    variables = started(name)
    changing = [each for each in variables if each != "params"] + ["seen"]

    def gradient(part):
        def loss(values):
            return METHODS[name].apply(variables | {part: values}, pairs, method="loss", mutable=changing)[0]

        return float(optax.tree.norm(jax.jit(jax.grad(loss))(variables[part])))

    assert gradient("target") == 0
    assert gradient("params") > 1e-4


def test_the_wanted_side_of_the_cosine_gets_no_gradient():
    one, other = np.random.default_rng(3).standard_normal((2, 5, 4)).astype(np.float32)
    predicted, wanted = jax.grad(losses.negative_cosine, argnums=(0, 1))(one, other)
    assert jnp.abs(predicted).max() > 1e-3
    assert not wanted.any()


@pytest.mark.parametrize(("name", "momenta"), [("byol", (0.9, 0.95, 1.0)), ("moco", (0.9, 0.9, 0.9))])
def test_the_target_follows(name, momenta):
    """From its initial to its final momentum, by half a cosine."""
    method, variables = METHODS[name], started(name)
    kept = {"target": variables["target"]}
    for done, momentum in zip((0.0, 0.5, 1.0), momenta, strict=True):
        after = method.follow(variables["params"], kept, jnp.float32(done))["target"]["params"]
        for part in ("encoder", "head"):
            jax.tree.map(
                lambda new, old, target, m=momentum: np.testing.assert_allclose(
                    new, m * target + (1 - m) * old, rtol=1e-5, atol=1e-6
                ),
                after[part],
                variables["params"][part],
                kept["target"]["params"][part],
            )


def run(method, images, path, *, epochs, seed=5):
    return fitted(trainer_of(method, chunk_steps=2), images, path, epochs=epochs, seed=seed)


def fitted(trainer, images, path, *, epochs, seed=5):
    workdir = Workdir(path)
    workdir.mark()
    metrics = Metrics(workdir)
    runtime = {"checkpoint_epochs": 1, "checkpoint_seconds": 1e9, "keep_checkpoints": 2, "data_workers": 0}
    try:
        return fit(
            trainer, trainer.on_devices(images), np.arange(len(images)), stage="arms/a", section="config.train",
            steps=epochs * (len(images) // trainer.batch_size), seed=seed, directory=workdir / "a",
            runtime=ConfigDict(runtime), metrics=metrics, log=lambda _: None,
        )  # fmt: skip
    finally:
        metrics.close()


@pytest.mark.parametrize("name", ["byol", "simsiam", "moco"])
def test_a_run_goes_on_bit_for_bit(name, images, tmp_path, monkeypatch):
    whole = run(METHODS[name], images, tmp_path / "whole", epochs=3)
    real, calls = Trainer.compile, []

    class Killed(Exception):
        pass

    def compile_(self, *arguments):
        program = real(self, *arguments)

        def step(*given):
            calls.append(1)
            if len(calls) == 7:
                raise Killed
            return program(*given)

        return step

    monkeypatch.setattr(Trainer, "compile", compile_)
    with pytest.raises(Killed):
        run(METHODS[name], images, tmp_path / "killed", epochs=3)
    monkeypatch.undo()
    resumed = run(METHODS[name], images, tmp_path / "killed", epochs=3)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.state), jax.device_get(whole.state))
    assert resumed.spread == whole.spread > COLLAPSED
    assert (tmp_path / "whole" / "metrics.jsonl").read_text().count('"spread"') > 3


class Layers(nn.Module):
    """Eight numbers per image: untrained they hardly separate digits, so that learning shows."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(len(images), -1)
        for features in (64, 8):
            x = nn.Dense(features, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return x


@pytest.mark.parametrize("name", ["byol", "simsiam", "moco"])
def test_a_method_learns_digits(name, tmp_path):
    """Better than the untrained encoder by more than three standard errors."""
    digits = load_digits()
    images = np.repeat((digits.images * 15.9).astype(np.uint8)[..., None], 3, axis=-1)
    method = METHODS[name].clone(encoder=Layers())
    for part in {"head", "predictor"} & set(method.__dataclass_fields__):
        method = method.clone(**{part: getattr(method, part).clone(hidden=64, features=32)})
    views = Views(size=SIZE, crop_scale=(0.4, 1.0), flip=0.0, jitter=0.0, grey=0.0)
    trainer = Trainer(method, optax.adam(3e-3), views=views, batch_size=64, mesh=devices.mesh(1))

    def accuracy(state):
        variables = {"params": state.params["encoder"], "batch_stats": state.batch_stats["encoder"]}
        features = np.asarray(
            method.encoder.apply(variables, jax.vmap(lambda image: plain(image, views))(images), train=False)
        )
        bank, rest = slice(0, None, 2), slice(1, None, 2)
        return knn(features[bank], digits.target[bank], features[rest], digits.target[rest], num_classes=10)

    before = accuracy(trainer.init(jax.random.key(0)))
    result = fitted(trainer, images, tmp_path, epochs=10)
    after = accuracy(result.state)
    assert result.spread > COLLAPSED
    assert after.value > before.value + 3 * np.hypot(before.standard_error, after.standard_error)


class AlmostOne(nn.Module):
    """A head whose outputs hardly differ."""

    @nn.compact
    def __call__(self, x, *, train):
        return 1.0 + 1e-3 * nn.Dense(16)(x)


def test_a_collapse_is_seen(images, tmp_path):
    result = run(SimCLR(ENCODER, AlmostOne()), images, tmp_path, epochs=1)
    assert result.spread < COLLAPSED


@pytest.mark.parametrize(("outputs", "expected"), [(np.ones((50, 8)), 0.0), (np.eye(8) - 1 / 8, 1.0)])
def test_spread_is_0_at_a_point_and_1_around_the_sphere(outputs, expected):
    assert float(losses.spread(jnp.asarray(outputs, jnp.float32))) == pytest.approx(expected, abs=1e-3)
