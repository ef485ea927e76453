"""From images to a file of their features, by a trained encoder or a pretrained network."""

from collections.abc import Callable, Sequence

import numpy as np

import sas_jax.data
from sas_jax import config_file, pretrained
from sas_jax.data import Split
from sas_jax.encoder import load_encoder
from sas_jax.errors import InputError, shown
from sas_jax.files import beside, expanded, write_whole
from sas_jax.images import Images
from sas_jax.workdir import check_writable, write_array


def feature_file(
    output: str,
    *,
    encoder: str = "",
    model: str = "",
    images: str = "",
    config: str = "",
    fields: Sequence[str] = (),
    arm: str | None = None,
    allow_older: bool = False,
    batch_size: int = 256,
) -> str:
    """Writes the features of images as float32 [n, d] and, beside them, the images' ids in the same order.

    Args:
        output: the .npy; the ids are in OUTPUT less its .npy, plus ".ids.txt".
        encoder: the workdir of a finished run, or a .safetensors of `sas_jax.export`; or else
        model: a pretrained network, see `sas_jax.pretrained.check`.
        images: a folder of images, which are read at the network's own size; or else
        config: a config, whose training images are read as a run reads them.
        fields: "section.field=value", replaced in the config.
        arm, allow_older: with `encoder`, see `load_encoder`.
        batch_size: images at a time, at least 1; with `encoder`, on one device.

    Returns:
        What to tell the user.

    Raises:
        InputError: the arguments do not fit together, or what they name cannot be used.
    """
    _check_one("--encoder or --model", encoder, model)
    _check_one("--images or --config", images, config)
    for name, given, with_, there in (
        ("--arm", arm, "--encoder", encoder),
        ("--allow_older", allow_older, "--encoder", encoder),
        ("--config.FIELD", fields, "--config", config),
    ):
        if given and not there:
            raise InputError(f"{name} must be given with {with_}, got it without. Leave it out.")
    path = expanded(output)
    if path.suffix != ".npy":
        raise InputError(f"--output must end in .npy, got {shown(output)}. Name it so.")
    check_writable(path.parent)
    section = config_file.read(config, fields).data if config else None
    made_by, size, features = _network(encoder, model, arm, allow_older)
    split: Split
    if section is not None:
        dataset = sas_jax.data.load(section)
        split, skipped = dataset.train, dataset.skipped
    else:
        split, _, skipped = sas_jax.data.read_folder(images, image_size=size, placement="auto")
    found = features(split.images, batch_size)
    write_array(path, found)
    ids = beside(path.with_suffix(""), ".ids.txt")
    write_whole(ids, lambda aside: aside.write_text("".join(f"{name}\n" for name in split.ids)))
    said = f"{path}: {found.shape[0]} x {found.shape[1]} features from {made_by}; the images' ids in {ids}"
    return "\n".join([said, *(f"left out {each}" for each in skipped)])


def _check_one(names: str, *given: str) -> None:
    if (count := sum(map(bool, given))) != 1:
        raise InputError(f"{names} must be given, one of the two, got {count} of them. Give one (--help explains).")


def _network(
    encoder: str, model: str, arm: str | None, allow_older: bool
) -> tuple[str, int, Callable[[Images, int], np.ndarray]]:
    """What to call a network, the size of its images, and its features of (images, batch size)."""
    if model:
        network = pretrained.load(model, field="--model")
        return model, network.size, lambda images, batch_size: network.images(images, batch_size=batch_size)
    trained = load_encoder(encoder, arm=arm, allow_older=allow_older)
    return trained.arm, trained.views.size, lambda images, batch_size: trained.apply(images, batch_size=batch_size)
