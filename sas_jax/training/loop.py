"""The one training loop: the proxy, every arm's encoder, and whatever is trained later."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.training.batches import epoch_order, pad_subset
from sas_jax.training.checkpoint import Checkpoints
from sas_jax.training.step import ORDER, Trainer, TrainState

# One program on an accelerator; long enough to hide the host, short enough for a progress bar and for a checkpoint.
CHUNK_STEPS = 50


class Metrics(Protocol):
    """Where the loop writes what it sees (`sas_jax.workdir.Metrics`)."""

    def resume(self, stage: str, step: int) -> dict[str, Any] | None:
        """Drops the lines of `stage` past `step`, and returns its last one."""

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a training run leaves.

    Attributes:
        state: the trained state, on the mesh.
        steps: all steps, those before an interruption included.
        loss: mean over the last line of the metrics: at most `chunk_steps` steps.
        train_seconds: of training, interruptions' lost steps not counted.
        views_per_second: over all of it.
    """

    state: TrainState
    steps: int
    loss: float
    train_seconds: float
    views_per_second: float


def check_batch(name: str, size: int, batch_size: int, *, section: str) -> None:
    """Raises an InputError where `size` images, of what is called `name`, do not fill a batch."""
    if size < batch_size:
        raise InputError(
            f"{name} wants at least one batch of {batch_size} images a pass, but has {size}: lower "
            f"{section}.batch_size to at most {size}, or raise the fraction in config.arms"
        )


def fit(
    trainer: Trainer,
    images: jax.Array,
    subset: np.ndarray,
    *,
    stage: str,
    section: str,
    epochs: int,
    seed: int,
    directory: epath.Path,
    runtime: ConfigDict,
    metrics: Metrics,
    log: Callable[[str], None],
    on_speed: Callable[[float], None] = lambda views_per_second: None,
    chunk_steps: int = CHUNK_STEPS,
) -> FitResult:
    """Trains on `subset` for `epochs`, from the newest checkpoint in `directory` where there is one.

    Everything random is a function of (seed, epoch, example, view), so that a run continued is the run undisturbed:
    bit for bit on CPU.

    Args:
        trainer: the compiled step.
        images: uint8 [n, h, w, 3], the data set, on every device of the trainer's mesh.
        subset: int [k], ascending indices into it, k at least one batch.
        stage: names the run in the metrics and messages ("proxy", "arms/sas-0.20-s0").
        section: names its section of the config in messages ("config.train").
        epochs: passes over the subset; the incomplete last batch of each is left out.
        seed: of the initial parameters, the order and the views.
        directory: holds the checkpoints.
        runtime: the section of the config with `checkpoint_seconds`, `checkpoint_epochs`, `keep_checkpoints`.
        metrics: gets a line for each chunk.
        log: gets sentences for the person who waits.
        on_speed: called once, with the views per second of the first chunk.
        chunk_steps: the most steps between two looks of the host at the losses.

    Raises:
        InputError: the subset is smaller than a batch, or the loss is no longer finite.
    """
    batch_size = trainer.batch_size
    steps_per_epoch = len(subset) // batch_size
    check_batch(stage, len(subset), batch_size, section=section)
    total = epochs * steps_per_epoch
    chunks = math.ceil(steps_per_epoch / chunk_steps)
    length = math.ceil(steps_per_epoch / chunks)

    shared = devices.replicated(trainer.mesh)
    key = jax.device_put(jax.random.key(seed), shared)
    padded = jax.device_put(pad_subset(subset, images.shape[0]), shared)
    state = trainer.init(key)
    checkpoints = Checkpoints(directory, keep=runtime.keep_checkpoints)
    restored, damaged = checkpoints.restore(state)
    for damaged_step, reason in damaged.items():
        checkpoints.set_aside(damaged_step)
        log(
            f"{stage}: the checkpoint of step {damaged_step} in {directory} cannot be read and was set aside ({reason})"
        )
    if restored is not None:
        state = restored
    step = int(state.step)
    last = metrics.resume(stage, step) or {"elapsed_seconds": 0.0, "loss": math.nan}
    if 0 < step < total:
        log(f"{stage}: goes on from step {step} of {total}")
    order_key = jax.random.fold_in(key, ORDER)
    order = epoch_order(order_key, step // steps_per_epoch, padded)
    if step < total:
        trainer.compile(state, images, order, key, length=chunk_steps)

    before, start = last["elapsed_seconds"], time.perf_counter()
    start_step, saved_step, saved_at = step, step, start
    bar = tqdm(total=total * batch_size, initial=step * batch_size, desc=stage, unit=" images", disable=None)

    def read(losses: jax.Array, step: int, count: int) -> None:
        """Writes the metrics of a finished chunk that ended at `step`; the device is busy with the next by then."""
        nonlocal last
        values = np.asarray(losses)[:count]
        if not np.isfinite(values).all():
            bad = step - count + int(np.argmin(np.isfinite(values))) + 1
            kept = f"checkpoint {saved_step} in {directory}" if saved_step else "no checkpoint yet"
            value = values[bad - 1 - step + count]
            raise InputError(
                f"the loss of {stage} has to be finite, but was {value} at step {bad} of {total} "
                f"(last good: {kept}): lower {section}.learning_rate, or raise {section}.temperature"
            )
        elapsed = time.perf_counter() - start
        speed = 2 * batch_size * (step - start_step) / elapsed
        last = {
            "stage": stage,
            "step": step,
            "epoch": round(step / steps_per_epoch, 4),
            "loss": float(values.mean(dtype=np.float64)),
            "views_per_second": round(speed, 1),
            "elapsed_seconds": round(before + elapsed, 3),
        }
        metrics.write(last)
        bar.set_postfix(loss=f"{last['loss']:.3f}", refresh=False)
        if step - count == start_step:
            on_speed(speed)

    pending: tuple[jax.Array, int, int] | None = None
    while step < total:
        epoch, first = divmod(step, steps_per_epoch)
        if first == 0:
            order = epoch_order(order_key, epoch, padded)
        count = min(length - first % length, steps_per_epoch - first)
        state, losses = trainer.run(
            state, images, order, key, epoch=epoch, first=first, count=count, length=chunk_steps,
            on_step=lambda: bar.update(batch_size),
        )  # fmt: skip
        step += count
        if pending:
            read(*pending)
        pending = (losses, step, count)
        if not trainer.loop_on_device:  # then the chunk is over already
            read(*pending)
            pending = None
        finished_epoch = epoch + 1 if step % steps_per_epoch == 0 else 0
        due = (
            step == total
            or (finished_epoch and finished_epoch % runtime.checkpoint_epochs == 0)
            or time.perf_counter() - saved_at > runtime.checkpoint_seconds
        )
        if due:
            if pending:  # a checkpoint is written only of a state whose losses were all finite
                read(*pending)
                pending = None
            checkpoints.save(step, state)
            saved_step, saved_at = step, time.perf_counter()
        bar.update(step * batch_size - bar.n)
    bar.close()
    checkpoints.close()
    seconds = last["elapsed_seconds"]
    return FitResult(
        state=state,
        steps=total,
        loss=last["loss"],
        train_seconds=seconds,
        views_per_second=2 * batch_size * total / seconds if seconds else math.nan,
    )
