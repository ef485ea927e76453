"""A folder of images, with or without a sub-folder for each class."""

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

# Those of torchvision's ImageFolder, and GIF.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


def load(folder: str, test_folder: str, *, image_size: int, placement: str = "host") -> Dataset:
    """Reads the images of `folder` and, where it is not "", of `test_folder`.

    Args:
        folder: the images to train on.
        test_folder: the images that measure, with the same class sub-folders; "" for none.
        image_size: pixels a side.
        placement: "device" and "host" decode them into memory, "stream" when they are asked for, "auto" by how much
            memory is free.

    Returns:
        The data set, named after the folder and the one it lies in. Where the train folder has classes, the test
        labels count in them.

    Raises:
        InputError: where a folder is missing or holds no image, more than 1 % of its images are broken, or the test
            folder has classes that the train folder has not.
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

    The first sub-folder on an image's path is its class; classes are numbered in the order of their sorted names.
    There are no labels where an image lies in the folder itself, or where all lie in one sub-folder. Folders whose
    names begin with a dot and files whose names begin with "._" are ignored. `find` says which images are left out.

    Args:
        folder: a local path, or one that etils.epath opens.
        image_size: pixels a side.
        class_names: the classes to count the labels in, if they are known already.
        placement: as of `load`.

    Returns:
        The images with their relative paths as ids; the class names or None; "path: reason" for each file or folder
        that was left out. Of images that are streamed, a file that is damaged between its ends is not known yet to be
        broken.

    Raises:
        InputError: where the folder is missing, cannot be read or holds no image, more than 1 % of the images are
            broken, a name cannot be an id, or there are sub-folders not in `class_names`.
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
        paths: of the images, relative to `root`, all different; they become the ids.
        labels: int [n]; None where there are none.
        image_size: pixels a side.
        stream: whether they are decoded when they are asked for, and not into memory.

    Returns:
        The images that could be read; "path: reason" for each of the others.

    Raises:
        InputError: more than 1 % of the images are broken.
    """
    return items.read(FolderItems(root, paths), paths, labels, image_size=image_size, stream=stream)


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies in a folder: the paths of its images in order, and "path: reason" for what is left out."""

    root: epath.Path
    paths: list[str]
    left_out: tuple[str, ...]


def find(folder: str) -> Found:
    """Lists the images in a folder and below it; none is opened.

    Where all images lie in sub-folders, these are the samples of torchvision's ImageFolder in its order, so that an
    index means the same image here and there. GIFs, which ImageFolder does not read, are left out then, unless the
    folder has nothing else. Images directly in the folder, which ImageFolder never reads, come last.

    Raises:
        InputError: the folder is missing, cannot be read or holds no image, or a name cannot be an id.
    """
    root = expanded(folder)
    if not root.is_dir():
        raise InputError(f"A folder of images must be there, got {folder!r}, which is not a folder. Correct the path.")
    left_out: list[str] = []
    try:
        paths = sorted(_image_paths(root, left_out), key=_as_image_folder)
    except OSError as error:
        raise InputError(
            f"A folder of images must be readable, got {folder!r}, which is not ({reason(error)}). Correct its rights "
            "or the path."
        ) from error
    gifs = {path for path in paths if path.lower().endswith(".gif")}
    if len(gifs) < len(paths) and all("/" in path for path in paths):
        left_out += [f"{root / path}: torchvision's ImageFolder does not read GIF; save it as PNG" for path in gifs]
        paths = [path for path in paths if path not in gifs]
    if not paths:
        raise InputError(
            f"A folder of images must hold files that end in {', '.join(SUFFIXES)}, got {folder!r} with none. Correct "
            "the path or put the images there."
        )
    bad = [path for path in (str(root), *paths) if not _can_be_written(path)]
    if bad:
        raise InputError(
            f"The paths of images in {shown(folder)} must be UTF-8 in one line, since they become ids, got {len(bad)} "
            f"that are not (the first is {os.fsencode(bad[0])!r}). Rename them."
        )
    return Found(root, paths, tuple(sorted(left_out)))


def _as_image_folder(path: str) -> tuple[bool, str, str, str]:
    """Sorts as torchvision does: by class, then by folder, then by name; images without a folder last."""
    folder, _, name = path.rpartition("/")
    return not folder, folder.partition("/")[0], folder, name


class FolderItems:
    """The images of a folder."""

    def __init__(self, root: epath.Path, paths: Sequence[str]):
        """`paths` relative to `root`; nothing is read yet."""
        self._root = root
        self._paths = np.array([path.encode() for path in paths])  # a byte a character where text takes four

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
    except UnicodeEncodeError:  # what Python makes of bytes that are not UTF-8
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
    """The paths of the images relative to root, with forward slashes; links are followed, but not back up.

    To `left_out` goes "path: reason" for each sub-folder that may not be read, and for each pipe, socket or device
    that is named like an image.
    """
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]  # each with what it lies in, links resolved
    while folders:
        below, above = folders.pop()
        real = os.path.realpath(root / below)
        if real in above:
            continue
        try:
            entries = list(_entries(root / below))
        except PermissionError as error:  # such as lost+found at the top of a disk
            if not below:
                raise
            left_out.append(f"{root / below}: {error.strerror}")
            continue
        for name, is_dir, is_strange in entries:
            path = f"{below}/{name}" if below else name
            if name.startswith("._"):  # macOS's metadata of the file without these two characters
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
    """Of each entry of a folder the name, whether it is a folder, and whether it is neither a folder nor a file."""
    if is_remote(folder):  # a bucket has no pipes, and each question is a call: what is named like an image is one
        for path in folder.iterdir():
            yield path.name, (lambda: False) if path.name.lower().endswith(SUFFIXES) else path.is_dir, lambda: False
        return
    with os.scandir(folder) as entries:  # knows what an entry is without asking for each
        for entry in entries:
            yield entry.name, functools.partial(_is_dir, entry), functools.partial(_is_strange, entry)


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_strange(entry: os.DirEntry) -> bool:
    try:
        return not entry.is_file() and os.path.exists(entry)  # a link to nothing is a broken image
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
            f"{len(strange)} others ({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''}). Rename them or "
            "move them away."
        )
    return tuple(sorted(found))
