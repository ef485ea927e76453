"""The training step: from images to new parameters in one program, the augmentation on the device."""

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

# Keys of a run, told apart by what they are for.
INIT, ORDER, VIEWS, KEPT = range(4)

# Steps between two looks of the host at the losses, and one program on an accelerator: long enough to hide the host,
# short enough for a progress bar and for a checkpoint.
CHUNK_STEPS = 50

Compiled = Callable[..., tuple["TrainState", "Seen"]]


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes.

    The last losses are part of it, so that a run that goes on in the middle of a chunk writes the same line of metrics.
    """

    step: jax.Array  # int32 []: steps done
    params: Any
    batch_stats: Any
    opt_state: Any
    kept: dict[str, Any]  # the method's further collections of variables
    losses: jax.Array  # float32 [chunk_steps]: that of step s is at s % chunk_steps
    spread: jax.Array  # float32 []: how far apart the outputs of the last step were (`losses.spread`)
    skipped: jax.Array  # int32 []: steps that changed nothing, because their loss or gradient was not finite

    @property
    def seen(self) -> "Seen":
        return Seen(self.losses, self.spread, self.skipped)


class Seen(flax.struct.PyTreeNode):
    """What the host looks at; buffers of its own, which are not given to the next step."""

    losses: jax.Array
    spread: jax.Array
    skipped: jax.Array


def view_keys(key: jax.Array, epoch: jax.Array, examples: jax.Array) -> jax.Array:
    """Keys [n, 2] of the two views of each example: functions of (seed, epoch, example, view) and of nothing else."""
    key = jax.random.fold_in(key, epoch)
    of_example = jax.vmap(lambda example: jax.random.fold_in(key, example))(examples)
    return jax.vmap(lambda k: jax.vmap(lambda v: jax.random.fold_in(k, v))(jnp.arange(2)))(of_example)


class Trainer:
    """The compiled functions of one method, optimizer, batch and augmentation: made once, used by every run.

    On accelerators a chunk of steps over a data set on the device is one program, a loop. XLA:CPU runs convolutions
    inside loops some thirty times slower, so there the host calls the same step once for each; and so it does for
    images that are streamed.
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
        """Nothing is compiled yet.

        Args:
            method: encoder, what stands beside it, and loss.
            optimizer: of the parameters.
            views: the augmentation.
            batch_size: images a step, a multiple of the mesh's devices.
            mesh: the devices.
            labels: int32 [n], of all images of the data set, for a method whose loss asks for those of a batch.
            start: reads the encoder's first "params" and "batch_stats"; gives None where they are random.
            rate: the learning rate at a step, given to the optimizer's update; None where it has its own.
            warmup: the part of a run over which the rate rises, in [0, 1].
            skip_nonfinite: how many steps of a run may be skipped because their loss or gradient is not finite.
            chunk_steps: the most steps between two looks of the host at the losses.
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
        # It runs once and is mostly random numbers, which LLVM takes long to optimise. Compiled in 1.8 s instead of 5.3
        # (quarter-width ResNet-10, 2 cores of an AMD EPYC, jax 0.10.2, 2026-11-26).
        quickly = None if self.loop_on_device else {"xla_backend_optimization_level": 1}
        self._first = jax.jit(self._init, out_shardings=self._shared, compiler_options=quickly)
        self._compiled: dict[tuple[str, tuple[int, ...]], Compiled] = {}

    @settings.fixed
    def init(self, key: jax.Array) -> TrainState:
        """A fresh state from the run's key."""
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

    @settings.fixed
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and placement of a state, for a checkpoint to be read into."""
        shapes = jax.eval_shape(self._init, settings.key(0))
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self._shared), shapes)

    @settings.fixed
    def key(self, seed: int) -> jax.Array:
        """A run's key, on every device."""
        # By a program: device_put does not send typed keys to the devices of other processes.
        return jax.jit(settings.key, out_shardings=self._shared)(np.uint32(seed))

    def horizon(self, *, steps: int, steps_per_epoch: int) -> Horizon:
        """How far a run goes, on every device."""
        numbers = (round(self.warmup * steps), steps, steps_per_epoch)
        return Horizon(*(self.on_devices(np.int32(number)) for number in numbers))

    def on_devices(self, value: Any) -> jax.Array:
        """A host's value on every device of the mesh."""
        return jax.device_put(value, self._shared)

    @settings.fixed
    def step(
        self, state: TrainState, pixels: jax.Array, examples: jax.Array, key: jax.Array, horizon: Horizon
    ) -> tuple[TrainState, Seen]:
        """One step; pure, and what everything below compiles.

        Args:
            state: before it.
            pixels: uint8 [batch, h, w, 3], split over the devices along the first axis.
            examples: int32 [batch], split alike: the images' indices, which name their views.
            key: of the run.
            horizon: of the run.

        Returns:
            The state after it, and the losses so far of this chunk.
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
        """The step whose images are taken from the data set on the device, in the epoch's order."""
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
        """`count` steps; a dynamic count, so that every chunk shares one program."""
        state = jax.lax.fori_loop(
            0, count, lambda _, state: self._resident_step(state, images, order, key, horizon)[0], state
        )
        return state, state.seen

    @settings.fixed
    def compile(self, name: str, *arguments: Any) -> Compiled:
        """The program `name` ("step", "resident_step", "resident_chunk") for arguments of these shapes, once."""
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
