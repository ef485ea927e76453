"""The encoders' shapes, sizes and numerics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.models import ProjectionHead, ResNet
from tests.jaxprs import equations

# Parameters of the networks with a 3x3 stem and without the classifier, counted by hand from the layers: convolutions
# without bias, two parameters per BatchNorm channel. 11,168,832 is the well-known 11,173,962 of ResNet-18 for CIFAR-10
# minus its 512 x 10 + 10 classifier.
PARAMETERS = {10: 4_903_242 - 5_130, 18: 11_173_962 - 5_130, 34: 21_282_122 - 5_130, 50: 23_520_842 - 20_490}


def parameter_count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes_of(model, size, batch=2):
    image = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda k, x: model.init(k, x, train=False), jax.random.key(0), image)
    out = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)
    return variables, out


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_depths_have_the_known_numbers_of_parameters(depth):
    variables, out = shapes_of(ResNet(depth=depth), 32)
    assert parameter_count(variables["params"]) == PARAMETERS[depth]
    assert out.shape == (2, 2048 if depth == 50 else 512)
    assert out.dtype == jnp.float32


@pytest.mark.parametrize(("stem", "size"), [("3x3", 32), ("3x3_pool", 64), ("7x7_pool", 224)])
@pytest.mark.parametrize("width", [0.25, 2.0])
def test_stems_and_widths(stem, size, width):
    variables, out = shapes_of(ResNet(depth=18, width=width, stem=stem), size)
    assert out.shape == (2, int(512 * width))
    kernel = variables["params"]["Conv_0"]["kernel"].shape
    assert kernel == ((7, 7) if stem == "7x7_pool" else (3, 3)) + (3, int(64 * width))


def test_bfloat16_computes_low_and_keeps_float32():
    model = ResNet(depth=10, width=0.125, dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = jax.jit(lambda k, x: model.init(k, x, train=False))(jax.random.key(1), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    low, updated = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    exact_model = ResNet(depth=10, width=0.125)
    exact, _ = jax.jit(lambda v, x: exact_model.apply(v, x, train=True, mutable=["batch_stats"]))(variables, x)
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(("depth", "stem"), [(10, "3x3"), (50, "7x7_pool")])
def test_remat_keeps_the_names_of_parameters(depth, stem):
    """Checkpoints with and without it are interchangeable."""
    kept, anew = (shapes_of(ResNet(depth=depth, stem=stem, remat=remat), 64)[0] for remat in (False, True))
    assert anew == kept


def traced_gradient(model):
    """Returns the traced gradient of a loss in the parameters, and their shapes."""

    def loss(params, batch_stats, x):
        out, _ = model.apply({"params": params, "batch_stats": batch_stats}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(out))

    variables, _ = shapes_of(model, 8)
    image = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    params = variables["params"]
    return jax.jit(jax.grad(loss)).trace(params, variables["batch_stats"], image), params


def test_remat_computes_blocks_anew_and_nothing_else():
    """tests/training/test_guarantees.py checks that the step stays the same."""

    def convolutions(model):
        return traced_gradient(model)[0].lower().as_text().count("stablehlo.convolution")

    # Two in each of four blocks, three on shortcuts, and the first one; forward, for the kernel and, except for the
    # first, for the input.
    assert convolutions(ResNet(depth=10, width=0.125)) == 3 * 12 - 1
    assert convolutions(ResNet(depth=10, width=0.125, remat=True)) == 3 * 12 - 1 + 11


def test_with_remat_the_gradient_of_a_blocks_input_waits_for_those_of_its_kernels():
    """tests/training/test_gpu_topology.py checks the memory that this saves."""
    traced, params = traced_gradient(ResNet(depth=10, width=0.125, remat=True))
    tied = [e for e in equations(traced.jaxpr) if e.primitive.name == "optimization_barrier"]
    blocks = [params[f"Block_{i}"] for i in reversed(range(4))]
    for equation, block in zip(tied, blocks, strict=True):
        *of_params, of_input = [variable.aval.shape for variable in equation.outvars]
        assert of_params == [leaf.shape for leaf in jax.tree.leaves(block)]
        assert len(of_input) == 4


def test_running_statistics_move_as_torchs():
    """As in torch: running = 0.9 running + 0.1 batch."""
    head = ProjectionHead(features=4)
    x = jax.random.normal(jax.random.key(0), (64, 8)) * 2 + 3
    variables = head.init(jax.random.key(1), x, train=False)
    _, updated = head.apply(variables, x, train=True, mutable=["batch_stats"])
    hidden = x @ variables["params"]["Dense_0"]["kernel"]
    stats = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * hidden.var(0), rtol=1e-4)


def test_head_is_the_authors():
    """It has no biases; the last BatchNorm has no scale or offset, so its outputs are standardised."""
    head = ProjectionHead(features=4)
    x = jax.random.normal(jax.random.key(0), (64, 8))
    variables = head.init(jax.random.key(1), x, train=False)
    assert set(variables["params"]) == {"Dense_0", "BatchNorm_0", "Dense_1"}
    assert all(set(variables["params"][name]) == {"kernel"} for name in ("Dense_0", "Dense_1"))
    out, _ = head.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, atol=1e-3)
