"""What a run promises whatever it trains: one trace, no hidden transfer, float32 where it counts, the same bits from
any placement and any step, and a state that outlives a bad step and a change of machine."""

import contextlib
import json

import chex
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
from sas_jax.training import SimCLR, Trainer, fit
from sas_jax.training.checkpoint import Checkpoints
from sas_jax.training.feed import Resident, Streamed
from sas_jax.training.optimizer import Horizon
from sas_jax.views import Views
from sas_jax.workdir import Metrics, Workdir
from tests.jaxprs import equations

SIZE, BATCH, N = 8, 8, 40
SUBSET = np.arange(0, N, 3)  # 14 images: one batch per epoch, and an incomplete one that is skipped
COMPILED = "/jax/core/compile/backend_compile_duration"


class Tiny(nn.Module):
    """An encoder that compiles fast; BatchNorm's statistics couple the images of a batch."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(16, use_bias=False)(images.reshape(len(images), -1))
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))


class Fragile(SimCLR):
    """Its loss, or only its gradient, is NaN if the batch contains a white image."""

    breaks: str = "loss"

    def loss(self, images):
        loss = super().loss(images)
        white = jnp.any(jnp.mean(images, axis=(1, 2, 3, 4)) > 0.99)
        if self.breaks == "loss":
            return loss + jnp.where(white, jnp.nan, 0.0)
        return loss + jnp.sqrt(jnp.where(white, 0.0, 1.0) * loss) - jnp.sqrt(loss)  # the slope of the root at 0


def trainer_on(num_devices=1, *, method=None, tx=None, **options):
    method = method or SimCLR(Tiny(), ProjectionHead(features=16))
    views = Views(size=SIZE, jitter=0.0, grey=0.0)  # white stays white, and less is compiled
    mesh = devices.mesh(num_devices)
    return Trainer(method, tx or optax.adam(1e-3), views=views, batch_size=BATCH, mesh=mesh, **options)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)


def run(trainer, images, path, *, subset=SUBSET, epochs=2, **runtime):
    """Calls fit(), streaming unless `images` is a jax.Array on the device; returns its result and lines of metrics."""
    workdir = Workdir(path)
    workdir.mark()
    metrics = Metrics(workdir)
    defaults = {"checkpoint_epochs": 100, "checkpoint_seconds": 1e9, "keep_checkpoints": 1, "data_workers": 0}
    with contextlib.closing(metrics):
        result = fit(
            trainer, images, subset, stage="proxy", section="config.train",
            steps=epochs * (len(subset) // trainer.batch_size), seed=5, directory=workdir / "proxy",
            runtime=ConfigDict(defaults | runtime), metrics=metrics, log=lambda _: None,
        )  # fmt: skip
    return result, [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def assert_same(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


def assert_close(a, b, **tolerance):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


# ---- one trace, one program


@pytest.fixture(params=["device", "host"])
def placed(request, images):
    """Puts a trainer's images where they belong."""
    return lambda trainer: trainer.on_devices(images) if request.param == "device" else images


def test_the_step_is_traced_once_for_all_subsets_and_epochs(placed, tmp_path):
    trainer = trainer_on()
    chex.clear_trace_counter()
    trainer.step = chex.assert_max_traces(trainer.step, n=1)
    for epochs, subset in enumerate((np.arange(N), SUBSET, np.arange(9)), start=1):
        run(trainer, placed(trainer), tmp_path / str(epochs), subset=subset, epochs=epochs)


def test_a_second_arm_compiles_nothing(placed, tmp_path):
    """For another size and number of epochs, no step, order of an epoch or copy for a checkpoint is compiled again."""
    trainer = trainer_on()
    given = placed(trainer)
    run(trainer, given, tmp_path / "first")
    compiled = []

    def listen(event, seconds, **about):
        if event == COMPILED:
            compiled.append(about)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run(trainer, given, tmp_path / "second", subset=np.arange(N), epochs=3)
        assert compiled == []
        jax.jit(lambda x: x + 1)(jnp.zeros(3))
        assert compiled, f"JAX no longer reports {COMPILED}: listen to what it reports now"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# ---- transfers


def numbers_of_the_host(arguments):
    """Makes the horizon among a step's arguments NumPy numbers."""
    return tuple(Horizon(*(np.asarray(x) for x in a)) if isinstance(a, Horizon) else a for a in arguments)


def test_an_implicit_transfer_in_the_loop_raises(images, tmp_path, monkeypatch):
    """A feed that gives the step arrays of the host, which would be transferred silently outside of the loop."""
    trainer = trainer_on()
    given = trainer.on_devices(images)
    with monkeypatch.context() as patch:
        real = Resident._arguments
        patch.setattr(Resident, "_arguments", lambda *a: numbers_of_the_host(real(*a)))
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
            run(trainer, given, tmp_path / "resident")
    with monkeypatch.context() as patch:
        patch.setattr(Streamed, "_send", lambda self, batch: (batch["pixels"], batch["examples"]))
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
            run(trainer, images, tmp_path / "streamed")


# ---- precision


def step_arguments(trainer):
    pixels = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.uint8)
    examples = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return trainer.abstract_state, pixels, examples, jax.random.key(0), Horizon(number, number, number)


def test_bfloat16_is_for_convolutions_and_layers_alone():
    """Parameters, statistics, the optimizer's moments and the loss are float32, and so is every sum over a batch."""
    low = jnp.bfloat16
    trainer = trainer_on(
        method=SimCLR(ResNet(depth=10, width=0.125, dtype=low), ProjectionHead(features=32, dtype=low))
    )
    before = step_arguments(trainer)[0]
    after, seen = jax.eval_shape(trainer.step, *step_arguments(trainer))
    for state in (before, after):
        floats = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)}
        assert floats == {jnp.dtype("float32")}
    assert seen.losses.dtype == jnp.float32

    program = list(equations(jax.make_jaxpr(trainer.step)(*step_arguments(trainer)).jaxpr))
    convolutions = [e for e in program if e.primitive.name == "conv_general_dilated"]
    # Forward, and backward for the kernel and (except for the first) for the input; ResNet-10 has 9 and 3 on shortcuts.
    assert len(convolutions) == 3 * 12 - 1
    assert {v.aval.dtype for e in convolutions for v in (*e.invars, *e.outvars)} == {jnp.dtype(low)}
    sums = [e for e in program if e.primitive.name in ("reduce_sum", "reduce_max", "cumsum")]
    assert len(sums) > 2 * 13  # at least the mean and variance of every BatchNorm
    assert jnp.dtype(low) not in {v.aval.dtype for e in sums for v in e.invars}
    products = [e for e in program if e.primitive.name == "dot_general"]
    cosines = [e for e in products if e.outvars[0].aval.shape == (2 * BATCH, 2 * BATCH)]
    assert cosines
    assert {v.aval.dtype for e in cosines for v in e.invars} == {jnp.dtype("float32")}


def test_remat_gives_the_same_step(images):
    """With SGD at rate 1, the change of the parameters is the gradient."""
    ends = []
    for remat in (False, True):
        encoder = ResNet(depth=10, width=0.125, remat=remat)
        trainer = trainer_on(method=SimCLR(encoder, ProjectionHead(features=16)), tx=optax.sgd(1.0))
        ends.append(after(trainer, Resident, trainer.on_devices(images), 0, 1))
    kept, anew = ends
    assert jax.tree.structure(kept) == jax.tree.structure(anew)  # the names, too
    np.testing.assert_allclose(anew.losses[0], kept.losses[0], rtol=1e-6)
    assert_close(anew.params, kept.params, rtol=1e-4, atol=1e-5)
    assert_close(anew.batch_stats, kept.batch_stats, rtol=1e-5, atol=1e-6)


# ---- steps that are not finite


@pytest.fixture(scope="module")
def with_white(images):
    """Returns the images, one of them white."""
    changed = images.copy()
    changed[17] = 255
    return changed


def one_step(trainer, state, pixels, examples):
    split = devices.batched(trainer.mesh)
    batch = jax.device_put(pixels, split), jax.device_put(np.asarray(examples, np.int32), split)
    key, horizon = trainer.key(1), trainer.horizon(steps=81, steps_per_epoch=9)
    arguments = (state, *batch, key, horizon)
    return jax.device_get(trainer.compile("step", *arguments)(*arguments)[0])


@pytest.mark.parametrize("breaks", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(with_white, breaks):
    good, bad, next_one = np.arange(8), np.arange(10, 18), np.arange(24, 32)
    method = Fragile(Tiny(), ProjectionHead(features=16), breaks=breaks)
    trainer = trainer_on(method=method, skip_nonfinite=1)
    state = jax.device_get(trainer.init(jax.random.key(0)))

    def step(state, which):
        return one_step(trainer, trainer.on_devices(state), with_white[which], which)

    before = step(state, good)
    assert np.isfinite(before.losses[0])
    after = step(before, bad)
    assert_same(
        (after.params, after.batch_stats, after.opt_state), (before.params, before.batch_stats, before.opt_state)
    )
    assert (after.step, after.skipped) == (2, 1)
    assert after.losses[0] == before.losses[0]
    assert np.isnan(after.losses[1])
    # The next step is as if the bad one had not happened, except for its step number.
    assert_same(step(after, next_one).params, step(before.replace(step=np.int32(2)), next_one).params)

    careless = trainer_on(method=method)
    spoilt = one_step(careless, careless.on_devices(before), with_white[bad], bad)
    with pytest.raises(AssertionError):
        assert_same(spoilt.params, before.params)


def test_a_run_skips_as_many_steps_as_it_may(with_white, tmp_path):
    """One image of 40 breaks one step of each epoch."""
    method = Fragile(Tiny(), ProjectionHead(features=16))
    allowed = trainer_on(method=method, skip_nonfinite=3)
    result, lines = run(allowed, allowed.on_devices(with_white), tmp_path / "a", subset=np.arange(N), epochs=3)
    assert [line["skipped_steps"] for line in lines] == [1, 2, 3]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert int(result.state.skipped) == 3
    assert int(result.state.step) == 15
    too_few = trainer_on(method=method, skip_nonfinite=2)
    with pytest.raises(InputError, match=r"of 15 \(3 such steps in total, config\.train\.skip_nonfinite allows 2"):
        run(too_few, too_few.on_devices(with_white), tmp_path / "b", subset=np.arange(N), epochs=3)


# ---- the same bits from any placement, from any step


def after(trainer, kind, images, start, stop, state=None, *, subset=SUBSET, epochs=3):
    """Returns a copy of the state after steps `start` to `stop` of a run, with a new feed of this kind."""
    key = trainer.key(3)
    source = kind(trainer, images, subset, key=key, steps=epochs * (len(subset) // trainer.batch_size))
    state = trainer.init(key) if state is None else trainer.on_devices(state)
    try:
        for step in range(start, stop):
            state, _ = source.run(state, step, 1)
    finally:
        source.close()
    return jax.device_get(state)


@pytest.mark.parametrize("num_devices", [1, 8])
def test_streamed_images_give_the_bits_of_resident_ones(images, num_devices):
    """Three epochs of three batches and an incomplete one."""
    trainer = trainer_on(num_devices)
    subset = np.delete(np.arange(N), np.arange(0, N, 4))
    assert len(subset) == 30
    resident = after(trainer, Resident, trainer.on_devices(images), 0, 9, subset=subset)
    streamed = after(trainer, Streamed, images, 0, 9, subset=subset)
    assert np.isfinite(resident.losses[:9]).all()
    assert_same(streamed, resident)


def test_a_stream_goes_on_exactly_from_any_step(images):
    trainer = trainer_on()
    subset = np.arange(26)  # three batches per epoch
    states = [jax.device_get(trainer.init(jax.random.key(3)))]
    for step in range(9):
        states.append(after(trainer, Resident, trainer.on_devices(images), step, step + 1, states[-1], subset=subset))
    for start in range(1, 9):
        assert_same(after(trainer, Streamed, images, start, 9, states[start], subset=subset), states[9])


def test_a_stream_can_be_asked_for_any_step(images, monkeypatch):
    """Not only for the next one: batches that were read ahead are dropped."""
    trainer = trainer_on()
    key = trainer.key(3)
    sent = []
    real = Streamed._send
    monkeypatch.setattr(Streamed, "_send", lambda *a: sent.append(a[1]["examples"].tolist()) or real(*a))
    source = Streamed(trainer, images, np.arange(N), key=key, steps=2 * (N // trainer.batch_size))
    state = trainer.init(key)
    with contextlib.closing(source):
        for step in (0, 1, 7, 8, 2):
            before = len(sent)
            state, _ = source.run(state, step, 1)
            if step in (0, 7, 2):
                assert sent[before] == source._batches[step]["examples"].tolist()
    epoch = [source._batches[step]["examples"].tolist() for step in range(5)]
    assert sorted(example for batch in epoch for example in batch) == list(range(N))


# ---- another number of devices


def test_a_checkpoint_goes_to_other_devices_and_back(images, tmp_path):
    """All values are equal bit for bit, each on all current devices."""
    first = trainer_on(1)
    state = after(first, Resident, first.on_devices(images), 0, 2)
    state = first.on_devices(state)
    for step, num_devices in enumerate((8, 1, 4), start=1):
        with contextlib.closing(Checkpoints(tmp_path, keep=1)) as checkpoints:
            checkpoints.save(step, state, loss=1.0)
        trainer = trainer_on(num_devices)
        with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
            moved, damaged = checkpoints.restore(trainer.abstract_state)
        assert damaged == {}
        assert_same(moved, state)
        for leaf in jax.tree.leaves(moved):
            assert leaf.sharding.device_set == set(trainer.mesh.devices.flat)
        state = moved


def test_a_run_goes_on_on_other_devices(images, tmp_path):
    """One epoch each on one device, on eight and on one again equals the run on one device, up to rounding."""
    results = {}
    for name, numbers in (("whole", (1, 1, 1)), ("moved", (1, 8, 1))):
        for epochs, num_devices in enumerate(numbers, start=1):
            trainer = trainer_on(num_devices, tx=optax.sgd(0.1))
            given = trainer.on_devices(images)
            results[name], lines = run(trainer, given, tmp_path / name, subset=np.arange(N), epochs=epochs)
        assert [line["step"] for line in lines] == [5, 10, 15]
    assert results["moved"].loss == pytest.approx(results["whole"].loss, rel=1e-5)
    assert_close(results["moved"].state.params, results["whole"].state.params, rtol=1e-3, atol=1e-5)
