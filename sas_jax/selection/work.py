"""The state of a ranking in progress: the picks so far, reported as progress and saved to resume from."""

import io
import time
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from sas_jax import devices
from sas_jax.errors import InputError
from sas_jax.files import write_whole

_SAVE_SECONDS = 60.0
_FORMAT = "sas_jax work 1"


class Work:
    """The positions and gains of n examples while they are being ranked.

    Use as `with Work(...) as work: ...`; the state is saved on exit, including after an exception or Ctrl-C.

    Attributes:
        position: int32 [n], -1 where not picked.
        gain: float32 [n], nan where not picked.
    """

    def __init__(
        self,
        n: int,
        total: int,
        progress: Callable[[int, int], None] | None,
        path: epath.Path | None,
        same: str,
    ):
        """Starts a ranking, or resumes a saved one.

        Args:
            n: the number of examples.
            total: the number of picks to make.
            progress: called with the number of picks so far and the total.
            path: path of the saved state; None saves nothing.
            same: identifies the run; a saved state from a different run is ignored and overwritten.

        Raises:
            InputError: the file at `path` is not a saved state, or cannot be read.
        """
        self.position = np.full(n, -1, np.int32)
        self.gain = np.full(n, np.nan, np.float32)
        self._total = total
        self._progress = progress
        self._path = path
        self._same = same
        self._saved = time.monotonic()
        self._done = 0
        self._unfinished: tuple[int, list[np.ndarray]] | None = None  # a class's first member, and its state
        if path is not None and path.exists():
            self._load(path)

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        self._save()

    def has(self, members: np.ndarray, steps: int) -> bool:
        """Returns whether this class is ranked already."""
        return bool(np.count_nonzero(self.position[members] >= 0) == steps)

    def add(self, picks: np.ndarray, gains: np.ndarray) -> None:
        """Records a class's picks, as indices among all examples, and their gains."""
        self.position[picks] = np.arange(len(picks))
        self.gain[picks] = gains
        self._unfinished = None
        self._done += len(picks)
        self._tell(self._done)

    def unfinished(self, members: np.ndarray) -> list[np.ndarray] | None:
        """Returns the arrays of this class's unfinished state, if there is one."""
        if self._unfinished is None or self._unfinished[0] != members[0]:
            return None
        return self._unfinished[1]

    def within(self, members: np.ndarray, state: Any, picked: int) -> None:
        """Records the state of a class after `picked` picks."""
        self._unfinished = int(members[0]), jax.tree.leaves(state)
        self._tell(self._done + picked)

    def join(self) -> None:
        """Merges the results of all processes; every process calls this."""
        ranked = devices.largest(self.position)
        gain = devices.largest(np.where(self.position < 0, -np.inf, self.gain))
        self.position, self.gain = ranked, np.where(ranked < 0, np.nan, gain).astype(np.float32)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total)
        if time.monotonic() - self._saved >= _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        """Saves the state atomically."""
        if self._path is None:
            return
        first, leaves = (-1, []) if self._unfinished is None else self._unfinished
        arrays = {f"state{k}": np.asarray(leaf) for k, leaf in enumerate(leaves)}
        arrays |= {"position": self.position, "gain": self.gain, "first": np.asarray(first)}
        buffer = io.BytesIO()
        np.savez(buffer, format=_FORMAT, same=self._same, **arrays)  # type: ignore[arg-type]
        try:
            write_whole(self._path, lambda aside: aside.write_bytes(buffer.getvalue()))
        except OSError as error:
            raise InputError(
                f"The state of the ranking cannot be written to {self._path} ({error.strerror or error}). Choose a "
                f"writable path with {buffer.tell():,} bytes of free disk space."
            ) from error
        self._saved = time.monotonic()

    def _load(self, path: epath.Path) -> None:
        refused = (
            f"{path} must be the saved state of an interrupted ranking, got another file or a damaged one. Move it "
            f"away, or remove it if it was a saved state."
        )
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}). Check the path.") from error
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(refused) from error
        if str(arrays.get("format")) != _FORMAT:
            raise InputError(refused)
        if str(arrays.get("same")) != self._same:
            return
        self.position, self.gain = arrays["position"], arrays["gain"]
        self._done = int(np.count_nonzero(self.position >= 0))
        leaves = [arrays[f"state{k}"] for k in range(len(arrays)) if f"state{k}" in arrays]
        if leaves:
            self._unfinished = int(arrays["first"]), leaves
