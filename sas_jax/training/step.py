"""The training step: one program from images to new parameters, with the augmentation on the device."""

import functools
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from sas_jax import devices, settings
from sas_jax.training.methods import Method
from sas_jax.training.optimizer import Horizon
from sas_jax.views import Views, view

# The keys of a run, by purpose; each is folded into the run's key.
INIT, ORDER, VIEWS, KEPT = range(4)

# Steps between two reads of the losses by the host; one program on an accelerator. Long enough to hide the host's work,
# short enough for a progress bar and for checkpoints.
CHUNK_STEPS = 50

Compiled = Callable[..., tuple["TrainState", "Seen"]]


class TrainState(flax.struct.PyTreeNode):
    """The state that a step updates.

    It includes the last losses, so that a run resumed in the middle of a chunk writes the same line of metrics.
    """

    step: jax.Array  # int32 []: completed steps
    params: Any
    batch_stats: Any
    opt_state: Any
    kept: dict[str, Any]  # the method's additional variable collections
    losses: jax.Array  # float32 [chunk_steps]: the loss of step s is at s % chunk_steps
    spread: jax.Array  # float32 []: spread of the last step's outputs (`losses.spread`)
    skipped: jax.Array  # int32 []: steps skipped because their loss or gradient was not finite

    @property
    def seen(self) -> "Seen":
        return Seen(self.losses, self.spread, self.skipped)


class Seen(flax.struct.PyTreeNode):
    """The values that the host reads, in separate buffers that are not donated to the next step."""

    losses: jax.Array
    spread: jax.Array
    skipped: jax.Array


def view_keys(key: jax.Array, epoch: jax.Array, examples: jax.Array) -> jax.Array:
    """Returns keys [n, 2] of the two views of each example, functions of (seed, epoch, example, view) alone."""
    key = jax.random.fold_in(key, epoch)
    of_example = jax.vmap(lambda example: jax.random.fold_in(key, example))(examples)
    return jax.vmap(lambda k: jax.vmap(lambda v: jax.random.fold_in(k, v))(jnp.arange(2)))(of_example)


class Trainer:
    """The compiled functions of one method, optimizer, batch size and augmentation, shared by all runs.

    On accelerators, a chunk of steps over a data set on the device is one program, a loop. XLA:CPU runs convolutions
    inside loops about thirty times slower, so on CPU the host calls the compiled step once per step. It does the same
    for streamed images.
    """

    def __init__(
        self,
        method: Method,
        optimizer: optax.GradientTransformation,
        *,
        views: Views,
        batch_size: int,
        mesh: Mesh,
        labels: np.ndarray | None = None,
        start: Callable[[], Any] = lambda: None,
        rate: Callable[[jax.Array, Horizon], jax.Array] | None = None,
        warmup: float = 0.0,
        skip_nonfinite: int = 0,
        chunk_steps: int = CHUNK_STEPS,
    ):
        """Stores the settings without compiling anything.

        Args:
            method: the encoder, the method's other modules, and the loss.
            optimizer: updates the parameters.
            views: the augmentation.
            batch_size: images per step, a multiple of the number of devices in the mesh.
            mesh: the devices.
            labels: int32 [n], labels of all images of the data set, for methods whose loss takes those of a batch.
            start: reads the encoder's initial "params" and "batch_stats"; returns None if they are random.
            rate: the learning rate at a step, passed to the optimizer's update; None if the optimizer has its own.
            warmup: the fraction of a run over which the rate rises, in [0, 1].
            skip_nonfinite: how many steps of a run may be skipped because their loss or gradient is not finite.
            chunk_steps: the maximum number of steps between two reads of the losses by the host.
        """
        self.method = method
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.views = views
        self.batch_size = batch_size
        self.mesh = mesh
        self.labels = labels
        self.start = start
        self.rate = rate
        self.warmup = warmup
        self.skip_nonfinite = skip_nonfinite
        self.chunk_steps = chunk_steps
        self.loop_on_device = mesh.devices.flat[0].platform != "cpu"
        self._shared = devices.replicated(mesh)
        # Runs once and is mostly random numbers, which LLVM optimises slowly. Compiles in 1.8 s instead of 5.3 s
        # (quarter-width ResNet-10, 2 cores of an AMD EPYC, jax 0.10.2, 2026-11-26).
        quickly = None if self.loop_on_device else {"xla_backend_optimization_level": 1}
        self._first = jax.jit(self._init, out_shardings=self._shared, compiler_options=quickly)
        self._compiled: dict[tuple[str, tuple[int, ...]], Compiled] = {}

    @settings.fixed
    def init(self, key: jax.Array) -> TrainState:
        """Returns the initial state for a run's key."""
        return self._first(key, self.start())

    def _init(self, key: jax.Array, start: Any = None) -> TrainState:
        image = jnp.zeros((1, self.views.size, self.views.size, 3), jnp.float32)
        variables = self.method.init(jax.random.fold_in(key, INIT), image, train=False)
        if start is not None:
            variables = {name: {**variables[name], "encoder": start[name]} for name in ("params", "batch_stats")}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=self.optimizer.init(variables["params"]),
            kept=self.method.begin(variables["params"], jax.random.fold_in(key, KEPT)),
            spread=jnp.full((), jnp.nan, jnp.float32),
            losses=jnp.full(self.chunk_steps, jnp.nan, jnp.float32),
            skipped=jnp.zeros((), jnp.int32),
        )

    @functools.cached_property
    @settings.fixed
    def abstract_state(self) -> TrainState:
        """The shapes, dtypes and shardings of a state, for restoring a checkpoint."""
        shapes = jax.eval_shape(self._init, settings.key(0))
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self._shared), shapes)

    @settings.fixed
    def key(self, seed: int) -> jax.Array:
        """Returns a run's key, replicated on the mesh."""
        # Computed under jit, because device_put does not send typed keys to the devices of other processes.
        return jax.jit(settings.key, out_shardings=self._shared)(np.uint32(seed))

    def horizon(self, *, steps: int, steps_per_epoch: int) -> Horizon:
        """Returns the length of a run, replicated on the mesh."""
        numbers = (round(self.warmup * steps), steps, steps_per_epoch)
        return Horizon(*(self.on_devices(np.int32(number)) for number in numbers))

    def on_devices(self, value: Any) -> jax.Array:
        """Replicates a host value on the mesh."""
        return jax.device_put(value, self._shared)

    @settings.fixed
    def step(
        self, state: TrainState, pixels: jax.Array, examples: jax.Array, key: jax.Array, horizon: Horizon
    ) -> tuple[TrainState, Seen]:
        """Runs one step; a pure function, which all programs below compile.

        Args:
            state: the state before the step.
            pixels: uint8 [batch, h, w, 3], sharded over the devices along the first axis.
            examples: int32 [batch], sharded likewise: the images' indices, which determine the keys of their views.
            key: the run's key.
            horizon: the run's length.

        Returns:
            The state after the step, and the values in it that the host reads.
        """
        epoch = state.step // horizon.per_epoch
        keys = view_keys(jax.random.fold_in(key, VIEWS), epoch, examples)
        augment = jax.vmap(jax.vmap(functools.partial(view, views=self.views), (0, None)))
        pairs = self._split(augment(keys, pixels))
        targets = () if self.labels is None else (self._split(jnp.asarray(self.labels)[examples]),)

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats, **state.kept}
            changing = ["batch_stats", "seen", *state.kept]
            return self.method.apply(variables, pairs, *targets, method="loss", mutable=changing)

        (loss, updated), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        extra = {} if self.rate is None else {"learning_rate": self.rate(state.step, horizon)}
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        kept = {name: updated[name] for name in state.kept}
        kept = self.method.follow(params, kept, state.step / horizon.total)
        spread = updated["seen"]["spread"]
        changed = (params, updated["batch_stats"], opt_state, kept, spread)
        skipped = state.skipped
        if self.skip_nonfinite:
            good = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))
            unchanged = (state.params, state.batch_stats, state.opt_state, state.kept, state.spread)
            changed = jax.tree.map(lambda new, old: jnp.where(good, new, old), changed, unchanged)
            skipped += 1 - good.astype(jnp.int32)
            loss = jnp.where(good, loss, jnp.nan)
        losses = state.losses.at[state.step % self.chunk_steps].set(loss)
        params, batch_stats, opt_state, kept, spread = changed
        state = TrainState(state.step + 1, params, batch_stats, opt_state, kept, losses, spread, skipped)
        return state, state.seen

    def _split(self, batch: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(batch, devices.batched(self.mesh))

    def _resident_step(
        self, state: TrainState, images: jax.Array, order: jax.Array, key: jax.Array, horizon: Horizon
    ) -> tuple[TrainState, Seen]:
        """Runs the step on images of the data set on the device, in the epoch's order."""
        first = state.step % horizon.per_epoch * self.batch_size
        examples = self._split(jax.lax.dynamic_slice(order, (first,), (self.batch_size,)))
        return self.step(state, self._split(images[examples]), examples, key, horizon)

    def _resident_chunk(
        self,
        state: TrainState,
        images: jax.Array,
        order: jax.Array,
        key: jax.Array,
        horizon: Horizon,
        count: jax.Array,
    ) -> tuple[TrainState, Seen]:
        """Runs `count` steps; the count is traced, so that all chunks share one program."""
        state = jax.lax.fori_loop(
            0, count, lambda _, state: self._resident_step(state, images, order, key, horizon)[0], state
        )
        return state, state.seen

    @settings.fixed
    def compile(self, name: str, *arguments: Any) -> Compiled:
        """Compiles "step", "resident_step" or "resident_chunk" for arguments of these shapes; cached."""
        programs: dict[str, Callable[..., Any]] = {
            "step": self.step,
            "resident_step": self._resident_step,
            "resident_chunk": self._resident_chunk,
        }
        shapes = (name, arguments[1].shape)
        if shapes not in self._compiled:
            jitted = jax.jit(programs[name], donate_argnums=0, out_shardings=self._shared)
            self._compiled[shapes] = jitted.lower(*arguments).compile()
        return self._compiled[shapes]
