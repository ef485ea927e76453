"""What is measured of training: networks, batches, and how much of a run; and what one view costs on paper."""

import dataclasses
from collections.abc import Iterator

# Of the loss, the optimizer and the normalisation: the defaults of configs/default.py, the same for everybody.
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
"""How much of a run: views that are there already; uint8 images that are; a whole run."""


@dataclasses.dataclass(frozen=True)
class Network:
    """An encoder and the size of its images.

    Attributes:
        depth: of the ResNet: 10, 18, 34 or 50.
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
        """Such as resnet18-32 and resnet10x0.25-32."""
        return f"resnet{self.depth}{'' if self.width == 1 else f'x{self.width:g}'}-{self.size}"

    @property
    def blur(self) -> float:
        """Probability of a blur, which SimCLR has for large images and not for those of 32 pixels."""
        return 0.5 if self.size > 100 else 0.0

    @property
    def widths(self) -> list[int]:
        """Channels of the four stages."""
        return [max(8, round(64 * 2**stage * self.width)) for stage in range(4)]


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    Attributes:
        network: what is trained.
        batch: images a step, each of two views.
        part: a key of `PARTS`.
        images: of the data set.
        steps: of a group, which is timed as a whole: so many that the clock and the host do not matter.
        samples: groups.
    """

    network: Network
    batch: int
    part: str
    images: int
    steps: int
    samples: int

    @property
    def name(self) -> str:
        """Such as resnet18-32-512-step."""
        return f"{self.network.name}-{self.batch}-{self.part}"


RESNET_18 = Network(18, 1.0, "3x3", 32)


def standard(backend: str) -> list[Case]:
    """The whole benchmark: on an accelerator the sizes that papers train, on a CPU those that take seconds a step."""
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
    """The same parts in seconds: to see that everything runs, not to be quoted."""
    return list(_parts(Network(10, 0.125, "3x3", 8), 8, images=32, steps=2, samples=2))


def _parts(network: Network, batch: int, *, images: int, steps: int, samples: int) -> Iterator[Case]:
    return (Case(network, batch, part, images, steps, samples) for part in PARTS)


def forward_flops(network: Network) -> int:
    """Floating-point operations of one view on its way through encoder and head.

    Two for each multiplication and addition of a convolution or a matrix product, as if no pixel lay at an edge;
    BatchNorm, ReLU and the rest are not counted. That is how a network's operations are usually given (torchvision's
    4.09 G of a ResNet-50 are pairs of them).
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
