"""A folder of images, with or without a sub-folder for each class."""

import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageOps

from sas_jax.data import images
from sas_jax.data.dataset import Dataset, Split
from sas_jax.errors import InputError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
MAX_BROKEN = 0.01  # of the files; beyond that it is the folder that is wrong, not a file


def load(folder: str, test_folder: str, *, image_size: int) -> Dataset:
    """Reads the images of `folder` and, where it is not "", of `test_folder`.

    Args:
        folder: the images to train on.
        test_folder: the images that measure, with the same class sub-folders; "" for none.
        image_size: pixels a side.

    Returns:
        The data set, named after the folder and the one it lies in. Where the train folder has classes, the test
        labels count in them.

    Raises:
        InputError: where a folder is missing or holds no image, more than 1 % of its images are broken, or the test
            folder has classes that the train folder has not.
    """
    train, class_names, skipped = read_folder(folder, image_size=image_size)
    test = None
    if test_folder:
        test, test_names, test_skipped = read_folder(test_folder, image_size=image_size, class_names=class_names)
        class_names = class_names or test_names
        skipped += test_skipped
    return Dataset("/".join(epath.Path(folder).parts[-2:]), train, test, class_names, skipped)


def read_folder(
    folder: str, *, image_size: int, class_names: Sequence[str] | None = None
) -> tuple[Split, tuple[str, ...] | None, tuple[str, ...]]:
    """Reads every image below a folder, in the order of their sorted paths.

    The first sub-folder on an image's path is its class; classes are numbered in the order of their sorted names.
    There are no labels where an image lies in the folder itself, or where all lie in one sub-folder. Names that
    begin with a dot are left alone.

    Args:
        folder: a local path, or one that etils.epath opens.
        image_size: pixels a side.
        class_names: the classes to count the labels in, if they are known already.

    Returns:
        The images with their relative paths as ids; the class names or None; "path: reason" for each broken file.

    Raises:
        InputError: where the folder is missing or holds no image, more than 1 % of the images are broken, or there
            are sub-folders not in `class_names`.
    """
    root = epath.Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"A folder of images was wanted, {folder!r} is not there or not a folder: correct the path.")
    paths = sorted(_image_paths(root))
    if not paths:
        raise InputError(
            f"Images ({', '.join(sorted(SUFFIXES))}) were wanted in {folder!r} or below, none was found: "
            "correct the path or put the images there."
        )
    names = _class_names(paths, known=class_names, folder=folder)
    pixels, broken = _decode(root, paths, size=image_size)
    kept = [i for i in range(len(paths)) if i not in broken]
    for to, at in enumerate(kept if broken else ()):  # in place: a second copy may not fit into memory
        pixels[to] = pixels[at]
    ids = np.array([paths[i] for i in kept])
    labels = None
    if names is not None:
        number = {name: i for i, name in enumerate(names)}
        labels = np.array([number[path.split("/")[0]] for path in ids], np.int32)
    skipped = tuple(f"{root / paths[i]}: {broken[i]}" for i in sorted(broken))
    return Split(pixels[: len(kept)], labels, ids), names, skipped


def _image_paths(root: epath.Path, below: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of the images relative to root, with forward slashes; links are followed, but not back up."""
    real = os.path.realpath(root / below)
    if real in above:
        return
    for entry in (root / below).iterdir():
        if entry.name.startswith("."):
            continue
        path = f"{below}/{entry.name}" if below else entry.name
        # A name that ends like an image is taken for one unasked: asking costs a call a file, slow on a bucket.
        if entry.suffix.lower() in SUFFIXES:
            yield path
        elif entry.is_dir():
            yield from _image_paths(root, path, (*above, real))


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
            f"The sub-folders of {folder!r} were wanted to be among the {len(known)} classes of the train folder, "
            f"{len(strange)} are not ({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''}): rename them or "
            "move them away."
        )
    return tuple(sorted(found))


def _decode(root: epath.Path, paths: Sequence[str], *, size: int) -> tuple[np.ndarray, dict[int, str]]:
    """The images, uint8 [n, size, size, 3] with the broken ones undefined, and the reason for each broken one."""
    pixels = np.empty((len(paths), size, size, 3), np.uint8)
    broken: dict[int, str] = {}
    lock = threading.Lock()

    def work(start: int, stop: int) -> None:
        for i in range(start, stop):
            try:
                pixels[i] = _read_image(root / paths[i], size)
            except Exception as error:  # PIL's readers raise whatever a broken file leads them into
                with lock:
                    broken[i] = " ".join(str(error).split()) or type(error).__name__
                    if len(broken) > MAX_BROKEN * len(paths):
                        break
        # Looked at outside the try above, which would take this error for one more broken image.
        if len(broken) > MAX_BROKEN * len(paths):
            raise _TooManyBroken

    try:
        images.in_threads(work, len(paths), description=f"reading {root.name}")
    except _TooManyBroken:
        first = min(broken)
        raise InputError(
            f"At most 1 % of the {len(paths)} images in {str(root)!r} may be broken, {len(broken)} of those read so "
            f"far are, the first of them {paths[first]} ({broken[first]}): mend or remove them."
        ) from None
    return pixels, broken


class _TooManyBroken(Exception):
    """Ends the reading of a folder early."""


def _read_image(path: epath.Path, size: int) -> np.ndarray:
    with path.open("rb") as file, Image.open(file) as image:
        # A large JPEG is decoded at a half, a quarter or an eighth, still twice as large as wanted. Others ignore it.
        image.draft("RGB", (2 * size, 2 * size))
        return images.square_rgb(ImageOps.exif_transpose(image), size)
