"""Converts a ResNet's variables to and from the names and layouts of torchvision's (and timm's) ResNet.

conv1, bn1, layer1.0.conv1, ..., layer2.0.downsample.0: kernels are [out, in, h, w] there and [h, w, in, out] here.
Source: torchvision/models/resnet.py.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from sas_jax.models.resnet import DEPTHS

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_NOT_OURS = re.compile(r"fc\..*|.*\.num_batches_tracked")  # the classifier, and an unused counter


def to_torch(variables: Mapping[str, Any], *, depth: int) -> dict[str, np.ndarray]:
    """Converts an encoder's variables to a state dict of arrays.

    Args:
        variables: "params" and "batch_stats" of a `ResNet`.
        depth: depth of the `ResNet`.

    Returns:
        float32 arrays by torchvision's names, without a classifier.
    """
    flat = _flat(variables)
    arrays = {_name(path, depth): np.asarray(value, np.float32) for path, value in flat.items()}
    return {name: np.ascontiguousarray(_turned(array, (3, 2, 0, 1))) for name, array in arrays.items()}


def from_torch(arrays: Mapping[str, np.ndarray], like: Mapping[str, Any], *, depth: int) -> dict[str, Any]:
    """Converts a state dict to an encoder's variables.

    Args:
        arrays: float arrays by torchvision's names; a classifier is ignored.
        like: variables of the `ResNet`, or their shapes.
        depth: depth of the `ResNet`.

    Returns:
        The variables, float32.

    Raises:
        ValueError: an array is missing or unexpected, has another shape, or does not hold finite floats.
    """
    left = {name: array for name, array in arrays.items() if not _NOT_OURS.fullmatch(name)}
    found = {}
    for path, wanted in _flat(like).items():
        name = _name(path, depth)
        if name not in left:
            raise ValueError(f"{name} is missing")
        array = left.pop(name)
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} must hold finite floating-point numbers")
        turned = _turned(array, (2, 3, 1, 0))
        if turned.shape != wanted.shape:
            shape = [wanted.shape[axis] for axis in ((3, 2, 0, 1) if len(wanted.shape) == 4 else (0,))]
            raise ValueError(f"{name} must have shape {shape}, got {list(array.shape)}")
        found[path] = np.ascontiguousarray(turned, np.float32)
    if left:
        raise ValueError(f"{len(left)} unexpected arrays, such as {min(left)[:80]!r}")
    return unflatten_dict(found)


def _flat(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    return flatten_dict({name: variables[name] for name in ("params", "batch_stats")})


def _turned(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return array.transpose(axes) if array.ndim == 4 else array


def _name(path: tuple[str, ...], depth: int) -> str:
    """("params", "Block_3", "Conv_2", "kernel") -> "layer2.1.downsample.0.weight"."""
    _, *blocks, layer, leaf = path
    kind, _, number = layer.partition("_")
    place = int(number)
    short = {"Conv": "conv", "BatchNorm": "bn"}[kind]
    if not blocks:
        return f"{short}1.{_LEAVES[leaf]}"
    counts, bottleneck = DEPTHS[depth]
    stage, block = 0, int(blocks[0].partition("_")[2])
    while block >= counts[stage]:
        block -= counts[stage]
        stage += 1
    in_branch = place < (3 if bottleneck else 2)  # the shortcut's layers come after the branch's
    module = f"{short}{place + 1}" if in_branch else f"downsample.{0 if kind == 'Conv' else 1}"
    return f"layer{stage + 1}.{block}.{module}.{_LEAVES[leaf]}"
