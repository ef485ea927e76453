"""Writes the subset of a ranking for other programs: indices, ids, paths, or a folder of links.

python -m sas_jax.export --ranking=ranking.parquet --fraction=0.2 --output=subset.npy
python -m sas_jax.export --ranking=ranking.parquet --fraction=0.2 --output=paths.txt --links=FOLDER --images=FOLDER
"""

from absl import flags

from sas_jax import command

RANKING = flags.DEFINE_string("ranking", "", "The ranking: .parquet, .csv or .npz.")
FRACTION = flags.DEFINE_float("fraction", None, "Of all examples, more than 0 and at most 1.")
SIZE = flags.DEFINE_integer("size", None, "Instead: how many examples.")
ROUNDING = flags.DEFINE_string("rounding", "nearest", "Or floor: of a --fraction, rounded down in each class.")
BUDGETS = flags.DEFINE_string("budgets", None, "Of the classes: proportional or balanced; as it was ranked by default.")
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "A .npy (int64 indices), .npz, .csv or .parquet (indices and ids), or .txt (ids; paths with --images).",
)
LINKS = flags.DEFINE_string("links", "", "A folder to be made, of links to the images, in the same sub-folders.")
IMAGES = flags.DEFINE_string("images", "", "The folder of images that was ranked: for --links, and paths in a .txt.")


def main() -> None:
    """Flags in, one call, a sentence out."""
    command.require(RANKING)
    from sas_jax.export_subset import export_subset  # after the flags: a mistyped one is answered at once

    print(
        export_subset(
            RANKING.value,
            output=OUTPUT.value,
            links_folder=LINKS.value,
            images=IMAGES.value,
            fraction=FRACTION.value,
            size=SIZE.value,
            rounding=ROUNDING.value,
            budgets=BUDGETS.value,
        )
    )


if __name__ == "__main__":
    command.run(main)
