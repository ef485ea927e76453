"""Writes a file of image features, computed by a trained encoder or a pretrained network."""

import functools
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

import sas_jax.data
from sas_jax import config_file, pretrained
from sas_jax.data import Split
from sas_jax.encoder import load_encoder
from sas_jax.errors import InputError, exactly_one, shown
from sas_jax.files import beside, expanded, write_whole
from sas_jax.networks import make_views
from sas_jax.pretrained.hub import identity
from sas_jax.resumed_rows import forget, resumed_rows
from sas_jax.views import Views
from sas_jax.workdir import check_writable, fingerprint, write_array


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
    views: int = 0,
    log: Callable[[str], None] = print,
) -> str:
    """Writes the features of images as float32 [n, d] and, beside them, the images' ids in the same order.

    Features of a model are kept in OUTPUT.partial until they are complete, so that an interrupted call resumes.

    Args:
        output: path of the .npy; the ids are in the same path with ".ids.txt" in place of ".npy".
        encoder: the workdir of a finished run, or a .safetensors of `sas_jax.export`.
        model: instead of `encoder`, a pretrained network, see `sas_jax.pretrained.check`.
        images: a folder of images, which are read at the network's own size.
        config: instead of `images`, a config, whose training images are read as a run reads them.
        fields: overrides of the config, each "section.field=value".
        arm, allow_older: with `encoder`, see `load_encoder`.
        batch_size: images, or views of them, at a time, at least 1; with `encoder`, per device.
        views: with `model`, the number of random views per image whose unit-normalised features are averaged. They
            are those of the config, or the default ones with seed 0. 0 uses the images as they are.
        log: called with a message if the computation resumes.

    Returns:
        A summary for the user.

    Raises:
        InputError: the arguments conflict, or what they name is invalid.
    """
    exactly_one({"--encoder": bool(encoder), "--model": bool(model)})
    exactly_one({"--images": bool(images), "--config": bool(config)})
    for name, given, with_, there in (
        ("--arm", arm, "--encoder", encoder),
        ("--allow_older", allow_older, "--encoder", encoder),
        ("--config.FIELD", fields, "--config", config),
        ("--views", views, "--model", model),
    ):
        if given and not there:
            raise InputError(f"{name} must be given only with {with_}, got it without {with_}. Leave it out.")
    path = expanded(output)
    if path.suffix != ".npy":
        raise InputError(f"--output must end in .npy, got {shown(output)}. Rename it.")
    check_writable(path.parent)
    given = config_file.read(config, fields=fields) if config else None
    network = (
        pretrained.load(model, field="--model") if model else load_encoder(encoder, arm=arm, allow_older=allow_older)
    )
    split: Split
    if given is not None:
        dataset = sas_jax.data.load(given.data)
        split, skipped = dataset.train, dataset.skipped
    else:
        size = network.size if isinstance(network, pretrained.Model) else network.views.size
        split, _, skipped = sas_jax.data.read_folder(images, image_size=size, placement="auto")
    if isinstance(network, pretrained.Model):
        random = _random_views(given, split, views) if views else None
        made_by, of = model, fingerprint(model, identity(pretrained.path_of(model)), split.fingerprint(), random)
        make = functools.partial(network.images, split.images, batch_size=batch_size, random=random)
        found = resumed_rows(path, of, lambda first: make(first=first), log=log)
    else:
        made_by, found = network.arm, network.apply(split.images, batch_size=batch_size)
    write_array(path, found)
    forget(path)
    ids = beside(path.with_suffix(""), ".ids.txt")
    write_whole(ids, lambda aside: aside.write_text("".join(f"{name}\n" for name in split.ids)))
    said = f"{path}: {found.shape[0]} x {found.shape[1]} features from {made_by}; image ids in {ids}"
    return "\n".join([said, *(f"skipped {each}" for each in skipped)])


def _random_views(config: ConfigDict | None, split: Split, count: int) -> pretrained.RandomViews:
    """Returns the random views of a config, or the default ones without a config."""
    if config is None:
        return pretrained.RandomViews(Views(size=split.images.shape[1]), count, seed=0)
    return pretrained.RandomViews(make_views(config), count, config.seed)
