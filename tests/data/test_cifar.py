import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
import time
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from sas_jax.data import cifar, prepared
from sas_jax.errors import InputError

TRAIN, TEST = 11, 4


@contextlib.contextmanager
def server(folder):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def write_archive(official, path):
    """Writes a small archive in the official layout: per image a byte per label, then reds, greens and blues."""
    source = official._cifar_info.fget(official)
    classes = {key: official(data_dir="/nowhere").info.features[key].num_classes for key in source.label_keys}
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (TRAIN + TEST, 32, 32, 3), dtype=np.uint8)
    labels = {key: random.integers(0, number, TRAIN + TEST, dtype=np.uint8) for key, number in classes.items()}
    records = []
    for i, image in enumerate(images):
        channels = [image[:, :, channel].tobytes() for channel in range(3)]
        records.append(bytes(labels[key][i] for key in source.label_keys) + b"".join(channels))
    train = np.array_split(np.arange(TRAIN), len(source.train_files))
    contents = {name: b"".join(records[i] for i in part) for name, part in zip(source.train_files, train, strict=True)}
    contents[source.test_files[0]] = b"".join(records[TRAIN:])
    for key, name in zip(source.label_keys, source.label_files, strict=True):
        contents[name] = "".join(f"{key}{i:02d}\n" for i in range(classes[key])).encode() + b"\n"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(source.prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return images, labels


def point_to(monkeypatch, official, url, sha256):
    source = official._cifar_info.fget(official)._replace(url=url)
    monkeypatch.setattr(official, "_cifar_info", property(lambda self: source))
    monkeypatch.setattr(official, "url_infos", {url: types.SimpleNamespace(checksum=sha256)})
    monkeypatch.setenv("no_proxy", "*")


OFFICIAL = {"cifar10": tfds.image_classification.Cifar10, "cifar100": tfds.image_classification.Cifar100}


@pytest.mark.parametrize("name", cifar.NAMES)
def test_the_prepared_data_set_is_tfdss_own(name, tmp_path, monkeypatch):
    official = OFFICIAL[name]
    images, labels = write_archive(official, tmp_path / "archive.tar.gz")
    digest = hashlib.sha256((tmp_path / "archive.tar.gz").read_bytes()).hexdigest()
    data_dir = epath.Path(tmp_path) / "tfds"
    with server(tmp_path) as address:
        point_to(monkeypatch, official, f"{address}/archive.tar.gz", digest)
        path = cifar.prepare(name, data_dir)
    assert path == prepared.find(name, data_dir)

    dataset = prepared.read(path, name=name, train_split="train", test_split="test", image_size=32)
    assert dataset.class_names == tuple(f"label{i:02d}" for i in range(100 if name == "cifar100" else 10))
    for split, offset, count in ((dataset.train, 0, TRAIN), (dataset.test, TRAIN, TEST)):
        prefix = "train" if split is dataset.train else "test"
        assert sorted(split.ids) == [f"{prefix}_{i:05d}" for i in range(count)]
        index = [offset + int(i[-5:]) for i in split.ids]
        np.testing.assert_array_equal(split.images, images[index])
        np.testing.assert_array_equal(split.labels, labels["label"][index])

    builder = tfds.builder(name, data_dir=data_dir)  # the official builder accepts it as its own
    assert builder.info.full_name == f"{name}/{official.VERSION}"
    example = builder.as_data_source("train")[0]
    assert set(example) == {"id", "image", *labels}
    for key, values in labels.items():
        assert example[key] == values[int(example["id"][-5:])]


def test_no_network_is_said_at_once_with_the_way_out(tmp_path, monkeypatch):
    with server(tmp_path) as address:
        pass  # nobody listens on that port any more
    point_to(monkeypatch, OFFICIAL["cifar100"], f"{address}/archive.tar.gz", "0")
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"no download from 127\.0\.0\.1 .*refused.* `tfds build cifar100 --file_format=array_"
    ):
        cifar.prepare("cifar100", epath.Path(tmp_path))
    assert time.monotonic() - start < 10
    assert not list(tmp_path.iterdir())


def test_an_archive_with_another_checksum_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "archive.tar.gz").write_bytes(b"something else")
    with server(tmp_path) as address:
        point_to(monkeypatch, OFFICIAL["cifar100"], f"{address}/archive.tar.gz", "0" * 64)
        with pytest.raises(InputError, match=r"got 14 bytes with [0-9a-f]{12}\.\.\.\. Run again"):
            cifar.prepare("cifar100", epath.Path(tmp_path) / "tfds")
    assert not (tmp_path / "tfds").exists()


def test_the_archive_wanted_is_the_one_tfds_knows():
    for official in OFFICIAL.values():
        url = official._cifar_info.fget(official).url
        assert url.startswith("https://www.cs.toronto.edu/")
        assert len(official.url_infos[url].checksum) == 64
