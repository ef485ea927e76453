"""Ranks a file of embeddings, made by whatever network.

python -m sas_jax.select --embeddings=E.npy --fraction=0.2 --output=ranking.parquet [--classes=C.npy]
"""

import time

import numpy as np
from absl import flags

import sas_jax
from sas_jax import command
from sas_jax.errors import InputError
from sas_jax.selection import budgets, ranking_files

EMBEDDINGS = flags.DEFINE_string("embeddings", "", ".npy of floats [n, d], or [n, m, d]: m views of each example.")
CLASSES = flags.DEFINE_string("classes", "", ".npy of integers [n]: the latent classes; without, all are one class.")
OBJECTIVE = flags.DEFINE_string("objective", "sas", "sas, facility_location or similarity_sum.")
FRACTION = flags.DEFINE_float("fraction", 1.0, "Rank only as far as this subset; by default all.")
OUTPUT = flags.DEFINE_string("output", "", "The ranking: .parquet, .csv or .npz.")


def main() -> None:
    """Flags in, one call, a sentence out."""
    command.require(EMBEDDINGS, OUTPUT)
    print(select(EMBEDDINGS.value, CLASSES.value, OBJECTIVE.value, FRACTION.value, OUTPUT.value))


def select(embeddings: str, classes: str, objective: str, fraction: float, output: str) -> str:
    """Ranks the embeddings of one file into another, and returns what to tell the user."""
    began = time.perf_counter()
    ranking_files.check_suffix(output)
    budgets.check_fraction(fraction)
    values = _array(embeddings)
    labels = _array(classes) if classes else None
    size = round(fraction * len(values))
    if not size:
        raise InputError(f"A fraction of {fraction} of {len(values)} examples is none of them; ask for a larger one.")
    ranking = sas_jax.rank(values, labels, objective=objective, budget=size)
    ranking.save(output)
    turning = ranking.turning_fraction if objective == "sas" else None
    return (
        f"Ranked {size:,} of {len(ranking):,} examples in {len(np.unique(ranking.classes)):,} classes by {objective} "
        f"in {time.perf_counter() - began:.1f} s: {output}."
        + ("" if turning is None else f" Gains are below 0 beyond a fraction of {turning:.3f}.")
        + f"\nThe indices to keep: sas_jax.Ranking.load({output!r}).subset(fraction={fraction})"
    )


def _array(path: str) -> np.ndarray:
    """The array of a .npy file, mapped, not read."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise InputError(f"{path} cannot be read as a .npy file ({reason}); write it with numpy.save.") from error
    if not isinstance(values, np.ndarray):
        values.close()
    if not isinstance(values, np.ndarray) or values.ndim == 0:
        raise InputError(f"{path} holds no array with one row an example; write one with numpy.save.")
    return values


if __name__ == "__main__":
    command.run(main)
