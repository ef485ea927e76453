"""The training loop of the proxy, of the arms' encoders and of the supervised encoders."""

import collections
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

from sas_jax import devices, preemption, settings
from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.training.checkpoint import Checkpoints
from sas_jax.training.feed import Feed, Resident, Streamed
from sas_jax.training.step import Seen, Trainer, TrainState

# Steps that the host dispatches ahead of the device, if one by one; each holds its batch in memory.
IN_FLIGHT = 4
MOST_STEPS = 2**31 - 1  # the state counts steps in int32


class Metrics(Protocol):
    """The loop's metrics writer (`sas_jax.workdir.Metrics`)."""

    def resume(self, stage: str, step: int) -> dict[str, Any] | None:
        """Drops the lines of `stage` after `step` and returns the last remaining one."""

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line."""

    def sync(self) -> None:
        """Saves the lines to storage that survives a kill."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of a training run.

    Attributes:
        state: the trained state, on the mesh.
        spread: spread of the last step's outputs (`losses.spread`); near 0 if they have collapsed.
        steps: number of steps, including those before an interruption.
        loss: mean loss of the last line of the metrics, over at most `chunk_steps` steps.
        train_seconds: training time, without the steps lost by interruptions.
        views_per_second: average over the training time.
    """

    state: TrainState
    steps: int
    loss: float
    spread: float
    train_seconds: float
    views_per_second: float


def check_batch(name: str, size: int, batch_size: int, *, steps: int, section: str) -> None:
    """Raises InputError if the `size` images of `name` do not fill a batch, or `steps` overflows int32."""
    if size < batch_size:
        other = ", or raise the fraction in config.arms" if section == "config.train" else ""
        raise InputError(
            f"{section}.batch_size must be at most the {size} images of {name}, got {batch_size}. Lower it{other}."
        )
    if steps > MOST_STEPS:
        raise InputError(
            f"{section}.epochs must make at most {MOST_STEPS:,} steps, got {steps:,} for {name}. Lower it, or raise "
            f"{section}.batch_size."
        )


@settings.fixed
def fit(
    trainer: Trainer,
    images: jax.Array | Images,
    subset: np.ndarray,
    *,
    stage: str,
    section: str,
    steps: int,
    seed: int,
    directory: epath.Path,
    runtime: ConfigDict,
    metrics: Metrics,
    log: Callable[[str], None],
    on_speed: Callable[[float], None] = lambda views_per_second: None,
) -> FitResult:
    """Trains on `subset` for `steps` steps, resuming from the newest checkpoint in `directory` if there is one.

    All randomness is a function of (seed, epoch, example, view), so a resumed run equals an uninterrupted one: bit for
    bit on CPU. With several processes, all call this with the same arguments.

    Args:
        trainer: the compiled step.
        images: uint8 [n, h, w, 3], the data set: on every device of the trainer's mesh, on the host, or decoded on
            access.
        subset: int64 [k], ascending indices into the data set; k is at least one batch.
        stage: the run's name in the metrics and messages ("proxy", "arms/sas-0.20-s0").
        section: the run's section of the config, for messages ("config.train").
        steps: total number of steps; the incomplete last batch of each epoch is dropped.
        seed: seed of the initial parameters, the order and the views.
        directory: the directory of the checkpoints.
        runtime: the section of the config with `checkpoint_seconds`, `checkpoint_epochs`, `keep_checkpoints` and
            `data_workers`.
        metrics: receives a line for each chunk.
        log: called with messages for the user.
        on_speed: called once, with the views per second of the first chunk.

    Returns:
        The state after the last step, with the loss and the speed of the training.

    Raises:
        InputError: the subset is smaller than a batch, the loss is no longer finite, or the last checkpoint could not
            be written.
        Preempted: one of the processes received SIGTERM; all have saved the same step.
    """
    check_batch(stage, len(subset), trainer.batch_size, steps=steps, section=section)
    course = _Course(
        batch_size=trainer.batch_size,
        per_epoch=len(subset) // trainer.batch_size,
        total=steps,
        longest=trainer.chunk_steps,
    )
    key = trainer.key(seed)
    feed: Feed
    if isinstance(images, jax.Array):
        feed = Resident(trainer, images, subset, key=key, steps=steps)
    else:
        feed = Streamed(trainer, images, subset, key=key, steps=steps, workers=runtime.data_workers)
    checkpoints = Checkpoints(directory, keep=runtime.keep_checkpoints, log=lambda text: log(f"{stage}: {text}"))
    state = _restore(checkpoints, trainer.abstract_state, course.total, f"{stage}: ", log) or trainer.init(key)
    step = int(jax.device_get(state.step))
    if 0 < step < course.total:
        log(f"{stage}: resumes at step {step} of {course.total}")
    record = _Record(course, stage, section, trainer, checkpoints, metrics, step, on_speed)
    if step < course.total:
        feed.compile(state)
        try:
            with preemption.deferred() as asked:
                record.begin()
                state = _train(trainer, feed, state, step, course, record, checkpoints, runtime, asked)
        finally:
            feed.close()
            record.close()
            checkpoints.finish()
    checkpoints.close()
    return record.result(state)


def load_trained(trainer: Trainer, directory: epath.Path, *, steps: int, allow_older: bool = False) -> TrainState:
    """Loads the final state of a training run.

    Args:
        trainer: the run's trainer.
        directory: the directory of its checkpoints.
        steps: number of steps of the whole run.
        allow_older: if the last checkpoint is damaged, use the newest intact one.

    Raises:
        InputError: the last checkpoint is damaged or missing.
    """
    checkpoints = Checkpoints(directory)
    state, damaged = checkpoints.restore(trainer.abstract_state, last=steps)
    checkpoints.close()
    found = None if state is None else int(state.step)
    if found is None or (found != steps and not allow_older):
        why = next(iter(damaged.values()), f"checkpoint {steps} of {directory} is missing")
        older = "" if found is None else f", or use checkpoint {found} with allow_older=True (--allow_older)"
        raise InputError(
            f"The last checkpoint in {directory} must be intact, got a damaged or missing one ({why}). Run python -m "
            f"sas_jax.main on this workdir again to train the missing steps{older}."
        )
    return state


@dataclasses.dataclass(frozen=True)
class _Course:
    """The sizes of a run: images per step, steps per epoch, steps in total, and the maximum steps per chunk."""

    batch_size: int
    per_epoch: int
    total: int
    longest: int

    def left_of_chunk(self, step: int) -> tuple[int, int]:
        """Returns the steps done and left of the current chunk after `step` steps; chunks never span epochs."""
        length = math.ceil(self.per_epoch / math.ceil(self.per_epoch / self.longest))
        in_epoch = step % self.per_epoch
        done = in_epoch % length
        return done, min(length - done, self.per_epoch - in_epoch, self.total - step)


def _restore(
    checkpoints: Checkpoints, like: TrainState, last: int, prefix: str, log: Callable[[str], None]
) -> TrainState | None:
    """Restores the newest readable state, or returns None; logs damaged checkpoints and sets them aside."""
    restored, damaged = checkpoints.restore(like, last=last)
    for step, reason in damaged.items():
        checkpoints.set_aside(step)
        log(
            f"{prefix}the checkpoint of step {step} in {checkpoints.directory} cannot be read and was set aside "
            f"({reason})"
        )
    return restored


def _train(
    trainer: Trainer,
    feed: Feed,
    state: TrainState,
    step: int,
    course: _Course,
    record: "_Record",
    checkpoints: Checkpoints,
    runtime: ConfigDict,
    asked: Callable[[], bool],
) -> TrainState:
    """Trains from `step` to the end, or until asked to stop."""
    votes = devices.Votes(trainer.mesh, 2)
    on_cpu = trainer.mesh.devices.flat[0].platform == "cpu"
    in_flight: collections.deque[Seen] = collections.deque()
    saved_at = time.perf_counter()
    # Only explicit transfers between host and device are allowed: the batches, a few numbers, the losses.
    with jax.transfer_guard("disallow"):
        while step < course.total:
            is_due = devices.is_writer() and time.perf_counter() - saved_at > runtime.checkpoint_seconds
            is_due, stop = votes.cast(is_due, asked())
            if stop:
                record.read_all()
                _save(checkpoints, step, state, record)
                raise preemption.Preempted
            if is_due:
                record.read_all()
                _save(checkpoints, step, state, record)
                saved_at = time.perf_counter()
            done, left = course.left_of_chunk(step)
            count = left if feed.chunked else 1
            state, seen = feed.run(state, step, count)
            step += count
            in_flight.append(seen)
            while len(in_flight) > (0 if on_cpu else IN_FLIGHT):
                jax.block_until_ready(in_flight.popleft())
            record.passed(step)
            if count == left:
                # The line of this chunk is written while the next one runs; on CPU this chunk has already finished.
                record.add(seen, step, done + count, wait=on_cpu)
                checkpoints.finish(only_if_ready=True)
            epoch, batch = divmod(step, course.per_epoch)
            if step == course.total or (batch == 0 and epoch % runtime.checkpoint_epochs == 0):
                record.read_all()
                _save(checkpoints, step, state, record)
                saved_at = time.perf_counter()
    return state


def _save(checkpoints: Checkpoints, step: int, state: TrainState, record: "_Record") -> None:
    """Saves a checkpoint; raises InputError instead if the chunk's losses so far are unusable."""
    if step in (0, checkpoints.newest):
        return
    loss = record.check(jax.device_get(state.seen), step)
    with jax.transfer_guard("allow"):
        checkpoints.save(step, state, loss=math.inf if math.isnan(loss) else loss)
    record.saved = step


class _Record:
    """The progress of a run: its lines of metrics, its progress bar, and the check of its losses."""

    def __init__(
        self,
        course: _Course,
        stage: str,
        section: str,
        trainer: Trainer,
        checkpoints: Checkpoints,
        metrics: Metrics,
        step: int,
        on_speed: Callable[[float], None],
    ):
        self.saved = step
        self._course = course
        self._stage = stage
        self._section = section
        self._allowed = trainer.skip_nonfinite
        self._directory = checkpoints.directory
        self._metrics = metrics
        self._on_speed = on_speed
        self._start_step = step
        self._last: dict[str, Any] = {"elapsed_seconds": 0.0, "loss": math.nan} | (metrics.resume(stage, step) or {})
        self._pending: collections.deque[tuple[Seen, int, int]] = collections.deque()
        self._spoke = False

    def begin(self) -> None:
        """Starts the clock and the progress bar."""
        self._before, self._start = self._last["elapsed_seconds"], time.perf_counter()
        size = self._course.batch_size
        self._bar = tqdm(
            total=self._course.total * size,
            initial=self._start_step * size,
            desc=self._stage,
            unit=" images",
            disable=None if devices.is_writer() else True,
        )

    def passed(self, step: int) -> None:
        """Advances the progress bar to `step`."""
        self._bar.update(step * self._course.batch_size - self._bar.n)

    def add(self, seen: Seen, step: int, count: int, *, wait: bool) -> None:
        """Adds the chunk of `count` steps up to `step`; writes its line when the next chunk ends, or now if `wait`."""
        self._pending.append((seen, step, count))
        while len(self._pending) > (0 if wait else 1):
            self._write(*self._pending.popleft())

    def read_all(self) -> None:
        """Writes the pending lines to storage that survives a kill."""
        while self._pending:
            self._write(*self._pending.popleft())
        self._metrics.sync()

    def check(self, seen: Seen, step: int) -> float:
        """Returns the mean loss of the current chunk up to `step`.

        Raises:
            InputError: a loss is not finite and cannot be skipped.
        """
        done, _ = self._course.left_of_chunk(step - 1)
        return self._mean(seen, step, done + 1)

    def _mean(self, seen: Seen, step: int, count: int) -> float:
        """Returns the mean loss of the `count` steps up to `step`; NaN if all were skipped."""
        values = np.asarray(seen.losses)[np.arange(step - count, step) % len(seen.losses)]
        finite = np.isfinite(values)
        skipped = int(seen.skipped)
        if not finite.all() and (not self._allowed or skipped > self._allowed):
            bad = step - count + int(np.argmin(finite)) + 1
            many = f"{skipped} such steps in total, {self._section}.skip_nonfinite allows {self._allowed}; "
            kept = f"last good checkpoint: {self.saved} in {self._directory}" if self.saved else "no checkpoint yet"
            raise InputError(
                f"The loss of {self._stage} must be finite, got {values[bad - 1 - step + count]} at step {bad} of "
                f"{self._course.total} ({many if self._allowed else ''}{kept}). Lower the learning rate or raise the "
                f"temperature (in {self._section}, or in config.methods for a method that sets its own), or raise "
                f"{self._section}.skip_nonfinite to skip a few such steps."
            )
        return float(values[finite].mean(dtype=np.float64)) if finite.any() else math.nan

    def _write(self, seen: Seen, step: int, count: int) -> None:
        seen = jax.device_get(seen)
        loss = self._mean(seen, step, count)
        if math.isnan(loss):
            return  # all steps were skipped; the next line counts them
        elapsed = time.perf_counter() - self._start
        speed = 2 * self._course.batch_size * (step - self._start_step) / elapsed
        self._last = {
            "stage": self._stage,
            "step": step,
            "epoch": round(step / self._course.per_epoch, 4),
            "loss": loss,
            "spread": round(float(seen.spread), 4),
            "views_per_second": round(speed, 1),
            "elapsed_seconds": round(self._before + elapsed, 3),
        }
        if skipped := int(seen.skipped):
            self._last["skipped_steps"] = skipped
        self._metrics.write(self._last)
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if not self._spoke:
            self._spoke = True
            with jax.transfer_guard("allow"):  # the callback is not part of the loop
                self._on_speed(speed)

    def close(self) -> None:
        self._bar.close()

    def result(self, state: TrainState) -> FitResult:
        """Returns the result of the whole run."""
        seconds, total = self._last["elapsed_seconds"], self._course.total
        if self._last.get("step") != total:  # its line was lost, or all of its steps were skipped
            loss = self.check(jax.device_get(state.seen), total)
            self._last["loss"] = self._last["loss"] if math.isnan(loss) else loss
        return FitResult(
            state=state,
            steps=total,
            loss=self._last["loss"],
            spread=float(state.spread),
            train_seconds=seconds,
            views_per_second=2 * self._course.batch_size * total / seconds if seconds else math.nan,
        )
