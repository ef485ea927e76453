"""The training step: from indices to new parameters in one program, data set and augmentation on the device."""

import functools
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sas_jax import devices
from sas_jax.training.methods import SimCLR
from sas_jax.views import Views, view

# Keys of a run, told apart by what they are for.
INIT, ORDER, VIEWS = range(3)


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes."""

    step: jax.Array  # int32 []: steps done
    params: Any
    batch_stats: Any
    opt_state: Any


def view_keys(key: jax.Array, epoch: jax.Array, examples: jax.Array) -> jax.Array:
    """Keys [n, 2] of the two views of each example: functions of (seed, epoch, example, view) and of nothing else."""
    key = jax.random.fold_in(key, epoch)
    of_example = jax.vmap(lambda example: jax.random.fold_in(key, example))(examples)
    return jax.vmap(lambda k: jax.vmap(lambda v: jax.random.fold_in(k, v))(jnp.arange(2)))(of_example)


class Trainer:
    """The compiled functions of one method, optimizer, batch and augmentation: made once, used by every run.

    On accelerators a chunk of steps is one program (a loop on the device). XLA:CPU runs convolutions inside loops
    some thirty times slower, so there the host calls the same step once for each.
    """

    def __init__(
        self, method: SimCLR, optimizer: optax.GradientTransformation, *, views: Views, batch_size: int, mesh: Mesh
    ):
        self.method = method
        self.optimizer = optimizer
        self.views = views
        self.batch_size = batch_size
        self.mesh = mesh
        self.loop_on_device = mesh.devices.flat[0].platform != "cpu"
        self._shared = devices.replicated(mesh)
        self.init = jax.jit(self._init, out_shardings=self._shared)
        self._compiled: dict[tuple[int, ...], Any] = {}

    def _init(self, key: jax.Array) -> TrainState:
        """A fresh state from the run's key."""
        image = jnp.zeros((1, self.views.size, self.views.size, 3), jnp.float32)
        variables = self.method.init(jax.random.fold_in(key, INIT), image, train=False)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=self.optimizer.init(variables["params"]),
        )

    def _train_step(
        self, state: TrainState, images: jax.Array, order: jax.Array, key: jax.Array, epoch: jax.Array, batch: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        """One step on batch number `batch` of the epoch; returns the new state and the loss before it."""
        split = functools.partial(jax.lax.with_sharding_constraint, shardings=devices.batched(self.mesh))
        examples = split(jax.lax.dynamic_slice(order, (batch * self.batch_size,), (self.batch_size,)))
        keys = view_keys(jax.random.fold_in(key, VIEWS), epoch, examples)
        augment = jax.vmap(jax.vmap(functools.partial(view, views=self.views), (0, None)))
        pairs = split(augment(keys, images[examples]))

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            loss, updated = self.method.apply(variables, pairs, method="loss", mutable=["batch_stats"])
            return loss, updated["batch_stats"]

        (loss, batch_stats), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), loss

    def _train_chunk(
        self,
        state: TrainState,
        images: jax.Array,
        order: jax.Array,
        key: jax.Array,
        epoch: jax.Array,
        first: jax.Array,
        count: jax.Array,
        *,
        length: int,
    ) -> tuple[TrainState, jax.Array]:
        """`count` <= `length` steps from batch `first` on; a dynamic count, so that every chunk shares one program."""

        def body(i: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, losses = carry
            state, loss = self._train_step(state, images, order, key, epoch, first + i)
            return state, losses.at[i].set(loss)

        return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(length, jnp.float32)))

    def compile(self, state: TrainState, images: jax.Array, order: jax.Array, key: jax.Array, *, length: int) -> Any:
        """Compiles for these shapes, once; apart from `run` so that a caller can time the steps alone."""
        shapes = (*images.shape, length)
        if shapes not in self._compiled:
            number = self._number(0)
            if self.loop_on_device:
                chunk = jax.jit(
                    self._train_chunk, donate_argnums=0, out_shardings=self._shared, static_argnames="length"
                )
                lowered = chunk.lower(state, images, order, key, number, number, number, length=length)
            else:
                step = jax.jit(self._train_step, donate_argnums=0, out_shardings=self._shared)
                lowered = step.lower(state, images, order, key, number, number)
            self._compiled[shapes] = lowered.compile()
        return self._compiled[shapes]

    def _number(self, value: int) -> jax.Array:
        return jax.device_put(jnp.int32(value), self._shared)

    def run(
        self,
        state: TrainState,
        images: jax.Array,
        order: jax.Array,
        key: jax.Array,
        *,
        epoch: int,
        first: int,
        count: int,
        length: int,
        on_step: Callable[[], None],
    ) -> tuple[TrainState, jax.Array]:
        """Runs `count` steps of `epoch` from its batch `first` on.

        Args:
            state: donated.
            images: uint8 [n, h, w, 3], on every device.
            order: int32 [n], the epoch's order.
            key: of the run.
            epoch, first, count: which steps.
            length: the longest chunk there will be; one program serves all counts up to it.
            on_step: called after each step, where the host sees them.

        Returns:
            The new state and the losses, float32 [at least count], not yet read by the host.
        """
        compiled = self.compile(state, images, order, key, length=length)
        number = self._number(epoch)
        if self.loop_on_device:
            return compiled(state, images, order, key, number, self._number(first), self._number(count))
        losses = []
        for batch in range(first, first + count):
            state, loss = compiled(state, images, order, key, number, self._number(batch))
            losses.append(loss.block_until_ready())
            on_step()
        return state, jnp.stack(losses)
