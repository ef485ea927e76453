"""Reads TinyImageNet as it is distributed.

    train/<wnid>/images/*.JPEG   500 per class, 64 x 64, some of them greyscale
    val/images/*.JPEG            50 per class; val/val_annotations.txt has file name, wnid and box per line
    test/images/*.JPEG           not read, because their classes were never published
    wnids.txt                    the 200 classes
    words.txt                    wnid and names per line, of these and some 80,000 other classes

Source: http://cs231n.stanford.edu/tiny-imagenet-200.zip
"""

from collections.abc import Sequence

import numpy as np
from etils import epath

from sas_jax import files
from sas_jax.data import folder
from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.streamed import is_streamed, memory
from sas_jax.errors import InputError

NAME = "tinyimagenet"
_LARGEST = 64 << 20  # bytes of a text file; words.txt has 2.7 MB
_ANNOTATIONS = "val/val_annotations.txt"


def load(path: str, *, train_split: str, test_split: str, image_size: int, placement: str = "host") -> Dataset:
    """Reads TinyImageNet from its unpacked archive.

    Args:
        path: the folder with wnids.txt.
        train_split: "train".
        test_split: "val", or "" for none.
        image_size: side length in pixels; the original images have 64.
        placement: "device" and "host" decode the images into memory, "stream" decodes them on access, "auto" chooses
            by the free memory.

    Returns:
        The data set. Classes are numbered by sorted wnid, and images are in the order of torchvision's ImageFolder; ids
        are the paths relative to the folder.

    Raises:
        InputError: a split does not exist, a file is missing or damaged, files contradict each other, or more than 1 %
            of the images are broken.
    """
    if train_split != "train" or test_split not in ("val", ""):
        raise InputError(
            f"config.data.train_split of {NAME} must be 'train', and config.data.test_split 'val' or '' (no test; its "
            f"own test images have no labels), got {train_split!r} and {test_split!r}. Correct them."
        )
    root = files.expanded(path)
    if not root.is_dir():
        raise InputError(f"The unpacked {NAME} must exist, got {path!r}, which is not a folder. Correct the path.")
    wnids = sorted(set(_lines(root, "wnids.txt")))
    number = {wnid: i for i, wnid in enumerate(wnids)}
    found = [_train(root, number)] + ([_val(root, number)] if test_split else [])
    stream = is_streamed(placement, memory(sum(len(paths) for paths, _, _ in found), image_size))
    splits: list[Split] = []
    skipped: tuple[str, ...] = ()
    for paths, labels, left_out in found:
        split, broken = folder.read_paths(root, paths, labels, image_size=image_size, stream=stream)
        splits.append(split)
        skipped += (*broken, *left_out)
    return Dataset(NAME, splits[0], splits[1] if test_split else None, _class_names(root, wnids), skipped)


_Listed = tuple[list[str], np.ndarray, tuple[str, ...]]
"""Paths relative to the root, labels, and "path: reason" for skipped files."""


def _train(root: epath.Path, number: dict[str, int]) -> _Listed:
    found = folder.find(str(root / "train"))
    wnids = [path.partition("/")[0] for path in found.paths]
    strange = sorted(set(wnids) - number.keys())
    if strange:
        raise InputError(
            f"{str(found.root)!r} must hold only folders named after the {len(number)} classes in wnids.txt, got other "
            f"folders: {_first(strange)}. Unpack the archive again."
        )
    labels = np.array([number[wnid] for wnid in wnids])
    return [f"train/{path}" for path in found.paths], labels, found.left_out


def _val(root: epath.Path, number: dict[str, int]) -> _Listed:
    wnid_of: dict[str, str] = {}
    for at, line in enumerate(_lines(root, _ANNOTATIONS)):
        name, wnid, *_ = (*line.split("\t"), "")
        if wnid not in number or wnid_of.setdefault(name, wnid) != wnid:
            raise InputError(
                f"Each line of {str(root / _ANNOTATIONS)!r} must be a file name, a tab and one of the {len(number)} "
                f"classes in wnids.txt, with one class per file name, got {line[:80]!r} as entry {at + 1}. Unpack the "
                "archive again."
            )
    found = folder.find(str(root / "val" / "images"))
    differing = sorted(wnid_of.keys() ^ set(found.paths))
    if differing:
        raise InputError(
            f"{str(found.root)!r} must hold exactly the images in val_annotations.txt, got {_first(differing)} in only "
            "one of them. Unpack the archive again."
        )
    labels = np.array([number[wnid_of[path]] for path in found.paths])
    return [f"val/images/{path}" for path in found.paths], labels, found.left_out


def _class_names(root: epath.Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """Returns each class's first name, with the wnid if ambiguous (a crane is a bird and a machine)."""
    names = dict(line.partition("\t")[::2] for line in _lines(root, "words.txt"))
    first = [names.get(wnid, "").partition(",")[0].strip() or wnid for wnid in wnids]
    return tuple(
        name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True)
    )


def _lines(root: epath.Path, name: str) -> list[str]:
    """Returns the non-empty lines of a text file; raises InputError if there are none."""
    try:
        text = files.whole(root / name, largest=_LARGEST).decode()
        found = [line.strip() for line in text.split("\n") if line.strip()]
        if not found:
            raise ValueError("it is empty")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name} of {NAME} must be a text file in {str(root)!r}, got one that cannot be read "
            f"({files.reason(error)}). Set config.data.folder to the folder of the unpacked archive."
        ) from error
    return found


def _first(names: Sequence[str]) -> str:
    """Returns a summary such as "2 (the first is 'a')"."""
    return f"{len(names):,} (the first is {names[0]!r:.100})"
