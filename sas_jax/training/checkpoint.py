"""Checkpoints of a training run: orbax, with the newest good one found again whatever happened."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath


class Checkpoints:
    """The checkpoints of one run in one directory, numbered by the steps done."""

    def __init__(self, directory: epath.PathLike, *, keep: int):
        self.directory = epath.Path(directory)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.directory.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Writes `state` as checkpoint `step`; returns when it stands whole on disk."""
        # A copy: the state's own buffers are donated to the next step while orbax may still hold views of them.
        self._manager.save(step, args=ocp.args.StandardSave(jax.tree.map(jnp.copy, state)))
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[Any, str | None]:
        """The newest checkpoint that can be read.

        Args:
            like: a state of the same structure, shapes and placement.

        Returns:
            The state, or None where there is none; and a sentence about the checkpoints that could not be read and
            were removed, or None.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        damaged = []
        state = None
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # orbax warns about what it then raises
                    state = self._manager.restore(step, args=ocp.args.StandardRestore(target))
                break
            except Exception as error:  # orbax, tensorstore and zarr each raise their own for a file cut short
                damaged.append((step, error))
        for step, _ in damaged:
            self._manager.delete(step)
        if not damaged:
            return state, None
        steps = ", ".join(str(step) for step, _ in damaged)
        instead = "training starts again" if state is None else f"training goes on from step {int(state.step)}"
        return state, f"the checkpoint of step {steps} in {self.directory} cannot be read and was removed; {instead}"

    def close(self) -> None:
        self._manager.close()
