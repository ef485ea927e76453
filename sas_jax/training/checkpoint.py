"""Checkpoints of a training run: orbax writes them in the background, and the newest intact one is restored.

Orbax detects truncated files, with dozens of tracebacks of its own, but not flipped bits. So each checkpoint has a
manifest of its files' hashes next to it, and a checkpoint that does not match its manifest is not opened.
"""

import hashlib
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from etils import epath
from etils.epath.gpath import PosixGPath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.files import FULL, is_remote, matching, reason, remove
from sas_jax.workdir import read_sealed, write_json

# Orbax logs a traceback in each of its threads for errors that it also raises, which are reported here. It also warns
# about every checkpoint that is opened read-only.
absl_logging.get_absl_logger().addFilter(
    lambda record: record.levelno < logging.WARNING or "orbax" not in record.pathname.split("/")
)


class _Directory(PosixGPath):
    """A directory that orbax can search whatever its name: etils interprets a name like "run [1]" as a pattern."""

    def glob(self, pattern: str) -> Iterator[epath.Path]:
        return iter(matching(self, pattern))


class Checkpoints:
    """The checkpoints of one run in one directory, numbered by completed steps; every process has its own instance."""

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep: int | None = None,
        log: Callable[[str], None] = print,
    ):
        """Opens the directory for writing, or read-only if `keep` is None.

        Args:
            directory: created if missing, unless read-only.
            keep: how many of the newest checkpoints to keep, in addition to the one with the lowest loss.
            log: called with a message if a checkpoint cannot be written.
        """
        self.directory = _Directory(directory)
        if not is_remote(self.directory):
            self.directory = self.directory.absolute()  # orbax requires it
        self._log = log
        self._keep = keep
        self._saving: int | None = None
        self._lost: tuple[int, str] | None = None  # the last failed step and the reason, until a later one succeeds
        self._failures: list[int] = []
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        best = BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if self._keep is None else AnyPreservationPolicy([LatestN(self._keep), best]),
            read_only=self._keep is None,
            create=self._keep is not None,
            cleanup_tmp_directories=self._keep is not None,
        )
        return ocp.CheckpointManager(self.directory, options=options)

    @property
    def newest(self) -> int | None:
        """The step of the newest complete checkpoint on disk."""
        steps = [step for step in self._manager.all_steps() if step != self._saving]
        return max(steps, default=None)

    def save(self, step: int, state: Any, *, loss: float) -> None:
        """Starts to write `state` as checkpoint `step`, after finishing the previous write.

        Args:
            step: number of completed steps.
            state: copied before this method returns.
            loss: the checkpoint with the lowest loss is the best.
        """
        self.finish()
        # Copied because the state's own buffers are donated to the next step while orbax still reads them. As NumPy
        # arrays, because orbax compiles a program per shape to slice those of JAX, a part for each device to write.
        copy = jax.tree.map(np.array, jax.device_get(state))
        self._saving = step
        try:
            self._manager.save(step, args=ocp.args.StandardSave(copy), metrics={"loss": loss})
        except (OSError, ValueError) as error:
            self._failed(step, error)

    def finish(self, *, only_if_ready: bool = False) -> None:
        """Waits for the current write and then writes its manifest.

        If the write failed, logs it and removes the partial checkpoint; the previous one remains the newest.

        Args:
            only_if_ready: return immediately if the write is still in progress.
        """
        step = self._saving
        if step is None or (only_if_ready and self._manager.is_saving_in_progress()):
            return
        try:
            self._manager.wait_until_finished()
            if devices.is_writer():
                kept = {f"manifest-{kept}.json" for kept in self._manager.all_steps()}
                for old in matching(self.directory, "manifest-*.json"):
                    if old.name not in kept:
                        old.unlink()
                write_json(self.directory / f"manifest-{step}.json", _hashes(self.directory / str(step)))
            self._saving = self._lost = None
        except (OSError, ValueError) as error:  # tensorstore raises ValueError for a full disk
            self._failed(step, error)

    def _failed(self, step: int, error: Exception) -> None:
        why = _reason(error)
        self._saving, self._lost = None, (step, why)
        self._failures.append(step)
        self._manager.close()
        if devices.is_writer():
            _remove(self.directory / str(step))
            self._remove_unfinished()
        self._manager = self._open()
        last = "there is no earlier one" if self.newest is None else f"checkpoint {self.newest} is kept"
        self._log(
            f"cannot write the checkpoint of step {step} to {self.directory}: {why}; {last}. {_remedy(why)} before the "
            "next checkpoint is due."
        )

    def _remove_unfinished(self) -> None:
        """Removes the remains of failed checkpoints under orbax's temporary names."""
        for left in matching(self.directory, *(f"{step}.orbax-checkpoint-tmp*" for step in self._failures)):
            _remove(left)

    def restore(self, like: Any, *, last: int | None = None) -> tuple[Any, dict[int, str]]:
        """Restores the newest readable checkpoint.

        Args:
            like: a state of the same structure and shapes, of arrays or jax.ShapeDtypeStruct. The restored state gets
                its sharding, which may differ from that of the saved state.
            last: the final step of training, if known; see `damage`.

        Returns:
            The state, or None if there is none; and the newer, unreadable checkpoints as a dict from step to reason.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            if why := damage(self.directory, step, last=last):
                damaged[step] = why
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # orbax also warns about errors that it raises
                    return self._manager.restore(step, args=ocp.args.StandardRestore(target)), damaged
            except Exception as error:  # orbax, tensorstore and zarr raise different errors for truncated files
                damaged[step] = _reason(error)
        return None, damaged

    def set_aside(self, step: int) -> None:
        """Renames a checkpoint to damaged-<step>, so that it is ignored but can still be inspected."""
        devices.wait_for_all(f"checkpoint {step} is damaged")
        if devices.is_writer():
            aside = self.directory / f"damaged-{step}"
            remove(aside)
            (self.directory / str(step)).rename(aside)
        devices.wait_for_all(f"checkpoint {step} is set aside")
        self._manager.reload()

    def close(self) -> None:
        """Finishes the current write and closes the manager.

        Raises:
            InputError: the last checkpoint could not be written.
        """
        self.finish()
        newest = self.newest
        self._manager.close()
        if devices.is_writer():
            self._remove_unfinished()  # again, because a thread of a failed write may have recreated it
        if self._lost is not None:
            step, why = self._lost
            then = "to start over" if newest is None else f"without --restart to resume from checkpoint {newest}"
            raise InputError(
                f"Cannot write the checkpoint of step {step} to {self.directory}: {why}. {_remedy(why)}, then run the "
                f"same command {then}."
            )


def damage(directory: epath.Path, step: int, *, last: int | None = None) -> str | None:
    """Returns why a checkpoint is damaged; None if it is intact, or was written without a manifest because of a kill.

    Only the checkpoint of the `last` step must have a manifest, because finished encoders depend on it: a kill between
    the two, a short moment at the end of training, costs the steps since the previous checkpoint.
    """
    if not (directory / str(step)).is_dir():
        return f"checkpoint {step} of {directory} is missing"
    manifest = directory / f"manifest-{step}.json"
    if not manifest.exists():
        return f"{manifest} is missing" if step == last else None
    try:
        wanted = read_sealed(manifest)
    except (OSError, ValueError) as error:
        return f"{manifest} is damaged ({reason(error)})"
    found = _hashes(directory / str(step))
    bad = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return f"{directory / str(step) / bad[0]} has changed since it was written" if bad else None


def _remove(folder: epath.Path, *, tries: int = 50) -> None:
    """Removes a partial checkpoint; retries, because threads of a failed write may still write to it for a moment."""
    for left in reversed(range(tries)):
        try:
            remove(folder)
            return
        except OSError:
            if not left:
                raise
            time.sleep(0.1)


def _hashes(root: epath.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of a checkpoint, by its path relative to `root`."""
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(root)}


def _reason(error: Exception) -> str:
    """Returns the operating system's message if the error contains one, else the error's first line."""
    if found := re.search(r": ([^:]+) \[os_error_code", str(error)):
        return found[1]
    if words := next((w for w in map(os.strerror, FULL) if w in str(error)), None):
        return words
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _remedy(why: str) -> str:
    """Returns the imperative that fixes a failed write, given its `_reason`."""
    known = {os.strerror(number): fix for number, fix in FULL.items()}
    return known.get(why, "Check that the directory is reachable and writable")


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields all files below a folder (etils has no recursive glob, for the sake of object stores)."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path
