"""The counts from a compiled program's text, on programs small enough to count by hand."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo
from sas_jax import devices


def test_the_exchanges_of_a_program_are_found():
    """In a program compiled for eight CPU devices, whose text has the same syntax."""
    mesh = devices.mesh(8)
    whole, split = devices.replicated(mesh), devices.batched(mesh)
    x = jax.ShapeDtypeStruct((16, 4), jnp.float32, sharding=split)
    sums = jax.jit(lambda x: x.sum(axis=0), out_shardings=whole).lower(x).compile().as_text()
    assert hlo.collectives(sums) == [("all-reduce", "f32", (4,))]
    assert hlo.exchanged(sums) == {"all-reduce f32": 16}
    rows = jax.jit(lambda x: x, out_shardings=whole).lower(x).compile().as_text()
    assert hlo.collectives(rows) == [("all-gather", "f32", (16, 4))]
    apart = jax.jit(lambda x: 2 * x, out_shardings=split).lower(x).compile().as_text()
    assert hlo.collectives(apart) == []
    assert ("f32", (2, 4)) in hlo.arrays(apart)


def test_several_arrays_exchanged_at_once_are_counted_each():
    text = "%all-reduce.1 = (bf16[3,64]{1,0:T(8,128)(2,1)}, f32[]{:T(128)S(1)}) all-reduce(%a, %b), channel_id=2"
    assert hlo.collectives(text) == [("all-reduce", "bf16", (3, 64)), ("all-reduce", "f32", ())]
    assert hlo.exchanged(text) == {"all-reduce bf16": 384, "all-reduce f32": 4}


def test_of_an_exchange_that_is_started_the_result_counts_and_not_what_is_given():
    text = "%a.1 = (f32[64,128]{1,0}, f32[512,128]{1,0}) all-gather-start(%x), channel_id=1"
    assert hlo.collectives(text) == [("all-gather", "f32", (512, 128))]
    text = "%a.2 = (bf16[8]{0}, f32[4]{0}) all-reduce-start(%x, %y), channel_id=1"
    assert hlo.exchanged(text) == {"all-reduce bf16": 16, "all-reduce f32": 16}


# A loop of steps on 4 images of 8 x 8 pixels: a gather of rows from 100, a convolution with its two gradients, an
# elementwise kernel, a product, a layout copy, a loop of three iterations, and a loss written to its place.
STEPS = """
HloModule jit_steps, is_scheduled=true

%fused_rows (param_0.1: u8[100,8,8,3], param_1.1: s32[4]) -> bf16[4,8,8,3] {
  %param_0.1 = u8[100,8,8,3]{3,2,1,0} parameter(0)
  %param_1.1 = s32[4]{0} parameter(1)
  %gather.1 = u8[4,8,8,3]{3,2,1,0} gather(%param_0.1, %param_1.1), offset_dims={1,2,3}
  ROOT %convert.1 = bf16[4,8,8,3]{3,2,1,0} convert(%gather.1)
}

%fused_relu (param_0.2: bf16[4,8,8,16], param_1.2: f32[16]) -> (bf16[4,8,8,16], f32[4,8,8,16]) {
  %param_0.2 = bf16[4,8,8,16]{3,2,1,0} parameter(0)
  %param_1.2 = f32[16]{0} parameter(1)
  %broadcast.1 = f32[4,8,8,16]{3,2,1,0} broadcast(%param_1.2), dimensions={3}
  %maximum.1 = bf16[4,8,8,16]{3,2,1,0} maximum(%param_0.2, %param_0.2)
  ROOT %tuple.9 = (bf16[4,8,8,16]{3,2,1,0}, f32[4,8,8,16]{3,2,1,0}) tuple(%maximum.1, %broadcast.1)
}

%fused_dot (param_0.3: f32[4,16], param_1.3: f32[16,8]) -> f32[4,8] {
  %param_0.3 = f32[4,16]{1,0} parameter(0)
  %param_1.3 = f32[16,8]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,8]{1,0} dot(%param_0.3, %param_1.3), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%fused_transpose (param_0.4: bf16[4,8,8,16]) -> bf16[4,16,8,8] {
  %param_0.4 = bf16[4,8,8,16]{3,2,1,0} parameter(0)
  ROOT %transpose.1 = bf16[4,16,8,8]{3,2,1,0} transpose(%param_0.4), dimensions={0,3,1,2}
}

%fused_loss (param_0.5: f32[50], param_1.5: f32[], param_2.5: s32[]) -> f32[50] {
  %param_0.5 = f32[50]{0} parameter(0)
  %param_1.5 = f32[] parameter(1)
  %param_2.5 = s32[] parameter(2)
  %bitcast.1 = f32[1]{0} bitcast(%param_1.5)
  ROOT %dynamic-update-slice.1 = f32[50]{0} dynamic-update-slice(%param_0.5, %bitcast.1, %param_2.5)
}

%turn (arg.2: (s32[], f32[10])) -> (s32[], f32[10]) {
  %arg.2 = (s32[], f32[10]{0}) parameter(0)
  %i.2 = s32[] get-tuple-element(%arg.2), index=0
  %x.2 = f32[10]{0} get-tuple-element(%arg.2), index=1
  %negate.2 = f32[10]{0} negate(%x.2)
  ROOT %tuple.2 = (s32[], f32[10]{0}) tuple(%i.2, %negate.2)
}

%step (arg.1: (s32[], u8[100,8,8,3], s32[4], f32[50], f32[10])) -> (s32[], u8[100,8,8,3], s32[4], f32[50], f32[10]) {
  %arg.1 = (s32[], u8[100,8,8,3]{3,2,1,0}, s32[4]{0}, f32[50]{0}, f32[10]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%arg.1), index=0
  %images.1 = u8[100,8,8,3]{3,2,1,0} get-tuple-element(%arg.1), index=1
  %order.1 = s32[4]{0} get-tuple-element(%arg.1), index=2
  %losses.1 = f32[50]{0} get-tuple-element(%arg.1), index=3
  %x.1 = f32[10]{0} get-tuple-element(%arg.1), index=4
  %kernel.1 = bf16[16,3,3,3]{3,2,1,0} constant({...})
  %scale.1 = f32[16]{0} constant({...})
  %rows.1 = bf16[4,8,8,3]{3,2,1,0} fusion(%images.1, %order.1), kind=kLoop, calls=%fused_rows
  %conv.1 = (bf16[4,8,8,16]{3,2,1,0}, u8[0]{0}) custom-call(%rows.1, %kernel.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(steps)/encoder/Conv_0"}
  %y.1 = bf16[4,8,8,16]{3,2,1,0} get-tuple-element(%conv.1), index=0
  %relu.1 = (bf16[4,8,8,16]{3,2,1,0}, f32[4,8,8,16]{3,2,1,0}) fusion(%y.1, %scale.1), kind=kLoop, calls=%fused_relu
  %g.1 = bf16[4,8,8,16]{3,2,1,0} get-tuple-element(%relu.1), index=0
  %conv.2 = (bf16[16,3,3,3]{3,2,1,0}, u8[0]{0}) custom-call(%rows.1, %g.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %conv.3 = (bf16[4,8,8,3]{3,2,1,0}, u8[0]{0}) custom-call(%g.1, %kernel.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %move.1 = bf16[4,16,8,8]{3,2,1,0} fusion(%y.1), kind=kInput, calls=%fused_transpose
  %left.1 = f32[4,16]{1,0} constant({...})
  %right.1 = f32[16,8]{1,0} constant({...})
  %product.1 = f32[4,8]{1,0} fusion(%left.1, %right.1), kind=kCustom, calls=%fused_dot
  %product.2 = f32[4,4]{1,0} custom-call(%product.1, %product.1), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["1"]}}}
  %loss.1 = f32[] constant(0)
  %put.1 = f32[50]{0} fusion(%losses.1, %loss.1, %i.1), kind=kLoop, calls=%fused_loss
  %given.1 = (s32[], f32[10]{0}) tuple(%i.1, %x.1)
  %turns.1 = (s32[], f32[10]{0}) while(%given.1), condition=%more, body=%turn, backend_config={"known_trip_count":{"n":"3"}}
  %z.1 = f32[10]{0} get-tuple-element(%turns.1), index=1
  ROOT %tuple.1 = (s32[], u8[100,8,8,3]{3,2,1,0}, s32[4]{0}, f32[50]{0}, f32[10]{0}) tuple(%i.1, %images.1, %order.1, %put.1, %z.1)
}

ENTRY %main (state: (s32[], u8[100,8,8,3], s32[4], f32[50], f32[10])) -> (s32[], u8[100,8,8,3], s32[4], f32[50], f32[10]) {
  %state = (s32[], u8[100,8,8,3]{3,2,1,0}, s32[4]{0}, f32[50]{0}, f32[10]{0}) parameter(0)
  ROOT %while = (s32[], u8[100,8,8,3]{3,2,1,0}, s32[4]{0}, f32[50]{0}, f32[10]{0}) while(%state), condition=%more, body=%step
}
"""  # noqa: E501

ROWS, KERNEL, FEATURES = 4 * 8 * 8 * 3, 16 * 3 * 3 * 3, 4 * 8 * 8 * 16


@pytest.fixture(name="kernels", scope="module")
def fixture_kernels():
    return {kernel.name: kernel for kernel in hlo.Program(STEPS).kernels()}


@pytest.mark.parametrize(
    ("name", "kind", "read", "written", "operations"),
    [
        ("rows.1", "fusion", ROWS + 4 * 4, 2 * ROWS, 0),  # four of a hundred images
        ("conv.1", "convolution", 2 * (ROWS + KERNEL), 2 * FEATURES, 2 * FEATURES * 27),
        ("conv.2", "convolution", 2 * (ROWS + FEATURES), 2 * KERNEL, 2 * FEATURES * 27),
        ("conv.3", "convolution", 2 * (FEATURES + KERNEL), 2 * ROWS, 2 * FEATURES * 27),
        ("relu.1", "fusion", 2 * FEATURES + 4 * 16, 6 * FEATURES, 0),
        ("move.1", "copy", 2 * FEATURES, 2 * FEATURES, 0),
        ("product.1", "product", 4 * (4 * 16 + 16 * 8), 4 * 4 * 8, 2 * 4 * 16 * 8),
        ("product.2", "product", 4 * 4 * 8, 4 * 4 * 4, 2 * 4 * 8 * 4),  # an operand that is given twice is read once
        ("put.1", "fusion", 4 + 4, 4, 0),  # one of fifty, in place
        ("negate.2", "fusion", 4 * 10, 4 * 10, 0),
    ],
)
def test_a_kernel_is_counted(kernels, name, kind, read, written, operations):
    found = kernels[name]
    assert (found.kind, found.read, found.written, found.operations) == (kind, read, written, operations)


def test_a_step_is_the_body_of_the_loop_that_convolves(kernels):
    assert hlo.Program(STEPS).step == "step"
    assert len(kernels) == 10
    assert kernels["negate.2"].times == 3
    assert kernels["conv.1"].origin == "jit(steps)/encoder/Conv_0"
    assert ("f32", (4, 8, 8, 16)) in kernels["relu.1"].results


def test_a_summary_adds_up_and_its_floor_is_of_the_slower_of_bytes_and_operations(kernels):
    found = hlo.summary(list(kernels.values()))
    assert found["kernels"] == 12
    assert found["of"]["convolution"] == {"kernels": 3, "bytes": 3 * 2 * (ROWS + KERNEL + FEATURES)}
    for count in ("kernels", "bytes"):
        assert found[count] == sum(each[count] for each in found["of"].values())
    assert found["operations"] == 3 * 2 * FEATURES * 27 + 2 * 4 * 16 * 8 + 2 * 4 * 8 * 4
    speed = {"bf16": 1e3, "f32": 1e3}
    values = list(kernels.values())
    assert hlo.floor_seconds(values, bandwidth=1e30, speed=speed) == pytest.approx(found["operations"] / 1e3)
    slow = dict.fromkeys(speed, 1e30)
    assert hlo.floor_seconds(values, bandwidth=10.0, speed=slow) == pytest.approx(found["bytes"] / 10)
    both = hlo.floor_seconds(values, bandwidth=100.0, speed=speed)
    assert both > max(found["operations"] / 1e3, found["bytes"] / 100)
