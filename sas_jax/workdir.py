"""A run's directory: its config, the stamps of finished stages, atomically written files, and metrics."""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from etils import epath

from sas_jax import json_schemas, typed
from sas_jax.errors import InputError
from sas_jax.files import expanded, is_remote, matching, reason, remove, send, write_whole

# The names that a run uses in its directory; `--restart` removes these and nothing else.
OWN_FOLDERS = ("stamps", "proxy", "arms", "supervised", "tensorboard")
OWN_FILES = (
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "results.json",
    "report.html",
    "embeddings.npy",
    "view_embeddings.npy",
    "clip_embeddings.npz",
    "pretrained-*.npz",
    "latent_classes.npy",
    "latent_classes-*.npy",
    "ranking.parquet",
    "ranking-*.parquet",
    "ranking*.parquet.partial*",
    "subset-[0-9]*.npy",
)
OWNER = "inputs.json"  # next to checkpoints: the fingerprint of their stage's inputs
_SYNC_SECONDS = 10.0  # between two uploads of metrics; each checkpoint triggers one as well
_CHECKSUM = "checksum"  # a key in JSON files: the checksum of the other keys
_CHANGED = "it has changed since it was written"
_FILE = "file"  # prefix of the stage names in the stamps of files, whose inputs are digests
_MARK = "run.json"  # in stamps/: distinguishes a run's directory from one that only contains the same names


def fingerprint(*parts: Any) -> str:
    """Returns a short hash of JSON-serializable values, which tells whether a stage's inputs have changed."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(path: epath.Path) -> str:
    """Returns a hash of a file's bytes."""
    with path.open("rb") as file:
        hashed = hashlib.sha256()
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def digest(array: np.ndarray | None) -> str | None:
    """Returns a hash of an array's bytes."""
    return None if array is None else hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=12).hexdigest()


def jsonable(value: Any) -> Any:
    """Converts tuples to lists, which is how JSON files return them."""
    if isinstance(value, dict):
        return {name: jsonable(inner) for name, inner in value.items()}
    return [jsonable(inner) for inner in value] if isinstance(value, tuple | list) else value


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the object with a checksum of its JSON form added."""
    return value | {_CHECKSUM: fingerprint(json.loads(json.dumps(value)))}


def read_sealed(path: epath.Path) -> dict[str, Any]:
    """Reads a JSON object, verifies its checksum and removes it; files of earlier versions have no checksum.

    Raises:
        OSError, ValueError: the file cannot be read or has changed since it was written; the text is the reason.
    """
    value = _object(path.read_bytes())
    if (checksum := value.pop(_CHECKSUM, None)) is not None and checksum != fingerprint(value):
        raise ValueError(_CHANGED)
    return value


def _object(data: bytes) -> dict[str, Any]:
    """Parses a JSON object; raises ValueError with the reason if it is invalid."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON" if data else "it is empty") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def write_json(path: epath.Path, value: Any) -> None:
    """Writes JSON atomically."""
    write_whole(path, lambda aside: aside.write_text(json.dumps(value, indent=2) + "\n"))


def write_array(path: epath.Path, array: np.ndarray) -> None:
    """Writes a .npy file atomically."""

    def write(aside: epath.Path) -> None:
        with aside.open("wb") as file:
            np.save(file, array)

    write_whole(path, write)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts: {"a": {"b": 1}} becomes {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def check_writable(directory: epath.Path) -> None:
    """Creates a directory if it is missing, and checks that it is writable.

    Raises:
        InputError: the directory is not writable.
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
            f"The extra gcp must be installed to write to the bucket of {directory}, got none ({reason(error)}). Run "
            "pip install 'sas_jax[gcp]', or choose a local directory."
        ) from error
    except Exception as error:
        if not isinstance(error, OSError) and not is_remote(directory):  # object stores raise their own errors
            raise
        raise InputError(
            f"The output directory must be writable, got {directory} ({reason(error)}). Choose another."
        ) from error


def _see_what_others_write() -> None:
    """Disables the cache of bucket listings, because other processes of a run write there too."""
    import fsspec

    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False


class Workdir:
    """A run's directory and the stamps of its finished stages.

    A stage is done when its stamp holds the fingerprint of its inputs: its part of the config and the fingerprints of
    the stages before it.
    """

    def __init__(self, path: epath.PathLike, *, writes: bool = True):
        """Only one process of a run `writes`; the others read the files that it wrote."""
        self.path = expanded(path)
        self.writes = writes

    def __truediv__(self, name: str) -> epath.Path:
        return self.path / name

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Creates the directory and locks it for this process; the lock ends with the process.

        Raises:
            InputError: the directory is not writable, or another process holds the lock.
        """
        if not self.writes:
            yield
            return
        check_writable(self.path)
        if is_remote(self.path):  # object stores have no locks
            yield
            return
        with self._lock() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"--workdir must not be in use by another process, got {self.path}, which one has "
                    "locked. Wait for that process to end, or choose another directory."
                ) from error
            yield

    def _lock(self) -> IO[str]:
        path = self.path / ".lock"
        try:
            return open(path, "w")
        except OSError as error:
            raise InputError(
                f"Cannot open the lock file {path}: {reason(error)}. Move it away, then run the same command again."
            ) from error

    def check_kinds(self) -> None:
        """Checks that none of the run's files is a folder, and none of its folders a file.

        Raises:
            InputError: one is. The run did not create it, and therefore does not remove it.
        """
        if is_remote(self.path):  # an object and a folder may share a name
            return
        trained = [*matching(self / "arms", "*"), *matching(self / "supervised", "*")]
        owners = [self / "proxy", *trained]
        folders = [
            *matching(self.path, *OWN_FOLDERS),
            *trained,
            *(p for o in owners for p in matching(o, "checkpoints")),
        ]
        files = [*matching(self.path, *OWN_FILES), *matching(self / "stamps", "*")]
        files += [path for owner in owners for path in matching(owner, OWNER)]
        for paths, are_folders in ((folders, True), (files, False)):
            for path in paths:
                if path.is_dir() != are_folders:
                    wanted, found = ("folder", "file") if are_folders else ("file", "folder")
                    raise InputError(f"{path} must be a {wanted}, got a {found}. Move it away and run again.")

    def read(self, name: str, kind: Any) -> dict[str, Any] | None:
        """Reads one of the run's JSON files; returns None if it does not exist.

        Args:
            name: name of a file that was written within `writing`.
            kind: type of the content, as `typed.build` takes it.

        Raises:
            InputError: the file is damaged.
        """
        path = self / name
        if not path.exists():
            return None
        try:
            if damage := self.damage(name):
                raise ValueError(damage)
            value = _object(path.read_bytes())
            typed.build(kind, value)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} must be intact, got a damaged file ({reason(error)}). Run python -m sas_jax.main on this "
                f"workdir again to rewrite it."
            ) from error
        return value

    def stored_config(self) -> dict[str, Any] | None:
        """Returns the config of the directory's run, or None; raises InputError if it is damaged."""
        return self.read("config.json", json_schemas.Config)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[epath.Path]:
        """Yields the path of a file for the block to write, then records a digest of it, which `damage` checks.

        If several processes enter the block, one of them writes the file.
        """
        if not self.writes:
            yield self / name
            return
        stage = f"{_FILE}/{name}"
        self.unstamp(stage)
        yield self / name
        if not is_remote(self.path):  # object stores have their own checksums, and reading back costs a transfer
            write_json(self._stamp_path(stage), sealed({"stage": stage, "inputs": _digest(self / name)}))

    def damage(self, name: str) -> str | None:
        """Returns why a file of the run is damaged, or None; files of earlier versions may have no digest to check."""
        path = self / name
        if not path.exists():
            return "it is missing"
        if not is_remote(path) and path.is_dir():
            return "it is a folder"
        stamp = self.stamp(f"{_FILE}/{name}")
        return None if stamp is None or stamp["inputs"] == _digest(path) else _CHANGED

    def clear(self) -> None:
        """Removes the files and folders of runs from the directory, and nothing else."""
        for path in self.own():
            remove(path)

    def own(self) -> list[epath.Path]:
        """Returns the paths in the directory that have names of runs' files and folders."""
        return matching(self.path, *OWN_FOLDERS, *OWN_FILES)

    def stamp(self, stage: str) -> dict[str, Any] | None:
        """Returns the stamp of `stage`, or None if it is missing or damaged."""
        try:
            return self._read_stamp(stage)
        except (OSError, ValueError):
            return None

    def stamp_damage(self, stage: str) -> str | None:
        """Returns why the stamp of `stage` is damaged; None if it is intact or missing."""
        try:
            self._read_stamp(stage)
        except (OSError, ValueError) as error:
            return f"{self._stamp_path(stage)} is damaged ({reason(error)})"
        return None

    def _read_stamp(self, stage: str) -> dict[str, Any] | None:
        path = self._stamp_path(stage)
        if not path.exists():
            return None
        stamp = read_sealed(path)
        kind = stage.partition("/")[0]
        typed.build(
            json_schemas.Stamp if kind == _FILE else json_schemas.STAMPS.get(kind, json_schemas.StageStamp), stamp
        )
        return stamp

    def unstamp(self, stage: str) -> None:
        """Removes the stamp of `stage`."""
        self._stamp_path(stage).unlink(missing_ok=True)

    def mark(self) -> None:
        """Marks the directory as a run's."""
        (self / "stamps").mkdir(parents=True, exist_ok=True)
        if not (self / "stamps" / _MARK).exists():
            write_json(self / "stamps" / _MARK, {"stage": "run", "inputs": "", "of": "sas_jax"})

    def is_marked(self) -> bool:
        """Returns whether the directory is a run's: whether it has the mark or, if that is lost, any intact stamp."""
        return (self / "stamps" / _MARK).exists() or any(map(_is_stamp, matching(self / "stamps", "*.json")))

    def _stamp_path(self, stage: str) -> epath.Path:
        return self / "stamps" / f"{stage.replace('/', '.')}.json"

    def is_done(self, stage: str, inputs: str) -> bool:
        """Returns whether `stage` was done with inputs of this fingerprint."""
        stamp = self.stamp(stage)
        return stamp is not None and stamp["inputs"] == inputs

    @contextlib.contextmanager
    def doing(self, stage: str, inputs: str) -> Iterator[dict[str, Any]]:
        """Stamps `stage` if the block succeeds; the yielded dict is added to the stamp."""
        if self.writes:
            self.mark()
            self.unstamp(stage)
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        yield facts
        seconds = round(time.perf_counter() - start, 3)
        if self.writes:
            stamp = {"stage": stage, "inputs": inputs, "wall_seconds": seconds, **facts}
            write_json(self._stamp_path(stage), sealed(stamp))


def _is_stamp(path: epath.Path) -> bool:
    try:
        return {"stage", "inputs"} <= read_sealed(path).keys()
    except (OSError, ValueError):
        return False


def _line(text: str) -> dict[str, Any] | None:
    """Parses a line of metrics; None if it is damaged. Lines of earlier versions have no checksum."""
    try:
        line = _object(text.encode())
    except ValueError:
        return None
    if line.pop(_CHECKSUM, None) not in (None, _checksum(line)):
        return None
    return None if typed.defect(json_schemas.Metric, line) else line


def _text(line: dict[str, Any]) -> str:
    """Formats a line of metrics for the file."""
    return json.dumps(line | {_CHECKSUM: _checksum(line)}) + "\n"


def _checksum(line: dict[str, Any]) -> str:
    """Returns a checksum of all fields except times, so that it is the same for an interrupted run."""
    return fingerprint({name: value for name, value in line.items() if not name.endswith(("_seconds", "_per_second"))})


class Metrics:
    """metrics.jsonl and TensorBoard events, written during training by the process that writes.

    Object stores cannot append. If the workdir is in one, the files are written locally and uploaded by `sync`.
    """

    def __init__(self, workdir: Workdir):
        self._writes = workdir.writes
        self._workdir = workdir.path
        self._aside: tempfile.TemporaryDirectory[str] | None = None
        self._sent: dict[epath.Path, int] = {}
        self._synced = 0.0
        self._writers: dict[str, Any] = {}

    def _place(self, name: str) -> epath.Path:
        """Returns where a file is during the run."""
        return (epath.Path(self._aside.name) if self._aside else self._workdir) / name

    def lines(self) -> list[dict[str, Any]]:
        """Returns all lines so far, except damaged ones and one that was cut short by a kill."""
        return [line for line in self._read() if line is not None]

    def damaged(self) -> int:
        """Counts the damaged lines, except the last one, which a kill may have cut short."""
        return sum(line is None for line in self._read()[:-1])

    def _read(self) -> list[dict[str, Any] | None]:
        """Returns the lines, with None for damaged ones."""
        path = self._place("metrics.jsonl")
        if not path.exists() or path.is_dir():
            return []
        return [_line(text) for text in path.read_bytes().decode(errors="replace").splitlines()]

    def resume(self, stage: str, step: int) -> dict[str, Any] | None:
        """Drops the lines of `stage` past `step`, since resumed training repeats them; returns its last line."""
        lines = [line for line in self.lines() if line["stage"] != stage or line["step"] <= step]
        if self._writes:
            if is_remote(self._workdir) and self._aside is None:
                self._aside = tempfile.TemporaryDirectory(prefix="sas_jax-")
            text = "".join(map(_text, lines))
            write_whole(self._place("metrics.jsonl"), lambda aside: aside.write_text(text))
        return next((line for line in reversed(lines) if line["stage"] == stage), None)

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line, and writes its numbers as TensorBoard scalars under the stage's name."""
        if not self._writes:
            return
        with self._place("metrics.jsonl").open("a") as file:
            file.write(_text(line))
        stage = line["stage"]
        if stage not in self._writers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tensorboardX's generated protobuf code warns that it is outdated
                from tensorboardX import SummaryWriter
            self._writers[stage] = SummaryWriter(str(self._place("tensorboard") / stage), purge_step=line["step"])
        for name in ("loss", "views_per_second"):
            self._writers[stage].add_scalar(name, line[name], line["step"])
        self._writers[stage].flush()
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Uploads changed files to the object store; a checkpoint must not be uploaded before its lines."""
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
