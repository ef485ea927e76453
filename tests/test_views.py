"""The augmentations against PIL, colorsys and plain NumPy forms of torchvision's definitions."""

import colorsys
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sas_jax import views as v
from sas_jax.errors import InputError

OFF = {"flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
WHOLE = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}  # no crop on a square image
CONFIG = v.Views(size=16, blur=0.5, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
TOLERANCE = 1e-5  # float32 against float64, on values in [0, 1]
DRAWS = 10_000
KS = 0.04  # the largest distance of two distributions that 10,000 draws may have (p = 1e-6)

view = jax.jit(v.view, static_argnums=2)
resized_crop = jax.jit(v.resized_crop, static_argnames="size")
color_jitter = jax.jit(v.color_jitter)
adjust_hue = jax.jit(v.adjust_hue)
gaussian_blur = jax.jit(v.gaussian_blur)
plain = jax.jit(v.plain, static_argnums=1)


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def channels_last(x):
    return np.asarray(x).transpose(0, 2, 1)


def rows(image):
    """Converts [h, w, 3] to the [h, 3, w] that the operations work on."""
    return jnp.asarray(image.transpose(0, 2, 1), jnp.float32)


def pil_crop(image, box, size):
    """Crops, then resizes as PIL resizes 8-bit images, along x and then along y with a clamp after each.

    It uses PIL's 32-bit float mode, which does not round.
    """
    top, left, height, width = box
    out = []
    for channel in range(3):
        plane = (image[..., channel] / 255).astype(np.float32)[top : top + height, left : left + width]
        for shape in ((size, height), (size, size)):
            plane = np.clip(Image.fromarray(plane).resize(shape, Image.Resampling.BICUBIC), 0, 1)
        out.append(plane)
    return np.stack(out, axis=-1)


def grey(x):
    return x @ np.array([0.299, 0.587, 0.114])


def slow_jitter(x, order, factors):
    """Implements torchvision's ColorJitter: operation after operation, each clamped; hue per pixel by colorsys."""
    for operation in order:
        if operation not in factors:
            continue
        factor = factors[operation]
        if operation == v.BRIGHTNESS:
            x = np.clip(factor * x, 0, 1)
        elif operation == v.CONTRAST:
            x = np.clip(factor * x + (1 - factor) * grey(x).mean(), 0, 1)
        elif operation == v.SATURATION:
            x = np.clip(factor * x + (1 - factor) * grey(x)[..., None], 0, 1)
        else:
            turned = []
            for pixel in x.reshape(-1, 3):
                h, s, value = colorsys.rgb_to_hsv(*pixel)
                turned.append(colorsys.hsv_to_rgb((h + factor) % 1.0, s, value))
            x = np.array(turned).reshape(x.shape)
    return x


def slow_blur(x, sigma, radius):
    """Implements torchvision's gaussian_blur: the two-dimensional kernel on the reflected image."""
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = np.pad(x, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    out = np.zeros_like(x)
    for row, column in itertools.product(range(x.shape[0]), range(x.shape[1])):
        window = padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
        out[row, column] = np.einsum("yx,yxc->c", kernel, window)
    return out


def slow_box(rng, height, width, scale, ratio):
    """Implements torchvision's RandomResizedCrop.get_params."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(*np.log(ratio)))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        h, w = height, round(height * ratio[1])
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w


def distance(x, y):
    """Computes the Kolmogorov-Smirnov distance: the largest difference of two distribution functions."""
    at = np.concatenate([x, y])
    below = [np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (x, y)]
    return np.abs(below[0] - below[1]).max()


def uniform(low, high):
    return np.linspace(low, high, DRAWS)


@pytest.fixture(scope="module")
def many():
    return jax.jit(jax.vmap(v.draw))(jax.random.split(jax.random.key(0), DRAWS))


def boxes(draws, height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    box = functools.partial(v.crop_box, shape=(height, width), scale=scale, ratio=ratio)
    return np.asarray(jax.jit(jax.vmap(box))(draws))


def some_draws(**given):
    fields = dict.fromkeys(v.Draws._fields, 0.5) | {"area": [0.5] * 10, "ratio": [0.5] * 10, "factors": [0.5] * 4}
    return v.Draws(**{name: jnp.array(value, jnp.float32) for name, value in (fields | given).items()})


# ---- each operation, its parameters given


@pytest.mark.parametrize(
    ("height", "width", "box", "size"),
    [
        (32, 32, (0, 0, 32, 32), 32),
        (32, 32, (3, 5, 20, 14), 32),  # enlarged
        (32, 32, (31, 0, 1, 2), 32),  # almost no pixels
        (8, 8, (1, 0, 6, 8), 16),
        (50, 40, (7, 2, 41, 38), 16),  # reduced: the kernel is widened
        (50, 40, (10, 4, 12, 36), 24),  # enlarged in one direction, reduced in the other
    ],
)
def test_crop_is_pils(height, width, box, size):
    image = random_image(height, width)
    got = resized_crop(jnp.asarray(image), jnp.array(box, jnp.int32), size=size)
    np.testing.assert_allclose(channels_last(got), pil_crop(image, box, size), atol=TOLERANCE)


def test_crop_is_pils_8_bit_crop_up_to_its_rounding():
    image, (top, left, height, width) = random_image(32, 32), (3, 5, 20, 14)
    got = resized_crop(jnp.asarray(image), jnp.array([top, left, height, width], jnp.int32), size=24)
    cropped = Image.fromarray(image).crop((left, top, left + width, top + height))
    expected = np.asarray(cropped.resize((24, 24), Image.Resampling.BICUBIC)) / 255
    # PIL rounds after each of its two passes.
    np.testing.assert_allclose(channels_last(got), expected, atol=1.3 / 255)


@pytest.mark.parametrize("flip", [True, False])
def test_flip_mirrors_left_and_right(flip):
    image, box = random_image(20, 24), jnp.array([2, 3, 15, 11], jnp.int32)
    got = channels_last(resized_crop(jnp.asarray(image), box, size=9, flip=jnp.bool_(flip)))
    expected = channels_last(resized_crop(jnp.asarray(image), box, size=9))
    np.testing.assert_allclose(got, expected[:, ::-1] if flip else expected, atol=1e-6)


@pytest.mark.parametrize("box", [(4, 6, 10, 9), (0, 0, 3, 20), (12, 19, 8, 5)])
def test_crop_sees_no_pixel_outside_its_box(box):
    top, left, height, width = box
    image = random_image(20, 24).astype(np.float32) / 255
    inside = np.zeros((20, 24, 1), bool)
    inside[top : top + height, left : left + width] = True
    crop = functools.partial(resized_crop, box=jnp.array(box, jnp.int32), size=16)
    clean, poisoned = (crop(jnp.asarray(np.where(inside, image, value), jnp.float32)) for value in (0.0, 1e30))
    np.testing.assert_array_equal(clean, poisoned)


def test_resize_weights_keep_a_constant_image():
    weights = jax.jit(functools.partial(v.resize_weights, size=8, pixels=24))(jnp.int32(3), jnp.int32(17))
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_jitter_is_torchvisions_in_every_order(order):
    # Factors large enough that every operation clamps some values, so that no two orders agree.
    factors = {v.BRIGHTNESS: 1.4, v.CONTRAST: 1.7, v.SATURATION: 1.8, v.HUE: 0.15}
    image = random_image(6, 5) / 255
    got = color_jitter(rows(image), jnp.array(order), {k: jnp.float32(f) for k, f in factors.items()})
    np.testing.assert_allclose(channels_last(got), slow_jitter(image, order, factors), atol=TOLERANCE)


def test_the_orders_of_jitter_differ():
    factors = {v.BRIGHTNESS: 1.4, v.CONTRAST: 1.7, v.SATURATION: 1.8, v.HUE: 0.15}
    results = [slow_jitter(random_image(6, 5) / 255, order, factors) for order in itertools.permutations(range(4))]
    nearest = min(np.abs(one - other).max() for one, other in itertools.combinations(results, 2))
    assert nearest > 10 * TOLERANCE, "the factors above do not tell two orders apart: change them"


@pytest.mark.parametrize("operations", [c for n in range(4) for c in itertools.combinations(range(4), n)], ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)], ids=str)
def test_jitter_without_some_operations(operations, order):
    all_factors = {v.BRIGHTNESS: 0.6, v.CONTRAST: 1.3, v.SATURATION: 0.2, v.HUE: -0.4}
    factors = {operation: all_factors[operation] for operation in operations}
    image = random_image(4, 7) / 255
    got = color_jitter(rows(image), jnp.array(order), {k: jnp.float32(f) for k, f in factors.items()})
    np.testing.assert_allclose(channels_last(got), slow_jitter(image, order, factors), atol=TOLERANCE)


@pytest.mark.parametrize("shift", [-0.5, -0.31, 0.0, 0.1, 0.5])
def test_hue_of_corners_greys_and_edges_of_the_colour_cube(shift):
    levels = [0.0, 1 / 3, 0.5, 1.0]
    image = np.array(list(itertools.product(levels, levels, levels))).reshape(8, 8, 3)
    got = adjust_hue(rows(image), jnp.float32(shift))
    np.testing.assert_allclose(channels_last(got), slow_jitter(image, [v.HUE], {v.HUE: shift}), atol=TOLERANCE)


@pytest.mark.parametrize(("size", "radius"), [(2, 1), (7, 1), (32, 1), (64, 3), (224, 11)])
def test_blur_has_a_tenth_of_the_image(size, radius):
    assert v.blur_radius(size) == radius


@pytest.mark.parametrize(("size", "sigma"), [(7, 0.1), (7, 2.0), (41, 1.3)])
def test_blur_is_torchvisions(size, sigma):
    image = random_image(size, size) / 255
    got = channels_last(gaussian_blur(rows(image), jnp.float32(sigma)))
    np.testing.assert_allclose(got, slow_blur(image, sigma, v.blur_radius(size)), atol=TOLERANCE)


def test_grey_has_one_value_for_the_three_channels():
    image = random_image(8, 8)
    got = view(jax.random.key(0), jnp.asarray(image), v.Views(size=8, **WHOLE, **OFF | {"grey": 1.0}))
    np.testing.assert_allclose(got, np.repeat(grey(image / 255)[..., None], 3, axis=-1), atol=TOLERANCE)


# ---- the distributions of the parameters


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (120, 48, (0.5, 1.0), (1.0, 2.0)),  # few boxes fit, so later attempts and the fallback occur
    ],
)
def test_boxes_are_distributed_as_torchvisions(many, height, width, scale, ratio):
    got = boxes(many, height, width, scale, ratio)
    rng = np.random.default_rng(0)
    expected = np.array([slow_box(rng, height, width, scale, ratio) for _ in range(DRAWS)])
    for column, name in enumerate(("top", "left", "height", "width")):
        assert distance(got[:, column], expected[:, column]) < KS, name
    assert distance(got[:, 2] * got[:, 3], expected[:, 2] * expected[:, 3]) < KS, "area"
    assert distance(got[:, 3] / got[:, 2], expected[:, 3] / expected[:, 2]) < KS, "ratio"
    assert (got[:, :2] >= 0).all()
    assert (got[:, 0] + got[:, 2] <= height).all()
    assert (got[:, 1] + got[:, 3] <= width).all()


def test_a_box_lies_anywhere_it_fits(many):
    top, left, height, width = boxes(many, 32, 32).T
    rng = np.random.default_rng(0)
    down = (top + rng.random(DRAWS)) / (32 - height + 1)  # uniform in [0, 1) if top is uniform over its values
    right = (left + rng.random(DRAWS)) / (32 - width + 1)
    assert distance(down, uniform(0, 1)) < KS
    assert distance(right, uniform(0, 1)) < KS
    assert abs(np.corrcoef(down, right)[0, 1]) < KS


def test_the_first_attempt_that_fits_is_taken():
    area, ratio = np.full(10, 0.9), np.full(10, 0.5)
    area[0], ratio[0] = 1.0, 1.0  # 37 x 28 pixels: too wide
    area[1], ratio[1] = 0.2, 0.5
    box = v.crop_box(some_draws(area=area, ratio=ratio), (32, 32), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    side = round(np.sqrt(32 * 32 * (0.08 + 0.2 * 0.92)))
    assert box[2:].tolist() == [side, side]


@pytest.mark.parametrize(
    ("shape", "ratio", "expected"),
    [
        ((32, 32), (2.0, 2.0), [8, 0, 16, 32]),  # too tall for the ratio: the full width
        ((32, 32), (0.5, 0.5), [0, 8, 32, 16]),  # too wide: the full height
        ((32, 64), (0.5, 4.0), [0, 0, 32, 64]),  # the whole image is allowed
    ],
)
def test_the_fallback_is_the_largest_central_box(shape, ratio, expected):
    draws = some_draws(area=[1.0] * 10, ratio=[0.0] * 10)
    assert v.crop_box(draws, shape, scale=(0.08, 1.0), ratio=ratio).tolist() == expected


def test_jitter_factors_are_uniform_and_as_often_as_asked(many):
    config = v.Views(size=8, jitter=0.7, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
    order, factors = jax.vmap(lambda draws: v.jitter_parameters(draws, config))(many)
    jittered = np.asarray(factors[v.BRIGHTNESS]) != 1
    assert abs(jittered.mean() - 0.7) < 4 * np.sqrt(0.7 * 0.3 / DRAWS)
    ranges = {v.BRIGHTNESS: (0.6, 1.4), v.CONTRAST: (0.0, 2.5), v.SATURATION: (0.8, 1.2), v.HUE: (-0.1, 0.1)}
    for operation, (low, high) in ranges.items():
        factor = np.asarray(factors[operation])
        assert distance(factor[jittered], uniform(low, high)) < KS, operation
        assert (factor[~jittered] == (0 if operation == v.HUE else 1)).all()
    for one, other in itertools.combinations(factors.values(), 2):
        assert abs(np.corrcoef(one[jittered], other[jittered])[0, 1]) < KS

    assert (np.sort(order, axis=1) == np.arange(4)).all()
    _, counts = np.unique(np.asarray(order), axis=0, return_counts=True)
    assert len(counts) == 24
    expected = DRAWS / 24
    assert np.sum((counts - expected) ** 2 / expected) < 58  # chi-square, 23 degrees of freedom, p = 1e-4


def test_flip_grey_and_blur_are_as_often_as_asked():
    image = jnp.asarray(random_image(8, 8))
    config = v.Views(size=8, **WHOLE, **OFF | {"flip": 0.3, "grey": 0.2, "blur": 0.6})
    keys = jax.random.split(jax.random.key(1), 4_000)
    got = np.asarray(jax.jit(jax.vmap(lambda key: v.view(key, image, config)))(keys))
    colourless = np.ptp(got, axis=-1).max(axis=(1, 2)) < 1e-6
    plain_grey = grey(np.asarray(image) / 255)
    # A view with the image's orientation is closer to it than to its mirror image, blurred or not.
    here, there = (np.abs(grey(got) - one).mean(axis=(1, 2)) for one in (plain_grey, plain_grey[:, ::-1]))
    sharp = np.minimum(here, there) < 1e-5
    # If sigma is below 0.3 pixels (9 % of the time), the neighbours' weight is too small to show.
    for name, share, wanted in (("flip", there < here, 0.3), ("grey", colourless, 0.2), ("blur", ~sharp, 0.6)):
        lost = 0.06 if name == "blur" else 0.0
        slack = 4 * np.sqrt(wanted * (1 - wanted) / len(keys))
        assert wanted - lost - slack < share.mean() < wanted + slack, name
    assert abs(np.corrcoef(there < here, colourless)[0, 1]) < 0.06
    assert abs(np.corrcoef(sharp, colourless)[0, 1]) < 0.06


def test_the_random_numbers_are_uniform_and_apart(many):
    """Within a view, a flip says nothing about the crop, and so on for all pairs of numbers."""
    columns = np.concatenate([np.asarray(field).reshape(DRAWS, -1) for field in many], axis=1)
    assert columns.shape == (DRAWS, 32)
    assert columns.min() >= 0
    assert columns.max() < 1
    for column in columns.T:
        assert distance(column, uniform(0, 1)) < KS
    related = np.abs(np.corrcoef(columns.T) - np.eye(32)).max()
    assert related < 0.05  # five standard errors


def test_sigma_of_the_blur_is_uniform():
    """Measured on a white pixel, whose blur leaves the square of the kernel's centre."""
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    config = v.Views(size=41, **WHOLE, **OFF | {"blur": 1.0})
    keys = jax.random.split(jax.random.key(4), 2_500)
    middle = jax.jit(jax.vmap(lambda key: v.view(key, jnp.asarray(image), config)[20, 20, 0]))(keys)
    sigmas = np.linspace(0.1, 2.0, 1_000)
    kernels = np.exp(-0.5 * (np.arange(-2, 3) / sigmas[:, None]) ** 2)
    falling = kernels[:, 2] / kernels.sum(axis=1)
    found = np.interp(np.sqrt(middle), falling[::-1], sigmas[::-1])
    seen = 0.4  # pixels; below this, the neighbours' weight is too small to measure
    assert distance(np.maximum(found, seen), np.maximum(uniform(0.1, 2.0), seen)) < 2 * KS  # a quarter of the draws


# ---- the whole


def test_a_view_is_its_operations_one_after_the_other():
    image, config = random_image(24, 20), CONFIG
    for key in jax.random.split(jax.random.key(2), 12):
        draws = v.draw(key)
        box = v.crop_box(draws, (24, 20), scale=config.crop_scale, ratio=config.crop_ratio).tolist()
        x = pil_crop(image, box, 16)
        if draws.flip < config.flip:
            x = x[:, ::-1]
        if draws.jitter < config.jitter:
            order, factors = v.jitter_parameters(draws, config)
            x = slow_jitter(x, order.tolist(), {k: float(f) for k, f in factors.items()})
        if draws.grey < config.grey:
            x = np.repeat(grey(x)[..., None], 3, axis=-1)
        if draws.blur < config.blur:
            x = slow_blur(x, 0.1 + 1.9 * float(draws.sigma), v.blur_radius(16))
        expected = (x - np.array(config.mean)) / np.array(config.std)
        np.testing.assert_allclose(view(key, jnp.asarray(image), config), expected, atol=10 * TOLERANCE)


@pytest.fixture(scope="module")
def batch():
    """Returns sixteen images, their keys, and their views computed as one batch."""
    keys = jax.random.split(jax.random.key(3), 16)
    images = jnp.asarray(np.stack([random_image(24, 20, seed) for seed in range(16)]))
    return keys, images, np.asarray(views_of(keys, images))


@jax.jit
def views_of(keys, images):
    return jax.vmap(functools.partial(v.view, views=CONFIG))(keys, images)


def test_plain_jit_and_vmap_agree(batch):
    keys, images, got = batch
    assert got.shape == (16, 16, 16, 3)
    assert got.dtype == np.float32
    for index in range(16):
        np.testing.assert_allclose(view(keys[index], images[index], CONFIG), got[index], atol=10 * TOLERANCE)
    np.testing.assert_allclose(v.view(keys[0], images[0], CONFIG), got[0], atol=10 * TOLERANCE)


def test_a_view_does_not_depend_on_its_place_in_the_batch(batch):
    keys, images, got = batch
    shuffled = np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(views_of(keys[shuffled], images[shuffled]), got[shuffled])


def test_a_view_depends_on_its_key_and_its_image(batch):
    keys, images, got = batch
    for others in (views_of(keys, jnp.roll(images, 1, axis=0)), views_of(jnp.roll(keys, 1), images)):
        assert (np.abs(got - np.asarray(others)).max(axis=(1, 2, 3)) > 0.01).all()


def test_switching_an_operation_off_leaves_the_others_as_they_were():
    image, key = jnp.asarray(random_image(16, 16)), jax.random.key(5)
    nothing = v.Views(size=16, **OFF)
    never = v.Views(size=16, **OFF | {"grey": 1e-9, "blur": 1e-9})  # compiled, but never drawn
    flipped = v.Views(size=16, **OFF | {"flip": 1.0})
    np.testing.assert_allclose(view(key, image, never), view(key, image, nothing), atol=TOLERANCE)
    np.testing.assert_allclose(view(key, image, flipped)[:, ::-1], view(key, image, nothing), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("changes", "scans", "exponentials"),
    [
        ({}, 0, 1),  # the crop's log-uniform ratio
        ({"jitter": 0.8}, 2, 1),
        ({"jitter": 0.8, "hue": 0.0}, 1, 1),
        ({"jitter": 0.8, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}, 0, 1),
        ({"blur": 0.5}, 0, 2),
    ],
)
def test_what_is_off_is_not_compiled(changes, scans, exponentials):
    config = v.Views(size=8, **OFF | changes)
    program = str(
        jax.make_jaxpr(lambda key, image: v.view(key, image, config))(
            jax.random.key(0), jnp.zeros((8, 8, 3), jnp.uint8)
        )
    )
    assert program.count("= scan[") == scans
    assert program.count("= exp ") == exponentials


def test_plain_normalises():
    image = random_image(16, 16)
    config = v.Views(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    got = plain(jnp.asarray(image), config)
    assert got.dtype == jnp.float32
    expected = (image / 255 - np.array(config.mean)) / np.array(config.std)
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)
    np.testing.assert_allclose(plain(jnp.asarray(image / 255, jnp.float32), config), got, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("shape", "box"), [((8, 8), (0, 0, 8, 8)), ((20, 31), (0, 5, 20, 20)), ((31, 20), (5, 0, 20, 20))]
)
def test_plain_resizes_the_central_square(shape, box):
    image = random_image(*shape)
    config = v.Views(size=16, mean=OFF["mean"], std=OFF["std"])
    np.testing.assert_allclose(plain(jnp.asarray(image), config), pil_crop(image, box, 16), atol=TOLERANCE)


def test_bytes_and_floats_are_the_same_image():
    image, config, key = random_image(8, 8), v.Views(size=8, **OFF), jax.random.key(6)
    from_bytes = view(key, jnp.asarray(image), config)
    from_floats = view(key, jnp.asarray(image / 255, jnp.float32), config)
    np.testing.assert_allclose(from_bytes, from_floats, atol=TOLERANCE)


def test_views_are_static_arguments_whatever_the_config_holds():
    assert hash(v.Views(size=8, mean=[0.1, 0.2, 0.3])) == hash(v.Views(size=8, mean=(0.1, 0.2, 0.3)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": 0}, "views.size must be 1 pixel or more, got 0"),
        ({"flip": 1.5}, r"views.flip must be a probability in \[0, 1\], got 1.5"),
        ({"jitter": -0.1}, "views.jitter must be a probability"),
        ({"grey": 2.0}, "views.grey must be a probability"),
        ({"blur": float("nan")}, "views.blur must be a probability"),
        ({"hue": 0.6}, r"views.hue must be in \[0, 0.5\], got 0.6"),
        ({"brightness": -1.0}, "views.brightness must be in"),
        ({"contrast": -1.0}, "views.contrast must be in"),
        ({"saturation": -1.0}, "views.saturation must be in"),
        ({"crop_scale": (0.0, 1.0)}, "views.crop_scale must be"),
        ({"crop_scale": (0.5, 1.1)}, "views.crop_scale must be"),
        ({"crop_ratio": (2.0, 1.0)}, "views.crop_ratio must be"),
        ({"mean": (0.5,)}, "views.mean and views.std must be three numbers"),
        ({"std": (0.5, 0.5, 0.0)}, "views.mean and views.std must be three numbers"),
    ],
)
def test_bad_views_are_refused(fields, words):
    with pytest.raises(InputError, match=words):
        v.Views(**{"size": 8} | fields)


@pytest.mark.parametrize(
    "apply", [lambda x: v.view(jax.random.key(0), x, v.Views(size=8)), lambda x: v.plain(x, v.Views(size=8))]
)
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), "Use jax.vmap"),
        (np.zeros((8, 8, 1), np.uint8), r"got shape \(8, 8, 1\)"),
        (np.zeros((8, 8, 3), np.int32), "got int32"),
    ],
)
def test_what_is_not_an_image_is_refused(apply, image, words):
    with pytest.raises(ValueError, match=words):
        apply(jnp.asarray(image))
