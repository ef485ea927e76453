"""Networks from ONNX files."""

import json
import os

import numpy as np
from PIL import Image

from sas_jax.errors import InputError, shown
from sas_jax.pretrained.kind import FREE, Kind
from sas_jax.pretrained.model import Model

NAME = "onnx"
# Per-channel statistics of ImageNet's training images (RGB in [0, 1]).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _check(rest: str, field: str) -> None:
    if not os.path.isfile(os.path.expanduser(rest)):
        raise InputError(f"{field} must name an ONNX file, got {shown(rest)}, which is not a file. Correct the path.")


def _load(name: str, rest: str) -> Model:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    providers = [each for each in (cuda, "CPUExecutionProvider") if each in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(rest, providers=providers)
    said = session.get_modelmeta().custom_metadata_map
    mean, std = (
        np.asarray(json.loads(said[key]) if key in said else default, np.float32)
        for key, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )
    if mean.shape != (3,) or std.shape != (3,) or not (std > 0).all():
        raise ValueError(f"its metadata must hold three numbers as mean and three above 0 as std, got {mean} and {std}")
    inputs = session.get_inputs()
    shape = inputs[0].shape
    of_images = len(shape) == 4 and (shape[1] == 3 or not isinstance(shape[1], int))  # names are of free dimensions
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not of_images:
        found = ", ".join(f"{each.type} {each.shape}" for each in inputs)
        raise ValueError(f"its input must be float [n, 3, h, w], got {found}")
    height, width = (side if isinstance(side, int) else FREE for side in shape[2:])
    at_once = shape[0] if isinstance(shape[0], int) else None  # exported for batches of this size only
    output = next((each.name for each in session.get_outputs() if len(each.shape) == 2), session.get_outputs()[0].name)

    def prepare(batch: np.ndarray) -> np.ndarray:
        resized = [np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC)) for x in batch]
        pixels = (np.stack(resized).astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def forward(pixels: np.ndarray) -> np.ndarray:
        step, found = at_once or len(pixels), []
        for start in range(0, len(pixels), step):
            rows = np.minimum(np.arange(start, start + step), len(pixels) - 1)  # the last batch repeats its last image
            found.append(session.run([output], {inputs[0].name: pixels[rows]})[0])
        return np.concatenate(found)[: len(pixels)]

    device = "cuda" if session.get_providers()[0] == cuda else "cpu"
    return Model(name, max(height, width), device, prepare, forward)


KIND = Kind(("onnxruntime",), _check, _load, "Export it with an input float [n, 3, h, w].")
