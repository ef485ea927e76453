"""The cases of the training benchmark: networks, batches and parts of a run; and the operations of one view."""

import dataclasses
from collections.abc import Iterator

# Loss, optimizer and normalisation: the defaults of configs/default.py, the same for all implementations.
TEMPERATURE = 0.5
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-6
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
FEATURES = 128

PARTS = {
    "step": "the step alone",
    "augmented": "with augmentation",
    "end_to_end": "end to end",
}
"""The measured parts of a run: from ready views, from uint8 images in memory, or the whole run."""


@dataclasses.dataclass(frozen=True)
class Network:
    """An encoder and the size of its images.

    Attributes:
        depth: depth of the ResNet: 10, 18, 34 or 50.
        width: factor on the channels.
        stem: a key of `sas_jax.models.STEMS`.
        size: height and width of a view, in pixels.
    """

    depth: int
    width: float
    stem: str
    size: int

    @property
    def name(self) -> str:
        """The name, such as resnet18-32 or resnet10x0.25-32."""
        return f"resnet{self.depth}{'' if self.width == 1 else f'x{self.width:g}'}-{self.size}"

    @property
    def blur(self) -> float:
        """Probability of a blur, which SimCLR applies to large images but not to those of 32 pixels."""
        return 0.5 if self.size > 100 else 0.0

    @property
    def widths(self) -> list[int]:
        """Channels of the four stages."""
        return [max(8, round(64 * 2**stage * self.width)) for stage in range(4)]


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    Attributes:
        network: the trained network.
        batch: images per step, two views of each.
        part: a key of `PARTS`.
        images: size of the data set.
        steps: steps of a group, which is timed as a whole; enough that the clock and the host do not matter.
        samples: number of groups.
    """

    network: Network
    batch: int
    part: str
    images: int
    steps: int
    samples: int

    @property
    def name(self) -> str:
        """The name, such as resnet18-32-512-step."""
        return f"{self.network.name}-{self.batch}-{self.part}"


RESNET_18 = Network(18, 1.0, "3x3", 32)


def standard(backend: str) -> list[Case]:
    """Returns all cases: on an accelerator with sizes used in papers, on a CPU with sizes that take seconds a step."""
    if backend != "cpu":
        return [
            *_parts(RESNET_18, 512, images=50_000, steps=50, samples=10),
            *_parts(Network(50, 1.0, "7x7_pool", 224), 256, images=5120, steps=20, samples=5),
        ]
    return [
        *_parts(RESNET_18, 32, images=128, steps=1, samples=3),
        *_parts(Network(10, 0.25, "3x3", 32), 128, images=1536, steps=2, samples=5),
        *_parts(Network(50, 1.0, "3x3_pool", 64), 8, images=32, steps=1, samples=3),
    ]


def quick() -> list[Case]:
    """Returns tiny cases of the same parts, to check that everything runs; their numbers are not for quoting."""
    return list(_parts(Network(10, 0.125, "3x3", 8), 8, images=32, steps=2, samples=2))


def _parts(network: Network, batch: int, *, images: int, steps: int, samples: int) -> Iterator[Case]:
    return (Case(network, batch, part, images, steps, samples) for part in PARTS)


def forward_flops(network: Network) -> int:
    """Returns the floating-point operations of one view's forward pass through encoder and head.

    Each multiply-add of a convolution or a matrix product counts as two, and edges are ignored; BatchNorm, ReLU and the
    rest are not counted. This is the usual convention (torchvision's 4.09 G of a ResNet-50 are multiply-adds).
    """
    from sas_jax.models import DEPTHS, STEMS

    blocks, bottleneck = DEPTHS[network.depth]
    kernel, stride, pool = STEMS[network.stem]
    widths = network.widths
    side = -(-network.size // stride)
    pairs = side**2 * kernel**2 * 3 * widths[0]
    side = -(-side // 2) if pool else side
    channels = widths[0]
    for stage, count in enumerate(blocks):
        width = widths[stage]
        features = width * (4 if bottleneck else 1)
        for block in range(count):
            before, side = side, -(-side // 2) if stage and not block else side
            if bottleneck:
                pairs += before**2 * channels * width + side**2 * (9 * width * width + width * features)
            else:
                pairs += side**2 * 9 * width * (channels + width)
            if side != before or channels != features:
                pairs += side**2 * channels * features
            channels = features
    return 2 * (pairs + channels * channels + channels * FEATURES)
