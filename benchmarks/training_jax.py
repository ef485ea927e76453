"""Builds the training of sas_jax from its parts, as `sas_jax.networks` does from a config."""

import tempfile
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh

from benchmarks.training_cases import (
    FEATURES,
    LEARNING_RATE,
    MEAN,
    STD,
    TEMPERATURE,
    WEIGHT_DECAY,
    Case,
)
from sas_jax import devices
from sas_jax.models import ProjectionHead, ResNet, convolution
from sas_jax.training import SimCLR, Trainer, fit, optimizer
from sas_jax.training.batches import epoch_order, pad_subset
from sas_jax.training.optimizer import Horizon
from sas_jax.training.step import ORDER, TrainState
from sas_jax.views import Views


class Steps(NamedTuple):
    """The steps to be timed."""

    run: Callable[[int], None]  # runs so many steps and waits until they are finished
    program: Any  # compiled program of one step or of a loop of steps


def make_views(case: Case) -> Views:
    """Returns the augmentation of a case."""
    return Views(size=case.network.size, blur=case.network.blur, mean=MEAN, std=STD)


def make_trainer(case: Case, mesh: Mesh) -> Trainer:
    """Returns the trainer of a case, with the dtype that a config's "auto" means on this machine."""
    network, dtype = case.network, jnp.dtype(devices.compute_dtype("auto"))
    train: Any = types.SimpleNamespace(  # the fields of a config's section that are read
        optimizer="adam",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        rate_scaling="none",
        schedule="constant",
        batch_size=case.batch,
    )
    return Trainer(
        SimCLR(
            encoder=ResNet(
                depth=network.depth,
                width=network.width,
                stem=network.stem,
                dtype=dtype,
                convolution=convolution.fastest(dtype),
            ),
            head=ProjectionHead(features=FEATURES, dtype=dtype),
            temperature=TEMPERATURE,
        ),
        optimizer.build(train),
        views=make_views(case),
        batch_size=case.batch,
        mesh=mesh,
        rate=optimizer.schedule(train),
        chunk_steps=case.steps,
    )


def step_alone(trainer: Trainer, case: Case) -> Steps:
    """Returns steps that repeat the same views on the devices: float32 [batch, 2, h, w, 3]."""
    size = case.network.size
    noise = np.random.default_rng(0).standard_normal((case.batch, 2, size, size, 3), np.float32)
    pairs = jax.device_put(noise, devices.batched(trainer.mesh))
    horizon = trainer.horizon(steps=case.steps, steps_per_epoch=case.steps)

    def one(state: TrainState, pairs: jax.Array, horizon: Horizon) -> tuple[TrainState, jax.Array]:
        state = step_without_views(trainer, state, pairs, horizon)
        return state, state.losses

    def many(state: TrainState, pairs: jax.Array, horizon: Horizon, count: jax.Array) -> tuple[TrainState, jax.Array]:
        state = jax.lax.fori_loop(0, count, lambda _, state: one(state, pairs, horizon)[0], state)
        return state, state.losses

    state, given = trainer.init(trainer.key(0)), (pairs, horizon)
    # As in `Trainer`: a loop on an accelerator, one call per step on a CPU.
    function, number = (many, (trainer.on_devices(np.int32(0)),)) if trainer.loop_on_device else (one, ())
    jitted = jax.jit(function, donate_argnums=0, out_shardings=devices.replicated(trainer.mesh))
    return _steps(trainer, jitted.lower(state, *given, *number).compile(), state, given)


def step_without_views(trainer: Trainer, state: TrainState, pairs: jax.Array, horizon: Horizon) -> TrainState:
    """Takes `Trainer.step` without augmentation, on views float32 [batch, 2, h, w, 3] sharded over the devices."""

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        loss, updated = trainer.method.apply(variables, pairs, method="loss", mutable=["batch_stats"])
        return loss, updated["batch_stats"]

    (loss, batch_stats), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    rate = trainer.rate(state.step, horizon)
    updates, opt_state = trainer.optimizer.update(gradient, state.opt_state, state.params, learning_rate=rate)
    return state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        losses=state.losses.at[state.step % trainer.chunk_steps].set(loss),
    )


def augmented(trainer: Trainer, case: Case, images: np.ndarray) -> Steps:
    """Returns steps of the pipeline's program: images uint8 [n, h, w, 3] on every device, in the order of one epoch."""
    key = trainer.key(0)
    padded = trainer.on_devices(pad_subset(np.arange(len(images)), len(images)))
    order = epoch_order(jax.random.fold_in(key, ORDER), trainer.on_devices(np.int32(0)), padded)
    per_epoch = len(images) // case.batch
    horizon = trainer.horizon(steps=per_epoch, steps_per_epoch=per_epoch)
    state = trainer.init(key)
    given = (trainer.on_devices(images), order, key, horizon)
    name, number = (
        ("resident_chunk", (trainer.on_devices(np.int32(0)),)) if trainer.loop_on_device else ("resident_step", ())
    )
    return _steps(trainer, trainer.compile(name, state, *given, *number), state, given)


def _steps(trainer: Trainer, program: Any, state: TrainState, given: tuple[Any, ...]) -> Steps:
    """Returns steps by a program of (state, *given) and, on an accelerator, the number of steps."""
    held = [state]

    def run(count: int) -> None:
        calls, number = (1, (trainer.on_devices(np.int32(count)),)) if trainer.loop_on_device else (count, ())
        for _ in range(calls):
            # The state is donated to the program, so that only the new one exists.
            held.append(jax.block_until_ready(program(held.pop(), *given, *number))[0])

    return Steps(run, program)


def whole_run(trainer: Trainer, case: Case, images: np.ndarray, on_settled: Callable[[], None]) -> list[float]:
    """Returns the seconds per step of each group but the first of `sas_jax.training.fit`, which the pipeline calls.

    Args:
        trainer: from `make_trainer`.
        case: the measured case.
        images: uint8 [n, h, w, 3]; on the devices before timing starts.
        on_settled: called at the end of the first group.
    """
    lines = Lines(on_settled)
    per_epoch = len(images) // case.batch
    epochs = -(-(1 + case.samples) * case.steps // per_epoch)
    runtime: Any = types.SimpleNamespace(
        checkpoint_epochs=10**9, checkpoint_seconds=1e9, keep_checkpoints=1, data_workers=0
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            trainer,
            trainer.on_devices(images),
            np.arange(len(images)),
            stage="benchmark",
            section="config.train",
            # Whole epochs: the groups of an epoch have one length, which may be shorter than requested.
            steps=epochs * per_epoch,
            seed=0,
            directory=epath.Path(folder) / "checkpoints",
            runtime=runtime,
            metrics=lines,
            log=lambda text: None,
        )
    return lines.seconds_per_step()[: case.samples]


class Lines:
    """A run's metrics that keep only the time of each line, which is written when its steps are finished."""

    def __init__(self, on_first: Callable[[], None]):
        self._on_first = on_first
        self._written: list[tuple[int, float]] = []

    def resume(self, stage: str, step: int) -> dict[str, Any] | None:
        del stage, step

    def write(self, line: dict[str, Any]) -> None:
        if not self._written:
            self._on_first()
        self._written.append((line["step"], time.perf_counter()))

    def sync(self) -> None:
        """Does nothing: the times stay in memory."""

    def seconds_per_step(self) -> list[float]:
        """Returns the seconds per step of each line but the first."""
        return [
            (end - start) / (step - before)
            for (before, start), (step, end) in zip(self._written[:-1], self._written[1:], strict=True)
        ]
