"""Finds files that each contain many images, and assigns them to splits."""

import os
import re
from collections.abc import Sequence

from etils import epath

from sas_jax.errors import InputError
from sas_jax.files import check_is_file, expanded, is_remote, reason

_USUAL = frozenset(("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"))

Pieces = list[tuple[str, list[epath.Path]]]
"""Names of splits with their ordered files."""


def find(path: str, suffixes: Sequence[str], *, field: str) -> tuple[epath.Path, list[epath.Path]]:
    """Finds the files with these suffixes in and below a folder, sorted by name; `path` may also be one file.

    Args:
        path: the folder or the file.
        suffixes: such as ".parquet".
        field: the config field of the path, for messages.

    Returns:
        The folder of the files, and the files.

    Raises:
        InputError: there is no such file, or a directory entry with such a name is not a file.
    """
    root = expanded(path)
    try:
        if root.is_file() and root.name.endswith(tuple(suffixes)):
            return root.parent, [root]
        found = sorted(_below(root, tuple(suffixes))) if root.is_dir() else []
    except (OSError, ValueError):  # a name that no file can have
        found = []
    if not found:
        raise InputError(
            f"{field} must be a file whose name ends in {' or '.join(suffixes)}, or a folder of such files, got "
            f"{path!r}. Correct the path."
        )
    for file in found:
        try:
            check_is_file(file)
        except (OSError, ValueError) as error:
            raise InputError(f"{file} must be a file, got something else ({reason(error)}). Move it away.") from error
    return root, found


def _below(folder: epath.Path, suffixes: tuple[str, ...], above: tuple[str, ...] = ()) -> list[epath.Path]:
    """Lists the files below a folder; links to enclosing folders, whose real paths are `above`, are ignored."""
    found: list[epath.Path] = []
    real = os.fspath(folder) if is_remote(folder) else os.path.realpath(folder)
    if real in above:
        return found
    for path in folder.iterdir():
        if path.name.startswith((".", "cache-")):  # hidden files, and caches of the package datasets
            continue
        if path.name.endswith(suffixes):
            found.append(path)
        elif path.is_dir():
            found += _below(path, suffixes, (*above, real))
    return found


def splits(
    path: str, test_path: str, suffixes: Sequence[str], *, train_split: str, test_split: str
) -> tuple[epath.Path, Pieces, Pieces]:
    """Finds the training files and the test files.

    A file belongs to a split if the split's name is a word in its path below the folder, as on the Hugging Face hub:
    data/train-00000-of-00002.parquet, test/0000.parquet. If no path has such a word, all files are for training.

    Args:
        path: the folder or the file, config.data.folder.
        test_path: the test files, whatever their names, config.data.test_folder; "" for none.
        suffixes: the suffixes of the files.
        train_split, test_split: names, or several joined by "+"; "" for no test split.

    Returns:
        The folder, the training pieces, and the test pieces ([] for none).

    Raises:
        InputError: there are no files, or a split has none.
    """
    root, found = find(path, suffixes, field="config.data.folder")
    if test_path:
        return root, [("train", found)], [("test", find(test_path, suffixes, field="config.data.test_folder")[1])]
    words = {file: set(re.split(r"[^a-z0-9]+", str(file.relative_to(root)).lower())) for file in found}
    named = _USUAL | set(f"{train_split}+{test_split}".lower().split("+"))
    known = set().union(*words.values()) & named
    if not known:
        return root, [("train", found)], []

    def of(spec: str, field: str) -> Pieces:
        pieces = [(name, [file for file in found if name.lower() in words[file]]) for name in spec.split("+")]
        if missing := [name for name, files in pieces if not files]:
            raise InputError(
                f"{field} must name splits that the file names in {str(root)!r} have ({', '.join(sorted(known))}), got "
                f"{missing[0]!r}. Name one of these{'' if field.endswith('train_split') else ', or leave it empty'}."
            )
        return pieces

    return (
        root,
        of(train_split, "config.data.train_split"),
        of(test_split, "config.data.test_split") if test_split else [],
    )


def unique_ids(own: Sequence[str | None], pieces: Sequence[tuple[str, int]]) -> list[str]:
    """Returns ids: the images' own names if all are present and unique, else split and row, such as train_00042.

    Args:
        own: [n] names.
        pieces: the splits' names and numbers of rows, n in total.
    """
    if all(own) and len(set(own)) == len(own) and not any("\n" in name or "\r" in name for name in own if name):
        return [str(name) for name in own]
    return [f"{split}_{row:05d}" for split, count in pieces for row in range(count)]
