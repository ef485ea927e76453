"""Creates folders of symbolic links to a subset of images, for tools that need a folder, without copying the images."""

import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence

from sas_jax.errors import InputError

MARK = ".sas_jax-links"  # marks folders created by `make`; image readers ignore names that begin with a dot


def paths_below(root: str, ids: Sequence[str]) -> list[str]:
    """Returns the absolute paths of a folder's images.

    Args:
        root: the folder, local.
        ids: the images' relative paths, with forward slashes.

    Raises:
        InputError: the folder or some of the images are missing.
    """
    above = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(above):
        raise InputError(f"The folder of images must exist, got {root!r}, which is not a folder. Correct the path.")
    missing = [name for name in ids if not (_is_below(name) and os.path.isfile(os.path.join(above, name)))]
    if missing:
        raise InputError(
            f"The folder of images must hold all {len(ids):,} selected images, got {root!r} without "
            f"{len(missing):,} of them (the first is {missing[0][:200]!r}). Give the folder to which the ids "
            f"are relative paths."
        )
    return [os.path.join(above, name) for name in ids]


def check(folder: str, root: str) -> None:
    """Checks whether `make` may create the folder, without creating anything.

    Raises:
        InputError: the folder is inside the images' folder or contains it, or exists and was not created by `make`.
    """
    target, images = os.path.abspath(os.path.expanduser(folder)), os.path.abspath(os.path.expanduser(root))
    real = [os.path.join(os.path.realpath(path), "") for path in (target, images)]
    if real[0].startswith(real[1]) or real[1].startswith(real[0]):
        raise InputError(
            f"The folder of links must be neither inside the folder of images nor contain it, got {folder!r} and "
            f"{root!r}. Choose another folder for the links."
        )
    if os.path.lexists(target) and (other := _not_ours(target)):
        raise InputError(
            f"The folder of links must be new, empty or created by this command, got {folder!r}, which {other}. "
            f"Choose another, or move it away."
        )


def make(folder: str, root: str, ids: Sequence[str]) -> None:
    """Creates a folder of links to images, with the same sub-folders.

    The folder is created under a temporary name and renamed, so it is never incomplete. A folder that this function
    created earlier is replaced: it is moved aside first, so for a moment neither folder is at the path.

    Args:
        folder: the folder to create; its parent must exist.
        root: the folder of the images, local; the links contain its absolute path.
        ids: the images' relative paths.

    Raises:
        InputError: as in `check` and `paths_below`, or the folder cannot be written.
    """
    check(folder, root)
    paths = paths_below(root, ids)
    target = os.path.abspath(os.path.expanduser(folder))
    aside, old = (os.path.join(os.path.dirname(target), f".{kind}-{uuid.uuid4().hex}") for kind in ("links", "old"))
    try:
        os.mkdir(aside)
        with open(os.path.join(aside, MARK), "w") as file:
            file.write("Links to images, made by sas_jax.export, which may replace this folder.\n")
        for name in sorted({posixpath.dirname(name) for name in ids}):
            os.makedirs(os.path.join(aside, name), exist_ok=True)
        for name, path in zip(ids, paths, strict=True):
            os.symlink(path, os.path.join(aside, name))
        _put(aside, target, old)
    except OSError as error:
        raise InputError(
            f"The folder of links must be in an existing, writable folder on a file system with symbolic links, got "
            f"{folder!r} ({error.strerror or error}). Choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(aside)


def _put(aside: str, target: str, old: str) -> None:
    """Renames the new folder to `target` and removes the folder that it replaces."""
    if not os.path.lexists(os.path.join(target, MARK)):
        os.rename(aside, target)  # fails if something was created there meanwhile
        return
    os.rename(target, old)
    try:
        os.rename(aside, target)
    except BaseException:
        os.rename(old, target)
        raise
    _remove(old)


def _remove(folder: str) -> None:
    """Removes a folder of links. Other files are kept, and removing their folder then fails with OSError."""
    for path, is_folder in _below(folder):
        if is_folder:
            os.rmdir(path)
        elif os.path.islink(path) or os.path.basename(path) == MARK:
            os.unlink(path)
    os.rmdir(folder)


def _not_ours(target: str) -> str:
    """Returns why a folder may not be replaced; "" if it is empty or has only what `make` creates."""
    if os.path.islink(target) or not os.path.isdir(target):
        return "is a link or a file"
    if not os.listdir(target):
        return ""
    mark = os.path.join(target, MARK)
    if not os.path.isfile(mark) or os.path.islink(mark):
        return "holds other files"
    others = [path for path, is_folder in _below(target) if not is_folder and not os.path.islink(path) and path != mark]
    return f"holds {os.path.relpath(others[0], target)!r}, which is not a link" if others else ""


def _below(folder: str) -> Iterator[tuple[str, bool]]:
    """Yields the paths below a folder, bottom up, and whether each is a folder; links are not followed."""
    for above, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            path = os.path.join(above, name)
            yield path, name in folders and not os.path.islink(path)


def _is_below(name: str) -> bool:
    """Whether a relative path stays inside its folder."""
    return bool(name) and "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))
