"""Ranks a file of embeddings from any network.

    python -m sas_jax.select --embeddings=E.npy --fraction=0.2 --output=ranking.parquet [--classes=C.npy | --kmeans=100]

After Ctrl-C, the same command resumes the ranking.
"""

from typing import Any

from absl import flags

from sas_jax import command

EMBEDDINGS = flags.DEFINE_string("embeddings", "", ".npy of floats [n, d], or [n, m, d]: m views of each example.")
OUTPUT = flags.DEFINE_string("output", "", "The ranking: .parquet, .csv or .npz.")
OPTIONS = (
    flags.DEFINE_string("classes", "", ".npy of integers [n]: the latent classes; without, all are one class."),
    flags.DEFINE_integer("kmeans", None, "Instead: so many classes, by k-means on the unit rows.", lower_bound=1),
    flags.DEFINE_integer("seed", 0, "For --kmeans.", lower_bound=0, upper_bound=2**32 - 1),
    flags.DEFINE_string("objective", "sas", "sas, facility_location or similarity_sum."),
    flags.DEFINE_float("fraction", 1.0, "Rank only as far as this subset; by default every candidate."),
    flags.DEFINE_string("budgets", "proportional", "Of the classes: proportional, or balanced (as many from each)."),
    flags.DEFINE_string("kind", "cosine", "Of similarity: cosine, clipped_cosine or gaussian."),
    flags.DEFINE_float("tau", 0.5, "The width of gaussian, in units of squared distance."),
    flags.DEFINE_bool("normalize", True, "Divide rows (or views) by their norms; without, no norm may exceed 1."),
    flags.DEFINE_float("self_similarity", None, "Of each example to itself, from 0 to 1; 1 by default."),
    flags.DEFINE_string("weights", "", ".npy of numbers [n], 0 or more: how much each example counts."),
    flags.DEFINE_string("initial", "", ".npy of indices [k]: examples already chosen; --fraction is beside them."),
    flags.DEFINE_string("where", "", ".npy of bools [n]: the candidates; the others are only represented."),
    flags.DEFINE_string("ids", "", "A text file, one line an example: their names, which the ranking then carries."),
)


def main() -> None:
    """Ranks the file that the flags name, and prints a summary."""
    command.require(EMBEDDINGS, OUTPUT)
    from sas_jax import devices
    from sas_jax.rank_file import rank_file  # after the flags, so that mistyped ones fail at once

    devices.split_cpu_by_cores()
    options: dict[str, Any] = {flag.name: flag.value for flag in OPTIONS}
    print(rank_file(EMBEDDINGS.value, OUTPUT.value, **options))


if __name__ == "__main__":
    command.run(main, interrupted="; the same command goes on with what was ranked")
