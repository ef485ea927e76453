"""Computes features of images with an encoder trained by a run or with a pretrained network.

    python -m sas_jax.embed --encoder=WORKDIR --images=FOLDER --output=E.npy [--arm=full-1.00-s0]
    python -m sas_jax.embed --model=timm/NAME --config=CONFIG --output=E.npy [--views=16] [--config.FIELD=value ...]

Writes float32 [n, d] and, next to it, the images' ids in the same order (E.ids.txt): relative paths for a folder.
"""

from absl import flags

from sas_jax import command

ENCODER = flags.DEFINE_string("encoder", "", "The workdir of a finished run.")
MODEL = flags.DEFINE_string(
    "model", "", "Instead: timm/NAME, hf/NAME (Hugging Face; a folder for NAME works too) or onnx/FILE."
)
IMAGES = flags.DEFINE_string("images", "", "A folder of images.")
CONFIG = flags.DEFINE_string("config", "", "Instead: a run's config, for its training images.")
FIELDS = flags.DEFINE_multi_string("config_field", [], "Of the config; written --config.section.field=value as well.")
OUTPUT = flags.DEFINE_string("output", "", "The .npy file to write.")
ARM = flags.DEFINE_string("arm", None, "Which of the run's encoders; the first of config.arms by default.")
ALLOW_OLDER = flags.DEFINE_bool(
    "allow_older", False, "Where the arm's last checkpoint is damaged, use the newest one that is whole."
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 256, "Images (or views of them) at a time, of --encoder on one device.", lower_bound=1
)
VIEWS = flags.DEFINE_integer(
    "views",
    0,
    "With --model: the mean of the unit-normalised features of so many random views of each image (config.views).",
    lower_bound=0,
    upper_bound=65_536,
)


def main() -> None:
    """Computes the features that the flags describe and writes both files."""
    command.require(OUTPUT)
    from sas_jax.feature_file import feature_file  # imported after the flags, so that a mistyped one fails at once

    print(
        feature_file(
            OUTPUT.value,
            encoder=ENCODER.value,
            model=MODEL.value,
            images=IMAGES.value,
            config=CONFIG.value,
            fields=FIELDS.value,
            arm=ARM.value,
            allow_older=ALLOW_OLDER.value,
            batch_size=BATCH_SIZE.value,
            views=VIEWS.value,
        )
    )


if __name__ == "__main__":
    command.run(main, interrupted="; the same command resumes if --model made the features")
