"""The augmentations: one random view of one image, as pure functions of (key, image).

Numeric contract: images are uint8 (or float in [0, 1]), all computation is in float32 in [0, 1], each operation clamps
to [0, 1] where torchvision's does, and the results are normalised by mean and std. Parameters and operations are those
of torchvision's RandomResizedCrop (bicubic, antialiased), RandomHorizontalFlip, ColorJitter, RandomGrayscale and
GaussianBlur, in that order. There are two differences: values are not rounded to 8 bits between operations, as
torchvision does on PIL images, and grey is PIL's 0.299 R + 0.587 G + 0.114 B (0.2989 R in torchvision for tensors).

All random numbers of a view come from one draw with its key, so a view depends only on its key and its image: not on
its batch, nor on which operations are enabled. (This requires a PRNG whose bits do not depend on vmap: JAX's default,
threefry, meets this; `rbg` does not.)

Functions here take one image and are meant for `jax.vmap`, where every branch is computed for every image. So a random
choice is a number in an arithmetic expression, never a `cond` or a `switch`. Internally, images are [h, 3, w]: products
along either axis need no transposition, and vector instructions run along pixels.
"""

import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import settings
from sas_jax.errors import InputError

# Full float32 even if TF32 or bfloat16 is the default: the products are small, and similarities depend on them.
PRECISION = jax.lax.Precision.HIGHEST
GREY = (0.299, 0.587, 0.114)  # ITU-R 601-2, as PIL's convert("L")
ATTEMPTS = 10  # by RandomResizedCrop to find a box that fits, before it falls back to a central one
SIGMA = (0.1, 2.0)  # of the blur, in pixels; SimCLR, appendix A

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbers of the four operations of colour jitter
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


@dataclasses.dataclass(frozen=True)
class Views:
    """The parameters of the augmentation; hashable, for use as a static argument.

    Operations whose probability or strength is 0 are not compiled.

    Attributes:
        size: height and width of a view, in pixels.
        crop_scale: the smallest and largest area of the crop, as fractions of the image's area, in (0, 1].
        crop_ratio: the smallest and largest width / height of the crop.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter.
        brightness, contrast, saturation: strengths; the factor is uniform in [max(0, 1 - strength), 1 + strength].
        hue: strength, at most 0.5; the shift, in turns of the colour circle, is uniform in [-hue, hue].
        grey: probability of conversion to grey.
        blur: probability of a Gaussian blur.
        mean, std: per channel (RGB in [0, 1]); the result is (x - mean) / std.

    Raises:
        InputError: a field is out of its range.
    """

    size: int
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "mean", "std"):  # lists from a config are not hashable
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if self.size < 1:
            raise InputError(
                f"views.size must be 1 pixel or more, got {self.size}. Set it to the encoder's input size."
            )
        for name in ("flip", "jitter", "grey", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"views.{name} must be a probability in [0, 1], got {getattr(self, name)}. Correct it."
                )
        for name, most in (("brightness", np.inf), ("contrast", np.inf), ("saturation", np.inf), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"views.{name} must be in [0, {most}], got {getattr(self, name)}. Correct it.")
        for name, most in (("crop_scale", 1.0), ("crop_ratio", np.inf)):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most:
                raise InputError(
                    f"views.{name} must be (low, high) with 0 < low <= high <= {most}, got {pair}. Correct it."
                )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(0 < value < np.inf for value in self.std):
            raise InputError(
                f"views.mean and views.std must be three numbers each, std above 0, got {self.mean} and {self.std}. "
                "Give one number per channel (red, green, blue)."
            )


class Draws(NamedTuple):
    """The random numbers of one view, each uniform in [0, 1).

    They are one draw in a fixed layout, so disabling an operation does not change the others.
    """

    area: jax.Array  # [ATTEMPTS]
    ratio: jax.Array  # [ATTEMPTS]
    top: jax.Array
    left: jax.Array
    flip: jax.Array
    jitter: jax.Array
    order: jax.Array
    factors: jax.Array  # [4], in torchvision's numbering
    grey: jax.Array
    blur: jax.Array
    sigma: jax.Array


@settings.fixed
def view(key: jax.Array, image: jax.Array, views: Views) -> jax.Array:
    """Returns a random view of an image.

    Args:
        key: a typed key; the view is a function of it and the image.
        image: [h, w, 3], uint8, or float in [0, 1].
        views: the parameters of the augmentation; static.

    Returns:
        float32 [size, size, 3], normalised.

    Raises:
        ValueError: the image has another shape or dtype.

    Source: Chen et al., SimCLR, ICML 2020, appendix A; the operations as in torchvision.transforms.
    """
    _check(image)
    draws = draw(key)
    box = crop_box(draws, (image.shape[0], image.shape[1]), scale=views.crop_scale, ratio=views.crop_ratio)
    x = resized_crop(image, box, size=views.size, flip=draws.flip < views.flip if views.flip else None)
    if views.jitter:
        x = color_jitter(x, *jitter_parameters(draws, views))
    if views.grey:
        x = jnp.where(draws.grey < views.grey, _grey(x)[:, None], x)
    if views.blur:
        x = jnp.where(draws.blur < views.blur, gaussian_blur(x, _uniform(draws.sigma, *SIGMA)), x)
    return _normalise(x, views)


@settings.fixed
def plain(image: jax.Array, views: Views) -> jax.Array:
    """Returns an image without augmentation: its central square, resized if necessary, and normalised.

    Args:
        image: [h, w, 3], uint8, or float in [0, 1].
        views: `size`, `mean` and `std` are used; static.

    Returns:
        float32 [size, size, 3].

    Raises:
        ValueError: the image has another shape or dtype.
    """
    _check(image)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if side == views.size:
        return _normalise(_floats(image[top : top + side, left : left + side]), views)
    return _normalise(resized_crop(image, jnp.array([top, left, side, side], jnp.int32), size=views.size), views)


def draw(key: jax.Array) -> Draws:
    """Draws all random numbers of a view in one call, because under vmap each call needs its own kernels."""
    lengths = [{"area": ATTEMPTS, "ratio": ATTEMPTS, "factors": 4}.get(name, 1) for name in Draws._fields]
    parts = jnp.split(jax.random.uniform(key, (sum(lengths),), jnp.float32), np.cumsum(lengths)[:-1].tolist())
    return Draws(*(part if len(part) > 1 else part[0] for part in parts))


def crop_box(
    draws: Draws, shape: tuple[int, int], *, scale: tuple[float, float], ratio: tuple[float, float]
) -> jax.Array:
    """Returns RandomResizedCrop's box, int32 [4]: top, left, height, width.

    torchvision tries up to ten times to draw an area (uniform) and a ratio (log-uniform) whose box fits, then falls
    back to the largest central box of an allowed ratio. Here all ten are drawn, and the first that fits is used.
    """
    height, width = shape
    area = height * width * _uniform(draws.area, *scale)
    aspect = jnp.exp(_uniform(draws.ratio, float(np.log(ratio[0])), float(np.log(ratio[1]))))
    widths = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = jnp.argmax(fits)
    h, w = heights[first], widths[first]
    # For u in [0, 1) with 23 bits, floor(u * n) never reaches n and is uniform up to n / 2^23.
    top = jnp.floor(draws.top * (height - h + 1).astype(jnp.float32)).astype(jnp.int32)
    left = jnp.floor(draws.left * (width - w + 1).astype(jnp.float32)).astype(jnp.int32)

    central_h, central_w = height, width
    if width / height < ratio[0]:
        central_h = round(width / ratio[0])
    elif width / height > ratio[1]:
        central_w = round(height * ratio[1])
    central = jnp.array([(height - central_h) // 2, (width - central_w) // 2, central_h, central_w], jnp.int32)
    return jnp.where(jnp.any(fits), jnp.stack([top, left, h, w]), central)


def resize_weights(
    start: jax.Array, length: jax.Array, *, size: int, pixels: int, mirror: jax.Array | None = None
) -> jax.Array:
    """Returns the matrix that crops [start, start + length) out of `pixels` and resamples it to `size`.

    This is PIL's antialiased bicubic filter, also used by torchvision (antialias=True): Keys' kernel with a = -1/2,
    stretched by the reduction factor (at least 1) and renormalised over the crop. Pixels outside have weight exactly 0.

    Args:
        start, length: int32 scalars, in pixels.
        size, pixels: number of output pixels, number of input pixels.
        mirror: bool scalar; whether to reverse the rows, a flip at no cost.

    Returns:
        float32 [size, pixels]; every row sums to 1.
    """
    out = jnp.arange(size, dtype=jnp.int32)
    if mirror is not None:
        out = jnp.where(mirror, size - 1 - out, out)
    pixel = jnp.arange(pixels, dtype=jnp.int32) - start
    # The distance of the centres in units of the kernel, (p + 1/2 - (o + 1/2) length / size) / max(length / size, 1),
    # in exact integer arithmetic up to the single division.
    numerator = (2 * pixel + 1)[None, :] * size - (2 * out + 1)[:, None] * length
    t = jnp.abs(numerator).astype(jnp.float32) / (2 * jnp.maximum(length, size)).astype(jnp.float32)
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    kernel = jnp.where(t < 1, near, jnp.where(t < 2, far, 0.0))
    kernel = jnp.where((pixel >= 0) & (pixel < length), kernel, 0.0)
    return kernel / jnp.sum(kernel, axis=1, keepdims=True)


def resized_crop(image: jax.Array, box: jax.Array, *, size: int, flip: jax.Array | None = None) -> jax.Array:
    """Crops, resamples to [size, size] and optionally flips, by two matrix products.

    Args:
        image: [h, w, 3], uint8, or float in [0, 1].
        box: int32 [4], top, left, height, width.
        size: output height and width in pixels.
        flip: bool scalar; whether to mirror left and right.

    Returns:
        float32 [size, 3, size] in [0, 1]: as in PIL, each pass (columns first) is clamped, since the kernel overshoots.
    """
    top, left, height, width = box
    rows = resize_weights(top, height, size=size, pixels=image.shape[0])
    columns = resize_weights(left, width, size=size, pixels=image.shape[1], mirror=flip)
    x = jnp.clip(jnp.einsum("hcw,xw->hcx", _floats(image), columns, precision=PRECISION), 0.0, 1.0)
    return jnp.clip(jnp.einsum("yh,hcx->ycx", rows, x, precision=PRECISION), 0.0, 1.0)


def jitter_parameters(draws: Draws, views: Views) -> tuple[jax.Array, dict[int, jax.Array]]:
    """Returns ColorJitter's parameters: the order of the operations, int32 [4], and the factors of those in use.

    A view that is not jittered gets factors that change nothing (hue up to rounding).
    """
    order = jnp.asarray(ORDERS)[jnp.floor(draws.order * len(ORDERS)).astype(jnp.int32)]
    jittered = draws.jitter < views.jitter
    factors = {}
    for operation, strength in enumerate((views.brightness, views.contrast, views.saturation)):
        if strength:
            factor = _uniform(draws.factors[operation], max(0.0, 1 - strength), 1 + strength)
            factors[operation] = jnp.where(jittered, factor, 1.0)
    if views.hue:
        factors[HUE] = jnp.where(jittered, _uniform(draws.factors[HUE], -views.hue, views.hue), 0.0)
    return order, factors


def color_jitter(x: jax.Array, order: jax.Array, factors: dict[int, jax.Array]) -> jax.Array:
    """Applies brightness, contrast, saturation and hue in the given order, with clamping after each.

    Selecting one of four operations at each of four positions would evaluate sixteen. But brightness, contrast and
    saturation share the form clip(a x + b grey + c mean(grey)), and a = 1, b = c = 0 is the exact identity. So the
    blends before hue, hue, and the blends after hue are computed once each, with the identity for blends that an
    image's order puts on the other side of hue.

    The steps are a `scan`. If they were unrolled, XLA on CPU would fuse them into one loop that recomputes each step
    for each channel that the next one reads, three to the power of the steps (a batch took over ten minutes).

    Args:
        x: float32 [h, 3, w] in [0, 1].
        order: int32 [4], a permutation of the four operations, in order of application.
        factors: float32 scalars by operation; missing operations are not applied.

    Returns:
        float32 [h, 3, w] in [0, 1].
    """
    blends = [operation for operation in (BRIGHTNESS, CONTRAST, SATURATION) if operation in factors]
    if not blends:
        return adjust_hue(x, factors[HUE]) if HUE in factors else x
    place = jnp.argsort(order)  # the position of each operation
    sequence = jnp.argsort(jnp.stack([place[operation] for operation in blends]))
    weights = jnp.stack([_blend_weights(operation, factors[operation]) for operation in blends])[sequence]

    def step(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, None]:
        grey = _grey(x)
        offset = weights[1] * grey
        if CONTRAST in factors:
            offset += weights[2] * jnp.mean(grey)
        return jnp.clip(weights[0] * x + offset[:, None], 0.0, 1.0), None

    if HUE not in factors:
        return jax.lax.scan(step, x, weights)[0]
    before = (jnp.arange(len(blends)) < jnp.sum(jnp.stack([place[b] < place[HUE] for b in blends])))[:, None]
    nothing = jnp.array([[1.0, 0.0, 0.0]], jnp.float32)
    x, _ = jax.lax.scan(step, x, jnp.where(before, weights, nothing))
    x = adjust_hue(x, factors[HUE])
    return jax.lax.scan(step, x, jnp.where(before, nothing, weights))[0]


def adjust_hue(x: jax.Array, shift: jax.Array) -> jax.Array:
    """Rotates the hue on the HSV colour circle, keeping saturation and value.

    Value is the largest channel, and saturation and value determine the smallest, so both stay the same. With the hue h
    in [0, 6), red at 0, and chroma = largest - smallest, the new channels are smallest + chroma clip(t, 0, 1), where t
    is |h - 3| - 1, 2 - |h - 2| and 2 - |h - 4|. The code multiplies all by the chroma: without the division it is
    four times as fast on CPU, and grey pixels are no special case.

    Args:
        x: float32 [h, 3, w] in [0, 1].
        shift: float32 scalar in [-1/2, 1/2], in turns.

    Returns:
        float32 [h, 3, w] in [0, 1].
    """
    red, green, blue = x[:, 0], x[:, 1], x[:, 2]
    largest = jnp.maximum(jnp.maximum(red, green), blue)
    smallest = jnp.minimum(jnp.minimum(red, green), blue)
    chroma = largest - smallest
    is_red, is_green = largest == red, largest == green
    hue = jnp.where(is_red, green - blue, jnp.where(is_green, blue - red, red - green))
    hue += chroma * (jnp.where(is_red, 0.0, jnp.where(is_green, 2.0, 4.0)) + 6 * shift)  # in chroma * [-4, 8]
    circle = 6 * chroma
    hue = jnp.where(hue < 0, hue + circle, jnp.where(hue >= circle, hue - circle, hue))
    channels = (
        jnp.abs(hue - 3 * chroma) - chroma,
        2 * chroma - jnp.abs(hue - 2 * chroma),
        2 * chroma - jnp.abs(hue - 4 * chroma),
    )
    return jnp.stack([smallest + jnp.clip(t, 0.0, chroma) for t in channels], axis=1)


def gaussian_blur(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Blurs with a Gaussian kernel about a tenth of the image (3 taps at 32 pixels, 23 at 224), reflected at edges.

    Sums shifted images along one axis, then along the other. With so few taps this is twice as fast on CPU as two
    products with a banded matrix, and it is float32 on every backend.

    Args:
        x: float32 [size, 3, size].
        sigma: float32 scalar, in pixels.

    Returns:
        float32 [size, 3, size].
    """
    radius = blur_radius(x.shape[0])
    half = jnp.exp(-0.5 * jnp.square(jnp.arange(radius + 1, dtype=jnp.float32) / sigma))
    half /= 2 * jnp.sum(half) - half[0]
    for axis, size in ((0, x.shape[0]), (2, x.shape[2])):
        margins = [(radius, radius) if at == axis else (0, 0) for at in range(3)]
        padded = jnp.pad(x, margins, mode="reflect")
        shifted = [jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(2 * radius + 1)]
        x = half[0] * shifted[radius]
        for tap in range(1, radius + 1):
            x += half[tap] * (shifted[radius - tap] + shifted[radius + tap])
    return x


def blur_radius(size: int) -> int:
    """Returns the taps on each side of the blur's centre: a twentieth of the size, but at least 1 if size > 1."""
    return min(max(size // 20, 1), size - 1)


def _check(image: jax.Array) -> None:
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"`image` must be [height, width, 3], got shape {image.shape}. Use jax.vmap for a batch.")
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"`image` must be uint8, or float in [0, 1], got {image.dtype}. Convert it.")


def _floats(image: jax.Array) -> jax.Array:
    """Converts [h, w, 3] to float32 [h, 3, w] in [0, 1]; transposes first, because bytes are cheaper to move."""
    x = image.transpose(0, 2, 1).astype(jnp.float32)
    return x / 255 if image.dtype == jnp.uint8 else x


def _normalise(x: jax.Array, views: Views) -> jax.Array:
    """Converts [h, 3, w] in [0, 1] to [h, w, 3] and normalises it."""
    return (x.transpose(0, 2, 1) - jnp.array([[views.mean]], jnp.float32)) / jnp.array([[views.std]], jnp.float32)


def _blend_weights(operation: int, factor: jax.Array) -> jax.Array:
    """Returns the weights of the image, its grey and its mean grey, float32 [3]."""
    zero, rest = jnp.zeros_like(factor), 1 - factor
    return jnp.stack([factor, rest if operation == SATURATION else zero, rest if operation == CONTRAST else zero])


def _uniform(u: jax.Array, low: float, high: float) -> jax.Array:
    return low + u * (high - low)


def _grey(x: jax.Array) -> jax.Array:
    return GREY[0] * x[:, 0] + GREY[1] * x[:, 1] + GREY[2] * x[:, 2]
