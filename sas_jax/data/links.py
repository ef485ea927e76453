"""A folder of links to some of a folder's images: what needs a folder can use a subset without a second copy of it."""

import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence

from sas_jax.errors import InputError

MARK = ".sas_jax-links"  # in a folder that `make` made; names with a dot are left alone where images are read


def paths_below(root: str, ids: Sequence[str]) -> list[str]:
    """The absolute paths of a folder's images.

    Args:
        root: the folder, local.
        ids: of its images: their relative paths, with forward slashes.

    Raises:
        InputError: the folder is missing, or some of them are not in it.
    """
    above = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(above):
        raise InputError(f"A folder of images must be there, got {root!r}, which is not a folder. Correct the path.")
    missing = [name for name in ids if not (_is_below(name) and os.path.isfile(os.path.join(above, name)))]
    if missing:
        raise InputError(
            f"The folder of images must hold the {len(ids):,} that the ids name, got {root!r} without {len(missing):,} "
            f"of them (the first is {missing[0][:200]!r}). Give the folder that the ranking's ids are paths in."
        )
    return [os.path.join(above, name) for name in ids]


def check(folder: str, root: str) -> None:
    """Finds out whether `make` may make the folder, without making anything.

    Raises:
        InputError: it is in the images' folder or around it, or is there and was not made by `make`.
    """
    target, images = os.path.abspath(os.path.expanduser(folder)), os.path.abspath(os.path.expanduser(root))
    real = [os.path.join(os.path.realpath(path), "") for path in (target, images)]
    if real[0].startswith(real[1]) or real[1].startswith(real[0]):
        raise InputError(
            f"The folder of links must lie outside that of the images, and not around it, got {folder!r} and {root!r}. "
            f"Choose another place for the links."
        )
    if os.path.lexists(target) and (other := _not_ours(target)):
        raise InputError(
            f"The folder of links must be empty, not there yet or made by this command, got {folder!r}, which {other}. "
            f"Choose another, or move it away."
        )


def make(folder: str, root: str, ids: Sequence[str]) -> None:
    """Makes a folder of links to images, in the same sub-folders.

    It is made aside and renamed, so that it appears whole. One that this function made before is replaced; the old one
    is moved aside first, so that there is a moment with neither, and never one with a part.

    Args:
        folder: to be made; what it lies in has to be there.
        root: the folder of the images, local; the links hold its absolute path.
        ids: of the images: their relative paths.

    Raises:
        InputError: as of `check` and `paths_below`, or it cannot be written.
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
            f"The folder of links must be in a place that is there, can be written and has links, got {folder!r} "
            f"({error.strerror or error}). Choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(aside)


def _put(aside: str, target: str, old: str) -> None:
    """Renames the new folder, and removes the one that stood there."""
    if not os.path.lexists(os.path.join(target, MARK)):
        os.rename(aside, target)  # which fails where something has come to be there
        return
    os.rename(target, old)
    try:
        os.rename(aside, target)
    except BaseException:
        os.rename(old, target)
        raise
    _remove(old)


def _remove(folder: str) -> None:
    """Removes a folder of links; a file in it, which nobody should have put there, makes it stay."""
    for path, is_folder in _below(folder):
        if is_folder:
            os.rmdir(path)
        elif os.path.islink(path) or os.path.basename(path) == MARK:
            os.unlink(path)
    os.rmdir(folder)


def _not_ours(target: str) -> str:
    """Why a folder may not be replaced; "" where it is empty, or holds nothing but what `make` put there."""
    if os.path.islink(target) or not os.path.isdir(target):
        return "is a link or a file"
    if not os.listdir(target):
        return ""
    mark = os.path.join(target, MARK)
    if not os.path.isfile(mark) or os.path.islink(mark):
        return "holds other things"
    others = [path for path, is_folder in _below(target) if not is_folder and not os.path.islink(path) and path != mark]
    return f"holds {os.path.relpath(others[0], target)!r}, which is not a link" if others else ""


def _below(folder: str) -> Iterator[tuple[str, bool]]:
    """What is in a folder, from the bottom up, and whether it is itself a folder; links are not followed."""
    for above, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            path = os.path.join(above, name)
            yield path, name in folders and not os.path.islink(path)


def _is_below(name: str) -> bool:
    """Whether a relative path stays in its folder."""
    return bool(name) and "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))
