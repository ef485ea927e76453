"""Loads the images, labels and ids of the data set that a config names."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

from etils import epath

from sas_jax.data import cifar, classes, digits, folder, parquet, prepared, tinyimagenet, torchvision, webdataset
from sas_jax.data.dataset import Dataset
from sas_jax.errors import InputError, shown


def load(config: Any) -> Dataset:
    """Reads the data set that the config's `data` section names.

    Args:
        config: its fields are `name` (one of `SOURCES`, "digits", or a tfds name, optionally with a config and a
            version), `dir` (the folder of prepared data sets; "" for tfds's default), `train_split` and `test_split`
            ("" for none; the name "folder" has no splits), `folder` (for the names in `SOURCES`), `test_folder` (for
            some of them), `classes` (the class names to keep; () for all), `image_size` (pixels; images of another
            size are resized and centre-cropped), and `placement` ("device" and "host" decode images into memory,
            "stream" on access, "auto" into memory if they fill at most half of the free memory).

    Returns:
        The data set; images are uint8 [n, image_size, image_size, 3].

    Raises:
        InputError: the data set is missing or cannot be read, or the fields contradict each other.
    """
    dataset = _load(config)
    return classes.keep(dataset, config.classes) if config.classes else dataset


def _load(config: Any) -> Dataset:
    """Loads the data set with all classes."""
    if config.image_size < 1:
        raise InputError(f"config.data.image_size must be 1 pixel or more, got {config.image_size}. Increase it.")
    source = SOURCES.get(config.name, _TFDS)
    if source.in_a_folder:
        if not config.folder:
            raise InputError(
                f"config.data.folder must name a folder if config.data.name is {config.name!r}, got ''. Set it to "
                "the path of the images."
            )
    elif config.folder:
        raise InputError(
            f"config.data.folder must be empty if config.data.name is {shown(config.name)}, got "
            f"{shown(config.folder)}. Set config.data.name='folder' to read it, or clear config.data.folder."
        )
    if source.has_splits and not config.train_split:
        raise InputError("config.data.train_split must name a split, got ''. Set it, to 'train' for most data sets.")
    return source.load(config)


@dataclasses.dataclass(frozen=True)
class Source:
    """A kind of image source.

    Attributes:
        load: loads the data set from a config's `data` section.
        in_a_folder: whether it reads the images from `folder`.
        has_splits: whether it uses `train_split` and `test_split`.
        takes_test_folder: whether it uses `test_folder`.
    """

    load: Callable[[Any], Dataset]
    in_a_folder: bool = True
    has_splits: bool = True
    takes_test_folder: bool = False


def _load_folder(config: Any) -> Dataset:
    return folder.load(config.folder, config.test_folder, image_size=config.image_size, placement=config.placement)


def _splits(config: Any) -> dict[str, Any]:
    """Returns the arguments common to all sources with splits."""
    names = ("train_split", "test_split", "image_size", "placement")
    return {name: getattr(config, name) for name in names}


def _load_tinyimagenet(config: Any) -> Dataset:
    return tinyimagenet.load(config.folder, **_splits(config))


def _load_parquet(config: Any) -> Dataset:
    return parquet.load(config.folder, config.test_folder, **_splits(config))


def _load_torchvision(config: Any) -> Dataset:
    return torchvision.load(config.folder, **_splits(config))


def _load_webdataset(config: Any) -> Dataset:
    return webdataset.load(config.folder, config.test_folder, **_splits(config))


def _load_tfds(config: Any) -> Dataset:
    data_dir = prepared.directory(config.dir)
    path = prepared.find(config.name, data_dir) or _prepare(config.name, data_dir)
    return prepared.read(path, name=config.name, **_splits(config))


SOURCES: dict[str, Source] = {
    "folder": Source(_load_folder, has_splits=False, takes_test_folder=True),
    tinyimagenet.NAME: Source(_load_tinyimagenet),
    "parquet": Source(_load_parquet, takes_test_folder=True),
    "torchvision": Source(_load_torchvision),
    "webdataset": Source(_load_webdataset, takes_test_folder=True),
}
"""Sources by config.data.name; all other names are tfds's."""
_TFDS = Source(_load_tfds, in_a_folder=False)


def takes_test_folder(name: str) -> bool:
    """Whether config.data.test_folder may be given with this config.data.name."""
    return SOURCES.get(name, _TFDS).takes_test_folder


def _prepare(name: str, data_dir: epath.Path) -> epath.Path:
    """Prepares a data set that is not on disk; raises InputError with instructions if that is not possible here."""
    if name == "digits":
        return prepared.prepare(digits.builder_class(), data_dir)
    if name in cifar.NAMES:
        return cifar.prepare(name, data_dir)

    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    base = name.partition(":")[0].partition("/")[0]
    if base in known:
        raise InputError(
            f"{name} must be prepared in {str(data_dir)!r}, got no data there. Set config.data.dir to the folder that "
            f"has it, or run `tfds build {name} --file_format=array_record --data_dir={data_dir}` with network access "
            f"and TensorFlow."
        )
    near = difflib.get_close_matches(base, [*known, "digits", *SOURCES], n=3, cutoff=0.5)
    raise InputError(
        f"config.data.name must be a data set of tfds or one prepared in {str(data_dir)!r}, got {shown(name)}. "
        f"{f'Did you mean {_or(near)}?' if near else 'See https://www.tensorflow.org/datasets/catalog.'}"
    )


def _or(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
