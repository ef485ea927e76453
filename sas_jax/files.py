"""Reads local and remote files with clear errors, and writes them atomically."""

import errno
import fnmatch
import hashlib
import io
import os
import shutil
import stat
import tempfile
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from sas_jax.errors import InputError, shown

LARGEST = 1 << 33  # bytes of a file that is read into memory
LONGEST_NAME = 255  # bytes of a file's name
# What makes room for a write: after a full disk, an exceeded quota, a file too large.
FULL = {
    errno.ENOSPC: "Free disk space",
    errno.EDQUOT: "Free disk space",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f)",
}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAGIC = b"\x93NUMPY"
_ZIP = b"PK"


def is_remote(path: epath.PathLike) -> bool:
    """Whether the path is in an object store, such as gs://bucket/name."""
    return "://" in str(path)


def expanded(path: epath.PathLike) -> epath.Path:
    """Returns the path with "~" expanded, which shells do not do in --name=~/path.

    Raises:
        InputError: `path` is not a path, its scheme is unknown, there is no home directory, or it contains NUL, which
            no file system accepts.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"A path must be a string or a pathlib.Path, got {shown(path)}. Give one.")
    if "\0" in str(path):
        raise InputError(f"A path must not contain NUL characters, got {shown(str(path))}. Correct it.")
    try:
        found = epath.Path(path).expanduser()
    except KeyError as error:  # etils knows no such scheme
        raise InputError(
            f"A path must be local, or begin with gs:// or s3://, got {shown(os.fspath(path))}. Download it first."
        ) from error
    if found.parts[:1] == ("~",):
        raise InputError(
            f"The home directory in {path} must be known, got none (HOME is not set). Write the path in full."
        )
    return found


def beside(path: epath.Path, ending: str) -> epath.Path:
    """Returns the path with `ending` appended; replaces a name too long for file systems by its hash."""
    name = f"{path.name}{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{ending}"
    return path.parent / name


def remove(path: epath.Path) -> None:
    """Removes a file, a link (not its target), or a folder with its contents."""
    if path.is_dir() and (is_remote(path) or not os.path.islink(path)):
        path.rmtree()
    else:
        path.unlink(missing_ok=True)


def write_whole(path: epath.Path, write: Callable[[epath.Path], Any]) -> None:
    """Writes a file atomically: calls `write` with a temporary path, then moves the result to `path`.

    A local file is written in the same folder and renamed; links are followed first. Object stores cannot rename, but
    an object appears only when its upload is complete, and an existing object stays until then. A finished local file
    is uploaded.

    Raises:
        OSError: the file cannot be written, or `path` is a folder, a pipe or a device.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            finished = epath.Path(folder) / path.name
            write(finished)
            send(finished, path)
        return
    path, aside = _place(expanded(path))
    try:
        write(aside)
        aside.replace(path)
    except OSError as error:
        if error.errno and error.filename is None:  # such as a full disk, maybe not the expected one
            error.filename = os.fspath(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def matching(folder: epath.Path, *patterns: str) -> list[epath.Path]:
    """Lists a folder's entries whose names match one of the patterns, sorted; [] if there is no folder.

    `epath.Path.glob` treats the folder's own name as part of the pattern: a folder runs/exp* would match runs/exp1.
    """
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if any(fnmatch.fnmatchcase(path.name, p) for p in patterns)]


def check_place(path: epath.PathLike) -> None:
    """Checks whether `write_whole` can write to a local path.

    Raises:
        OSError: it cannot.
    """
    path = expanded(path)
    if not is_remote(path):
        _, aside = _place(path)
        aside.write_bytes(b"")
        aside.unlink()


def _place(path: epath.Path) -> tuple[epath.Path, epath.Path]:
    """Returns a local file's path with links resolved, and a temporary path in the same folder."""
    path = epath.Path(os.path.realpath(path))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:  # other errors are also errors of writing, such as a name that is too long
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a pipe or a device", os.fspath(path))
    return path, path.parent / f".part-{uuid.uuid4().hex[:12]}"  # short, since path.name may be of maximum length


def send(local: epath.Path, path: epath.Path) -> None:
    """Uploads a local file as an object, which appears only when complete."""
    import fsspec  # epath would finalize an interrupted upload as if it were complete

    fsspec.core.url_to_fs(os.fspath(path))[0].put_file(os.fspath(local), os.fspath(path))


def whole(path: epath.PathLike, *, largest: int = LARGEST) -> bytes:
    """Reads a file, local or remote, into memory.

    Args:
        path: a file; pipes and devices, which might never end, are refused.
        largest: maximum size in bytes.

    Raises:
        OSError, ValueError: the file cannot be read or is too large; the text is the reason.
    """
    file = expanded(path)
    check_is_file(file)
    if (size := file.stat().length) > largest:
        raise ValueError(f"it has {size:,} bytes, more than the limit of {largest:,}")
    return file.read_bytes()


def check_unpacked(data: bytes, *, largest: int) -> None:
    """Raises ValueError if a .npz would unpack to more than `largest` bytes; does not unpack it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > largest:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, more than the limit of {largest:,}")


def array(path: epath.PathLike) -> np.ndarray:
    """Reads the array of a .npy file, local or remote, into memory.

    Raises:
        Exception: the file cannot be read; a damaged header can raise any exception; the text is the reason.
    """
    file = expanded(path)
    check_is_file(file)
    with file.open("rb") as opened:
        values = np.load(opened, allow_pickle=False)
    if not isinstance(values, np.ndarray):
        values.close()
        raise ValueError("it is an archive of arrays, as numpy.savez writes it")
    return values


def mapped(path: str) -> np.ndarray:
    """Memory-maps the array of a .npy file.

    Args:
        path: the file.

    Returns:
        A read-only array of one dimension or more.

    Raises:
        InputError: the file is missing, truncated or not a .npy file, or contains Python objects or a scalar.
    """
    local = expanded(path)
    try:
        values = map_array(local)
    except Exception as error:  # NumPy parses headers with Python's parser, which can raise any exception
        raise InputError(
            f"{path} must be a .npy file, got one that cannot be read ({reason(error)}). Write it with numpy.save."
        ) from error
    if values.ndim == 0:
        raise InputError(f"{path} must hold an array with one row per example, got a scalar. Write such an array.")
    return values


def map_array(path: epath.PathLike) -> np.ndarray:
    """Memory-maps the array of a .npy file, also a scalar; copies a remote file to the local disk first.

    Raises:
        Exception: the file cannot be read; a damaged header can raise any exception; the text is the reason.
    """
    if is_remote(path):
        with tempfile.NamedTemporaryFile(suffix=".npy") as copy:
            with epath.Path(path).open("rb") as file:
                shutil.copyfileobj(file, copy)
            copy.flush()
            return np.load(copy.name, mmap_mode="r", allow_pickle=False)  # the mapping outlives the deleted file
    local = os.fspath(expanded(path))
    check_is_file(epath.Path(local))
    with open(local, "rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        kind = "an archive of arrays, as numpy.savez writes it" if start.startswith(_ZIP) else "in another format"
        raise ValueError(f"it is {kind if start else 'empty'}")
    _check_header(local)
    return np.load(local, mmap_mode="r", allow_pickle=False)


def lines(path: str) -> list[str]:
    """Returns the lines of a UTF-8 text file, with or without byte order mark, without line ends.

    Raises:
        InputError: the file is missing or is not UTF-8.
    """
    try:
        text = whole(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} must be a UTF-8 text file, got one that cannot be read ({reason(error)}). Check the path."
        ) from error
    return text.removesuffix("\n").split("\n")


def reason(error: BaseException) -> str:
    """Returns an error's message as one line without a full stop."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
    return text.rstrip(".")


def _check_header(path: str) -> None:
    """Raises unless the header of a .npy file has a supported version and a dtype of non-zero size.

    For a zero-size dtype and a shape of -1, NumPy (2.4.6) divides by zero in memory-mapping, which crashes the process.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:  # 3.0 is for structured types with UTF-8 names
            raise ValueError(f"its NumPy format version is {version[0]}.{version[1]}, expected 1.0 or 2.0")
        _, _, dtype = _HEADERS[version](file)
    if not dtype.itemsize:
        raise ValueError(f"its dtype {dtype} has size 0")


def check_is_file(path: epath.Path) -> None:
    """Raises OSError or ValueError unless a local path is a regular file; epath accepts pipes as files."""
    if is_remote(path):
        return
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("Is a directory")
    if not stat.S_ISREG(mode):
        raise ValueError("it is a pipe or a device, not a file")
