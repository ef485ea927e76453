"""Computes features of images with an encoder trained by a run or with a pretrained network.

    python -m sas_jax.embed --encoder=WORKDIR --images=FOLDER --output=E.npy [--arm=full-1.00-s0]
    python -m sas_jax.embed --model=timm/NAME --config=CONFIG --output=E.npy [--views=16] [--config.FIELD=value ...]

Writes float32 [n, d] and, next to it, the images' ids in the same order (E.ids.txt): relative paths for a folder.
"""

from absl import flags

from sas_jax import command

ENCODER = flags.DEFINE_string("encoder", "", "Workdir of a finished run, or a .safetensors of sas_jax.export.")
MODEL = flags.DEFINE_string(
    "model",
    "",
    "Pretrained network, instead of --encoder: timm/NAME, hf/NAME (Hugging Face) or onnx/FILE; NAME may be a folder.",
)
IMAGES = flags.DEFINE_string("images", "", "Folder of images.")
CONFIG = flags.DEFINE_string("config", "", "Config of a run, instead of --images: its training images are used.")
FIELDS = flags.DEFINE_multi_string(
    "config_field", [], "Config field to override, section.field=value; also written --config.section.field=value."
)
OUTPUT = flags.DEFINE_string("output", "", "File to write, a .npy.")
ARM = flags.DEFINE_string("arm", None, "Arm of the run whose encoder is used; by default the first of config.arms.")
ALLOW_OLDER = flags.DEFINE_bool(
    "allow_older", False, "If the last checkpoint of the arm is damaged, use the newest intact one."
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 256, "Images (or random views) per batch; with --encoder, per batch and device.", lower_bound=1
)
VIEWS = flags.DEFINE_integer(
    "views",
    0,
    "With --model: number of random views (config.views) of each image, whose unit-normalised features are averaged; 0 "
    "uses the images unchanged.",
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
    command.run(main, interrupted="; with --model, run the same command to resume")
