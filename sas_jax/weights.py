"""Files of an encoder's weights, which PyTorch reads and writes as well.

| suffix | |
|---|---|
| .safetensors | written and read; its metadata say how the encoder is built and its images are normalised |
| .pth, .pt | read only: a state dict as torch.save writes it, without running anything that is in it |
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

LARGEST = 1 << 32  # bytes of a file
_READ = (".safetensors", ".pth", ".pt")
_MAGIC = 0x1950A86A20F9469CFC6C  # of torch.save before 2020, and of torchvision's published weights
_PROTOCOL = 1001
_CHECKSUM = "sas_jax.checksum"  # in the metadata, of all else; files of others have none


@dataclasses.dataclass(frozen=True)
class Built:
    """How an encoder is built, and what its images are.

    Attributes:
        depth, width, stem: as of `ResNet`.
        image_size: pixels a side.
        mean, std: of red, green and blue in [0, 1]; it wants (x - mean) / std.
        arm: which arm of the run it was trained in.
        steps: of the training that it has seen.
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
    """Writes an encoder's weights, by torchvision's names. The file appears whole or not at all.

    Args:
        path: of a .safetensors.
        variables: "params" and "batch_stats" of the `ResNet`.
        built: goes into the metadata.

    Raises:
        InputError: another suffix, or a place that cannot be written.
    """
    check_writable(path)
    metadata = {"format": "pt"} | {name: json.dumps(value) for name, value in dataclasses.asdict(built).items()}
    arrays = torch_names.to_torch(variables, depth=built.depth)
    data = safetensors.numpy.save(arrays, metadata | {_CHECKSUM: json.dumps(_checksum(arrays, metadata))})
    try:
        files.write_whole(files.expanded(path), lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise InputError(
            f"--output must be a file that can be written, got {path} ({files.reason(error)}). Choose another place."
        ) from error


def check_writable(path: str) -> None:
    """Raises InputError unless `write` knows the suffix."""
    if files.expanded(path).suffix != ".safetensors":
        raise InputError(f"--output of an encoder must end in .safetensors, got {path!r}. Name it so.")


def load(path: epath.PathLike) -> tuple[ResNet, dict[str, Any], Built]:
    """Reads what `write` wrote.

    Returns:
        The encoder (float32), its variables, and what the metadata say.

    Raises:
        InputError: the file cannot be read, or says not how its encoder is built.
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
            raise ValueError("they are of no encoder")
        Views(size=built.image_size, mean=built.mean, std=built.std)  # type: ignore[arg-type]
    except Exception as error:  # any value may stand there
        raise InputError(
            f"{path} must be weights with the metadata that sas_jax.export writes (image size, normalisation), got "
            f"others ({files.reason(error)}). Give them as config.encoder.init, with an encoder of their shape."
        ) from error
    encoder = ResNet(depth=built.depth, width=built.width, stem=built.stem)
    return encoder, _variables(path, arrays, encoder, "the encoder of its metadata"), built


def initial(path: epath.PathLike, encoder: ResNet, *, field: str) -> dict[str, Any]:
    """The variables that an encoder begins with, from a file of weights.

    Args:
        path: of a .safetensors, .pth or .pt with torchvision's names; a classifier in it is left out.
        encoder: whose weights they should be.
        field: of the config, for messages: "config.encoder.init".

    Raises:
        InputError: the file cannot be read, or holds the weights of something else.
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
            f"{path} must hold the weights of {what}, got others ({error}). Choose another file, or set the depth, "
            f"width and stem of these weights."
        ) from error


def _read(path: epath.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file, and its metadata."""
    suffix = files.expanded(path).suffix
    if suffix not in _READ:
        raise InputError(f"A file of weights must end in {', '.join(_READ)}, got {os.fspath(path)!r}. Choose another.")
    try:
        data = files.whole(path, largest=LARGEST)
        if suffix == ".safetensors":
            return _safetensors(data)
        return _torch_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _torch_legacy(data), {}
    except Exception as error:  # a damaged file shows as whatever the libraries raise where they meet it
        raise InputError(
            f"{path} must be a whole file of weights, got one that cannot be read ({files.reason(error)}). Check the "
            f"path, or write it again."
        ) from error


def _safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays = safetensors.numpy.load(data)
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    checksum = metadata.pop(_CHECKSUM, None)
    if checksum is not None and checksum.strip('"') != _checksum(arrays, metadata):
        raise ValueError(f"its checksum is another; leave {_CHECKSUM} out of the metadata of weights that you changed")
    return arrays, metadata


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """The first 16 hex digits of a SHA-256 of the metadata, and of the arrays' names and values."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(name.encode() + b"\0" + arrays[name].tobytes())
    return digest.hexdigest()[:16]


# What a state dict's pickle names: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The type of a storage; not called."""

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
        """The tensor's values out of its storage's bytes."""
        values = np.frombuffer(stored(self.storage), self.storage.dtype, self.storage.count)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > len(values) or last >= len(values):
            raise ValueError("a tensor is larger than its storage")
        bytes_of = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, bytes_of, writeable=False)


class _StateDict(dict):
    """Stands for collections.OrderedDict."""

    def set(self, state: Any) -> None:
        """Its attributes hold the modules' versions."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError("a tensor has no storage, or no shape")
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _storage(given: Any) -> _Storage:
    what, kind, key, _, count, *_ = given
    if what != "storage" or not isinstance(kind, _Kind) or type(count) is not int or not 0 <= count < LARGEST:
        raise ValueError("a storage has no type or size")
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
        raise ValueError("it holds no state dict, as model.state_dict() gives it")
    return {str(name): tensor.values(stored) for name, tensor in value.items()}


def _torch_zip(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("a part of it is compressed, as torch.save has none")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("its numbers are not little endian")
        value, _ = _pickled(archive.read(entries["data.pkl"]))
        return _state_dict(value, lambda storage: archive.read(entries[f"data/{storage.key}"]))


def _torch_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Pickles one after another: a magic number, a version, the machine, the state dict, and the storages' keys."""
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
