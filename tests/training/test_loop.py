"""fit(): resumed equals undisturbed, and what stops it says why."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.models import ProjectionHead, ResNet
from sas_jax.training import SimCLR, Trainer, fit, loop, optimizer
from sas_jax.views import Views
from sas_jax.workdir import Metrics, Workdir

SIZE, BATCH, N = 8, 8, 40
RUNTIME = {"checkpoint_epochs": 1, "checkpoint_seconds": 1e9, "keep_checkpoints": 2}


@pytest.fixture(scope="module")
def trainer():
    method = SimCLR(ResNet(depth=10, width=0.125), ProjectionHead(features=16))
    tx = optimizer.build(ConfigDict({"learning_rate": 1e-3, "weight_decay": 1e-6}))
    return Trainer(method, tx, views=Views(size=SIZE), batch_size=BATCH, mesh=devices.mesh(1))


@pytest.fixture(scope="module")
def images():
    host = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
    return jax.device_put(host, devices.replicated(devices.mesh(1)))


def run(trainer, images, path, *, epochs=3, subset=None, metrics=None, log=lambda _: None, runtime=(), **kwargs):
    workdir = Workdir(path)
    workdir.mark()
    metrics = metrics or Metrics(workdir)
    try:
        return fit(
            trainer, images, np.arange(N) if subset is None else subset, stage="proxy", section="config.train",
            epochs=epochs, seed=5, directory=workdir / "proxy", runtime=ConfigDict(RUNTIME | dict(runtime)),
            chunk_steps=2, metrics=metrics, log=log,
            **kwargs,
        )  # fmt: skip
    finally:
        if isinstance(metrics, Metrics):
            metrics.close()


def untimed(path):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(("_seconds", "_per_second"))} for line in lines]


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("kill_at", "runtime"),
    [(1, {}), (6, {}), (13, {}), (8, {"checkpoint_seconds": 0.0}), (14, {"checkpoint_seconds": 0.0})],
)
def test_a_run_killed_and_continued_is_the_run_undisturbed(trainer, images, tmp_path, monkeypatch, kill_at, runtime):
    """Checkpoints at the ends of epochs, and after every chunk: inside an epoch too."""
    whole = run(trainer, images, tmp_path / "whole")
    real = trainer.run
    calls = 0

    def killed(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == kill_at // 2 + 1:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(trainer, "run", killed)
    with pytest.raises(Killed):
        run(trainer, images, tmp_path / "broken", runtime=runtime)
    monkeypatch.setattr(trainer, "run", real)
    result = run(trainer, images, tmp_path / "broken", runtime=runtime)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert result.loss == whole.loss
    assert untimed(tmp_path / "broken") == untimed(tmp_path / "whole")
    assert [line["step"] for line in untimed(tmp_path / "whole")] == [2, 4, 5, 7, 9, 10, 12, 14, 15]


def test_a_finished_run_is_found_again_without_training(trainer, images, tmp_path, monkeypatch):
    first = run(trainer, images, tmp_path, epochs=1)
    monkeypatch.setattr(trainer, "run", lambda *a, **k: pytest.fail("it trained again"))
    again = run(trainer, images, tmp_path, epochs=1)
    for a, b in zip(jax.tree.leaves(first.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (again.loss, again.train_seconds) == (first.loss, first.train_seconds)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_is_said_and_the_one_before_used(trainer, images, tmp_path, damage, capfd):
    """Cut short, or with one bit flipped, which orbax would restore without a word."""
    whole = run(trainer, images, tmp_path / "whole")
    run(trainer, images, tmp_path / "cut")
    newest = tmp_path / "cut" / "proxy" / "15"
    for path in newest.rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            damage(path)
    said = []
    result = run(trainer, images, tmp_path / "cut", log=said.append)
    assert "step 15" in said[0]
    assert "cannot be read and was set aside" in said[0]
    assert "goes on from step 10 of 15" in said[1]
    assert (tmp_path / "cut" / "proxy" / "damaged-15").exists()
    assert "Traceback" not in capfd.readouterr().err
    manifests = sorted(path.name for path in (tmp_path / "cut" / "proxy").glob("manifest-*.json"))
    assert manifests == ["manifest-10.json", "manifest-15.json"]
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_subset_below_one_batch_names_the_field(trainer, images, tmp_path):
    with pytest.raises(InputError, match=r"at least one batch of 8.*has 7: lower config\.train\.batch_size"):
        run(trainer, images, tmp_path, subset=np.arange(7))


def test_a_loss_that_is_not_finite_stops_with_its_step(trainer, images, tmp_path, monkeypatch):
    real = trainer.run
    chunks = []

    def poisoned(*args, **kwargs):
        state, losses = real(*args, **kwargs)
        chunks.append(0)
        return state, losses.at[1].set(np.nan) if len(chunks) == 4 else losses  # the second step of the second epoch

    monkeypatch.setattr(trainer, "run", poisoned)
    with pytest.raises(InputError, match=r"nan at step 7 of 15 \(last good: checkpoint 5 .*learning_rate"):
        run(trainer, images, tmp_path)
    monkeypatch.setattr(trainer, "run", real)
    said = []
    assert run(trainer, images, tmp_path, log=said.append).steps == 15  # the checkpoint was good
    assert any("from step 5" in text for text in said)


def test_speed_is_told_once(trainer, images, tmp_path):
    told = []
    run(trainer, images, tmp_path, on_speed=told.append)
    assert len(told) == 1
    assert told[0] > 0


def test_the_step_is_compiled_once_for_every_subset(trainer, images, tmp_path):
    run(trainer, images, tmp_path / "a", epochs=1)
    before = len(trainer._compiled)
    run(trainer, images, tmp_path / "b", epochs=1, subset=np.arange(0, N, 2))
    assert len(trainer._compiled) == before == 1


def test_the_device_loop_equals_the_host_loop(images):
    """Accelerators run a chunk as one program: here on CPU, for a network small enough for it."""
    method = SimCLR(ResNet(depth=10, width=0.125), ProjectionHead(features=16))
    tx = optimizer.build(ConfigDict({"learning_rate": 1e-3, "weight_decay": 1e-6}))
    results = []
    for on_device in (False, True):
        trainer = Trainer(method, tx, views=Views(size=SIZE), batch_size=BATCH, mesh=devices.mesh(1))
        trainer.loop_on_device = on_device
        shared = devices.replicated(trainer.mesh)
        key = jax.device_put(jax.random.key(0), shared)
        order = loop.epoch_order(key, 0, jax.device_put(np.arange(N, dtype=np.int32), shared))
        state, losses = trainer.run(
            trainer.init(key), images, order, key, epoch=0, first=1, count=2, length=3, on_step=lambda: None
        )
        results.append((losses[:2], state))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    assert int(results[0][1].step) == int(results[1][1].step) == 2
    for a, b in zip(jax.tree.leaves(results[0][1].params), jax.tree.leaves(results[1][1].params), strict=True):
        # Adam's first steps are the learning rate times the gradient's sign: rounding may turn the sign of a tiny one
        np.testing.assert_allclose(a, b, atol=2.5e-3)
        assert np.mean(np.abs(a - b)) < 2e-5
