"""Networks from Hugging Face's transformers, by name or from a folder."""

from typing import Any

import numpy as np

from sas_jax.pretrained.kind import FREE, ONLINE, Kind, torch_device
from sas_jax.pretrained.model import Model

NAME = "hf"


def _load(name: str, rest: str) -> Model:
    import torch
    from transformers import AutoImageProcessor, AutoModel

    # The PIL backend is always available, so that a model gives the same features everywhere.
    processor = AutoImageProcessor.from_pretrained(rest, backend="pil")
    network, report = AutoModel.from_pretrained(rest, output_loading_info=True)
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    unpooled = any(key.startswith("pooler.") for key in lacking)  # published without a pooler, which is then random
    if others := sorted(key for key in lacking if not key.startswith("pooler.")):
        raise ValueError(f"{len(others)} of its weights are missing or have a wrong shape, the first {others[0]}")
    device = torch_device()
    network = network.eval().to(device)

    def prepare(batch: np.ndarray) -> Any:
        found = processor(images=list(batch), input_data_format="channels_last", return_tensors="pt")
        return found["pixel_values"]

    def forward(pixels: Any) -> np.ndarray:
        with torch.inference_mode():
            if hasattr(network, "get_image_features"):  # CLIP, SigLIP
                found = network.get_image_features(pixel_values=pixels.to(device))
            else:
                found = network(pixel_values=pixels.to(device))
        if unpooled:
            vectors = found.last_hidden_state[:, 0]  # the pooler's input
        elif isinstance(found, torch.Tensor):
            vectors = found
        else:
            pooled = getattr(found, "pooler_output", None)
            vectors = found.last_hidden_state if pooled is None else pooled
        return vectors.float().cpu().numpy()

    sizes = processor.size or {}
    size = sizes.get("shortest_edge") or sizes.get("height") or FREE
    return Model(name, int(size), device, prepare, forward)


KIND = Kind(("torch", "transformers"), lambda rest, field: None, _load, ONLINE)
