"""Feeds images to training steps: from a data set on the device, or in batches that the host decodes on demand."""

import collections
import functools
import multiprocessing.spawn
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from sas_jax import devices
from sas_jax.images import Images
from sas_jax.training.batches import epoch_order, epoch_order_on_host, pad_subset
from sas_jax.training.step import ORDER, Seen, Trainer, TrainState

AHEAD = 2  # batches transferred ahead of the computation: one being copied, one waiting


class Feed(Protocol):
    """The images of a run, in the order of its epochs."""

    chunked: bool  # whether one call of `run` does a whole chunk

    def compile(self, state: TrainState) -> None:
        """Compiles the step, so that a caller can time the steps alone."""

    def run(self, state: TrainState, step: int, count: int) -> tuple[TrainState, Seen]:
        """Runs `count` steps from `step` on, all within one epoch; `state` is donated."""

    def close(self) -> None:
        """Stops prefetching."""


class Resident:
    """A data set replicated on all devices: no step transfers images."""

    def __init__(self, trainer: Trainer, images: jax.Array, subset: np.ndarray, *, key: jax.Array, steps: int):
        """Takes images uint8 [n, h, w, 3] on every device of the trainer's mesh, int [k] indices and total steps."""
        self.chunked = trainer.loop_on_device
        self._trainer = trainer
        self._images = images
        self._key = key
        self._order_key = jax.random.fold_in(key, ORDER)
        self._per_epoch = len(subset) // trainer.batch_size
        self._horizon = trainer.horizon(steps=steps, steps_per_epoch=self._per_epoch)
        self._padded = trainer.on_devices(pad_subset(subset, images.shape[0]))
        self._order: tuple[int, jax.Array] = (-1, self._padded)

    def _arguments(self, state: TrainState, epoch: int, count: int) -> tuple[Any, ...]:
        if self._order[0] != epoch:
            number = self._trainer.on_devices(np.int32(epoch))
            self._order = (epoch, epoch_order(self._order_key, number, self._padded))
        extra = (self._trainer.on_devices(np.int32(count)),) if self.chunked else ()
        return (state, self._images, self._order[1], self._key, self._horizon, *extra)

    def compile(self, state: TrainState) -> None:
        self._trainer.compile("resident_chunk" if self.chunked else "resident_step", *self._arguments(state, 0, 0))

    def run(self, state: TrainState, step: int, count: int) -> tuple[TrainState, Seen]:
        assert self.chunked or count == 1
        arguments = self._arguments(state, step // self._per_epoch, count)
        name = "resident_chunk" if self.chunked else "resident_step"
        return self._trainer.compile(name, *arguments)(*arguments)

    def close(self) -> None:
        pass


class Streamed:
    """Batches from the host: each process decodes its own part with grain's workers and transfers it ahead of its step.

    The batch of a step is a function of the step, so a run can resume at any step, on any number of processes.
    """

    chunked = False

    def __init__(
        self, trainer: Trainer, images: Images, subset: np.ndarray, *, key: jax.Array, steps: int, workers: int = 0
    ):
        """Takes images, int [k] indices, total steps and the number of decoding processes (0: threads of this one)."""
        self._trainer = trainer
        self._images = images
        self._key = key
        self._workers = workers
        self._total = steps
        self._horizon = trainer.horizon(steps=steps, steps_per_epoch=len(subset) // trainer.batch_size)
        order_key = np.asarray(jax.random.key_data(jax.random.fold_in(key, ORDER)))
        rows = _own_rows(trainer.mesh, trainer.batch_size)
        self._batches = Batches(
            images, subset, order_key=order_key, batch_size=trainer.batch_size, rows=rows, total=self._total
        )
        self._next: tuple[int, Iterator[dict[str, np.ndarray]]] | None = None
        self._ahead: collections.deque[tuple[jax.Array, jax.Array]] = collections.deque()

    def compile(self, state: TrainState) -> None:
        split = devices.batched(self._trainer.mesh)
        size = self._trainer.batch_size
        pixels = jax.ShapeDtypeStruct((size, *self._images.shape[1:]), np.uint8, sharding=split)
        examples = jax.ShapeDtypeStruct((size,), np.int32, sharding=split)
        self._trainer.compile("step", state, pixels, examples, self._key, self._horizon)

    def run(self, state: TrainState, step: int, count: int) -> tuple[TrainState, Seen]:
        assert count == 1
        if self._next is None or self._next[0] != step:
            self.close()
            self._next = (step, self._from(step))
        iterator = self._next[1]
        while len(self._ahead) < min(1 + AHEAD, self._total - step):
            self._ahead.append(self._send(next(iterator)))
        self._next = (step + 1, iterator)
        arguments = (state, *self._ahead.popleft(), self._key, self._horizon)
        return self._trainer.compile("step", *arguments)(*arguments)

    def _from(self, step: int) -> Iterator[dict[str, np.ndarray]]:
        """Returns the batches of step `step` and all later ones."""
        import grain.python as grain

        # Prefetches whole batches: the images within one are already decoded on all cores.
        ahead = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)
        batches = grain.MapDataset.source(self._batches)[step:].to_iter_dataset(ahead)
        if self._workers:
            if not flags.FLAGS.is_parsed():  # grain passes absl's flags to its processes; library calls parse none
                flags.FLAGS.mark_as_parsed()
            _start_without_main()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        return iter(batches)

    def _send(self, batch: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
        """Transfers this process's part of a batch to its devices, as shards of the global batch."""
        mesh, size = self._trainer.mesh, self._trainer.batch_size
        if self._workers:
            batch = {name: _moved(values) for name, values in batch.items()}
        return devices.joined(mesh, batch["pixels"], size), devices.joined(mesh, batch["examples"], size)

    def close(self) -> None:
        self._ahead.clear()
        if self._next is not None:
            close = getattr(self._next[1], "close", None)
            if close is not None:
                close()
            self._next = None


class Batches:
    """The batches of a run by step, as a data source for grain; needs no device."""

    def __init__(
        self,
        images: Images,
        subset: np.ndarray,
        *,
        order_key: np.ndarray,
        batch_size: int,
        rows: tuple[int, int],
        total: int,
    ):
        """Stores the arguments without reading images.

        Args:
            images: the images of the data set.
            subset: int [k], ascending indices into them.
            order_key: uint32 [2], the key data of the run's order key.
            batch_size: images per step, over all processes.
            rows: (first, last + 1) of this process's rows of a batch.
            total: number of steps of the run.
        """
        self._images = images
        self._subset = subset
        self._order_key = order_key
        self._batch_size = batch_size
        self._rows = rows
        self._total = total
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """Returns this process's rows of a step's batch: uint8 [rows, h, w, 3] "pixels", int32 [rows] "examples"."""
        epoch, batch = divmod(int(step), len(self._subset) // self._batch_size)
        order = self._orders.get(epoch)
        if order is None:
            order = epoch_order_on_host(self._order_key, epoch, self._subset)
            self._orders = {epoch: order, **{e: o for e, o in self._orders.items() if abs(e - epoch) == 1}}
        low, high = (batch * self._batch_size + row for row in self._rows)
        examples = order[low:high]
        return {"pixels": self._images[examples], "examples": examples}


@functools.cache
def _start_without_main() -> None:
    """Lets grain's processes start without the main script, which they do not need.

    Python runs the main script again in every spawned process: a script without a main guard would train there too.
    """
    prepared = multiprocessing.spawn.get_preparation_data

    def prepare(name: str) -> dict[str, Any]:
        data = prepared(name)
        if name.startswith("grain-"):
            data = {key: value for key, value in data.items() if not key.startswith("init_main_from_")}
        return data

    multiprocessing.spawn.get_preparation_data = prepare


def _moved(values: np.ndarray) -> np.ndarray:
    """Copies an array and frees its shared memory, which grain would free in a thread that may not run before exit."""
    copy = np.array(values)
    shared: Any = getattr(values, "shm", None)
    if shared is not None:
        shared.unlink()
        shared.unlink = lambda: None  # grain's thread still closes the mapping
    return copy


def _own_rows(mesh: Mesh, batch_size: int) -> tuple[int, int]:
    """Returns (first, last + 1) of the batch rows on this process's devices, which are adjacent in the mesh."""
    places = devices.batched(mesh).addressable_devices_indices_map((batch_size,)).values()
    slices = [place[0] for place in places if place is not None]
    low, high = min(s.start or 0 for s in slices), max(s.stop or batch_size for s in slices)
    assert sum((s.stop or batch_size) - (s.start or 0) for s in slices) == high - low
    return low, high
