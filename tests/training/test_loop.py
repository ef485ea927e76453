"""fit(): resumed runs equal undisturbed ones, and whatever stops it gives the reason."""

import contextlib
import gc
import json
import resource

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.models import ProjectionHead, ResNet
from sas_jax.training import SimCLR, Trainer, checkpoint, fit
from sas_jax.training.checkpoint import Checkpoints
from sas_jax.training.feed import Resident
from sas_jax.views import Views
from sas_jax.workdir import Metrics, Workdir

SIZE, BATCH, N = 8, 8, 40
VIEWS = Views(size=SIZE, jitter=0.0, grey=0.0)
RUNTIME = {"checkpoint_epochs": 1, "checkpoint_seconds": 1e9, "keep_checkpoints": 2, "data_workers": 0}


class Tiny(nn.Module):
    """An encoder that compiles fast, with BatchNorm; its checkpoints are larger than `small_files` allows."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(64, use_bias=False)(images.reshape(len(images), -1))
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))


@pytest.fixture(scope="module")
def trainer():
    method = SimCLR(Tiny(), ProjectionHead(features=16))
    return Trainer(method, optax.adam(1e-3), views=VIEWS, batch_size=BATCH, mesh=devices.mesh(1), chunk_steps=2)


@pytest.fixture(scope="module")
def images():
    host = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
    return jax.device_put(host, devices.replicated(devices.mesh(1)))


def run(trainer, images, path, *, epochs=3, subset=None, metrics=None, log=lambda _: None, runtime=(), **kwargs):
    workdir = Workdir(path)
    workdir.mark()
    metrics = metrics or Metrics(workdir)
    subset = np.arange(N) if subset is None else subset
    try:
        return fit(
            trainer, images, subset, stage="proxy", section="config.train",
            steps=round(epochs * (len(subset) // BATCH)), seed=5, directory=workdir / "proxy",
            runtime=ConfigDict(RUNTIME | dict(runtime)),
            metrics=metrics, log=log, **kwargs,
        )  # fmt: skip
    finally:
        if isinstance(metrics, Metrics):
            metrics.close()


@pytest.fixture
def collected():
    """Collects the garbage of a test while its warnings still count for this test."""
    yield
    gc.collect()


def failed_write(test):
    """Orbax leaves the coroutines of a failed write, never awaited, to the garbage collector."""
    ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return ignored(pytest.mark.usefixtures("collected")(test))


def untimed(path):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(("_seconds", "_per_second"))} for line in lines]


class Killed(BaseException):
    pass


def before_step(patch, step, what):
    """Raises `what`, or calls it if it is a function, when step number `step` (from 0) is about to run."""
    real = Resident.run

    def run(self, state, at, count):
        if at == step:
            if isinstance(what, type):
                raise what
            what()
        return real(self, state, at, count)

    patch.setattr(Resident, "run", run)


@pytest.mark.parametrize(
    ("kill_at", "runtime"),
    [(1, {}), (6, {}), (13, {}), (3, {"checkpoint_seconds": 0.0}), (14, {"checkpoint_seconds": 0.0})],
)
def test_a_run_killed_and_continued_is_the_run_undisturbed(trainer, images, tmp_path, kill_at, runtime):
    """Checkpoints at the ends of epochs, and after every step, also within a chunk of the metrics."""
    whole = run(trainer, images, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, kill_at, Killed)
        with pytest.raises(Killed):
            run(trainer, images, tmp_path / "broken", runtime=runtime)
    result = run(trainer, images, tmp_path / "broken", runtime=runtime)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert result.loss == whole.loss
    assert untimed(tmp_path / "broken") == untimed(tmp_path / "whole")
    assert [line["step"] for line in untimed(tmp_path / "whole")] == [2, 4, 5, 7, 9, 10, 12, 14, 15]


def test_a_finished_run_is_found_again_without_training(trainer, images, tmp_path, monkeypatch):
    first = run(trainer, images, tmp_path, epochs=1)
    monkeypatch.setattr(Resident, "run", lambda *a, **k: pytest.fail("it trained again"))
    again = run(trainer, images, tmp_path, epochs=1)
    for a, b in zip(jax.tree.leaves(first.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (again.loss, again.train_seconds) == (first.loss, first.train_seconds)


@pytest.mark.parametrize("name", ["run [1]", "exp*", "a?b", "[!x]", "100% #1 \u00fc"])
def test_the_name_of_a_directory_is_no_pattern(trainer, images, tmp_path, monkeypatch, caplog, name):
    """Orbax searches a checkpoint's directory as it merges it; reading one logs no message of orbax."""
    (tmp_path / "run 1" / "proxy").mkdir(parents=True)
    (tmp_path / "run 1" / "proxy" / "manifest-3.json").write_text("another run's")
    first = run(trainer, images, tmp_path / name, epochs=1)
    monkeypatch.setattr(Resident, "run", lambda *a, **k: pytest.fail("it trained again"))
    said = []
    again = run(trainer, images, tmp_path / name, epochs=1, log=said.append)
    assert said == []
    for a, b in zip(jax.tree.leaves(first.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(a, b)
    reading = Checkpoints(tmp_path / name / "proxy")
    assert reading.restore(trainer.abstract_state)[1] == {}
    reading.close()
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []
    assert (tmp_path / "run 1" / "proxy" / "manifest-3.json").exists()


def test_a_loss_whose_line_is_lost_is_taken_from_the_checkpoint(trainer, images, tmp_path):
    whole = run(trainer, images, tmp_path, epochs=2)
    metrics = tmp_path / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    for left in (lines[:-1], []):
        metrics.write_text("".join(left))
        assert run(trainer, images, tmp_path, epochs=2).loss == whole.loss


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"3/d/a": "0"}', "\x00", None])
def test_a_damaged_manifest_is_said_and_the_checkpoint_before_used(trainer, images, tmp_path, text):
    run(trainer, images, tmp_path, epochs=2)
    manifest = tmp_path / "proxy" / "manifest-10.json"
    manifest.unlink()
    if text is None:
        manifest.mkdir()
    else:
        manifest.write_text(text)
    reading = Checkpoints(tmp_path / "proxy")
    state, damaged = reading.restore(trainer.abstract_state)
    reading.close()
    assert (int(state.step), list(damaged)) == (5, [10])
    assert damaged[10] == checkpoint.damage(reading.directory, 10)
    assert checkpoint.damage(reading.directory, 5) is None
    assert checkpoint.damage(reading.directory, 6) == f"checkpoint 6 of {tmp_path / 'proxy'} is missing"


def test_the_last_checkpoint_must_have_its_manifest(trainer, images, tmp_path):
    """Finished encoders rely on it. Before the end, a kill may have come between writing the two."""
    whole = run(trainer, images, tmp_path, epochs=2)
    manifest = tmp_path / "proxy" / "manifest-10.json"
    manifest.unlink()
    reading = Checkpoints(tmp_path / "proxy")
    found = {last: reading.restore(trainer.abstract_state, last=last) for last in (10, 15)}
    reading.close()
    assert {last: int(state.step) for last, (state, _) in found.items()} == {10: 5, 15: 10}
    assert found[10][1] == {10: f"{manifest} is missing"}
    said = []
    again = run(trainer, images, tmp_path, epochs=2, log=said.append)
    assert f"was set aside ({manifest} is missing)" in said[0]
    assert manifest.exists()
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(a, b)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_is_said_and_the_one_before_used(trainer, images, tmp_path, damage, capfd):
    """Truncated, or with one bit flipped, which orbax would restore silently."""
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
    assert "resumes at step 10 of 15" in said[1]
    assert (tmp_path / "cut" / "proxy" / "damaged-15").exists()
    assert "Traceback" not in capfd.readouterr().err
    manifests = sorted(path.name for path in (tmp_path / "cut" / "proxy").glob("manifest-*.json"))
    assert manifests == ["manifest-10.json", "manifest-15.json"]
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_subset_below_one_batch_names_the_field(trainer, images, tmp_path):
    with pytest.raises(InputError, match=r"config\.train\.batch_size must be at most the 7 images of .*, got 8"):
        run(trainer, images, tmp_path, subset=np.arange(7))


def test_more_steps_than_int32_counts_are_refused(trainer, images, tmp_path):
    match = r"config\.train\.epochs must make at most 2,147,483,647 steps, got 5,000,000,000 for proxy\. Lower it"
    with pytest.raises(InputError, match=match):
        run(trainer, images, tmp_path, epochs=10**9)


def poison(patch, steps):
    """Makes the loss of these steps (from 0) NaN, as the loop sees it."""
    real = Resident.run

    def run(self, state, at, count):
        state, seen = real(self, state, at, count)
        if at in steps:
            with jax.transfer_guard("allow"):
                losses = seen.losses.at[at % len(seen.losses)].set(np.nan)
                state, seen = state.replace(losses=losses + 0), seen.replace(losses=losses)
        return state, seen

    patch.setattr(Resident, "run", run)


def test_a_loss_that_is_not_finite_stops_with_its_step(trainer, images, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, {6})
        match = r"nan at step 7 of 15 \(last good checkpoint: 5 .*learning rate.*temperature.*skip_nonfinite"
        with pytest.raises(InputError, match=match):
            run(trainer, images, tmp_path)
    said = []
    assert run(trainer, images, tmp_path, log=said.append).steps == 15  # the checkpoint was good
    assert any("resumes at step 5" in text for text in said)


class Fragile(SimCLR):
    """Its loss is NaN if a batch contains a black image, which stays black under augmentation."""

    def loss(self, images):
        black = jnp.any(jnp.all(images == -1, axis=(1, 2, 3, 4)))
        return jnp.where(black, jnp.nan, SimCLR.loss(self, images))


@pytest.mark.parametrize("chunk_steps", [1, 4])
def test_a_few_such_steps_may_be_skipped(images, tmp_path, chunk_steps):
    """The limit counts the whole run, restarts included; one image breaks one step of each epoch, or one chunk."""
    method = Fragile(Tiny(), ProjectionHead(features=16))
    skipping = Trainer(
        method, optax.adam(1e-3), views=VIEWS, batch_size=BATCH, mesh=devices.mesh(1),
        chunk_steps=chunk_steps, skip_nonfinite=2,
    )  # fmt: skip
    spoiled = images.at[17].set(0)
    run(skipping, spoiled, tmp_path, epochs=1, runtime={"checkpoint_seconds": 0.0})
    lines = untimed(tmp_path)
    assert max(line.get("skipped_steps", 0) for line in lines) == 1
    assert np.isfinite([line["loss"] for line in lines]).all()
    match = r"nan at step 1[1-5] of 15 \(3 such steps in total, config\.train\.skip_nonfinite allows 2; last good"
    with pytest.raises(InputError, match=match):
        run(skipping, spoiled, tmp_path, epochs=3)


def test_the_best_is_kept_beside_the_newest(trainer, images, tmp_path):
    run(trainer, images, tmp_path, epochs=6, runtime={"keep_checkpoints": 1})
    losses = {line["step"]: line["loss"] for line in untimed(tmp_path) if line["step"] % 5 == 0}
    kept = {int(path.name) for path in (tmp_path / "proxy").iterdir() if path.name.isdecimal()}
    assert kept == {30, min(losses, key=losses.get)}
    assert {path.name for path in (tmp_path / "proxy").glob("manifest-*")} == {f"manifest-{step}.json" for step in kept}


@contextlib.contextmanager
def small_files():
    """Limits the size of files to some kilobytes, which a checkpoint sees as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def steps_on_disk(path):
    return sorted(int(each.name) for each in (path / "proxy").iterdir() if each.name.isdecimal())


@failed_write
def test_a_full_disk_is_said_and_the_last_good_checkpoint_kept(trainer, images, tmp_path):
    """The disk is full while the checkpoint of step 10 is written, and has free space afterwards."""
    whole = run(trainer, images, tmp_path / "whole")
    said, there = [], []

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as disk:
        opened = watch_checkpoints(patch)

        def fill():
            opened[0].finish()  # that of step 5, which is written in the background
            disk.enter_context(small_files())

        def make_room():
            opened[0].finish()
            there.extend(steps_on_disk(tmp_path / "full"))
            disk.close()

        before_step(patch, 9, fill)
        before_step(patch, 11, make_room)
        result = run(trainer, images, tmp_path / "full", log=said.append)
    assert there == [5]
    assert len(said) == 1
    assert "cannot write the checkpoint of step 10 to" in said[0]
    assert (
        ": File too large; checkpoint 5 is kept. Raise the limit on file sizes (ulimit -f) before the next checkpoint"
        in said[0]
    )
    assert steps_on_disk(tmp_path / "full") == [5, 15]
    assert not list((tmp_path / "full" / "proxy").glob("*tmp*"))
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_array_equal(a, b)


def watch_checkpoints(patch):
    """Records the checkpoint managers that are opened from now on."""
    opened, real = [], Checkpoints.__init__

    def init(self, *args, **kwargs):
        opened.append(self)
        real(self, *args, **kwargs)

    patch.setattr(Checkpoints, "__init__", init)
    return opened


@failed_write
def test_a_disk_that_stays_full_ends_the_run_with_a_sentence(trainer, images, tmp_path):
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as disk:
        opened = watch_checkpoints(patch)

        def fill():
            opened[0].finish()
            disk.enter_context(small_files())

        before_step(patch, 12, fill)
        match = r"write the checkpoint of step 15 to .*: File too large\. Raise the .* to resume from checkpoint 10\."
        with pytest.raises(InputError, match=match):
            run(trainer, images, tmp_path)
    said = []
    assert run(trainer, images, tmp_path, log=said.append).steps == 15
    assert "resumes at step 10 of 15" in said[0]


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
    """Accelerators run a chunk as one program; here on a CPU, with a network small enough for it."""
    method = SimCLR(ResNet(depth=10, width=0.125), ProjectionHead(features=16))
    results = []
    for on_device in (False, True):
        trainer = Trainer(method, optax.adam(1e-3), views=Views(size=SIZE), batch_size=BATCH, mesh=devices.mesh(1))
        trainer.loop_on_device = on_device
        key = trainer.key(0)
        feed = Resident(trainer, images, np.arange(N), key=key, steps=N // BATCH)
        state = trainer.init(key)
        for step, count in [(0, 3)] if on_device else [(0, 1), (1, 1), (2, 1)]:
            state, seen = feed.run(state, step, count)
        results.append((seen.losses[:3], state))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    assert int(results[0][1].step) == int(results[1][1].step) == 3
    for a, b in zip(jax.tree.leaves(results[0][1].params), jax.tree.leaves(results[1][1].params), strict=True):
        # Adam's first steps are the learning rate times the gradient's sign: rounding may flip the sign of a tiny one.
        np.testing.assert_allclose(a, b, atol=4e-3)
        assert np.mean(np.abs(a - b)) < 4e-5
