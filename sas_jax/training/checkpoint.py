"""Checkpoints of a training run: orbax, with the newest good one found again whatever happened.

Orbax notices a file cut short, with dozens of tracebacks of its own, and does not notice a bit that flipped. So beside
each checkpoint stands a manifest of its files' hashes, and one that does not match is not even opened.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from sas_jax.workdir import write_json


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
        kept = {f"manifest-{kept}.json" for kept in self._manager.all_steps()}
        for old in self.directory.glob("manifest-*.json"):
            if old.name not in kept:
                old.unlink()
        write_json(self.directory / f"manifest-{step}.json", self._hashes(step))

    def _hashes(self, step: int) -> dict[str, str]:
        """Of every file of a checkpoint, by its path within it."""
        root = self.directory / str(step)
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(root)}

    def _damage(self, step: int) -> str | None:
        """What of a checkpoint is not as it was written; None where all is, or a kill came before its manifest."""
        manifest = self.directory / f"manifest-{step}.json"
        if not manifest.exists():
            return None
        wanted, found = json.loads(manifest.read_text()), self._hashes(step)
        bad = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        return f"{bad[0]} is not as it was written" if bad else None

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
            if damage := self._damage(step):
                damaged[step] = damage
                continue
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


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    """All files below a folder (etils has no recursive glob, for the sake of object stores)."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path
