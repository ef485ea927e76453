"""Finds, reads and writes data sets prepared by tfds, without TensorFlow."""

import contextlib
import io
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from etils import epath

from sas_jax.data import encoded, images, records, stored_order
from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.streamed import StreamedImages, is_streamed, memory
from sas_jax.errors import InputError, shown
from sas_jax.files import expanded

# In order of preference. Both formats store the same serialized examples in the same order.
_FORMATS = ("array_record", "tfrecord")


_ID_FEATURES = ("id", "file_name", "image/filename")  # features that identify an image

_MOST_CLASSES = 1_000_000
_READ_AT_ONCE = 1024  # records in memory in addition to the decoded images

_Pieces = Sequence[tuple[str, Sequence[int]]]  # names of whole splits, and indices into them


def directory(data_dir: str) -> epath.Path:
    """Returns the folder of prepared data sets; "" is tfds's default (~/tensorflow_datasets, $TFDS_DATA_DIR)."""
    from tensorflow_datasets.core import constants

    return expanded(data_dir or constants.DATA_DIR)


def find(name: str, data_dir: epath.Path) -> epath.Path | None:
    """Finds the folder of a prepared data set.

    Args:
        name: "cifar100", "imagenet_resized/32x32", or with a version "cifar100:3.0.2" or "cifar100:3.*.*".
        data_dir: the folder of prepared data sets.

    Returns:
        The folder with the dataset_info.json of the highest version in a supported format, array_record preferred;
        None if there is none.

    Raises:
        InputError: the version is malformed, the name does not determine which of several configs on disk is meant, or
            the data on disk is damaged or only in unsupported formats.
    """
    from tensorflow_datasets.core import utils
    from tensorflow_datasets.core.utils import file_utils

    name, _, wanted = name.partition(":")
    try:
        if wanted:
            utils.Version("0.0.0").match(wanted)
    except ValueError as error:
        raise InputError(
            f"The version after the name in config.data.name must have a form such as 3.0.2 or 3.*.*, got "
            f"{shown(name + ':' + wanted)}. Correct it or leave it out."
        ) from error
    folder = data_dir / name
    if not folder.is_dir():
        return None
    versions = file_utils.list_dataset_versions(folder)
    if not versions and "/" not in name:
        configs = sorted(path.name for path in folder.iterdir() if file_utils.list_dataset_versions(path))
        if len(configs) > 1:
            raise InputError(
                f"config.data.name must name one data set, got {name!r}, which has {len(configs)} configs in "
                f"{str(folder)!r}. Set it to one of {', '.join(f'{name}/{config}' for config in configs)}."
            )
        if configs:
            folder /= configs[0]
            versions = file_utils.list_dataset_versions(folder)
    paths = [folder / str(v) for v in reversed(versions) if not wanted or utils.Version(v).match(wanted)]
    readable = {path: info.file_format.value for path in paths if (info := _info(path)) is not None}
    if paths and not readable:
        raise _unreadable(name, paths[0])
    # array_record is preferred to a higher version in another format.
    return min(readable, key=lambda path: _FORMATS.index(readable[path])) if readable else None


def read(
    path: epath.Path, *, name: str, train_split: str, test_split: str, image_size: int, placement: str = "host"
) -> Dataset:
    """Reads a prepared data set.

    Args:
        path: the folder with the dataset_info.json.
        name: the data set's name, for tables.
        train_split: in tfds's syntax: "train", "train[:80%]", "train+unlabelled".
        test_split: the same; "" for none.
        image_size: side length in pixels.
        placement: "device" and "host" decode the images into memory, "stream" decodes them on access, "auto" chooses
            by the free memory.

    Returns:
        The data set. Ids are tfds's ids or the images' file names, if present, else the index in the split; if several
        splits are joined, ids begin with the split's name. STL10 is in its published order, and its ids number each
        split in that order (`unlabelled_00042`); all other data sets are in stored order.

    Raises:
        InputError: a split is missing or empty, there is no image feature, or a file is damaged.
    """
    info = _info(path)
    if info is None:
        raise _unreadable(name, path)
    image_key = _image_key(info.features, name)
    pieces = [_pieces(info, spec) for spec in (train_split, *filter(None, [test_split]))]
    count = sum(len(indices) for spec in pieces for _, indices in spec)
    stream = is_streamed(placement, memory(count, image_size))
    train, *rest = (_read_split(info, each, image_key, size=image_size, stream=stream) for each in pieces)
    test = rest[0] if rest else None
    labelled = train.labels is not None or (test is not None and test.labels is not None)
    return Dataset(name, train, test, tuple(_label(info.features).names) if labelled else None)


def prepare(builder_class: Any, data_dir: epath.Path) -> epath.Path:
    """Prepares a data set with a builder that does not need TensorFlow, and returns its folder.

    The data is written to a unique temporary folder and renamed, so several processes may prepare it concurrently. The
    first to finish wins.

    Args:
        builder_class: a subclass of tfds.core.GeneratorBasedBuilder whose examples contain PIL images.
        data_dir: the folder of prepared data sets.

    Raises:
        InputError: `data_dir` cannot be written.
    """
    import tensorflow_datasets as tfds

    aside = data_dir / f"incomplete.{uuid.uuid4().hex}"
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"config.data.dir must be a writable folder, got {str(data_dir)!r} for the prepared {builder_class.name} "
            f"({error.strerror or error}). Set it to one that is writable."
        ) from error
    try:
        builder = builder_class(data_dir=aside, file_format="array_record")
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        with _quiet():
            builder.download_and_prepare(download_config=config)
        target = data_dir / builder.name / str(builder.version)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            (aside / builder.name / str(builder.version)).rename(target)
        except OSError:
            if not (target / "dataset_info.json").exists():
                raise
    finally:
        aside.rmtree(missing_ok=True)
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses tfds's output, and its progress bars unless stderr is a terminal."""
    import tensorflow_datasets as tfds

    bars = sys.stderr.isatty()
    tfds.display_progress_bar(bars)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(True)


def _info(path: epath.Path) -> Any:
    """Returns tfds's DatasetInfo of a prepared data set in a supported format, or None."""
    import tensorflow_datasets as tfds

    try:
        known = {f.value for f in tfds.builder_from_directory(path).info.available_file_formats()}
        format = next((f for f in _FORMATS if f in known), None)
        return format and tfds.builder_from_directory(path, file_format=format).info
    except Exception:  # tfds may raise any exception for missing or damaged dataset_info.json, features.json
        return None


def _unreadable(name: str, path: epath.Path) -> InputError:
    return InputError(
        f"{name} must be in the format {' or '.join(_FORMATS)}, got {str(path)!r} in another format or damaged. Remove "
        "it and prepare the data again with `tfds build --file_format=array_record`."
    )


def _label(features: Any) -> Any:
    """Returns the feature of class labels, or None."""
    import tensorflow_datasets as tfds

    label = dict(features.items()).get("label")
    if not isinstance(label, tfds.features.ClassLabel) or not label.num_classes:
        return None
    if label.num_classes > _MOST_CLASSES:  # the names are kept in memory
        raise InputError(
            f"The label of a data set must have at most {_MOST_CLASSES:,} classes, got {label.num_classes:,}. Choose "
            "another data set, or remove the prepared one and prepare it again if the number is wrong."
        )
    return label


def _image_key(features: Any, name: str) -> str:
    import tensorflow_datasets as tfds

    keys = [
        key
        for key, feature in (features.items() if isinstance(features, tfds.features.FeaturesDict) else ())
        if isinstance(feature, tfds.features.Image) and feature.np_dtype in (np.uint8, np.uint16)
    ]
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        raise InputError(
            f"An example must have one image, got {len(keys)} in {name} (its features are "
            f"{', '.join(sorted(features))}). Use a data set of single images, or a folder of them with "
            "config.data.name='folder'."
        )
    return keys[0]


class RecordImages(StreamedImages):
    """The images of a split, decoded on access."""

    def __init__(
        self,
        folder: str,
        pieces: Sequence[tuple[str, Sequence[int], records.Records]],
        image_key: str,
        *,
        size: int,
    ):
        """Stores where the images are, without reading them.

        Args:
            folder: the data set's folder, for messages.
            pieces: (name of a whole split, indices into it, its records); the images are their concatenation.
            image_key: the name of the image feature.
            size: side length in pixels.
        """
        self._stops = np.cumsum([len(indices) for _, indices, _ in pieces])
        super().__init__(int(self._stops[-1]), size)
        self._folder = folder
        self._pieces = tuple(pieces)
        self._image_key = image_key

    def _decode(self, indices: np.ndarray, out: np.ndarray) -> None:
        for start in range(0, len(indices), _READ_AT_ONCE):
            block = indices[start : start + _READ_AT_ONCE]
            numbers = np.searchsorted(self._stops, block, side="right")
            for number in np.unique(numbers):
                split, available, stored = self._pieces[number]
                at = np.flatnonzero(numbers == number)
                first = self._stops[number] - len(available)
                wanted = [available[index] for index in (block[at] - first).tolist()]
                with _whole(split, self._folder):
                    self._decode_records(stored.__getitems__(wanted), wanted, out, start + at)

    def _decode_records(
        self, examples: Sequence[bytes], indices: Sequence[int], out: np.ndarray, at: np.ndarray
    ) -> None:
        def work(start: int, stop: int) -> None:
            for i in range(start, stop):
                try:
                    image = records.features(examples[i])[self._image_key].bytes_list.value[0]
                    out[at[i]] = _decode(io.BytesIO(image), self.shape[1])
                except Exception as error:
                    raise ValueError(f"record {indices[i]}: {error}") from error

        images.in_threads(work, len(examples))


@contextlib.contextmanager
def _whole(split: str, folder: str) -> Iterator[None]:
    """Converts read errors of a split to InputError; damaged files can raise any exception."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        way_out = "Remove that folder and prepare the data again"
        if "Too many open files" in reason:
            way_out = "Raise this process's limit on open files (`ulimit -n`)"
        raise InputError(
            f"The split {split!r} in {folder!r} must be intact, got one that cannot be read ({reason}). {way_out}."
        ) from error


def _decode(file: BinaryIO, size: int) -> np.ndarray:
    with images.opened(file) as image:
        return images.square_rgb(image, size)


def _read_split(info: Any, pieces: _Pieces, image_key: str, *, size: int, stream: bool) -> Split:
    several = len({split for split, _ in pieces}) > 1
    label_feature = _label(info.features)
    num_classes = len(label_feature.names) if label_feature else 0
    stored = {}
    for split, _ in pieces:
        with _whole(split, str(info.data_dir)):
            stored[split] = records.of_split(info, split)
    count = sum(len(indices) for _, indices in pieces)
    pixels = None if stream else np.empty((count, size, size, 3), np.uint8)
    labels = np.full(count, -1, np.int32)
    marks = np.empty(count, np.uint64)
    own_ids: list[str] = [""] * count
    offset = 0
    for split, indices in pieces:

        def work(start: int, stop: int, stored=stored[split], indices=indices, offset=offset) -> None:
            at = offset + start
            for record in stored.__getitems__(indices[start:stop]):
                example = records.features(record)
                image = io.BytesIO(example[image_key].bytes_list.value[0])
                ends = encoded.read_ends(image)
                marks[at] = ends.mark()
                if pixels is None:
                    encoded.check(image, ends, lambda file: _decode(file, size))
                else:
                    pixels[at] = _decode(image, size)
                if num_classes:
                    label = example["label"].int64_list.value[0]
                    if not -1 <= label < num_classes:
                        raise ValueError(f"a label is {label}, but there are only {num_classes} classes")
                    labels[at] = label
                own_ids[at] = _own_id(example)
                at += 1

        with _whole(split, str(info.data_dir)):
            images.in_threads(work, len(indices), description=f"reading {info.name} {split}")
        offset += len(indices)

    if info.name in stored_order.KEYED_BY_INDEX:
        own_ids = [f"{split}_{stored_order.published(info, split)[index]:05d}" for split, index in _each(pieces)]
    ids = [_id(own, split, index, several) for own, (split, index) in zip(own_ids, _each(pieces), strict=True)]
    if len(set(ids)) < count:  # tfds's ids repeat, so they do not identify images
        ids = [_id("", split, index, several) for split, index in _each(pieces)]
    sources = [(split, indices, stored[split]) for split, indices in pieces]
    return Split(
        RecordImages(str(info.data_dir), sources, image_key, size=size) if pixels is None else pixels,
        labels if (labels >= 0).any() else None,
        np.array(ids),
        marks,
    )


def _own_id(example: Any) -> str:
    """Returns the id in a serialized example, a text or an integer; "" if there is none."""
    for name in _ID_FEATURES:
        if name in example:
            texts, integers = example[name].bytes_list.value, example[name].int64_list.value
            if texts or integers:
                return texts[0].decode() if texts else str(integers[0])
    return ""


def _each(pieces: _Pieces) -> Iterator[tuple[str, int]]:
    return ((split, index) for split, indices in pieces for index in indices)


def _id(own: str, split: str, index: int, several: bool) -> str:
    name = own or str(index)
    return f"{split}_{name}" if several and not name.startswith(f"{split}_") else name


def _pieces(info: Any, spec: str) -> _Pieces:
    """Parses a split spec to (whole split's name, indices into it); indices do not depend on the slice."""
    import tensorflow_datasets as tfds

    try:
        parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(info.splits)
    except (KeyError, ValueError, AssertionError) as error:
        raise InputError(
            f"config.data.train_split and config.data.test_split must name splits of {info.full_name}, got "
            f"{shown(spec)}. Choose from {', '.join(info.splits)} (tfds's slices and sums of them are allowed, and "
            f"'' for no test split)."
        ) from error
    pieces: list[tuple[str, Sequence[int]]] = []
    for part in parts:
        with _whole(part.splitname, str(info.data_dir)):
            records.check_count(info, part.splitname)
        indices: Sequence[int] = range(info.splits[part.splitname].num_examples)[part.from_ : part.to]
        if info.name in stored_order.KEYED_BY_INDEX:
            indices = sorted(indices, key=stored_order.published(info, part.splitname).__getitem__)
        pieces.append((part.splitname, indices))
    if not any(indices for _, indices in pieces):
        raise InputError(f"A split of {info.full_name} must hold images, got none in {spec!r}. Choose another.")
    return pieces
