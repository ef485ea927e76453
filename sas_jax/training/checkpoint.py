"""Checkpoints of a training run: orbax, with the newest good one found again whatever happened."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath


class Checkpoints:
    """The checkpoints of one run in one directory, numbered by the steps done."""

    def __init__(self, directory: epath.PathLike, *, keep: int | None = None):
        """Opens the directory, to write with the newest `keep` kept, or only to read where `keep` is None."""
        self.directory = epath.Path(directory)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, read_only=keep is None, create=keep is not None
        )
        self._manager = ocp.CheckpointManager(self.directory.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Writes `state` as checkpoint `step`; returns when it stands whole on disk."""
        # A copy: the state's own buffers are donated to the next step while orbax may still hold views of them.
        self._manager.save(step, args=ocp.args.StandardSave(jax.tree.map(jnp.copy, state)))
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[Any, dict[int, str]]:
        """The newest checkpoint that can be read.

        Args:
            like: a state of the same structure, shapes and placement.

        Returns:
            The state, or None where there is none; and the newer ones that cannot be read, step to reason.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # orbax warns about what it then raises
                    return self._manager.restore(step, args=ocp.args.StandardRestore(target)), damaged
            except Exception as error:  # orbax, tensorstore and zarr each raise their own for a file cut short
                damaged[step] = str(error).strip().split("\n")[0][:200]
        return None, damaged

    def set_aside(self, step: int) -> None:
        """Renames a checkpoint to damaged-<step>: out of the way, and still there for whoever wants to look."""
        aside = self.directory / f"damaged-{step}"
        if aside.exists():
            aside.rmtree()
        (self.directory / str(step)).rename(aside)
        self._manager.reload()

    def close(self) -> None:
        self._manager.close()
