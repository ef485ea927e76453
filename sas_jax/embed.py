"""Features of a folder of images from a trained encoder.

    python -m sas_jax.embed --encoder=WORKDIR --images=FOLDER --output=E.npy [--arm=full-1.00-s0]

Writes float32 [n, d] and, beside it, the images' relative paths in the same order (E.ids.txt).
"""

from absl import flags

from sas_jax import command
from sas_jax.errors import InputError

ENCODER = flags.DEFINE_string("encoder", "", "The workdir of a finished run.")
IMAGES = flags.DEFINE_string("images", "", "A folder of images.")
OUTPUT = flags.DEFINE_string("output", "", "The .npy file to write.")
ARM = flags.DEFINE_string("arm", None, "Which of the run's encoders; the first of config.arms by default.")
ALLOW_OLDER = flags.DEFINE_bool(
    "allow_older", False, "Where the arm's last checkpoint is damaged, use the newest one that is whole."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images on one device at a time.", lower_bound=1)


def main() -> None:
    """Flags in, one call, two files out."""
    from sas_jax.data import read_folder
    from sas_jax.encoder import load_encoder
    from sas_jax.files import beside, expanded, write_whole
    from sas_jax.workdir import check_writable, write_array

    command.require(ENCODER, IMAGES, OUTPUT)
    output = expanded(OUTPUT.value)
    if output.suffix != ".npy":
        raise InputError(f"--output has to end in .npy, but is {output}: name it so")
    check_writable(output.parent)
    encoder = load_encoder(ENCODER.value, arm=ARM.value, allow_older=ALLOW_OLDER.value)
    split, _, skipped = read_folder(IMAGES.value, image_size=encoder.views.size, placement="auto")
    features = encoder.apply(split.images, batch_size=BATCH_SIZE.value)
    write_array(output, features)
    ids = beside(output.with_suffix(""), ".ids.txt")
    write_whole(ids, lambda aside: aside.write_text("".join(f"{name}\n" for name in split.ids)))
    print(f"{output}: {features.shape[0]} x {features.shape[1]} features from {encoder.arm}; their paths in {ids}")
    for path in skipped:
        print(f"left out {path}")


if __name__ == "__main__":
    command.run(main)
