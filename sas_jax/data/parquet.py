"""Reads image data sets in the file formats of the Hugging Face hub and its `datasets` package, without the package.

    data/train-00000-of-00002.parquet   stored by the hub, and written by Dataset.to_parquet
    data-00000-of-00001.arrow           written by Dataset.save_to_disk, with a state.json in the folder

A row has an image, {bytes, path} or bytes, and optionally a label. The class names are in the schema's metadata.
Source: https://huggingface.co/docs/datasets/about_dataset_features
"""

import functools
import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from sas_jax import devices, files
from sas_jax.data import items, labels, shards
from sas_jax.data.dataset import Dataset
from sas_jax.errors import InputError, shown

SUFFIXES = (".parquet", ".arrow")
_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "fine_label")


def load(
    path: str, test_path: str, *, train_split: str, test_split: str, image_size: int, placement: str = "host"
) -> Dataset:
    """Reads a folder of parquet or arrow files.

    Args:
        path: the folder or a single file.
        test_path: the test files; "" if the file names determine the splits.
        train_split, test_split: see `shards.splits`.
        image_size: side length in pixels.
        placement: see `items.read_splits`.

    Returns:
        The data set. Ids are the images' paths if all images have unique ones, else split and row, `train_00042`.

    Raises:
        InputError: a file is missing or damaged, the files have no images, a label is not one of the classes, or more
            than 1 % of the images are broken.
    """
    root, *found = shards.splits(path, test_path, SUFFIXES, train_split=train_split, test_split=test_split)
    tables = [_Tables(root, pieces) for pieces in found if pieces]
    names = _class_names(tables)
    parts = [(each, each.ids(), None if names is None else each.labels(names)) for each in tables]
    name = "/".join(root.parts[-2:])
    return items.read_splits(name, parts, names, image_size=image_size, placement=placement)


class _Tables:
    """The concatenated rows of files, as `items.Items`."""

    def __init__(self, root: epath.Path, pieces: shards.Pieces):
        self._root = str(root)
        self._files = [os.fspath(file) for _, of_split in pieces for file in of_split]
        self._stamps = [_stamp(file) for file in self._files]
        self._schema, counts = self._look()
        self._image, self._label = self._columns()
        self._rows = [np.cumsum(groups) for groups in counts]  # per file, the ends of its row groups
        self._stops = np.cumsum([int(rows[-1]) if len(rows) else 0 for rows in self._rows])
        if not len(self):
            raise InputError(f"The files in {self._root!r} must hold images, got no rows. Choose other files.")
        sizes = iter(np.diff(self._stops, prepend=0).tolist())
        self._pieces = [(split, sum(next(sizes) for _ in of_split)) for split, of_split in pieces]

    @property
    def root(self) -> str:
        return self._root

    def __len__(self) -> int:
        return int(self._stops[-1])

    def place(self, index: int) -> str:
        number, row = items.located(self._stops, index)
        return f"{self._files[number]}: row {row}"

    def open(self, index: int) -> BinaryIO:
        number, row = items.located(self._stops, index)
        group, at = items.located(self._rows[number], row)
        column = _group(self._files[number], self._stamps[number], group, self._image)
        content = column[at].as_py()
        if content is None:
            raise ValueError("it has no image")
        return io.BytesIO(content)

    def _look(self) -> tuple[pa.Schema, list[list[int]]]:
        """Returns the schema, which all files share except for metadata, and the row counts of their row groups."""
        first: pa.Schema = None
        counts = []
        for file, stamp in zip(self._files, self._stamps, strict=True):
            schema, groups = _opened(file, stamp)
            first = first or schema
            if not schema.equals(first):
                raise InputError(
                    f"The files in {self._root!r} must have the same columns, got different columns in {file!r} and "
                    f"{self._files[0]!r}. Put files with different columns into different folders."
                )
            counts.append(groups)
        return first, counts

    def features(self) -> dict[str, Any]:
        """Returns the column metadata of the package `datasets`, by column name."""
        try:
            found = json.loads(self._schema.metadata[b"huggingface"])["info"]["features"]
            return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
        except Exception:  # no metadata, or unexpected JSON
            return {}

    def _columns(self) -> tuple[str, str | None]:
        """Returns the names of the image column and of the label column, if any."""
        features = self.features()
        found = [field.name for field in self._schema if _holds_images(field.type)]
        declared = [name for name in found if features.get(name, {}).get("_type") == "Image"] or found
        usual = [name for name in _IMAGES if name in declared]
        if not usual and len(declared) != 1:
            raise InputError(
                f"The files in {self._root!r} must have one column of images, as {{bytes, path}} or bytes, got "
                f"{', '.join(map(repr, declared)) or 'none'} among the columns {', '.join(self._schema.names)}. Rename "
                f"the column to 'image'."
            )
        classes = [name for name in self._schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
        labels = [name for name in _LABELS if name in self._schema.names] or (classes if len(classes) == 1 else [])
        return (usual or declared)[0], labels[0] if labels else None

    def _column(self, name: str, field: str | None = None) -> list[Any]:
        """Returns the values of a column, or of a field of a struct column."""
        stored = zip(self._files, self._stamps, strict=True)
        return [value for file, stamp in stored for value in _values(file, stamp, name, field)]

    def ids(self) -> list[str]:
        kind = self._schema.field(self._image).type
        has_paths = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
        own = self._column(self._image, "path") if has_paths else [None]
        return shards.unique_ids(own, self._pieces)

    def given_labels(self) -> list[Any] | None:
        """Returns the labels as stored in the files; None if there is no label column."""
        return self._column(self._label) if self._label else None

    def given_names(self) -> tuple[str, ...] | None:
        """Returns the class names; None if the files have none."""
        names = self.features().get(self._label, {}).get("names") if self._label else None
        return tuple(map(str, names)) if isinstance(names, list) else None

    def labels(self, names: Sequence[str]) -> np.ndarray | None:
        """Returns labels, int32 [n], -1 for a row without a label; None if no row has one."""
        given = self.given_labels()
        return None if given is None else labels.numbered(given, names, place=self.place)


def _class_names(tables: Sequence[_Tables]) -> tuple[str, ...] | None:
    """Returns the class names of all splits; None if there are no labels."""
    names = next((each.given_names() for each in tables if each.given_names()), None)
    given = (label for each in tables for label in each.given_labels() or ())
    return names or labels.class_names(given, root=tables[0].root)


def _stamp(file: str) -> tuple[int, ...]:
    """Returns a cache key for a file's contents, which changes when the file is rewritten."""
    if files.is_remote(file):
        remote = epath.Path(file).stat()
        return remote.length, remote.mtime
    local = os.stat(file)
    return local.st_size, local.st_mtime_ns, local.st_ino


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_bytes(kind.field(at).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _opened(file: str, stamp: Any) -> tuple[pa.Schema, list[int]]:
    """Returns a file's schema and the row count of each row group; a memory-mapped arrow file is one group."""
    with _readable(file):
        if file.endswith(".arrow"):
            table = _mapped(file, stamp)
            schema, groups = table.schema, [table.num_rows]
        else:
            metadata = _metadata(file, stamp)
            groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            schema = metadata.schema.to_arrow_schema()
        if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
            raise ValueError(f"two of its columns are named {shown(twice, 40)}")
        return schema, groups


class _readable:
    """Converts read errors to InputError; damaged files can make pyarrow raise any exception."""

    def __init__(self, file: str):
        self._file = file

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise InputError(
                f"{self._file} must be an intact parquet or arrow file, got one that cannot be read "
                f"({files.reason(error)}). Write it again, or move it away."
            ) from error


def _values(file: str, stamp: Any, name: str, field: str | None) -> Iterator[Any]:
    with _readable(file):
        if file.endswith(".arrow"):
            column = _mapped(file, stamp)[name]
            yield from (pc.struct_field(column, field) if field else column).to_pylist()
        else:
            with epath.Path(file).open("rb") as opened:
                table = pq.ParquetFile(opened).read(columns=[f"{name}.{field}" if field else name])
            column = table[name]
            yield from (pc.struct_field(column, field) if field else column).to_pylist()


@functools.lru_cache(maxsize=1024)
def _metadata(file: str, _stamp: Any) -> pq.FileMetaData:
    with epath.Path(file).open("rb") as opened:
        return pq.ParquetFile(opened).metadata


@functools.lru_cache(maxsize=1024)
def _mapped(file: str, _stamp: Any) -> pa.Table:
    """Memory-maps an arrow file."""
    with pa.memory_map(file) as source:
        table = pa.ipc.open_stream(source).read_all()
    table.validate(full=True)  # damaged offsets would crash the process; does not check the images
    return table


_lock = threading.Lock()


def _group(file: str, stamp: Any, group: int, column: str) -> pa.ChunkedArray:
    """Returns the images of a row group. One thread reads it while others that need it wait."""
    with _lock:
        return _read_group(file, stamp, group, column)


@functools.lru_cache(maxsize=2 * devices.cpu_count())
def _read_group(file: str, stamp: Any, group: int, column: str) -> pa.ChunkedArray:
    if file.endswith(".arrow"):
        values = _mapped(file, stamp)[column]
    else:
        metadata = _metadata(file, stamp)
        is_struct = pa.types.is_struct(metadata.schema.to_arrow_schema().field(column).type)
        with epath.Path(file).open("rb") as opened:
            reader = pq.ParquetFile(opened, metadata=metadata)
            values = reader.read_row_group(group, columns=[f"{column}.bytes" if is_struct else column])[column]
    return pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values
