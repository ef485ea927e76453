"""Files, local or in a bucket: read, with a sentence for each that cannot be used, and written whole or not at all."""

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

LARGEST = 1 << 33  # bytes of a file that is read whole
LONGEST_NAME = 255  # bytes of a file's name
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of writing where there is no more room, or none for this user
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAGIC = b"\x93NUMPY"
_ZIP = b"PK"


def is_remote(path: epath.PathLike) -> bool:
    """Whether it is in an object store: gs://bucket/name."""
    return "://" in str(path)


def expanded(path: epath.PathLike) -> epath.Path:
    """The path with "~" as the home directory; the shell does not expand it behind --name=.

    Raises:
        InputError: it is no path or one of an unknown kind of store, there is no home directory, or the path holds a
            NUL, which no file system takes.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"A path must be text or a pathlib.Path, got {shown(path)}. Give one.")
    if "\0" in str(path):
        raise InputError(f"A path must be without NUL characters, got {shown(str(path))}. Correct it.")
    try:
        found = epath.Path(path).expanduser()
    except KeyError as error:  # etils knows no such scheme
        raise InputError(
            f"A path must be local, or begin with gs:// or s3://, got {shown(os.fspath(path))}. Download it first."
        ) from error
    if found.parts[:1] == ("~",):
        raise InputError(
            f"{path} must be in a home directory, got a user without one (HOME is not set). Write the path in full."
        )
    return found


def beside(path: epath.Path, ending: str) -> epath.Path:
    """The path with more at its end, or where that name is too long for file systems a short one in the same folder."""
    name = f"{path.name}{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{ending}"
    return path.parent / name


def remove(path: epath.Path) -> None:
    """Removes a file, a link (and not what it leads to), or a folder with all that is in it."""
    if path.is_dir() and (is_remote(path) or not os.path.islink(path)):
        path.rmtree()
    else:
        path.unlink(missing_ok=True)


def write_whole(path: epath.Path, write: Callable[[epath.Path], Any]) -> None:
    """Calls `write` with another path, then puts what is there at `path`: it is there whole or not at all.

    A local file is written beside its place and renamed; where the path is a link, beside what it leads to. An object
    store has no rename, but there an object appears when its upload has ended, and one that was there before stays
    until then; what is sent is a finished local file.

    Raises:
        OSError: it cannot be written, or a folder, a pipe or a device stands there.
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
        if error.errno and error.filename is None:  # of a full disk, perhaps not the one that the user thinks of
            error.filename = os.fspath(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def matching(folder: epath.Path, *patterns: str) -> list[epath.Path]:
    """What lies in a folder under names that match one of the patterns, sorted; nothing where there is no folder.

    `epath.Path.glob` takes the folder's own name for a part of the pattern: "runs/exp*" finds what is in runs/exp1.
    """
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if any(fnmatch.fnmatchcase(path.name, p) for p in patterns)]


def check_place(path: epath.PathLike) -> None:
    """Finds out whether `write_whole` can write a file there.

    Raises:
        OSError: it cannot.
    """
    path = expanded(path)
    if not is_remote(path):
        _, aside = _place(path)
        aside.write_bytes(b"")
        aside.unlink()


def _place(path: epath.Path) -> tuple[epath.Path, epath.Path]:
    """Where a local file is to be, its links followed, and beside it where it is written first."""
    path = epath.Path(os.path.realpath(path))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:  # other errors are those of writing, such as of a name that is too long
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a pipe or a device", os.fspath(path))
    return path, path.parent / f".part-{uuid.uuid4().hex[:12]}"  # a short name: `path` may have the longest that fits


def send(local: epath.Path, path: epath.Path) -> None:
    """Uploads a local file as an object, which is not there before all of it is."""
    import fsspec  # not by epath, which would end an upload that was interrupted as if it were whole

    fsspec.core.url_to_fs(os.fspath(path))[0].put_file(os.fspath(local), os.fspath(path))


def whole(path: epath.PathLike, *, largest: int = LARGEST) -> bytes:
    """The bytes of a file, local or remote.

    Args:
        path: of a file; a pipe or a device, which might never end, is none.
        largest: in bytes.

    Raises:
        OSError, ValueError: it cannot be read, or has more bytes; the text is the reason.
    """
    file = expanded(path)
    check_is_file(file)
    if (size := file.stat().length) > largest:
        raise ValueError(f"it has {size:,} bytes, and may have {largest:,}")
    return file.read_bytes()


def check_unpacked(data: bytes, *, largest: int) -> None:
    """Raises ValueError where a .npz, however small, unpacks to more than `largest` bytes; nothing is unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > largest:
        raise ValueError(f"unpacked it has more than can be read: {unpacked:,} bytes, and may have {largest:,}")


def array(path: epath.PathLike) -> np.ndarray:
    """The array of a .npy file, local or remote, in memory.

    Raises:
        Exception: it cannot be read, whatever a damaged header leads Python's own parser into; the text is the reason.
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
    """The array of a .npy file, mapped into memory: what is not used is not read.

    Args:
        path: of a local file.

    Returns:
        A read-only array of one dimension or more.

    Raises:
        InputError: there is no such file, or it is cut short or no .npy file, or holds Python objects or a single
            value.
    """
    local = expanded(path)
    try:
        values = map_array(local)
    except Exception as error:  # a damaged header shows as whatever Python's own parser meets in it
        raise InputError(
            f"{path} must be a .npy file, got one that cannot be read ({reason(error)}). Write it with numpy.save."
        ) from error
    if values.ndim == 0:
        raise InputError(f"{path} must hold an array with one row an example, got one value. Write that.")
    return values


def map_array(path: epath.PathLike) -> np.ndarray:
    """As `mapped`, of any array; one in a bucket is copied to this machine's disk first.

    Raises:
        Exception: it cannot be read, whatever a damaged header leads Python's own parser into; the text is the reason.
    """
    if is_remote(path):
        with tempfile.NamedTemporaryFile(suffix=".npy") as copy:
            with epath.Path(path).open("rb") as file:
                shutil.copyfileobj(file, copy)
            copy.flush()
            return np.load(copy.name, mmap_mode="r", allow_pickle=False)  # stays, though its name goes
    local = os.fspath(expanded(path))
    check_is_file(epath.Path(local))
    with open(local, "rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        kind = "an archive of arrays, as numpy.savez writes it" if start.startswith(_ZIP) else "something else"
        raise ValueError(f"it is {kind if start else 'empty'}")
    _check_header(local)
    return np.load(local, mmap_mode="r", allow_pickle=False)


def lines(path: str) -> list[str]:
    """The lines of a text file, UTF-8 with or without a byte order mark, without their ends.

    Raises:
        InputError: there is no such file, or it is not such text.
    """
    try:
        text = whole(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} must hold lines of UTF-8, got a file that cannot be read ({reason(error)}). Check the path."
        ) from error
    return text.removesuffix("\n").split("\n")


def reason(error: BaseException) -> str:
    """What an error says, in one line without a full stop."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
    return text.rstrip(".")


def _check_header(path: str) -> None:
    """Raises unless the header of a .npy file is of values that take up room.

    NumPy (2.4.6) maps a shape of -1 of what takes none by a division by zero, which ends the process.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:  # 3.0 is of structures with names in UTF-8
            raise ValueError(f"it is of NumPy's format {version[0]}.{version[1]}, and should be of 1.0 or 2.0")
        _, _, dtype = _HEADERS[version](file)
    if not dtype.itemsize:
        raise ValueError(f"it is of {dtype}, which holds nothing")


def check_is_file(path: epath.Path) -> None:
    """Raises OSError or ValueError unless there is such a file; epath takes a pipe for one."""
    if is_remote(path):
        return
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("Is a directory")
    if not stat.S_ISREG(mode):
        raise ValueError("it is a pipe or a device, and no file")
