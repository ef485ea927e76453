"""Reads a folder of images, with or without a sub-folder for each class."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from etils import epath

from sas_jax.data import items
from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.streamed import is_streamed, memory
from sas_jax.errors import InputError, shown
from sas_jax.files import expanded, is_remote, reason

# The suffixes of torchvision's ImageFolder, and GIF.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


def load(folder: str, test_folder: str, *, image_size: int, placement: str = "host") -> Dataset:
    """Reads the images of `folder`, and of `test_folder` unless it is "".

    Args:
        folder: the images to train on.
        test_folder: the images for evaluation, with the same class sub-folders; "" for none.
        image_size: side length in pixels.
        placement: "device" and "host" decode the images into memory, "stream" decodes them on access, "auto" chooses
            by the free memory.

    Returns:
        The data set, named after the folder and its parent. If the train folder has classes, the test labels are
        indices into them.

    Raises:
        InputError: a folder is missing or has no images, more than 1 % of its images are broken, or the test folder has
            classes that the train folder does not have.
    """
    found = [find(each) for each in (folder, test_folder) if each]
    stream = is_streamed(placement, memory(sum(len(f.paths) for f in found), image_size))
    train, class_names, skipped = _read(found[0], size=image_size, known=None, stream=stream)
    test = None
    if test_folder:
        test, test_names, test_skipped = _read(found[1], size=image_size, known=class_names, stream=stream)
        class_names = class_names or test_names
        skipped += test_skipped
    return Dataset("/".join(found[0].root.parts[-2:]), train, test, class_names, skipped)


def read_folder(
    folder: str, *, image_size: int, class_names: Sequence[str] | None = None, placement: str = "host"
) -> tuple[Split, tuple[str, ...] | None, tuple[str, ...]]:
    """Reads every image below a folder, in the order of torchvision's ImageFolder.

    The first sub-folder on an image's path is its class; classes are numbered by their sorted names. There are no
    labels if an image is directly in the folder, or if all are in one sub-folder. Folders whose names begin with a dot
    and files whose names begin with "._" are ignored. `find` documents which images are skipped.

    Args:
        folder: a local path, or one that etils.epath opens.
        image_size: side length in pixels.
        class_names: the classes that the labels index, if they are already known.
        placement: as in `load`.

    Returns:
        The images with their relative paths as ids; the class names or None; "path: reason" for each skipped file or
        folder. If images are streamed, damage between a file's first and last bytes is not detected here.

    Raises:
        InputError: the folder is missing, cannot be read or has no images, more than 1 % of the images are broken, a
            name cannot be an id, or there are sub-folders not in `class_names`.
    """
    found = find(folder)
    stream = is_streamed(placement, memory(len(found.paths), image_size))
    return _read(found, size=image_size, known=class_names, stream=stream)


def read_paths(
    root: epath.Path, paths: Sequence[str], labels: np.ndarray | None, *, image_size: int, stream: bool
) -> tuple[Split, tuple[str, ...]]:
    """Reads images of a folder, whatever its layout.

    Args:
        root: the folder.
        paths: the images' unique paths relative to `root`; they become the ids.
        labels: int [n], or None.
        image_size: side length in pixels.
        stream: whether to decode the images on access instead of into memory.

    Returns:
        The readable images; "path: reason" for each broken one.

    Raises:
        InputError: more than 1 % of the images are broken.
    """
    return items.read(FolderItems(root, paths), paths, labels, image_size=image_size, stream=stream)


@dataclasses.dataclass(frozen=True)
class Found:
    """The contents of a folder: the ordered paths of its images, and "path: reason" for skipped entries."""

    root: epath.Path
    paths: list[str]
    left_out: tuple[str, ...]


def find(folder: str) -> Found:
    """Lists the images in and below a folder without opening them.

    If all images are in sub-folders, the result equals the samples of torchvision's ImageFolder in the same order, so
    that indices agree. GIFs, which ImageFolder does not read, are then skipped, unless all images are GIFs. Images
    directly in the folder, which ImageFolder never reads, come last.

    Raises:
        InputError: the folder is missing, cannot be read or has no images, or a name cannot be an id.
    """
    root = expanded(folder)
    if not root.is_dir():
        raise InputError(f"The folder of images must exist, got {folder!r}, which is not a folder. Correct the path.")
    left_out: list[str] = []
    try:
        paths = sorted(_image_paths(root, left_out), key=_as_image_folder)
    except OSError as error:
        raise InputError(
            f"A folder of images must be readable, got {folder!r}, which is not ({reason(error)}). Correct its "
            "permissions or the path."
        ) from error
    gifs = {path for path in paths if path.lower().endswith(".gif")}
    if len(gifs) < len(paths) and all("/" in path for path in paths):
        left_out += [f"{root / path}: torchvision's ImageFolder does not read GIF; save it as PNG" for path in gifs]
        paths = [path for path in paths if path not in gifs]
    if not paths:
        raise InputError(
            f"A folder of images must hold files that end in {', '.join(SUFFIXES)}, got none in {folder!r}. Correct "
            "the path or put the images there."
        )
    bad = [path for path in (str(root), *paths) if not _can_be_written(path)]
    if bad:
        raise InputError(
            f"The paths of images in {shown(folder)} must be UTF-8 without line breaks, because they become ids, got "
            f"{len(bad)} that are not (the first is {os.fsencode(bad[0])!r}). Rename them."
        )
    return Found(root, paths, tuple(sorted(left_out)))


def _as_image_folder(path: str) -> tuple[bool, str, str, str]:
    """Sort key of torchvision's order: by class, by folder, then by name; images without a folder come last."""
    folder, _, name = path.rpartition("/")
    return not folder, folder.partition("/")[0], folder, name


class FolderItems:
    """The images of a folder."""

    def __init__(self, root: epath.Path, paths: Sequence[str]):
        """Stores `paths`, relative to `root`; reads nothing."""
        self._root = root
        self._paths = np.array([path.encode() for path in paths])  # bytes: a quarter of str's memory

    @property
    def root(self) -> str:
        return str(self._root)

    def __len__(self) -> int:
        return len(self._paths)

    def place(self, index: int) -> str:
        return str(self._root / self._paths[index].decode())

    def open(self, index: int) -> BinaryIO:
        return (self._root / self._paths[index].decode()).open("rb")


def _can_be_written(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # surrogates, with which Python represents bytes that are not UTF-8
        return False
    return "\n" not in path and "\r" not in path


def _read(
    found: Found, *, size: int, known: Sequence[str] | None, stream: bool
) -> tuple[Split, tuple[str, ...] | None, tuple[str, ...]]:
    """See `read_folder`."""
    names = _class_names(found.paths, known=known, folder=str(found.root))
    labels = None
    if names is not None:
        number = {name: i for i, name in enumerate(names)}
        labels = np.array([number[path.split("/")[0]] for path in found.paths])
    split, skipped = read_paths(found.root, found.paths, labels, image_size=size, stream=stream)
    return split, names, (*skipped, *found.left_out)


def _image_paths(root: epath.Path, left_out: list[str]) -> Iterator[str]:
    """Yields the images' paths relative to root, with forward slashes; links to enclosing folders are ignored.

    Appends "path: reason" to `left_out` for each sub-folder without read permission, and for each pipe, socket or
    device that is named like an image.
    """
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]  # each with its parents' real paths
    while folders:
        below, above = folders.pop()
        real = os.path.realpath(root / below)
        if real in above:
            continue
        try:
            entries = list(_entries(root / below))
        except PermissionError as error:  # such as lost+found at the root of a disk
            if not below:
                raise
            left_out.append(f"{root / below}: {error.strerror}")
            continue
        for name, is_dir, is_strange in entries:
            path = f"{below}/{name}" if below else name
            if name.startswith("._"):  # macOS's metadata of another file
                continue
            if is_dir():
                if not name.startswith("."):
                    folders.append((path, (*above, real)))
            elif name.lower().endswith(SUFFIXES):
                if is_strange():
                    left_out.append(f"{root / path}: it is not a file")
                else:
                    yield path


def _entries(folder: epath.Path) -> Iterator[tuple[str, Callable[[], bool], Callable[[], bool]]]:
    """Yields each entry's name, and predicates: is it a folder, and is it neither a folder nor a file."""
    if is_remote(folder):  # no pipes there; image suffixes are trusted, as each check is a request
        for path in folder.iterdir():
            yield path.name, (lambda: False) if path.name.lower().endswith(SUFFIXES) else path.is_dir, lambda: False
        return
    with os.scandir(folder) as entries:  # gives each entry's type without another system call
        for entry in entries:
            yield entry.name, functools.partial(_is_dir, entry), functools.partial(_is_strange, entry)


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_strange(entry: os.DirEntry) -> bool:
    try:
        return not entry.is_file() and os.path.exists(entry)  # a dangling link counts as a broken image
    except OSError:
        return False


def _class_names(paths: Sequence[str], *, known: Sequence[str] | None, folder: str) -> tuple[str, ...] | None:
    if not all("/" in path for path in paths):
        return None
    found = {path.split("/")[0] for path in paths}
    if known is not None and found <= set(known):
        return tuple(known)
    if len(found) == 1:
        return None
    if known is not None:
        strange = sorted(found - set(known))
        raise InputError(
            f"The sub-folders of {folder!r} must be among the {len(known)} classes of the train folder, got "
            f"{len(strange)} not among them ({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''}). "
            "Rename them or move them away."
        )
    return tuple(sorted(found))
