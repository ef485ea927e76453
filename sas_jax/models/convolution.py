"""Convolutions rewritten in the forms that XLA computes fastest on CPU.

Results, shapes and layouts are those of `jax.lax.conv_general_dilated`, in the function and in both gradients; only the
order of summation differs. The rewrites, with times on 2 cores of an AMD EPYC (Zen 4), jax 0.10.2, 2026-11-26, for the
32 views that each of eight simulated devices has of a batch of 128 images:

- A 1 x 1 convolution and its gradients are matrix products. The kernel gradient took 0.23 ms, and 1.1 ms as a
  convolution, which transposes both operands first (16 to 32 channels, 32 x 32 to 16 x 16 pixels).
- XLA's fast kernels (YNN) require 32 output channels. With fewer, neighbouring pixels of a row are computed as channels
  of one pixel: 2.7 ms instead of 4.1 (16 channels, 32 x 32), 0.8 ms instead of 3.4 (the stem, 3 to 16 channels).
- Images with at most as many pixels as the kernel are multiplied with a matrix. XLA has no fast kernel for images
  smaller than the kernel: 0.64 ms instead of 27 ms (64 images of 2 x 2 pixels, 128 channels, a core of an AMD EPYC with
  AVX2, 2026-11-28). ResNet-10 x 0.25 on images of 16 pixels trained at 1,590 views/s instead of 940.
- The input gradient of a convolution with stride 2 is computed as four convolutions, one per parity of row and column.
  As a single convolution, three quarters of the multiplied values are zeros.
- The kernel gradient transposes its operands and exceeds the caches if they are large. It is computed as a sum over
  groups of images: ResNet-18 trained at 37 views/s instead of 32 (batch 32, two devices).

Other approaches did not speed up a whole step: patches or shifted images with one product, and Winograd's
F(2 x 2, 3 x 3) (twice as fast by itself, but its temporaries cost the gain).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

CHANNELS = 32  # minimum output channels for XLA's fast kernels
GROUP_BYTES = 1_500_000  # of both operands of a kernel gradient, to fit in a core's cache

Padding = tuple[tuple[int, int], tuple[int, int]]
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def fastest(dtype: Any) -> Callable[..., jax.Array]:
    """Returns the fastest convolution function for this dtype on JAX's default backend."""
    on_cpu = jax.default_backend() == "cpu" and dtype == jnp.float32
    return conv_general_dilated if on_cpu else lax.conv_general_dilated


def conv_general_dilated(
    lhs: jax.Array, rhs: jax.Array, window_strides: Sequence[int], padding: Sequence[tuple[int, int]], **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated` of images, for `flax.linen.Conv(conv_general_dilated=...)`.

    Args:
        lhs: float32 [n, h, w, c].
        rhs: float32 [k, k, c, o].
        window_strides: two equal strides.
        padding: (before, after) for rows and for columns.
        options: flax's other arguments; they must not ask for dilation or groups.

    Returns:
        float32 [n, h', w', o].
    """
    row_stride, stride = window_strides
    assert row_stride == stride
    assert rhs.shape[0] == rhs.shape[1]
    assert options.get("feature_group_count", 1) == 1
    assert all(set(options.get(name) or (1,)) == {1} for name in ("lhs_dilation", "rhs_dilation"))
    (top, bottom), (left, right) = padding
    convolve = _multiply if lhs.shape[1] * lhs.shape[2] <= rhs.shape[0] ** 2 else _convolve
    return convolve(lhs, rhs, stride, ((top, bottom), (left, right)))


def _multiply(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """The convolution as a product of images and a matrix of all pairs of an input and an output pixel."""

    def of_each_output(kernel: jax.Array, axis: int, length: int, before: int, after: int) -> jax.Array:
        """Replaces the axis of taps by two axes: the output's position and the input's."""
        size = kernel.shape[axis]
        # Output i reads input r by tap r + before - stride * i; taps outside the kernel are zeros.
        outputs = (length + before + after - size) // stride + 1
        low, high = max(0, stride * (outputs - 1) - before), max(0, before + length - size)
        padded = jnp.pad(kernel, [(low, high) if at == axis else (0, 0) for at in range(kernel.ndim)])
        starts = [low + before - stride * i for i in range(outputs)]
        return jnp.stack([lax.slice_in_dim(padded, at, at + length, axis=axis) for at in starts], axis=axis)

    n, height, width, channels = x.shape
    matrix = of_each_output(of_each_output(kernel, 1, width, *padding[1]), 0, height, *padding[0])
    rows, _, columns, _, _, features = matrix.shape
    matrix = matrix.transpose(1, 3, 4, 0, 2, 5).reshape(height * width * channels, rows * columns * features)
    return (x.reshape(n, -1) @ matrix).reshape(n, rows, columns, features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    size, _, _, features = kernel.shape
    if size == 1 and padding == ((0, 0), (0, 0)):
        return lax.dot_general(x[:, ::stride, ::stride], kernel[0, 0], (((3,), (0,)), ((), ())))
    pixels = _pixels_together(x.shape, kernel.shape, padding) if stride == 1 else 1
    if pixels == 1:
        return _plain(x, kernel, (stride, stride), padding)
    # Each position computes `pixels` neighbours of a row, each with the kernel at its own offset in a wider window.
    places = [jnp.pad(kernel, ((0, 0), (at, pixels - 1 - at), (0, 0), (0, 0))) for at in range(pixels)]
    wide = jnp.stack(places, axis=3).reshape(size, size + pixels - 1, x.shape[3], pixels * features)
    y = _plain(x, wide, (1, pixels), padding)
    return y.reshape(*y.shape[:2], -1, features)


def _pixels_together(shape: Sequence[int], kernel_shape: Sequence[int], padding: Padding) -> int:
    """Returns how many neighbours of a row to compute as one: a power of two that divides the row; 1 if no gain."""
    size, _, channels, features = kernel_shape
    width = shape[2] + sum(padding[1]) - size + 1
    # Each neighbour widens the window by a pixel, so with many input channels fewer of them are worthwhile.
    wanted = CHANNELS // features if channels >= 8 else 2 * CHANNELS // features
    pixels = 1
    while 2 * pixels <= wanted and width % (2 * pixels) == 0:
        pixels *= 2
    return pixels


def _forward(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> tuple[jax.Array, Any]:
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: Padding, kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return (
        _input_gradient(x, kernel, gradient, stride, padding),
        _kernel_gradient(x, kernel, gradient, stride, padding),
    )


_convolve.defvjp(_forward, _backward)


def _input_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int, padding: Padding) -> jax.Array:
    size = kernel.shape[0]
    height, width = x.shape[1:3]
    if size == 1 and padding == ((0, 0), (0, 0)):
        taken = lax.dot_general(gradient, kernel[0, 0], (((3,), (1,)), ((), ())))
        rest = [
            length - (count - 1) * stride - 1 for length, count in zip((height, width), taken.shape[1:3], strict=True)
        ]
        spread = [(0, 0, 0), *((0, after, stride - 1) for after in rest), (0, 0, 0)]
        return lax.pad(taken, jnp.zeros((), taken.dtype), spread)
    back = kernel.swapaxes(2, 3)
    if stride == 1:
        (top, bottom), (left, right) = padding
        return _convolve(
            gradient,
            back[::-1, ::-1],
            1,
            ((size - 1 - top, size - 1 - bottom), (size - 1 - left, size - 1 - right)),
        )
    if stride != 2 or height % 2 or width % 2 or padding[0] != padding[1] or size < 2:
        return jax.linear_transpose(lambda x: _plain(x, kernel, (stride, stride), padding), x)(gradient)[0]
    # Tap t connects the input's row 2 i + a to the output's row i + (a + before - t) / 2, if that is an integer.
    before = padding[0][0]
    shifts = [sorted((a + before - tap) // 2 for tap in range(size) if (a + before - tap) % 2 == 0) for a in (0, 1)]
    taps = [jnp.array([a + before - 2 * shift for shift in shifts[a]]) for a in (0, 1)]

    def phase(a: int, b: int) -> jax.Array:
        reach = [
            (-shifts[at][0], length // 2 - count + shifts[at][-1])
            for at, length, count in ((a, height, gradient.shape[1]), (b, width, gradient.shape[2]))
        ]
        return _plain(gradient, back[taps[a]][:, taps[b]], (1, 1), (reach[0], reach[1]))

    rows = [jnp.stack([phase(a, 0), phase(a, 1)], axis=3) for a in (0, 1)]
    return jnp.stack(rows, axis=2).reshape(x.shape)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int, padding: Padding) -> jax.Array:
    if kernel.shape[0] == 1 and padding == ((0, 0), (0, 0)):
        return lax.dot_general(x[:, ::stride, ::stride], gradient, (((0, 1, 2), (0, 1, 2)), ((), ())))[None, None]

    def of(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: _plain(x, kernel, (stride, stride), padding), kernel)(gradient)[0]

    n, groups = len(x), 1
    # A group takes every `groups`-th image, so that a batch sharded over devices is not moved.
    on_a_device = n // jax.device_count()
    size = (x.nbytes + gradient.nbytes) / jax.device_count()
    while size / groups > GROUP_BYTES and on_a_device and on_a_device % (2 * groups) == 0:
        groups *= 2
    if groups == 1:
        return of(x, gradient)
    parts, part_gradients = (a.reshape(n // groups, groups, *a.shape[1:]) for a in (x, gradient))
    return sum((of(parts[:, i], part_gradients[:, i]) for i in range(1, groups)), of(parts[:, 0], part_gradients[:, 0]))


def _plain(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT)
