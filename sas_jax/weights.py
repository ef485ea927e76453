"""Reads and writes encoder weights in files that PyTorch can read and write as well.

| suffix | |
|---|---|
| .safetensors | read and written; the metadata describe the encoder's architecture and image normalisation |
| .pth, .pt | read only: a state dict as written by torch.save; code in the file is not executed |
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from etils import epath

from sas_jax import files, pickles
from sas_jax.errors import InputError
from sas_jax.models import DEPTHS, STEMS, ResNet, torch_names
from sas_jax.views import Views

LARGEST = 1 << 32  # bytes of a file that is read
_READ = (".safetensors", ".pth", ".pt")
_MAGIC = 0x1950A86A20F9469CFC6C  # magic number of torch.save before 2020, and in torchvision's published weights
_PROTOCOL = 1001
_CHECKSUM = "sas_jax.checksum"  # metadata key for the checksum of all else; absent in other programs' files


@dataclasses.dataclass(frozen=True)
class Built:
    """The architecture of an encoder, the format of its images, and its training.

    Attributes:
        depth, width, stem: see `ResNet`.
        image_size: side length in pixels.
        mean, std: per channel (RGB in [0, 1]); the encoder's input is (x - mean) / std.
        arm: the arm of the run that trained it.
        steps: number of steps that it was trained for.
    """

    depth: int
    width: float
    stem: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arm: str
    steps: int


def write(path: str, variables: Mapping[str, Any], built: Built) -> None:
    """Writes an encoder's weights atomically, with torchvision's parameter names.

    Args:
        path: path of the .safetensors.
        variables: "params" and "batch_stats" of the `ResNet`.
        built: stored in the metadata.

    Raises:
        InputError: the suffix is another, or the file cannot be written.
    """
    check_writable(path)
    metadata = {"format": "pt"} | {name: json.dumps(value) for name, value in dataclasses.asdict(built).items()}
    arrays = torch_names.to_torch(variables, depth=built.depth)
    data = safetensors.numpy.save(arrays, metadata | {_CHECKSUM: json.dumps(_checksum(arrays, metadata))})
    try:
        files.write_whole(files.expanded(path), lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise InputError(f"Cannot write {path}: {files.reason(error)}. Choose another path.") from error


def check_writable(path: str) -> None:
    """Raises InputError unless `write` supports the suffix."""
    if files.expanded(path).suffix != ".safetensors":
        raise InputError(
            f"The file of an encoder (--output) must end in .safetensors, got {path!r}. Change the file name."
        )


def load(path: epath.PathLike) -> tuple[ResNet, dict[str, Any], Built]:
    """Reads a file written by `write`.

    Returns:
        The encoder (float32), its variables, and the metadata.

    Raises:
        InputError: the file cannot be read, or its metadata do not describe its encoder.
    """
    arrays, metadata = _read(path)
    try:
        given = {field.name: json.loads(metadata[field.name]) for field in dataclasses.fields(Built)}
        built = Built(**given | {name: tuple(given[name]) for name in ("mean", "std")})
        fits = (
            built.depth in DEPTHS and built.stem in STEMS and type(built.width) is float and 0.01 <= built.width <= 64
        )
        if (
            not fits
            or type(built.steps) is not int
            or not isinstance(built.arm, str)
            or not 0 < built.image_size <= 4096
        ):
            raise ValueError("they do not describe an encoder")
        Views(size=built.image_size, mean=built.mean, std=built.std)  # type: ignore[arg-type]
    except Exception as error:  # the metadata may have any value
        raise InputError(
            f"{path} must be a file that sas_jax.export wrote, got one with missing or invalid metadata "
            f"({files.reason(error)}). Export the encoder again. Other weights can only start training, as "
            "config.encoder.init."
        ) from error
    encoder = ResNet(depth=built.depth, width=built.width, stem=built.stem)
    return encoder, _variables(path, arrays, encoder, "the encoder described by its metadata"), built


def initial(path: epath.PathLike, encoder: ResNet, *, field: str) -> dict[str, Any]:
    """Reads the initial variables of an encoder from a file of weights.

    Args:
        path: path of a .safetensors, .pth or .pt with torchvision's names; a classifier in it is ignored.
        encoder: the encoder that the weights must fit.
        field: the field of the config, for messages: "config.encoder.init".

    Raises:
        InputError: the file cannot be read, or its weights do not fit the encoder.
    """
    arrays, _ = _read(path)
    what = f"{field}, a ResNet-{encoder.depth} of width {encoder.width} with the stem {encoder.stem!r}"
    return _variables(path, arrays, encoder, what)


def _variables(path: epath.PathLike, arrays: Mapping[str, np.ndarray], encoder: ResNet, what: str) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    like = jax.eval_shape(lambda image: encoder.init(jax.random.key(0), image, train=False), image)
    try:
        return torch_names.from_torch(arrays, like, depth=encoder.depth)
    except ValueError as error:
        raise InputError(
            f"{path} must hold the weights of {what}, got different weights ({error}). Choose another file, or set "
            "the depth, width and stem of these weights."
        ) from error


def _read(path: epath.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the arrays of a file and its metadata."""
    suffix = files.expanded(path).suffix
    if suffix not in _READ:
        raise InputError(
            f"A file of weights must end in {', '.join(_READ)}, got {os.fspath(path)!r}. Choose another file."
        )
    try:
        data = files.whole(path, largest=LARGEST)
        if suffix == ".safetensors":
            return _safetensors(data)
        return _torch_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _torch_legacy(data), {}
    except Exception as error:  # damaged files can make the libraries raise any exception
        raise InputError(
            f"{path} must be an intact file of weights, got one that cannot be read ({files.reason(error)}). Check the "
            "path, or replace the file."
        ) from error


def _safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays = safetensors.numpy.load(data)
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    checksum = metadata.pop(_CHECKSUM, None)
    if checksum is not None and checksum.strip('"') != _checksum(arrays, metadata):
        raise ValueError(
            f"its checksum does not match, so it was damaged or edited; if you edited it, remove {_CHECKSUM} from its "
            "metadata"
        )
    return arrays, metadata


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Returns the first 16 hex digits of a SHA-256 of the metadata and of the arrays' names and values."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(name.encode() + b"\0" + arrays[name].tobytes())
    return digest.hexdigest()[:16]


# Stand-ins for the names in a state dict's pickle: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The dtype of a storage; the pickle does not call it."""

    dtype: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def values(self, stored: Callable[[_Storage], bytes]) -> np.ndarray:
        """Returns the tensor's values from the bytes of its storage."""
        values = np.frombuffer(stored(self.storage), self.storage.dtype, self.storage.count)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > len(values) or last >= len(values):
            raise ValueError("a tensor is larger than its storage")
        bytes_of = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, bytes_of, writeable=False)


class _StateDict(dict):
    """Replaces collections.OrderedDict."""

    def set(self, state: Any) -> None:
        """Ignores its attributes, which hold the modules' versions."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError("a tensor has an invalid storage or shape")
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _storage(given: Any) -> _Storage:
    what, kind, key, _, count, *_ = given
    if what != "storage" or not isinstance(kind, _Kind) or type(count) is not int or not 0 <= count < LARGEST:
        raise ValueError("a storage has an invalid type or size")
    return _Storage(str(key), np.dtype(kind.dtype), count)


_NAMES: pickles.Names = {
    ("collections", "OrderedDict"): _StateDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "FloatStorage"): _Kind("<f4"),
    ("torch", "DoubleStorage"): _Kind("<f8"),
    ("torch", "HalfStorage"): _Kind("<f2"),
    ("torch", "LongStorage"): _Kind("<i8"),
}


def _pickled(data: bytes, start: int = 0) -> tuple[Any, int]:
    return pickles.read(data, _NAMES, kind="state dict", start=start, persistent=_storage)


def _state_dict(value: Any, stored: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or not all(isinstance(each, _Tensor) for each in value.values()):
        raise ValueError("it does not contain a state dict (what model.state_dict() returns)")
    return {str(name): tensor.values(stored) for name, tensor in value.items()}


def _torch_zip(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, unlike files written by torch.save")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("its numbers are not little endian")
        value, _ = _pickled(archive.read(entries["data.pkl"]))
        return _state_dict(value, lambda storage: archive.read(entries[f"data/{storage.key}"]))


def _torch_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Reads pickles of a magic number, the version, the machine, the state dict and storage keys, then the storages."""
    found, end = [], 0
    for _ in range(5):
        value, end = _pickled(data, end)
        found.append(value)
    magic, protocol, machine, value, keys = found
    if magic != _MAGIC or protocol != _PROTOCOL or machine.get("little_endian") is not True:
        raise ValueError("it was not written by torch.save on a little-endian machine")
    places, kinds = {}, {each.storage.key: each.storage.dtype for each in value.values()}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, end)
        size = count * kinds[key].itemsize
        places[key] = (end + 8, size)
        end += 8 + size
    return _state_dict(value, lambda storage: data[places[storage.key][0] :][: places[storage.key][1]])
