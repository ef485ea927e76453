"""SimCLR as a PyTorch user writes it: torchvision's ResNet and transforms, autocast, channels_last, fused Adam.

It computes the same as `sas_jax` with the settings of `training_cases`; tests compare the two.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from benchmarks.training_cases import FEATURES, LEARNING_RATE, MEAN, STD, TEMPERATURE, WEIGHT_DECAY, Case, Network

BLOCKS = {
    10: (BasicBlock, [1, 1, 1, 1]),
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
}
PREFETCH = 2  # batches that each worker prepares ahead, DataLoader's default


class Encoder(ResNet):
    """torchvision's ResNet with any width, the stem for its image size, and no classifier."""

    def __init__(self, network: Network):
        self.widths = network.widths
        block, layers = BLOCKS[network.depth]
        super().__init__(block, layers)
        first = self.widths[0]
        if network.stem == "7x7_pool":
            self.conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        if network.stem == "3x3":
            self.maxpool = nn.Identity()
        self.fc = nn.Identity()

    def _make_layer(self, block: type[nn.Module], planes: int, *args, **kwargs) -> nn.Sequential:
        stage = (64, 128, 256, 512).index(planes)
        if stage == 0:
            self.inplanes = self.widths[0]
        return super()._make_layer(block, self.widths[stage], *args, **kwargs)


class SimCLR(nn.Module):
    """Encoder and projection head: views float [n, 3, h, w] -> [n, FEATURES]."""

    def __init__(self, network: Network):
        super().__init__()
        self.encoder = Encoder(network)
        width = network.widths[-1] * BLOCKS[network.depth][0].expansion
        self.head = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES, affine=False),
        )

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(views))


def nt_xent(z: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Returns NT-Xent as a cross entropy: float32 [2n, d], all first views followed by all second views -> [].

    Source: Chen et al. 2020 (arXiv 2002.05709), equation 1.
    """
    z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    other = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(logits.masked_fill(itself, float("-inf")), other)


def transform(network: Network) -> transforms.Compose:
    """Returns a transform from PIL images to random views, float32 [3, h, w]; defaults as in `sas_jax.views.Views`."""
    blur = transforms.RandomApply([transforms.GaussianBlur(2 * (network.size // 20) + 1, (0.1, 2.0))], p=network.blur)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                network.size, scale=(0.08, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(p=0.5),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            *([blur] if network.blur else []),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


class TwoViews(Dataset):
    """Two views of each image."""

    def __init__(self, images: np.ndarray, view: Callable[[Image.Image], torch.Tensor]):
        """`images` is uint8 [n, h, w, 3]; `view` makes a random view of an image."""
        self.images = images
        self.view = view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.fromarray(self.images[index])
        return self.view(image), self.view(image)


def loader(case: Case, images: np.ndarray, *, workers: int, device: torch.device) -> DataLoader:
    """Returns a loader of batches of two views of PIL images, made by worker processes."""
    return DataLoader(
        TwoViews(images, transform(case.network)),
        batch_size=case.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=PREFETCH,
        pin_memory=device.type == "cuda",
    )


class Training:
    """A model, its optimizer, and the step."""

    def __init__(self, network: Network, *, device: torch.device, dtype: torch.dtype, compiled: bool):
        """`dtype` bfloat16 enables autocast; `compiled` applies torch.compile to forward pass and loss."""
        self.device = device
        self.dtype = dtype
        torch.manual_seed(0)
        self.model = SimCLR(network).to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        self._loss = torch.compile(self._forward) if compiled else self._forward

    def _forward(self, views: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            z = self.model(views)
        return nt_xent(z.float(), temperature=TEMPERATURE)

    def step(self, views: torch.Tensor) -> torch.Tensor:
        """Takes one step on float32 [2n, 3, h, w]; the returned loss stays on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(views)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, batches: Iterator[torch.Tensor], count: int) -> None:
        """Runs `count` steps and waits until they are finished."""
        for views in itertools.islice(batches, count):
            self.step(views)
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def batches_on_device(case: Case, device: torch.device) -> Iterator[torch.Tensor]:
    """Repeats the same views: float32 [2n, 3, h, w] on the device."""
    return itertools.repeat(_noise(case.network, 2 * case.batch, device))


def batches_of_loader(case: Case, images: np.ndarray, *, workers: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yields the loader's batches, epoch after epoch: float32 [2n, 3, h, w] on the device."""
    loaded = loader(case, images, workers=workers, device=device)
    while True:
        for pair in loaded:
            views = torch.cat([views.to(device, non_blocking=True) for views in pair])
            yield views.to(memory_format=torch.channels_last)


def fastest_dtype(case: Case) -> tuple[torch.dtype, dict[str, float]]:
    """Returns bfloat16 if autocast to it is a tenth faster on this CPU, else float32; and the seconds per step of each.

    Measured eagerly on a quarter of the batch: a CPU without bfloat16 instructions can take minutes per step.
    """
    device, seconds = torch.device("cpu"), {}
    views = _noise(case.network, max(4, case.batch // 2), device)
    for dtype in (torch.float32, torch.bfloat16):
        training = Training(case.network, device=device, dtype=dtype, compiled=False)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            training.step(views)
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times[1:])
    faster = seconds[torch.bfloat16] < 0.9 * seconds[torch.float32]
    named = {str(dtype).removeprefix("torch."): time for dtype, time in seconds.items()}
    return torch.bfloat16 if faster else torch.float32, named


def _noise(network: Network, number: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(number, 3, network.size, network.size, generator=generator)
    return views.to(device, memory_format=torch.channels_last)


def worker_count() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
