"""Ranks a file of embeddings from any network.

    python -m sas_jax.select --embeddings=E.npy --fraction=0.2 --output=ranking.parquet [--classes=C.npy | --kmeans=100]

After Ctrl-C, the same command resumes the ranking.
"""

from typing import Any

from absl import flags

from sas_jax import command

EMBEDDINGS = flags.DEFINE_string(
    "embeddings", "", "A .npy file of floats [n, d], or [n, m, d] for m views of each example."
)
OUTPUT = flags.DEFINE_string("output", "", "The file for the ranking: .parquet, .csv or .npz.")
OPTIONS = (
    flags.DEFINE_string(
        "classes", "", "A .npy file of integers [n], the latent classes. By default, all examples are one class."
    ),
    flags.DEFINE_integer(
        "kmeans",
        None,
        "Instead of --classes: the number of classes that k-means finds on the rows, or on the means of each example's "
        "views. Rows and views are first divided by their norms unless --nonormalize is given.",
        lower_bound=1,
    ),
    flags.DEFINE_integer("seed", 0, "The random seed of --kmeans.", lower_bound=0, upper_bound=2**32 - 1),
    flags.DEFINE_string("objective", "sas", "The objective: sas, facility_location or similarity_sum."),
    flags.DEFINE_float("fraction", 1.0, "The fraction of the examples to rank; by default, every candidate is ranked."),
    flags.DEFINE_string(
        "budgets", "proportional", "How classes share a subset: proportional, or balanced (the same number from each)."
    ),
    flags.DEFINE_string("kind", "cosine", "The kind of similarity: cosine, clipped_cosine or gaussian."),
    flags.DEFINE_float("tau", 0.5, "The width of the gaussian kind, in units of squared distance."),
    flags.DEFINE_bool("normalize", True, "Divide rows (or views) by their norms. If not, no norm may exceed 1."),
    flags.DEFINE_float("self_similarity", None, "The similarity of each example to itself, from 0 to 1; 1 by default."),
    flags.DEFINE_string("weights", "", "A .npy file of numbers [n], 0 or more: the weight of each example."),
    flags.DEFINE_string(
        "initial", "", "A .npy file of indices [k]: examples already chosen, not included in --fraction."
    ),
    flags.DEFINE_string(
        "where", "", "A .npy file of bools [n]: the candidates. The other examples are only represented."
    ),
    flags.DEFINE_string(
        "ids", "", "A text file with one name per line, for each example; the ranking stores the names."
    ),
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
    command.run(main, interrupted="; run the same command to resume")
