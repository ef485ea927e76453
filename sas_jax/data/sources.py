"""From a name or a path in the config to images, labels and ids."""

import difflib
from typing import Any

from etils import epath

from sas_jax.data import cifar, classes, digits, folder, prepared, tinyimagenet
from sas_jax.data.dataset import Dataset
from sas_jax.errors import InputError

_IN_A_FOLDER = ("folder", tinyimagenet.NAME)


def load(config: Any) -> Dataset:
    """Reads the data set that the config's `data` section names.

    Args:
        config: its fields are `name` ("digits", "folder", "tinyimagenet" or a tfds name, which may carry a config and a
            version), `dir` (of prepared data sets; "" for tfds's own), `train_split` and `test_split` ("" for none; the
            name "folder" has no splits), `folder` (for the names "folder" and "tinyimagenet"), `test_folder` (for the
            name "folder"), `classes` (the names of those to keep; () for all), `image_size` (pixels; images of another
            size are resized, the longer side cut), and `placement` ("device" and "host": they are decoded into memory;
            "stream": when they are asked for; "auto": into memory, if they take at most half of what is free).

    Returns:
        The data set, its images uint8 [n, image_size, image_size, 3].

    Raises:
        InputError: where what the fields name is not there or cannot be read.
    """
    dataset = _load(config)
    return classes.keep(dataset, config.classes) if config.classes else dataset


def _load(config: Any) -> Dataset:
    """All of its classes."""
    if config.image_size < 1:
        raise InputError(
            f"config.data.image_size was wanted to be 1 pixel or more, it is {config.image_size}: enlarge it."
        )
    if config.name in _IN_A_FOLDER:
        if not config.folder:
            raise InputError(
                f"config.data.folder was wanted with config.data.name={config.name!r}, it is empty: set it to "
                "the path of the images."
            )
    elif config.folder:
        raise InputError(
            f"config.data.folder={config.folder!r} was given together with config.data.name={config.name!r}: set "
            "config.data.name='folder' to read it, or leave config.data.folder empty."
        )
    if config.name == "folder":
        return folder.load(config.folder, config.test_folder, image_size=config.image_size, placement=config.placement)
    if not config.train_split:
        raise InputError("config.data.train_split was wanted, it is empty: set it, to 'train' for most data sets.")
    if config.name == tinyimagenet.NAME:
        return tinyimagenet.load(
            config.folder,
            train_split=config.train_split,
            test_split=config.test_split,
            image_size=config.image_size,
            placement=config.placement,
        )
    data_dir = prepared.directory(config.dir)
    path = prepared.find(config.name, data_dir) or _prepare(config.name, data_dir)
    return prepared.read(
        path,
        name=config.name,
        train_split=config.train_split,
        test_split=config.test_split,
        image_size=config.image_size,
        placement=config.placement,
    )


def _prepare(name: str, data_dir: epath.Path) -> epath.Path:
    """Prepares a data set that is not on disk; an InputError says the way out where this cannot be done here."""
    if name == "digits":
        return prepared.prepare(digits.builder_class(), data_dir)
    if name in cifar.NAMES:
        return cifar.prepare(name, data_dir)

    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    base = name.partition(":")[0].partition("/")[0]
    if base in known:
        raise InputError(
            f"{name} was wanted in {str(data_dir)!r}, it is not prepared there: set config.data.dir to where it is, or "
            "run "
            f"`tfds build {name} --file_format=array_record --data_dir={data_dir}` where there are a network and "
            "TensorFlow."
        )
    near = difflib.get_close_matches(base, [*known, "digits", *_IN_A_FOLDER], n=3, cutoff=0.5)
    raise InputError(
        f"The name of a data set was wanted in config.data.name, {name!r} is none that tfds knows or that lies in "
        f"{str(data_dir)!r}: {f'did you mean {_or(near)}?' if near else 'see https://www.tensorflow.org/datasets/catalog.'}"
    )


def _or(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
