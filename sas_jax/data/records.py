"""Reads the serialized examples of a prepared data set by index, without TensorFlow."""

import functools
import itertools
import os
import resource
import struct
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath

from sas_jax.data import images
from sas_jax.errors import InputError
from sas_jax.files import is_remote

# https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
_EXAMPLE_PROTO = """
name: "example.proto" syntax: "proto3"
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Features" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Feature" } } }
message_type { name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".BytesList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Int64List" } }
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
"""


class Records(Protocol):
    """Serialized examples by index."""

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[bytes]: ...


def of_split(info: Any, split: str) -> Records:
    """Returns the serialized examples of a prepared split.

    Args:
        info: tfds's DatasetInfo.
        split: a whole split's name.

    Raises:
        InputError: a TFRECORD file is truncated.
        Exception: a file is missing or damaged; the type depends on the reader.
    """
    from array_record.python import array_record_data_source

    instructions = info.splits[split].file_instructions
    if info.file_format.value == "array_record":
        _allow_files(len(instructions))
        return array_record_data_source.ArrayRecordDataSource(instructions)
    return _TFRecords([epath.Path(i.filename) for i in instructions])


def check_count(info: Any, split: str) -> None:
    """Raises ValueError if the metadata claim more examples than the files have bytes, before memory is allocated."""
    paths = [instruction.filename for instruction in info.splits[split].file_instructions]
    if any(map(is_remote, paths)):  # each size is a request
        return
    count, size = info.splits[split].num_examples, sum(map(os.path.getsize, paths))
    if count > size:
        raise ValueError(f"its metadata lists {count:,} examples, but its files have only {size:,} bytes")


def _allow_files(count: int) -> None:
    """Raises this process's limit of open files by `count`, up to the hard limit.

    array_record keeps all files of a split open. ImageNet has 1,024, the default limit on many systems.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + count
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


class _TFRecords:
    """The records of TFRECORD files, by index and without TensorFlow.

    A record is its length (uint64, little endian), a checksum of the length (4 bytes), the data, and a checksum of
    the data (4 bytes). The checksums are CRC-32C, which Python lacks. They are not checked: encoded images have their
    own checksums or fail to decode.
    """

    def __init__(self, paths: Sequence[epath.Path]):
        self._paths = tuple(paths)
        found: list[list[tuple[int, int]]] = [[] for _ in paths]  # per file, its records' (first byte, length)

        def work(start: int, stop: int) -> None:
            for i in range(start, stop):
                found[i] = _record_places(paths[i])

        images.in_threads(work, len(paths))
        self._file = np.repeat(np.arange(len(paths)), [len(places) for places in found])
        self._places = np.array([place for places in found for place in places], np.int64).reshape(-1, 2)

    def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
        rows = np.asarray(indices, np.int64)
        records = [b""] * len(rows)
        # In stored order, with one file open at a time.
        for number, group in itertools.groupby(np.argsort(rows, kind="stable"), lambda i: self._file[rows[i]]):
            with self._paths[number].open("rb") as file:
                for i in group:
                    at, length = self._places[rows[i]].tolist()
                    file.seek(at)
                    records[i] = file.read(length)
        return records


def _record_places(path: epath.Path) -> list[tuple[int, int]]:
    """Returns the (first byte, length) of each record's data in a TFRECORD file."""
    places = []
    at, end = 0, path.stat().length
    with path.open("rb") as file:
        while at < end:
            file.seek(at)
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if at + 16 + length > end:
                raise InputError(
                    f"{str(path)!r} must hold complete records, got a file that ends within one. Remove its folder "
                    "and prepare the data again."
                )
            places.append((at + 12, length))
            at += 16 + length
    return places


def features(record: bytes) -> Any:
    """Returns the features of a serialized example, by name."""
    # tfds's parser is slower: 4.5 s instead of 3 s for 20,000 CIFAR images (2 busy CPU cores, 2026-11).
    with _one_at_a_time:
        example = _example_class()
    return example.FromString(record).features.feature


_one_at_a_time = threading.Lock()
"""Lets one thread make the message class: protobuf crashes if a second class replaces one whose messages are in use."""


@functools.cache
def _example_class() -> Any:
    """Returns the message class tf.train.Example, restricted to the fields used here.

    tfds has the class too, but importing tfds takes seconds in each worker. During that import, other threads may
    import the lazy modules that tfds substitutes for its own imports.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_EXAMPLE_PROTO, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))
