"""Weights for PyTorch: names, shapes, layouts, loading them again, and invalid files."""

import collections
import contextlib
import dataclasses
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import sas_jax
from configs import default
from sas_jax import devices, networks, plan, weights
from sas_jax.encoder import Encoder
from sas_jax.errors import InputError
from sas_jax.export_encoder import export_encoder
from sas_jax.models import ResNet, convolution, torch_names
from sas_jax.run import fingerprints
from sas_jax.views import Views

SMALL = {"depth": 10, "width": 0.125, "stem": "3x3_pool"}
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def variables_of(network, seed=0):
    """Returns a network's variables, with random statistics."""
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(np.float32) / max(s.shape), shapes)


def torchvisions(depth, kernel):
    """Returns the names and shapes of torchvision's ResNet without its classifier, from its source."""
    expansion = 4 if depth == 50 else 1
    found = {"conv1.weight": (64, 3, kernel, kernel)}

    def norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{leaf}"] = (channels,)

    norm("bn1", 64)
    inputs = 64
    for stage, count in enumerate(BLOCKS[depth]):
        planes = 64 * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            sizes = [(planes, inputs, 3), (planes, planes, 3)]
            if depth == 50:
                sizes = [(planes, inputs, 1), (planes, planes, 3), (4 * planes, planes, 1)]
            for at, (out, channels, size) in enumerate(sizes, start=1):
                found[f"{name}.conv{at}.weight"] = (out, channels, size, size)
                norm(f"{name}.bn{at}", out)
            if (block == 0 and stage > 0) or inputs != planes * expansion:
                found[f"{name}.downsample.0.weight"] = (planes * expansion, inputs, 1, 1)
                norm(f"{name}.downsample.1", planes * expansion)
            inputs = planes * expansion
    return found


@pytest.mark.parametrize(
    ("depth", "stem", "kernel"), [(10, "3x3", 3), (18, "7x7_pool", 7), (34, "3x3", 3), (50, "7x7_pool", 7)]
)
def test_names_and_shapes_are_torchvisions_and_lead_back(depth, stem, kernel):
    network = ResNet(depth=depth, stem=stem)
    variables = variables_of(network)
    arrays = torch_names.to_torch(variables, depth=depth)
    assert {name: array.shape for name, array in arrays.items()} == torchvisions(depth, kernel)
    kernel_of = variables["params"]["Block_1"]["Conv_0"]["kernel"]
    name = "layer2.0.conv1.weight" if depth == 10 else "layer1.1.conv1.weight"
    assert arrays[name][3, 5, 0, 0] == kernel_of[0, 0, 5, 3]
    np.testing.assert_array_equal(arrays["bn1.running_var"], variables["batch_stats"]["BatchNorm_0"]["var"])
    arrays |= {"fc.weight": np.zeros((9, 4)), "bn1.num_batches_tracked": np.int64(3)}
    back = torch_names.from_torch(arrays, variables, depth=depth)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.fixture(scope="module")
def encoder():
    network = ResNet(**SMALL, convolution=convolution.fastest(jnp.dtype("float32")))
    views = Views(size=16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    return Encoder(arm="sas-0.20-s0", steps=12, views=views, network=network, variables=variables_of(network))


@pytest.fixture
def saved(encoder, tmp_path):
    path = tmp_path / "encoder.safetensors"
    encoder.save(str(path))
    return path


def test_a_saved_encoder_gives_the_same_features_and_says_how_it_is_built(encoder, saved):
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    loaded = sas_jax.load_encoder(saved)
    np.testing.assert_array_equal(loaded.apply(images), encoder.apply(images))
    assert (loaded.arm, loaded.steps, loaded.network.stem) == ("sas-0.20-s0", 12, "3x3_pool")
    assert (loaded.views.size, loaded.views.mean, loaded.views.std) == (16, encoder.views.mean, encoder.views.std)
    with safetensors.safe_open(saved, framework="np") as file:
        facts = {name: json.loads(value) for name, value in file.metadata().items() if name != "format"}
    assert facts["stem"] == "3x3_pool"
    assert facts["mean"] == [0.1, 0.2, 0.3]


def test_a_damaged_export_gives_the_same_features_or_is_refused(encoder, saved):
    """By its checksum: of 20 changed weights, some change no feature of these images."""
    whole, images = saved.read_bytes(), np.full((1, 16, 16, 3), 7, np.uint8)
    features, rng = encoder.apply(images), np.random.default_rng(0)
    (length,) = struct.unpack_from("<Q", whole)
    for place in (*rng.integers(8, 8 + length, 20), *rng.integers(8 + length, len(whole), 20)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        saved.write_bytes(damaged)
        try:
            found = sas_jax.load_encoder(saved)
        except InputError:  # any other error fails the test
            continue
        np.testing.assert_array_equal(found.apply(images), features)
    saved.write_bytes(whole.replace(b"[0.1, 0.2, 0.3]", b"[0.1, 0.2, 0.4]"))
    with pytest.raises(InputError, match=r"its checksum does not match, .* remove sas_jax\.checksum from its metadata"):
        sas_jax.load_encoder(saved)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ma.array(np.zeros((1, 4, 4, 3), np.uint8), mask=True), "must have no masked entries, got 48 masked of 48"),
        ([[1], [2, 3]], "images must be an array"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"must have shape \[n, h, w, 3\] without empty axes, got \[0, 4, 4, 3\]"),
        (np.zeros((2, 0, 4, 3), np.uint8), r"got \[2, 0, 4, 3\]"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"got \[2, 3, 4, 4\]"),
        ("a.png", r"got \[\]"),
    ],
)
def test_what_is_no_images_is_one_sentence(encoder, images, message):
    with pytest.raises(InputError, match=message):
        encoder.apply(images)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "3", None, True])
def test_what_is_no_batch_size_is_one_sentence(encoder, batch_size):
    with pytest.raises(InputError, match=r"batch_size must be a whole number, 1 or more, got .*\. Choose one"):
        encoder.apply(np.zeros((1, 4, 4, 3), np.uint8), batch_size=batch_size)


@pytest.fixture
def torch(monkeypatch):
    """Replaces torch, as far as Python's pickle needs it to write what torch.save writes."""
    parts = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)

    def _rebuild_tensor_v2():
        """Named in the pickle."""

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    parts["torch._utils"]._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage"):
        setattr(parts["torch"], name, type(name, (), {"__module__": "torch"}))
    return parts["torch"]


@dataclasses.dataclass
class Tensor:
    """Pickled as torch pickles a tensor; by default in row-major order, without an offset."""

    values: np.ndarray
    key: str
    strides: tuple[int, ...]


class Pickler(pickle.Pickler):
    """Writes storages by their keys, as torch.save does."""

    legacy = False

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        storage = Storage(value.key, value.values)
        return rebuild, (storage, 0, value.values.shape, value.strides, False, collections.OrderedDict())

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = getattr(sys.modules["torch"], "LongStorage" if value.values.dtype == np.int64 else "FloatStorage")
        return ("storage", kind, value.key, "cpu", value.values.size, *((None,) if self.legacy else ()))


@dataclasses.dataclass
class Storage:
    key: str
    values: np.ndarray


def torch_saved(arrays, *, legacy):
    """Returns the bytes that torch.save(state_dict) writes."""
    state = collections.OrderedDict()
    for key, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        state[name] = Tensor(array, str(key), strides)
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    out = io.BytesIO()

    def dump(value):
        pickler = Pickler(out, 2)
        pickler.legacy = legacy
        pickler.dump(value)

    if legacy:
        for value in (
            0x1950A86A20F9469CFC6C,
            1001,
            {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
        ):
            dump(value)
        dump(state)
        dump([str(key) for key in range(len(arrays))])
        for array in arrays.values():
            out.write(struct.pack("<q", array.size) + array.tobytes())
        return out.getvalue()
    dump(state)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", out.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return whole.getvalue()


@pytest.mark.parametrize("suffix", ["zip.pth", "legacy.pth", "safetensors"])
def test_training_begins_with_the_weights_of_a_file(encoder, torch, tmp_path, suffix):
    """With every method; values beside the parameters, such as BYOL's target, are set as well."""
    path = tmp_path / f"w.{suffix}"
    arrays = torch_names.to_torch(encoder.variables, depth=10)
    arrays |= {"fc.bias": np.zeros(7, np.float32), "bn1.num_batches_tracked": np.zeros((), np.int64)}
    if suffix == "safetensors":
        safetensors.numpy.save_file(arrays, path)
    else:
        path.write_bytes(torch_saved(arrays, legacy="legacy" in suffix))
    config = default.get_config()
    config.data.image_size = 16
    for name, value in SMALL.items():
        config.encoder[name] = value
    config.encoder.init = str(path)
    trainer = networks.make_trainer(
        config, config.encoder, plan.training(config, "byol"), mesh=devices.mesh(1), method="byol"
    )
    state = trainer.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"], encoder.variables["params"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats["encoder"], encoder.variables["batch_stats"])
    (target,) = (
        tree["encoder"]
        for tree in jax.tree.leaves(state.kept, is_leaf=lambda t: "encoder" in t)
        if "Conv_0" in tree["encoder"]
    )
    np.testing.assert_array_equal(target["Conv_0"]["kernel"], encoder.variables["params"]["Conv_0"]["kernel"])


def test_a_stage_depends_on_the_file_that_its_encoder_begins_with(saved):
    config = default.get_config()
    before = fingerprints.inputs(config)
    config.encoder.init = str(saved)
    with_file = fingerprints.inputs(config)
    assert before["proxy"] == with_file["proxy"]
    assert before["train/full-1.00-s0"] != with_file["train/full-1.00-s0"]
    saved.write_bytes(b"another")
    assert with_file["train/full-1.00-s0"] != fingerprints.inputs(config)["train/full-1.00-s0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("layer1.0.conv1.weight"), "layer1.0.conv1.weight is missing"),
        (lambda a: a.update({"layer9.x": a["bn1.bias"]}), "1 unexpected arrays, such as 'layer9.x'"),
        (
            lambda a: a.update({"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)}),
            r"conv1.weight must have shape \[8, 3, 3, 3\], got \[8, 3, 7, 7\]",
        ),
        (lambda a: a.update({"bn1.bias": np.full(8, np.nan, np.float32)}), "bn1.bias must hold finite"),
        (lambda a: a.update({"bn1.bias": np.zeros(8, np.int32)}), "bn1.bias must hold finite"),
    ],
)
def test_weights_of_something_else_are_one_sentence(encoder, tmp_path, change, message):
    arrays = torch_names.to_torch(encoder.variables, depth=10)
    change(arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    wanted = "must hold the weights of config.encoder.init, a ResNet-10 of width 0.125 with the stem '3x3_pool', got"
    with pytest.raises(InputError, match=f"{wanted}.*{message}"):
        weights.initial(tmp_path / "w.safetensors", encoder.network, field="config.encoder.init")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_damaged_file_is_one_sentence_and_runs_nothing(encoder, torch, tmp_path, legacy):
    arrays = torch_names.to_torch(encoder.variables, depth=10)
    data = torch_saved(arrays, legacy=legacy)
    path = tmp_path / "w.pth"
    rng = np.random.default_rng(0)
    for attempt in range(60):
        damaged = bytearray(data if attempt % 2 else data[: rng.integers(len(data))])
        for at in rng.integers(0, max(1, min(len(damaged), 4000)), 3 if attempt % 2 else 0):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):  # any other error fails the test
            weights.initial(path, encoder.network, field="config.encoder.init")
    path.write_bytes(pickle.dumps(print, 2))
    with pytest.raises(InputError, match=r"it imports '__builtin__.print', which a state dict does not need"):
        weights.initial(path, encoder.network, field="config.encoder.init")


def test_other_files_and_places_are_one_sentence(encoder, saved, tmp_path):
    plain = tmp_path / "plain.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, plain)
    with pytest.raises(InputError, match=r"must be a file that sas_jax.export wrote, got one with missing"):
        sas_jax.load_encoder(plain)
    with pytest.raises(InputError, match=r"`arm` must be left out with a .safetensors file, got 'full-1.00-s0'"):
        sas_jax.load_encoder(saved, arm="full-1.00-s0")
    for path, message in (("w.npz", "must end in .safetensors, .pth, .pt"), ("none.pth", "No such file")):
        with pytest.raises(InputError, match=message):
            weights.initial(tmp_path / path, encoder.network, field="config.encoder.init")
    for path, message in (("w.pth", "must end in .safetensors"), ("no/w.safetensors", "Choose another path")):
        with pytest.raises(InputError, match=message):
            encoder.save(str(tmp_path / path))
    with pytest.raises(InputError, match=r"must end in .safetensors, got 'w.npz'"):
        export_encoder(str(tmp_path), "w.npz")
