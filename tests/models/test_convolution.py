"""The convolutions for CPUs against jax.lax's: values and both gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import devices
from sas_jax.models import ResNet, convolution, resnet

# Kernel, stride, padding (before, after), input and output channels, height and width: one case per form, and cases
# without a special form.
CASES = {
    "stem, neighbours of a row together": (3, 1, (1, 1), 3, 16, (8, 8)),
    "few channels, a row of odd width": (3, 1, (1, 1), 16, 16, (8, 7)),
    "few channels in pairs": (3, 1, (1, 1), 16, 16, (6, 10)),
    "many channels": (3, 1, (1, 1), 32, 40, (5, 6)),
    "phases": (3, 2, (1, 1), 8, 32, (8, 6)),
    "phases of a large stem": (7, 2, (3, 3), 3, 8, (12, 10)),
    "phases, an even kernel": (4, 2, (1, 1), 5, 8, (8, 8)),
    "stride 2 of odd sizes": (3, 2, (1, 1), 8, 32, (7, 9)),
    "stride 3": (3, 3, (1, 1), 8, 8, (9, 9)),
    "other padding before than after": (3, 2, (0, 1), 8, 8, (8, 8)),
    "an image smaller than the kernel": (3, 1, (1, 1), 8, 16, (2, 3)),
    "a small image, stride 2": (3, 2, (1, 1), 5, 8, (3, 3)),
    "a small image, other padding before than after": (4, 2, (0, 3), 5, 8, (4, 3)),
    "a single pixel": (3, 1, (1, 1), 8, 16, (1, 1)),
    "a small image without padding": (3, 1, (0, 0), 8, 16, (3, 3)),
    "pointwise": (1, 1, (0, 0), 8, 32, (4, 6)),
    "pointwise, stride 2": (1, 2, (0, 0), 8, 32, (8, 6)),
    "pointwise, stride 2 of odd sizes": (1, 2, (0, 0), 8, 32, (7, 5)),
    "pointwise, padded": (1, 1, (1, 1), 8, 8, (4, 4)),
}
PLAIN = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_lax(case, monkeypatch):
    size, stride, pad, channels, features, (height, width) = CASES[case]
    monkeypatch.setattr(convolution, "GROUP_BYTES", 4_000)  # so that these small operands form more than one group
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, height, width, channels)).astype(np.float32)
    kernel = rng.standard_normal((size, size, channels, features)).astype(np.float32)

    def value_and_gradients(convolve):
        def run(x, kernel):
            y, back = jax.vjp(lambda *given: convolve(*given, (stride, stride), (pad, pad)), x, kernel)
            return y, *back(jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

        return jax.jit(run)(x, kernel)

    for ours, plain in zip(
        value_and_gradients(convolution.conv_general_dilated), value_and_gradients(PLAIN), strict=True
    ):
        assert ours.shape == plain.shape
        np.testing.assert_allclose(ours, plain, atol=2e-6 * np.abs(plain).max())


def test_groups_are_used_where_operands_are_large():
    x, kernel = jnp.zeros((64, 32, 32, 16)), jnp.zeros((3, 3, 16, 16))

    def convolutions(bytes_of_a_group):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(convolution, "GROUP_BYTES", bytes_of_a_group)
            text = jax.make_jaxpr(
                jax.grad(lambda k: convolution.conv_general_dilated(x, k, (1, 1), ((1, 1),) * 2).sum())
            )
            return str(text(kernel)).count("conv_general_dilated[")

    assert convolutions(1e9) + 7 == convolutions(200_000)  # 8 MiB on 8 devices: 8 groups of one image per device


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_network_has_the_same_loss_and_gradients(count, monkeypatch):
    """On 1, 2 and 4 devices, compared with the plain form on one, to float32's tolerance."""
    # GELU is smooth. ReLU's slope jumps if rounding moves an activation across 0, and one in 300,000 is that close to
    # it.
    monkeypatch.setattr(resnet.nn, "relu", jax.nn.gelu)
    images = np.random.default_rng(0).standard_normal((16, 16, 16, 3)).astype(np.float32)

    def loss_and_gradient(convolve, mesh):
        encoder = ResNet(depth=10, width=0.25, convolution=convolve)

        def loss(params, images):
            z, _ = encoder.apply(params, images, train=True, mutable=["batch_stats"])
            return jnp.mean(jnp.square(z - 0.5))

        params = encoder.init(jax.random.key(0), images[:1], train=False)
        split = jax.device_put(images, devices.batched(mesh))
        return jax.jit(jax.value_and_grad(loss))(jax.device_put(params, devices.replicated(mesh)), split)

    plain, plain_gradient = loss_and_gradient(jax.lax.conv_general_dilated, devices.mesh(1))
    loss, gradient = loss_and_gradient(convolution.conv_general_dilated, devices.mesh(count))
    np.testing.assert_allclose(loss, plain, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain_gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1e-3, np.abs(theirs).max()))


def test_only_float32_on_a_cpu_has_forms_of_its_own(monkeypatch):
    assert convolution.fastest(jnp.float32) is convolution.conv_general_dilated
    assert convolution.fastest(jnp.bfloat16) is jax.lax.conv_general_dilated
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert convolution.fastest(jnp.float32) is jax.lax.conv_general_dilated
