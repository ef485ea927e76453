"""A run's directory: its config, the stamps of finished stages, files that appear whole, metrics."""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from sas_jax.errors import InputError
from sas_jax.files import is_remote, reason, send, write_whole

# What a run may leave in its directory; `--restart` removes these and nothing else.
OWN_FILES = (
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "results.json",
    "report.html",
    "stamps",
    "proxy",
    "arms",
    "supervised",
    "tensorboard",
    "embeddings.npy",
    "view_embeddings.npy",
    "clip_embeddings.npz",
    "latent_classes.npy",
)
OWN_PATTERNS = ("ranking.parquet", "ranking-*.parquet", "ranking*.parquet.partial", "subset-[0-9]*.npy")
_SYNC_SECONDS = 10.0  # between two uploads of metrics, where no checkpoint asks for one
_MARK = "run.json"  # in stamps/: what tells a run's directory from one that only has the same names in it


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values: equal parts, equal stage."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(array: np.ndarray | None) -> str | None:
    """A hash of an array's bytes."""
    return None if array is None else hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=12).hexdigest()


def jsonable(value: Any) -> Any:
    """Tuples as lists, as they come back from a file."""
    if isinstance(value, dict):
        return {name: jsonable(inner) for name, inner in value.items()}
    return [jsonable(inner) for inner in value] if isinstance(value, tuple | list) else value


def write_json(path: epath.Path, value: Any) -> None:
    """Writes JSON, whole."""
    write_whole(path, lambda aside: aside.write_text(json.dumps(value, indent=2) + "\n"))


def write_array(path: epath.Path, array: np.ndarray) -> None:
    """Writes a .npy file, whole."""

    def write(aside: epath.Path) -> None:
        with aside.open("wb") as file:
            np.save(file, array)

    write_whole(path, write)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def check_writable(directory: epath.Path) -> None:
    """Makes a directory where it is missing, and finds out at once whether it can be written to.

    Raises:
        InputError: it cannot.
    """
    try:
        if is_remote(directory):
            _see_what_others_write()
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".part-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except ImportError as error:
        raise InputError(
            f"a directory in a bucket ({directory}) needs the extra gcp, which is not there ({reason(error)}): install "
            f"it with pip install -e '.[gcp]', or choose a local directory"
        ) from error
    except Exception as error:
        if not isinstance(error, OSError) and not is_remote(directory):  # a store has errors of its own
            raise
        raise InputError(
            f"the results need a directory that can be written to, but {directory} is not ({reason(error)}): choose "
            f"another"
        ) from error


def _see_what_others_write() -> None:
    """Lets no listing of a bucket be answered from memory: other processes of a run write there too."""
    import fsspec

    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False


class Workdir:
    """A run's directory and what of it is done.

    A stage is done when its stamp holds the fingerprint of its inputs: its part of the config and the fingerprints of
    the stages before it.
    """

    def __init__(self, path: epath.PathLike, *, writes: bool = True):
        """Of several processes of a run only one `writes`; the others read what it wrote."""
        self.path = epath.Path(path).expanduser()
        self.writes = writes

    def __truediv__(self, name: str) -> epath.Path:
        return self.path / name

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the directory and holds it for this process alone; a process that dies lets go of it.

        Raises:
            InputError: it cannot be written to, or another process holds it.
        """
        if not self.writes:
            yield
            return
        check_writable(self.path)
        if is_remote(self.path):  # object stores have no locks
            yield
            return
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"a workdir is for one process at a time, but another one is at work in {self.path}: wait "
                    f"for it, or choose another with --workdir"
                ) from error
            yield

    def stored_config(self) -> dict[str, Any] | None:
        """The config of the run that is in the directory, or None."""
        path = self / "config.json"
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text())
            if not isinstance(stored, dict) or not {"data", "proxy", "arms"} <= stored.keys():
                raise ValueError("not a run's config")
            return stored
        except ValueError as error:
            raise InputError(
                f"{path} should hold the config of the run in this workdir as JSON, but is damaged: give --restart to "
                f"begin anew, or another --workdir"
            ) from error

    def clear(self) -> None:
        """Removes what runs leave in the directory, and nothing else."""
        for path in (*(self / name for name in OWN_FILES), *(p for g in OWN_PATTERNS for p in self.path.glob(g))):
            if path.is_dir():
                path.rmtree()
            else:
                path.unlink(missing_ok=True)

    def stamp(self, stage: str) -> dict[str, Any] | None:
        """What `stage` left when it was done, or None."""
        path = self._stamp_path(stage)
        if not path.exists():
            return None
        try:
            stamp = json.loads(path.read_text())
        except (ValueError, OSError):
            return None  # a damaged stamp vouches for nothing
        return stamp if isinstance(stamp, dict) and isinstance(stamp.get("inputs"), str) else None

    def unstamp(self, stage: str) -> None:
        """Takes the word back that `stage` is done."""
        self._stamp_path(stage).unlink(missing_ok=True)

    def mark(self) -> None:
        """Makes the directory that of a run."""
        (self / "stamps").mkdir(parents=True, exist_ok=True)
        if not self.is_marked():
            write_json(self / "stamps" / _MARK, {"stage": "run", "inputs": "", "of": "sas_jax"})

    def is_marked(self) -> bool:
        """Whether the directory is that of a run."""
        return (self / "stamps" / _MARK).exists()

    def _stamp_path(self, stage: str) -> epath.Path:
        return self / "stamps" / f"{stage.replace('/', '.')}.json"

    def is_done(self, stage: str, inputs: str) -> bool:
        """Whether `stage` was done with inputs of this fingerprint."""
        stamp = self.stamp(stage)
        return stamp is not None and stamp["inputs"] == inputs

    @contextlib.contextmanager
    def doing(self, stage: str, inputs: str) -> Iterator[dict[str, Any]]:
        """The work of a stage: stamped when the block ends well. The dict it yields goes into the stamp."""
        if self.writes:
            self.mark()
            self.unstamp(stage)
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        yield facts
        seconds = round(time.perf_counter() - start, 3)
        if self.writes:
            write_json(self._stamp_path(stage), {"stage": stage, "inputs": inputs, "wall_seconds": seconds, **facts})


class Metrics:
    """metrics.jsonl and TensorBoard events, written as training goes by the process that writes.

    An object store cannot append: of a workdir there they are local files, sent by `sync`.
    """

    def __init__(self, workdir: Workdir):
        self._writes = workdir.writes
        self._workdir = workdir.path
        self._aside: tempfile.TemporaryDirectory[str] | None = None
        self._sent: dict[epath.Path, int] = {}
        self._synced = 0.0
        self._writers: dict[str, Any] = {}

    def _place(self, name: str) -> epath.Path:
        """Where a file is while the run is at work."""
        return (epath.Path(self._aside.name) if self._aside else self._workdir) / name

    def lines(self) -> list[dict[str, Any]]:
        """All lines so far; one that was cut short by a kill is left out."""
        path = self._place("metrics.jsonl")
        if not path.exists():
            return []
        lines = []
        for text in path.read_bytes().decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and "stage" in line and "step" in line:
                    lines.append(line)
        return lines

    def resume(self, stage: str, step: int) -> dict[str, Any] | None:
        """Drops the lines of `stage` past `step`, so that none stands twice when training goes on; returns its last."""
        lines = [line for line in self.lines() if line["stage"] != stage or line["step"] <= step]
        if self._writes:
            if is_remote(self._workdir) and self._aside is None:
                self._aside = tempfile.TemporaryDirectory(prefix="sas_jax-")
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_whole(self._place("metrics.jsonl"), lambda aside: aside.write_text(text))
        return next((line for line in reversed(lines) if line["stage"] == stage), None)

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line, and its numbers as TensorBoard scalars under the stage's name."""
        if not self._writes:
            return
        with self._place("metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        stage = line["stage"]
        if stage not in self._writers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tensorboardX's generated protobuf code warns of its own age
                from tensorboardX import SummaryWriter
            self._writers[stage] = SummaryWriter(str(self._place("tensorboard") / stage), purge_step=line["step"])
        for name in ("loss", "views_per_second"):
            self._writers[stage].add_scalar(name, line[name], line["step"])
        self._writers[stage].flush()
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Sends to an object store what is not there yet; a checkpoint must not be there before its lines."""
        self._synced = time.monotonic()
        if self._aside is None:
            return
        for folder, _, names in os.walk(self._aside.name):
            for path in (epath.Path(folder) / name for name in names):
                size = path.stat().length
                if self._sent.get(path) != size:
                    send(path, self._workdir / path.relative_to(self._aside.name))
                    self._sent[path] = size

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self.sync()
        if self._aside is not None:
            self._aside.cleanup()
            self._aside = None
