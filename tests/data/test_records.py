import concurrent.futures
import resource
import struct
import time
import types

import numpy as np
import pytest
from etils import epath
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_datasets.core.utils import shard_utils
from tensorflow_datasets.proto import tf_example_pb2

from sas_jax.data import records


def test_the_records_of_several_tfrecord_files(tmp_path):
    sizes = ((3, 0, 70), (), (5,), tuple(range(100, 160)))
    written = []
    for i, lengths in enumerate(sizes):
        these = [np.random.default_rng([i, j]).bytes(length) for j, length in enumerate(lengths)]
        written += these
        framed = (struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in these)
        (tmp_path / str(i)).write_bytes(b"".join(framed))
    found = records._TFRecords([epath.Path(tmp_path / str(i)) for i in range(len(sizes))])
    order = np.random.default_rng(0).integers(0, len(written), 200).tolist()
    assert found.__getitems__(order) == [written[i] for i in order]
    assert found.__getitems__(range(len(written))) == written
    assert found.__getitems__([]) == []


def test_the_limit_of_open_files_rises_with_the_files_of_a_split(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for before, count, after in [
        ((100, 4096), 30, (130, 4096)),
        ((100, 110), 30, (110, 110)),
        ((100, resource.RLIM_INFINITY), 30, (130, resource.RLIM_INFINITY)),
    ]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, before=before: before)
        records._allow_files(count)
        assert asked.pop() == after
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    records._allow_files(30)
    assert not asked
    files = [shard_utils.FileInstruction(f"/nowhere/{i}", skip=0, take=1, examples_in_shard=1) for i in range(7)]
    info = types.SimpleNamespace(
        splits={"train": types.SimpleNamespace(file_instructions=files)},
        file_format=types.SimpleNamespace(value="array_record"),
    )
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 4096))
    assert len(records.of_split(info, "train")) == 7
    assert asked == [(107, 4096)]


def test_the_features_are_those_that_tfds_wrote():
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.extend([b"\x00\xff", b""])
    example.features.feature["label"].int64_list.value.extend([-1, 2**40])
    example.features.feature["bounds"].float_list.value.append(0.5)
    found = records.features(example.SerializeToString())
    assert set(found) == {"image", "label", "bounds"}
    assert list(found["image"].bytes_list.value) == [b"\x00\xff", b""]
    assert list(found["label"].int64_list.value) == [-1, 2**40]
    with pytest.raises(DecodeError):
        records.features(example.SerializeToString()[:-1])


def test_threads_share_one_message_class(monkeypatch):
    """Replacing the class while another thread reads a message of the first crashed the process."""
    example, made = tf_example_pb2.Example(), []
    parse = text_format.Parse

    def slowly(*arguments):
        made.append(time.sleep(0.05))
        return parse(*arguments)

    monkeypatch.setattr(text_format, "Parse", slowly)
    records._example_class.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = pool.map(records.features, [example.SerializeToString()] * 4)
    assert [len(each) for each in found] == [0] * 4
    assert len(made) == 1
