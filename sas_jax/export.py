"""Exports the subset of a ranking (indices, ids, paths or links) or an encoder's weights for other programs.

python -m sas_jax.export --ranking=ranking.parquet --fraction=0.2 --output=subset.npy
python -m sas_jax.export --ranking=ranking.parquet --fraction=0.2 --output=paths.txt --links=FOLDER --images=FOLDER
python -m sas_jax.export --encoder=WORKDIR --output=encoder.safetensors
"""

from typing import Any

from absl import flags

from sas_jax import command
from sas_jax.errors import InputError

RANKING = flags.DEFINE_string("ranking", "", "The ranking: .parquet, .csv or .npz.")
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "A .npy (int64 indices), .npz, .csv or .parquet (indices and ids), or .txt (ids; paths with --images); of an "
    "encoder a .safetensors, with torchvision's names.",
)
OF_SUBSET = (
    flags.DEFINE_float("fraction", None, "Of all examples, more than 0 and at most 1."),
    flags.DEFINE_integer("size", None, "Instead: how many examples."),
    flags.DEFINE_string("rounding", "nearest", "Or floor: of a --fraction, rounded down in each class."),
    flags.DEFINE_string("budgets", None, "Of the classes: proportional or balanced; as it was ranked by default."),
    flags.DEFINE_string("links", "", "A folder to be made, of links to the images, in the same sub-folders."),
    flags.DEFINE_string("images", "", "The folder of images that was ranked: for --links, and paths in a .txt."),
    flags.DEFINE_string(
        "format", "", "hf: row numbers for Dataset.select (.npy, .txt). wds: the keys of a WebDataset (.txt)."
    ),
)
ENCODER = flags.DEFINE_string("encoder", "", "Instead of --ranking: the workdir of a finished run, for its weights.")
OF_ENCODER = (
    flags.DEFINE_string("arm", None, "Which of the run's encoders; the first of config.arms by default."),
    flags.DEFINE_bool(
        "allow_older", False, "Where the arm's last checkpoint is damaged, use the newest one that is whole."
    ),
)


def main() -> None:
    """Exports what the flags describe and prints a message."""
    if ENCODER.value:
        command.require(ENCODER, OUTPUT)
        from sas_jax.export_encoder import export_encoder

        given = [flag.name for flag in (RANKING, *OF_SUBSET) if flag.value != flag.default]
        if given:
            raise InputError(f"--{given[0]} must be left out with --encoder, got it. Export the subset by itself.")
        print(export_encoder(ENCODER.value, OUTPUT.value, **_values(OF_ENCODER)))
        return
    command.require(RANKING)
    from sas_jax.export_subset import export_subset  # imported after the flags, so that a mistyped one fails at once

    print(export_subset(RANKING.value, output=OUTPUT.value, **_values(OF_SUBSET)))


def _values(options: tuple[flags.FlagHolder, ...]) -> dict[str, Any]:
    return {flag.name: flag.value for flag in options}


if __name__ == "__main__":
    command.run(main)
