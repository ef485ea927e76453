"""CIFAR-10 and CIFAR-100 prepared from the official archives, without TensorFlow.

tfds's own builders need TensorFlow to encode the images. These builders use PIL images instead. The name, version,
features, splits, stored order and ids are the same, and so are the archive and its checksum. The archive is the binary
one (plain bytes), so nothing is unpickled.
"""

import hashlib
import http.client
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import tqdm
from etils import epath
from PIL import Image

from sas_jax.data import prepared
from sas_jax.errors import InputError

NAMES = ("cifar10", "cifar100")
_TIMEOUT = 10  # seconds, for the connection and for each read
_BLOCK = 1 << 20  # bytes


def prepare(name: str, data_dir: epath.Path) -> epath.Path:
    """Downloads and prepares "cifar10" or "cifar100", and returns its folder.

    Args:
        name: one of NAMES.
        data_dir: the folder of prepared data sets.

    Raises:
        InputError: the archive cannot be downloaded or has the wrong checksum, or `data_dir` cannot be written.
    """
    import tensorflow_datasets as tfds

    official = {"cifar10": tfds.image_classification.Cifar10, "cifar100": tfds.image_classification.Cifar100}[name]
    source = official._cifar_info.fget(official)  # a property that uses only the class's name
    with tempfile.TemporaryFile() as archive:
        _download(source.url, official.url_infos[source.url].checksum, archive, name=name, data_dir=data_dir)
        return prepared.prepare(builder_class(official, archive), data_dir)


def builder_class(official: Any, archive: BinaryIO) -> Any:
    """Returns tfds's CIFAR builder, changed to read an open archive and to yield PIL images."""

    class Cifar(official, skip_registration=True):  # type: ignore[call-arg]
        name = official.name
        pkg_dir_path = official.pkg_dir_path  # contains the citation and the checksums

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            del dl_manager  # the archive is already downloaded
            source = self._cifar_info
            files = _members(archive, source.prefix)
            for key, file in zip(source.label_keys, source.label_files, strict=True):
                self.info.features[key].names = files[file].decode().split()  # no name contains a space
            return {
                "train": self._generate_examples("train", [files[file] for file in source.train_files]),
                "test": self._generate_examples("test", [files[file] for file in source.test_files]),
            }

        def _generate_examples(self, split: str, contents: list[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
            keys = self._cifar_info.label_keys
            # A record is one byte per label, then the 32 x 32 red, green and blue values.
            rows = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, len(keys) + 3 * 32 * 32)
            images = rows[:, len(keys) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            for i, (row, image) in enumerate(zip(rows, images, strict=True)):
                labels = {key: int(row[j]) for j, key in enumerate(keys)}
                yield i, {"id": f"{split}_{i:05d}", "image": Image.fromarray(np.ascontiguousarray(image)), **labels}

    return Cifar


def _members(archive: BinaryIO, prefix: str) -> dict[str, bytes]:
    """Returns the contents of the archive's files below `prefix`, by name."""
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:gz") as tar:
        return {
            member.name.removeprefix(prefix): tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
            if member.isfile() and member.name.startswith(prefix)
        }


def _download(url: str, sha256: str, file: BinaryIO, *, name: str, data_dir: epath.Path) -> None:
    """Downloads into an open file. It does not retry, so a missing network is reported at once."""
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0) or None
            with tqdm.tqdm(total=total, desc=f"downloading {name}", unit="B", unit_scale=True, disable=None) as bar:
                while block := response.read(_BLOCK):
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise InputError(
            f"{name} must be prepared in {str(data_dir)!r}, got no data there and no download from "
            f"{urllib.parse.urlsplit(url).hostname} ({reason}). Run this once with network access, or set "
            f"config.data.dir to the FOLDER of `tfds build {name} --file_format=array_record --data_dir=FOLDER`, run "
            f"elsewhere."
        ) from error
    if digest.hexdigest() != sha256:
        raise InputError(
            f"The {name} archive of {url} must have the SHA-256 {sha256[:12]}..., got {file.tell():,} bytes with "
            f"{digest.hexdigest()[:12]}.... Run again; if this persists, check whether a proxy changes downloads."
        )
