"""ResNet encoders as used in contrastive papers, with a stem to match the image size.

Source: He et al. 2016 (arXiv 1512.03385); the 3x3 stem for small images as in Chen et al. 2020 (arXiv 2002.05709),
appendix B.9. ResNet-10 is the 18-layer network with one block per stage.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# (blocks per stage, whether they are three-layer bottleneck blocks)
DEPTHS: dict[int, tuple[tuple[int, ...], bool]] = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
# (kernel size, stride, whether a 3x3 max-pool with stride 2 follows)
STEMS: dict[str, tuple[int, int, bool]] = {
    "3x3": (3, 1, False),  # about 32 pixels (CIFAR, digits)
    "3x3_pool": (3, 1, True),  # about 64 to 96 pixels (TinyImageNet, STL10)
    "7x7_pool": (7, 2, True),  # about 224 pixels (ImageNet)
}

# torch's default for convolutions and linear layers: uniform within 1 / sqrt(fan in). If BatchNorm follows, a
# kernel's scale is its inverse learning rate, so the authors' learning rate requires the authors' initial scale.
torch_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def batch_norm(*, train: bool, dtype: Any, **kwargs: Any) -> nn.BatchNorm:
    """Returns BatchNorm with torch.nn.BatchNorm2d's defaults (momentum 0.1 there is 0.9 here) and float32 variables."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, **kwargs)


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1-3x3-1x1 if `bottleneck`."""

    features: int
    stride: int
    bottleneck: bool
    dtype: Any
    convolution: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(
            nn.Conv,
            padding=0,
            use_bias=False,
            kernel_init=torch_init,
            dtype=self.dtype,
            conv_general_dilated=self.convolution,
        )
        norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
        strides = (self.stride, self.stride)
        out_features = self.features * (4 if self.bottleneck else 1)
        y = x
        if self.bottleneck:
            y = nn.relu(norm()(conv(self.features, (1, 1))(y)))
            y = nn.relu(norm()(conv(self.features, (3, 3), strides, padding=1)(y)))
            y = norm()(conv(out_features, (1, 1))(y))
        else:
            y = nn.relu(norm()(conv(self.features, (3, 3), strides, padding=1)(y)))
            y = norm()(conv(out_features, (3, 3), padding=1)(y))
        if x.shape != y.shape:
            x = norm()(conv(out_features, (1, 1), strides)(x))
        return nn.relu(x + y)


@jax.custom_vjp
def _tied(params: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """The identity, but in the backward pass the gradient of `x` waits for those of `params`."""
    return params, x


_tied.defvjp(lambda params, x: ((params, x), None), lambda _, gradients: jax.lax.optimization_barrier(gradients))


class RecomputedBlock(Block):
    """A block for `nn.remat`, whose gradients are complete before the backward pass reaches the block before it.

    On several GPUs, XLA otherwise computes all kernel gradients at the end, because it exchanges them together, and
    keeps every recomputed activation until then: ResNet-50 at 256 images of 224 pixels needed 21 GB on each of eight
    H100s instead of 9 (compiled with jax 0.10.2, 2026-11-28).
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def enter(params: Any) -> Any:
            nonlocal x
            params, x = _tied(params, x)
            return params

        def block(module: Block) -> jax.Array:
            return Block.__call__(module, x, train)

        return nn.map_variables(block, "params", enter, init=self.is_initializing())(self)


class ResNet(nn.Module):
    """A ResNet from images to representations.

    Attributes:
        depth: 10, 18, 34 or 50.
        width: factor on the 64-128-256-512 channels of the four stages; each is at least 8.
        stem: a key of `STEMS`.
        remat: whether training recomputes each block in the backward pass instead of storing its activations: less
            memory, a third more arithmetic, the same results up to rounding.
        dtype: dtype of the computation (float32, bfloat16); parameters and statistics are always float32.
        convolution: computes the convolutions: `jax.lax.conv_general_dilated` or an equivalent function.
    """

    depth: int = 18
    width: float = 1.0
    stem: str = "3x3"
    remat: bool = False
    dtype: Any = jnp.float32
    convolution: Callable[..., jax.Array] = jax.lax.conv_general_dilated

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, num_features], the mean over positions of the last stage."""
        blocks, bottleneck = DEPTHS[self.depth]
        kernel, stride, pool = STEMS[self.stem]
        widths = [max(8, round(64 * 2**stage * self.width)) for stage in range(4)]
        x = nn.Conv(
            widths[0],
            (kernel, kernel),
            (stride, stride),
            padding=kernel // 2,
            use_bias=False,
            kernel_init=torch_init,
            dtype=self.dtype,
            conv_general_dilated=self.convolution,
        )(images.astype(self.dtype))
        x = nn.relu(batch_norm(train=train, dtype=self.dtype)(x))
        if pool:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        block = nn.remat(RecomputedBlock, static_argnums=(2,)) if self.remat else Block
        for stage, count in enumerate(blocks):
            for i in range(count):
                block_stride = 2 if stage > 0 and i == 0 else 1
                name = f"Block_{sum(blocks[:stage]) + i}"  # under remat, Linen's default name differs
                x = block(widths[stage], block_stride, bottleneck, self.dtype, self.convolution, name=name)(x, train)
        return x.mean(axis=(1, 2), dtype=jnp.float32)
