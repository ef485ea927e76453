"""The benchmark of training runs, both sides do the same work, and its page shows its json."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    tables,
    training,
    training_cases,
    training_jax,
    training_measure,
    training_profile,
    training_tables,
)
from benchmarks.training_cases import Network
from configs import default
from sas_jax import devices, networks
from sas_jax.models import ProjectionHead
from sas_jax.training import SimCLR
from sas_jax.training.losses import nt_xent
from sas_jax.training.step import VIEWS, view_keys
from sas_jax.views import SIGMA, blur_radius, view
from tests.jaxprs import equations

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "pip install -r benchmarks/requirements-training.txt"
CASES = [*training_cases.standard("gpu"), *training_cases.standard("cpu"), *training_cases.quick()]
NETWORKS = sorted({case.network for case in CASES}, key=lambda network: network.name)
TINY = training_cases.quick()[0]


@pytest.fixture(name="torch_simclr", scope="module")
def fixture_torch_simclr():
    for module in ("torch", "torchvision"):
        pytest.importorskip(module, reason=INSTALL)
    from benchmarks import torch_simclr

    return torch_simclr


@pytest.fixture(name="output", scope="module")
def fixture_output(tmp_path_factory):
    """Runs our side, with augmentation."""
    output = tmp_path_factory.mktemp("benchmark") / "training-tiny.json"
    command = [sys.executable, "-m", "benchmarks.training", f"--output={output}", "--quick", "--only=augmented"]
    command += ["--implementations=sas_jax", "--samples=3", f"--profile={output.parent / 'traces'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("of all operations' time") == 3
    return output


class Dot(nn.Module):
    """An encoder that compiles at once."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(4)(images.mean(axis=(1, 2)))


def small_trainer(*, loop_on_device=False):
    trainer = training_jax.make_trainer(TINY, devices.mesh(2))
    trainer.method = SimCLR(Dot(), ProjectionHead(features=4))
    trainer.loop_on_device = loop_on_device
    return trainer


def our_method(network):
    case = training_cases.Case(network, 8, "step", 8, 1, 1)
    return training_jax.make_trainer(case, devices.mesh(1)).method


def our_variables(network):
    """Returns the shapes of the parameters and statistics."""
    method = our_method(network)
    image = jnp.zeros((2, network.size, network.size, 3))
    return jax.eval_shape(lambda key: method.init(key, image, train=True), jax.random.key(0))


def counted_flops(jaxpr):
    """Counts two for each multiplication of a program's convolutions and products, with its inner programs."""
    total = 0
    for equation in equations(jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape  # h, w, in, out
            total += 2 * equation.outvars[0].aval.size * int(np.prod(kernel[:3]))
        if equation.primitive.name == "dot_general":
            total += 2 * equation.outvars[0].aval.size * equation.invars[1].aval.shape[0]
    return total


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_operations_are_those_of_the_network(network):
    method, variables = our_method(network), our_variables(network)
    # XLA's own convolutions, because those for CPUs also multiply zeros.
    method = method.clone(encoder=method.encoder.clone(convolution=jax.lax.conv_general_dilated))
    image = jax.ShapeDtypeStruct((1, network.size, network.size, 3), jnp.float32)
    program = jax.make_jaxpr(lambda variables, image: method.apply(variables, image, train=False))(variables, image)
    assert counted_flops(program.jaxpr) == training_cases.forward_flops(network)


def test_operations_are_about_those_that_torchvision_tells():
    """4.09 and 1.81 billion pairs, with a classifier of 1,000 classes in place of the head."""
    for depth, pairs, features in ((50, 4.09e9, 2048), (18, 1.81e9, 512)):
        flops = training_cases.forward_flops(Network(depth, 1.0, "7x7_pool", 224))
        head = features * (features + training_cases.FEATURES)
        assert flops / 2 - head + 1000 * features == pytest.approx(pairs, rel=3e-3)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_both_sides_have_as_many_parameters(torch_simclr, network):
    ours = sum(leaf.size for leaf in jax.tree.leaves(our_variables(network)["params"]))
    theirs = sum(parameter.numel() for parameter in torch_simclr.SimCLR(network).parameters())
    assert ours == theirs


@pytest.mark.parametrize(
    "network",
    [Network(10, 0.125, "3x3", 16), Network(18, 0.125, "7x7_pool", 32), Network(50, 0.125, "3x3_pool", 16)],
    ids=lambda network: network.stem,
)
def test_both_sides_compute_the_same_with_the_same_parameters(torch_simclr, network):
    import torch

    rng = np.random.default_rng(0)
    # Statistics, too: an exchanged scale or offset would show.
    variables = jax.tree.map(lambda leaf: rng.normal(0.5, 0.5, leaf.shape).astype(np.float32), our_variables(network))
    model = torch_simclr.SimCLR(network).train()
    fill(model, variables["params"])
    images = rng.normal(size=(6, network.size, network.size, 3)).astype(np.float32)
    method = our_method(network)
    ours, _ = method.apply(variables, images, train=True, mutable=["batch_stats"])
    with torch.no_grad():
        theirs = model(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-3)


def fill(model, params):
    """Copies our parameters into PyTorch's modules."""
    import torch

    def copy(module, kernel, norm=None, of_norm=None):
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        module.weight.data = torch.from_numpy(np.ascontiguousarray(kernel.transpose(axes)))
        if norm is not None:
            norm.weight.data, norm.bias.data = (torch.from_numpy(of_norm[name]) for name in ("scale", "bias"))

    encoder, ours = model.encoder, params["encoder"]
    copy(encoder.conv1, ours["Conv_0"]["kernel"], encoder.bn1, ours["BatchNorm_0"])
    blocks = [block for stage in range(1, 5) for block in getattr(encoder, f"layer{stage}")]
    for number, block in enumerate(blocks):
        pairs = [
            (getattr(block, f"conv{i}"), getattr(block, f"bn{i}")) for i in (1, 2, 3) if hasattr(block, f"conv{i}")
        ]
        pairs += [tuple(block.downsample)] if block.downsample is not None else []
        of_block = ours[f"Block_{number}"]
        assert len([name for name in of_block if name.startswith("Conv")]) == len(pairs)
        for i, (conv, norm) in enumerate(pairs):
            copy(conv, of_block[f"Conv_{i}"]["kernel"], norm, of_block[f"BatchNorm_{i}"])
    head = params["head"]
    copy(model.head[0], head["Dense_0"]["kernel"], model.head[1], head["BatchNorm_0"])
    copy(model.head[3], head["Dense_1"]["kernel"])


def test_both_sides_have_the_same_loss(torch_simclr):
    import torch

    z = np.random.default_rng(1).normal(size=(12, 2, 16)).astype(np.float32)
    together = torch.from_numpy(np.concatenate([z[:, 0], z[:, 1]]))
    theirs = torch_simclr.nt_xent(together, temperature=0.3)
    np.testing.assert_allclose(nt_xent(jnp.asarray(z), temperature=0.3), theirs.item(), rtol=1e-5)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_both_sides_have_the_same_augmentation(torch_simclr, network):
    from torchvision.transforms import InterpolationMode

    case = training_cases.Case(network, 8, "step", 8, 1, 1)
    ours = training_jax.make_views(case)
    crop, flip, jitter, grey, *blur, _, normalise = torch_simclr.transform(network).transforms
    assert (tuple(crop.size), crop.scale) == ((ours.size, ours.size), ours.crop_scale)
    assert crop.ratio == pytest.approx(ours.crop_ratio)
    assert (crop.interpolation, crop.antialias) == (InterpolationMode.BICUBIC, True)
    assert (flip.p, jitter.p, grey.p) == (ours.flip, ours.jitter, ours.grey)
    (colour,) = jitter.transforms
    for name in ("brightness", "contrast", "saturation"):
        assert getattr(colour, name) == (1 - getattr(ours, name), 1 + getattr(ours, name))
    assert colour.hue == (-ours.hue, ours.hue)
    assert [each.p for each in blur] == ([ours.blur] if ours.blur else [])
    for each in blur:
        (gaussian,) = each.transforms
        assert (tuple(gaussian.kernel_size), tuple(gaussian.sigma)) == ((2 * blur_radius(network.size) + 1,) * 2, SIGMA)
    assert (normalise.mean, normalise.std) == (ours.mean, ours.std)


def test_our_side_is_what_the_default_config_trains():
    config = default.get_config()
    config.train.batch_size = TINY.batch
    config.data.image_size = TINY.network.size
    config.encoder.update(depth=TINY.network.depth, width=TINY.network.width, stem=TINY.network.stem)
    mesh = devices.mesh(1)
    of_config = networks.make_trainer(config, config.encoder, config.train, mesh=mesh)
    of_benchmark = training_jax.make_trainer(TINY, mesh)
    assert of_benchmark.views == of_config.views
    assert of_benchmark.method == of_config.method
    params, gradient = {"w": jnp.ones((2, 2))}, {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]])}
    updates = []
    for each in (of_benchmark, of_config):
        rate = each.rate(jnp.int32(0), each.horizon(steps=4, steps_per_epoch=4))
        updates.append(each.optimizer.update(gradient, each.optimizer.init(params), params, learning_rate=rate)[0]["w"])
    np.testing.assert_array_equal(*updates)


def test_the_step_alone_is_the_step_from_its_views_on():
    """On the views of the trainer's step: the same loss, statistics and gradients (Adam's first moments)."""
    trainer = small_trainer()
    images = training_measure.make_images(TINY)[: TINY.batch]
    key, horizon = trainer.key(5), trainer.horizon(steps=4, steps_per_epoch=4)
    examples = jnp.arange(TINY.batch)
    keys = view_keys(jax.random.fold_in(key, VIEWS), jnp.int32(0), examples)
    make = jax.jit(jax.vmap(jax.vmap(lambda key, image: view(key, image, trainer.views), (0, None))))
    state = trainer.init(key)
    step = jax.jit(lambda state, pairs: training_jax.step_without_views(trainer, state, pairs, horizon))
    alone = step(state, make(keys, images))
    whole, _ = jax.jit(trainer.step)(state, images, examples, key, horizon)
    assert jax.tree.structure(alone) == jax.tree.structure(whole)
    np.testing.assert_allclose(alone.losses, whole.losses, rtol=1e-5)
    assert np.isfinite(alone.losses[0])
    for one, other in ((alone.batch_stats, whole.batch_stats), (alone.opt_state[1].mu, whole.opt_state[1].mu)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert int(alone.step) == int(whole.step) == 1


@pytest.mark.parametrize("loop_on_device", [False, True])
@pytest.mark.parametrize("part", ["step", "augmented"])
def test_as_many_steps_run_as_are_asked_for(monkeypatch, part, loop_on_device):
    held = []
    plain = training_jax._steps

    def keeping(trainer, program, state, given):
        def counted(*arguments):
            held.append(program(*arguments))
            return held[-1]

        return plain(trainer, counted, state, given)

    monkeypatch.setattr(training_jax, "_steps", keeping)
    trainer = small_trainer(loop_on_device=loop_on_device)
    if part == "step":
        steps = training_jax.step_alone(trainer, TINY)
    else:
        steps = training_jax.augmented(trainer, TINY, training_measure.make_images(TINY))
    steps.run(1)
    steps.run(4)
    assert int(held[-1][0].step) == 5
    assert len(held) == (2 if loop_on_device else 5)
    assert np.isfinite(held[-1][0].losses).all()


def test_a_whole_run_is_timed_in_its_groups():
    case = training_cases.Case(TINY.network, TINY.batch, "end_to_end", images=3 * TINY.batch, steps=2, samples=4)
    settled = []
    seconds = training_jax.whole_run(
        small_trainer(), case, training_measure.make_images(case), lambda: settled.append(time.perf_counter())
    )
    over = time.perf_counter() - settled[0]
    assert len(settled) == 1
    assert len(seconds) == 4
    # Groups of two steps and of one alternate after the first one.
    assert sum(time * steps for time, steps in zip(seconds, (1, 2, 1, 2), strict=True)) < over
    assert min(seconds) > 0


def test_pytorch_is_measured_where_it_is_installed(tmp_path):
    case = next(case for case in training_cases.quick() if case.part == "end_to_end")
    options = types.SimpleNamespace(peer_python=sys.executable, profile=None, limit=300)
    found = training._run(case, "torch", "cpu", tmp_path, options)
    if importlib.util.find_spec("torch") is None:
        assert found["status"] == "skipped"
        assert "cannot be imported" in found["reason"]
    else:
        assert (found["status"], len(found["seconds_per_step"])) == ("measured", case.samples)
        assert found["workers"] >= 1
        assert set(found["versions"]) == {"torch", "torchvision"}


def test_what_fails_says_why(tmp_path):
    case = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, stem="5x5"))
    options = types.SimpleNamespace(peer_python=sys.executable, profile=None, limit=300)
    found = training._run(case, "sas_jax", "cpu", tmp_path, options)
    assert found["status"] == "failed"
    assert found["reason"] == "exited with code 1: KeyError: '5x5'"


def test_our_side_needs_no_more_than_a_machine_with_a_gpu_has():
    script = (
        "import sys\n"
        "for name in ('ml_collections', 'tensorflow_datasets', 'grain', 'tensorboardX', 'array_record', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from benchmarks import stand_ins, training, training_cases, training_measure\n"
        "stand_ins.install()\n"
        "from benchmarks import training_jax, training_profile\n"
        "from sas_jax import devices\n"
        "training_jax.make_trainer(training_cases.quick()[0], devices.mesh()).abstract_state\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_cases_fit_their_batches():
    for backend in ("cpu", "gpu"):
        found = training_cases.standard(backend)
        assert len({case.name for case in found}) == len(found)
        assert {case.part for case in found} == set(training_cases.PARTS)
    for case in CASES:
        assert case.images >= case.batch * case.steps
        assert training_measure.read_case(json.loads(training_measure.write_case(case))) == case


def test_groups_are_of_the_steps_asked_for():
    asked = []
    case = TINY
    found = training_measure._timed(case, asked.append, 0.0, settling=7)
    assert asked == [1, 7, *[case.steps] * case.samples]
    assert len(found["seconds_per_step"]) == case.samples
    assert found["compile_seconds"] > 0  # the clock started at 0.0


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux's /proc")
def test_what_others_use_is_told_from_what_a_measurement_does():
    """Work of the same session is not counted as that of others; seen from another session, it is."""
    script = (
        "import os, time\n"
        "from pathlib import Path\n"
        "from benchmarks.training_measure import others_cpu_seconds\n"
        "def everything():\n"
        "    used = list(map(int, Path('/proc/stat').read_text().splitlines()[0].split()[1:9]))\n"
        "    return (sum(used) - used[3] - used[4]) / os.sysconf('SC_CLK_TCK')\n"
        "before, others, start = everything(), others_cpu_seconds(), time.process_time()\n"
        "print('begun', flush=True)\n"
        "while time.process_time() - start < 1: pass\n"
        "others = others_cpu_seconds() - others\n"
        "print(everything() - before - others)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stdout.readline() == "begun\n"
        begun = training_measure.others_cpu_seconds()
        left_out = float(child.stdout.readline())
        # Seen from this session, the busy second belongs to others.
        assert training_measure.others_cpu_seconds() - begun > 0.9
    assert left_out > 0.9


def test_a_trace_counts_an_operation_from_its_start_to_its_end():
    def event(name, start, duration, **stats):
        return types.SimpleNamespace(name=name, start_ns=start, duration_ns=duration, stats=list(stats.items()))

    def plane(name, *events, line="XLA"):
        return types.SimpleNamespace(name=name, lines=[types.SimpleNamespace(name=line, events=list(events))])

    host = plane(
        "/host:CPU",
        event("convolution.1", 100, 5, hlo_op="convolution.1", _p=9),
        event("fusion", 110, 20, hlo_op="fusion", _p=10),
        event("end: convolution.1", 400, 1, _c=9),
        event("end: fusion", 130, 1, _c=10),
        event("while.2", 0, 900, hlo_op="while.2", _p=11),
        event("end: while.2", 900, 1, _c=11),
        event("python", 0, 5000),
    )
    profile = types.SimpleNamespace(planes=[host])
    assert training_profile.operation_seconds(profile) == pytest.approx({"convolution.1": 300e-9, "fusion": 20e-9})
    (first, second) = training_profile.largest(profile, "")
    assert (first["name"], first["share"]) == ("convolution.1", pytest.approx(300 / 320))
    assert second["origin"] is None
    kernels = [event("gemm", 0, 7, hlo_op="dot.1"), event("gemm", 9, 7, hlo_op="dot.1"), event("memcpy", 5, 3)]
    gpu = types.SimpleNamespace(planes=[host, plane("/device:GPU:0", *kernels, line="Stream #1")])
    assert training_profile.operation_seconds(gpu) == pytest.approx({"dot.1": 14e-9, "memcpy": 3e-9})


def test_operations_are_told_by_what_they_come_from():
    origin = "jit(f)/transpose(jvp(SimCLR.loss))/SimCLR/encoder/Conv_0/conv"
    joined = "jit(f)/jvp(SimCLR.loss)/SimCLR/head/(a/x:b/y)"
    hlo = f"""%fused_computation.3 (param_0: f32[8]) -> f32[8] {{
  %param_0 = f32[8]{{0}} parameter(0)
  ROOT %multiply.1 = f32[8]{{0}} multiply(%param_0, %param_0), metadata={{op_name="jit(f)/vmap(vmap())/mul"}}
}}

ENTRY %main (p: f32[8]) -> f32[8] {{
  %convolution.2 = f32[3,3,8,8]{{3,2,1,0}} convolution(%a), metadata={{op_name="{origin}" id=3}}
  %all-reduce.1 = (f32[8]{{0}}, f32[8]{{0}}) all-reduce(%a), metadata={{op_name="{joined}"}}
  ROOT %fusion.7 = f32[8]{{0}} fusion(%c), kind=kLoop, calls=%fused_computation.3
  %copy.1 = f32[8]{{0}} copy(%c)
}}
"""
    found = training_profile.describe(hlo)
    assert found["convolution.2"] == {"kind": "convolution f32[3,3,8,8]", "origin": "backward, encoder/Conv_0/conv"}
    assert found["all-reduce.1"] == {"kind": "all-reduce several", "origin": "forward, head/several"}
    assert found["fusion.7"] == {"kind": "fusion f32[8]", "origin": "views, vmap(vmap())/mul"}
    assert found["copy.1"]["origin"] is None


def test_what_runs_is_measured_and_profiled(output):
    results = json.loads(output.read_text())
    assert results["benchmark"] == "training"
    (case,) = results["cases"].values()
    own = case["results"]["sas_jax"]
    assert (own["status"], own["devices"], own["dtype"]) == ("measured", 2, "float32")
    assert len(own["seconds_per_step"]) == 3
    assert min(own["seconds_per_step"]) > 0
    assert own["compile_seconds"] > 0
    assert own["memory_before_bytes"] is None or 0 < own["memory_before_bytes"] < own["memory_peak_bytes"]
    shares = [operation["share"] for operation in own["profile"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    assert any(operation["kind"] for operation in own["profile"])
    assert list(output.parent.glob("traces/*augmented/plugins/profile/*/*.xplane.pb"))
    assert "jax.profiler" in training_tables.training(results)


def result(**fields):
    return {"status": "measured", "date": "2026-12-01", "dtype": "bfloat16", "device_kind": "NVIDIA H100 80GB HBM3"} | {
        "seconds_per_step": [0.02, 0.01, 0.04],
        "compile_seconds": 12.3,
        "cores_used_by_others": 0.02,
        "memory_before_bytes": 10**9,
        "memory_peak_bytes": 2 * 10**9,
        "device_memory_peak_bytes": 5 * 10**9,
        **fields,
    }


@pytest.fixture(name="made_up")
def fixture_made_up():
    """Made-up results of a GPU."""
    cases = {}
    for case in training_cases.standard("gpu")[:3]:
        found = {"sas_jax": result()}
        if case.part != "augmented":
            found["torch"] = result(seconds_per_step=[0.04], versions={"torch": "2.0"})
            found["torch_compile"] = {
                "status": "failed",
                "date": "2026-12-01",
                "reason": "exited with code 1: no compiler",
            }
        cases[case.name] = training._describe(case) | {"results": found}
    cases["resnet18-32-512-augmented"]["results"]["sas_jax"] |= {
        "seconds_per_step": [0.022],
        "profile": [{"name": "dot.1", "share": 0.25, "kind": "dot f32[8]", "origin": "forward, head"}],
    }
    return {
        "benchmark": "training",
        "hardware": {"processor": "X", "cores": 8, "memory_bytes": 2**34, "device": "NVIDIA H100 80GB HBM3"},
        "environment": {"python": "3.12", "versions": {"sas_jax": "1", "jax": "2"}, "commit": "abc", "backend": "gpu"},
        "command": "python -m benchmarks.training",
        "cases": json.loads(json.dumps(cases)),
    }


def test_tables_hold_what_was_measured(made_up):
    text = training_tables.training(made_up)
    assert (
        "| ResNet-18, 32 pixels, batch 512, the step alone | 51,200 (25,600-102,400) | 25,600 (25,600-25,600) | "
        "- | 2.00 |" in text
    )
    # 46,545 views per second with augmentation, divided by PyTorch's 25,600 without.
    assert "with augmentation | 46,545 (46,545-46,545) | - | - | 1.82 * |" in text
    flops = training_cases.forward_flops(training_cases.RESNET_18)
    assert f"the step alone | {3 * flops * 51_200 / 989e12:.1%} |" in text
    assert "the step alone | 5,000 | 5,000 | - |" in text
    assert "- ResNet-18, 32 pixels, batch 512: 10.0% of the step alone" in text
    assert "25.0% `dot.1`, dot f32[8] (forward, head)" in text
    assert "PyTorch, torch.compile exited with code 1: no compiler" in text
    assert "torch 2.0" in text
    assert "used no more than 0.1 cores" in text
    made_up["cases"]["resnet18-32-512-step"]["results"]["torch"]["cores_used_by_others"] = 0.84
    assert "- resnet18-32-512-step: PyTorch, eager, 0.8 cores" in training_tables.training(made_up)


def test_a_cpu_has_no_utilisation(made_up):
    made_up["hardware"]["device"] = "cpu"
    for case in made_up["cases"].values():
        for found in case["results"].values():
            found |= {"device_kind": "cpu", "device_memory_peak_bytes": None}
    made_up["cases"]["resnet18-32-512-step"]["results"]["torch"]["dtype_probe_seconds"] = {
        "float32": 0.5,
        "bfloat16": 0.2,
    }
    text = training_tables.training(made_up)
    flops = training_cases.forward_flops(training_cases.RESNET_18)
    assert f"the step alone | {3 * flops * 51_200 / 1e9:,.0f} |" in text
    assert "the step alone | 1,000 | 1,000 | - |" in text
    assert "batch 512: 500 ms in float32 and 200 ms in bfloat16, so it is measured in bfloat16" in text
    assert training_tables.peak("cpu") is None
    assert training_tables.peak("TPU v5 lite") != training_tables.peak("TPU v5")


def test_driver_merges_what_is_of_the_same_work(monkeypatch, tmp_path):
    calls = []

    def run(case, name, backend, folder, options, *, dtype):
        calls.append((case.part, name, backend, dtype))
        probe = {"dtype_probe_seconds": {"float32": 2.0, "bfloat16": 1.0}} if name == "torch" and dtype is None else {}
        return result(seconds_per_step=[float(len(calls))] * case.samples, **probe)

    hardware = {"device": "cpu"}
    monkeypatch.setattr(training, "_run", run)
    output = tmp_path / "out.json"

    def start(path):
        found = json.loads(path.read_text()) if path.exists() else {"hardware": hardware, "cases": {}}
        return found | {"environment": {"backend": "cpu"}}

    monkeypatch.setattr(training, "_start", start)

    def main(*flags):
        monkeypatch.setattr(sys, "argv", ["training", f"--output={output}", "--quick", *flags])
        training.main()
        return json.loads(output.read_text())["cases"]

    cases = main("--implementations=sas_jax,torch")
    assert list(cases) == [case.name for case in training_cases.quick()]
    assert [sorted(case["results"]) for case in cases.values()] == [
        ["sas_jax", "torch"],
        ["sas_jax"],
        ["sas_jax", "torch"],
    ]
    # PyTorch tries the dtypes once.
    assert [call for call in calls if call[1] == "torch"] == [
        ("step", "torch", "cpu", None),
        ("end_to_end", "torch", "cpu", "bfloat16"),
    ]
    again = main("--implementations=torch", "--only=-step")
    assert calls[-1][-1] is None
    assert again["resnet10x0.125-8-8-step"]["results"]["torch"]["seconds_per_step"] == [6.0, 6.0]
    assert (
        again["resnet10x0.125-8-8-step"]["results"]["sas_jax"] == cases["resnet10x0.125-8-8-step"]["results"]["sas_jax"]
    )
    assert again["resnet10x0.125-8-8-end_to_end"] == cases["resnet10x0.125-8-8-end_to_end"]
    # With another number of groups, it counts as different work.
    other = main("--implementations=torch", "--only=-step", "--samples=3")
    assert list(other["resnet10x0.125-8-8-step"]["results"]) == ["torch"]
    monkeypatch.setattr(training, "_run", lambda *_, dtype: {"status": "failed", "reason": "exited with code 1: why"})
    with pytest.raises(SystemExit, match="Some measurements failed"):
        main("--implementations=torch", "--only=-step")
    with pytest.raises(SystemExit, match="--only must be contained in the name of a case, got nothing"):
        main("--only=nothing")


def test_what_takes_too_long_is_stopped_with_its_children(tmp_path):
    script = "import subprocess; subprocess.run(['sleep', '60'])"
    assert training._call([sys.executable, "-c", script], {}, tmp_path / "log", limit=0.5) is None
    assert training._call([sys.executable, "-c", "raise SystemExit(3)"], {}, tmp_path / "log", limit=60) == 3


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--implementations=sas_jax,keras"], "got keras. Correct the name"),
        (["--samples=0"], "--samples must be a whole number, 1 or more"),
    ],
)
def test_flags_that_cannot_be_used_are_named(monkeypatch, capsys, flags, sentence):
    monkeypatch.setattr(sys, "argv", ["training", "--output=x.json", *flags])
    with pytest.raises(SystemExit):
        training._options()
    assert sentence in capsys.readouterr().err


def test_plot_draws_and_fills_the_page(made_up, tmp_path):
    pytest.importorskip("matplotlib", reason=INSTALL)
    output, page = tmp_path / "training-x.json", tmp_path / "page.md"
    output.write_text(json.dumps(made_up))
    page.write_text("<!-- training-x: begin -->\n<!-- training-x: end -->\n")
    command = [sys.executable, "-m", "benchmarks.plot", str(output), f"--page={page}", f"--images={tmp_path}"]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "benchmark-training-x.png").stat().st_size > 10_000
    assert training_tables.training(made_up) in page.read_text()


def test_page_shows_the_results_that_lie_beside_it():
    files = sorted((ROOT / "docs" / "results").glob("training-*.json"))
    if not files:
        pytest.skip("docs/results holds no training-*.json; python -m benchmarks.training writes one")
    page = (ROOT / "docs" / "tables.md").read_text()
    for file in files:
        assert tables.insert(page, file.stem, training_tables.training(json.loads(file.read_text()))) == page, (
            f"docs/tables.md does not show {file.name}: run python -m benchmarks.plot docs/results/training-*.json"
        )
