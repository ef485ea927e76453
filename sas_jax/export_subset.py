"""Exports the subset of a ranking as a file, as a folder of links, or both."""

import os

import numpy as np
from etils import epath

from sas_jax import files
from sas_jax.data import index_files, subsets
from sas_jax.data import links as linking
from sas_jax.errors import InputError, exactly_one
from sas_jax.selection.ranking import Ranking


def export_subset(
    ranking: str,
    *,
    output: str = "",
    links: str = "",
    images: str = "",
    fraction: float | None = None,
    size: int | None = None,
    rounding: str = "nearest",
    budgets: str | None = None,
    format: str = "",
) -> str:
    """Writes the subset of a ranking.

    Args:
        ranking: path of a .parquet, .csv or .npz.
        output: a .npy (int64 indices, for torch.utils.data.Subset), .npz, .csv, .parquet (indices and ids) or .txt
            (ids, which are relative paths if the data set is a folder; the images' absolute paths if `images` is
            given).
        links: a folder to create, with links to the images.
        images: the folder of images that was ranked.
        fraction, size, rounding, budgets: see `Ranking.subset`.
        format: "hf": row numbers for Dataset.select, in a .npy or .txt: the numbers in ids such as train_00042, else
            the indices. "wds": a WebDataset's keys, in a .txt: the ids up to the first dot of the file name.

    Returns:
        A message for the user.

    Raises:
        InputError: an argument cannot be used; the message says which, and what to do.
    """
    if not output and not links:
        raise InputError("--output or --links must be given, got neither. Give one or both.")
    exactly_one({"--fraction": fraction is not None, "--size": size is not None})
    to_text = output and index_files.check_writable_suffix(output) == ".txt"
    if images and not links and not to_text:
        raise InputError(
            f"--output must end in .txt if --images is given without --links, got {output!r}. Rename it to get a list "
            "of paths, or omit --images."
        )
    if format:
        _check_format(format, output, images)
    if links and not images:
        raise InputError("--images must be given with --links, got ''. Give the folder of the ranked images.")
    if output and os.path.realpath(files.expanded(output)) == os.path.realpath(files.expanded(ranking)):
        raise InputError(f"--output must not be the ranking itself, got {output}. Choose another name.")
    if links:
        linking.check(links, images)
    whole = Ranking.load(ranking)
    subset = whole.subset(fraction=fraction, size=size, rounding=rounding, budgets=budgets)
    ids = None if whole.ids is None else whole.ids[subset].tolist()
    if images and ids is None:
        raise InputError(f"{ranking} must have ids for --images, got none. Rank again with --ids.")
    if output and format:
        index_files.write(output, *_formatted(format, whole, subset))
    elif output:
        index_files.write(output, subset, linking.paths_below(images, ids) if ids and images and to_text else ids)
    if links:
        linking.make(links, images, ids or [])
    where = " and ".join(filter(None, [output, links and f"links in {links}"]))
    return f"Kept {len(subset):,} of {len(whole):,} examples: {where}."


_SUFFIXES = {"hf": (".npy", ".txt"), "wds": (".txt",)}


def _check_format(format: str, output: str, images: str) -> None:
    if format not in _SUFFIXES:
        raise InputError(f"--format must be {' or '.join(_SUFFIXES)}, got {format!r}. Choose one, or leave it out.")
    if epath.Path(output).suffix not in _SUFFIXES[format]:
        raise InputError(
            f"--output must end in {' or '.join(_SUFFIXES[format])} with --format={format}, got {output!r}. Change it."
        )
    if images:
        raise InputError(
            f"--images must be left out with --format={format}, got {images!r}. Export twice, once with each."
        )


def _formatted(format: str, whole: Ranking, subset: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
    """Returns the numbers to write, and for "wds" the keys."""
    if format == "hf":
        numbers = None if whole.ids is None else subsets.row_numbers(whole.ids)
        return subset if numbers is None else np.sort(numbers[subset]), None
    if whole.ids is None:
        raise InputError("The ranking must have ids for --format=wds, got none. Rank again with --ids.")
    folders = (name.rpartition("/") for name in whole.ids[subset].tolist())
    return subset, [f"{folder}{slash}{name.partition('.')[0]}" for folder, slash, name in folders]
