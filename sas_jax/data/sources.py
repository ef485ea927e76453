"""From a name or a path in the config to images, labels and ids."""

import difflib
from typing import Any

from etils import epath

from sas_jax.data import cifar, classes, digits, folder, prepared, tinyimagenet
from sas_jax.data.dataset import Dataset
from sas_jax.errors import InputError, shown

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
        raise InputError(f"config.data.image_size must be 1 pixel or more, got {config.image_size}. Enlarge it.")
    if config.name in _IN_A_FOLDER:
        if not config.folder:
            raise InputError(
                f"config.data.folder must name a folder where config.data.name is {config.name!r}, got ''. Set it to "
                "the path of the images."
            )
    elif config.folder:
        raise InputError(
            f"config.data.folder must be empty where config.data.name is {shown(config.name)}, got "
            f"{shown(config.folder)}. Set config.data.name='folder' to read it, or empty config.data.folder."
        )
    if config.name == "folder":
        return folder.load(config.folder, config.test_folder, image_size=config.image_size, placement=config.placement)
    if not config.train_split:
        raise InputError("config.data.train_split must name a split, got ''. Set it, to 'train' for most data sets.")
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
            f"{name} must be prepared in {str(data_dir)!r}, got nothing there. Set config.data.dir to where it is, or "
            f"run `tfds build {name} --file_format=array_record --data_dir={data_dir}` where there are a network and "
            f"TensorFlow."
        )
    near = difflib.get_close_matches(base, [*known, "digits", *_IN_A_FOLDER], n=3, cutoff=0.5)
    raise InputError(
        f"config.data.name must be a data set that tfds knows or that lies in {str(data_dir)!r}, got {shown(name)}. "
        f"{f'Did you mean {_or(near)}?' if near else 'See https://www.tensorflow.org/datasets/catalog.'}"
    )


def _or(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
