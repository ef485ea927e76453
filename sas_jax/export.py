"""Exports the subset of a ranking (indices, ids, paths or links) or an encoder's weights for other programs.

python -m sas_jax.export --ranking=ranking.parquet --fraction=0.2 --output=subset.npy
python -m sas_jax.export --ranking=ranking.parquet --fraction=0.2 --output=paths.txt --links=FOLDER --images=FOLDER
python -m sas_jax.export --encoder=WORKDIR --output=encoder.safetensors
"""

from typing import Any

from absl import flags

from sas_jax import command
from sas_jax.errors import InputError, shown

RANKING = flags.DEFINE_string("ranking", "", "Ranking to export a subset of: .parquet, .csv or .npz.")
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "File to write: .npy (int64 indices), .npz, .csv or .parquet (indices and ids), or .txt (ids, or paths with "
    "--images); with --encoder, .safetensors (torchvision's parameter names).",
)
OF_SUBSET = (
    flags.DEFINE_float("fraction", None, "Subset size as a fraction of all examples, more than 0 and at most 1."),
    flags.DEFINE_integer("size", None, "Subset size in examples, instead of --fraction."),
    flags.DEFINE_string("rounding", "nearest", "Rounding of --fraction: nearest, or floor (down in each class)."),
    flags.DEFINE_string("budgets", None, "Class budgets: proportional or balanced; by default those of the ranking."),
    flags.DEFINE_string("links", "", "Folder to create, with links to the subset's images in the same sub-folders."),
    flags.DEFINE_string(
        "images", "", "Folder of the ranked images, needed for --links and for absolute paths in a .txt."
    ),
    flags.DEFINE_string(
        "format", "", "hf (row numbers for Dataset.select, .npy or .txt) or wds (keys of a WebDataset, .txt)."
    ),
)
ENCODER = flags.DEFINE_string("encoder", "", "Workdir of a finished run, instead of --ranking: exports its weights.")
OF_ENCODER = (
    flags.DEFINE_string("arm", None, "Arm of the run whose encoder is exported; by default the first of config.arms."),
    flags.DEFINE_bool("allow_older", False, "If the last checkpoint of the arm is damaged, use the newest intact one."),
)


def main() -> None:
    """Exports what the flags describe and prints a message."""
    if ENCODER.value:
        command.require(ENCODER, OUTPUT)
        from sas_jax.export_encoder import export_encoder

        given = [flag for flag in (RANKING, *OF_SUBSET) if flag.value != flag.default]
        if given:
            raise InputError(
                f"--{given[0].name} must be left out with --encoder, got {shown(given[0].value)}. Export the subset "
                "with a separate command."
            )
        print(export_encoder(ENCODER.value, OUTPUT.value, **_values(OF_ENCODER)))
        return
    command.require(RANKING)
    from sas_jax.export_subset import export_subset  # imported after the flags, so that a mistyped one fails at once

    print(export_subset(RANKING.value, output=OUTPUT.value, **_values(OF_SUBSET)))


def _values(options: tuple[flags.FlagHolder, ...]) -> dict[str, Any]:
    return {flag.name: flag.value for flag in options}


if __name__ == "__main__":
    command.run(main)
