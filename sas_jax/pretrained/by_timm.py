"""Networks from timm, by name or from a folder."""

import difflib
import os
from typing import Any

import numpy as np
from PIL import Image

from sas_jax.errors import InputError, shown
from sas_jax.pretrained.kind import ONLINE, Kind, torch_device
from sas_jax.pretrained.model import Model

NAME = "timm"
_NEAREST = 3  # number of model names suggested


def _check(rest: str, field: str) -> None:
    if os.path.isdir(os.path.expanduser(rest)):
        return
    import timm

    known = [*timm.list_models(), *timm.list_models(pretrained=True)]  # the latter have a tag after a dot
    if rest not in known:
        nearest = difflib.get_close_matches(rest[:200], known, n=_NEAREST, cutoff=0.0)
        raise InputError(
            f"Unknown timm model {shown(f'timm/{rest}')} in {field}. Did you mean one of "
            f"{', '.join(f'timm/{name}' for name in nearest)}?"
        )


def _load(name: str, rest: str) -> Model:
    import timm
    import torch

    network = timm.create_model(f"local-dir:{rest}" if os.path.isdir(rest) else rest, pretrained=True, num_classes=0)
    device = torch_device()
    network = network.eval().to(device)
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)

    def prepare(batch: np.ndarray) -> Any:
        return torch.stack([transform(Image.fromarray(image)) for image in batch])

    def forward(pixels: Any) -> np.ndarray:
        with torch.inference_mode():
            return network(pixels.to(device)).float().cpu().numpy()

    # The transform resizes and then crops the centre; images read at the size before the crop need no resizing.
    size = round(config["input_size"][-1] / config["crop_pct"])
    return Model(name, size, device, prepare, forward)


KIND = Kind(("torch", "timm"), _check, _load, ONLINE)
