"""Pretrained networks as their libraries load them: tiny ones with random weights that the tests save to disk."""

import json
import os

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read on import of transformers: no look-up of wrong names on the network
reason = "make test-torch runs these, with PyTorch, timm, transformers, ONNX and ONNX Runtime"
torch = pytest.importorskip("torch", reason=reason)
timm = pytest.importorskip("timm", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)
onnx = pytest.importorskip("onnx", reason=reason)
pytest.importorskip("onnxruntime", reason=reason)

from PIL import Image  # noqa: E402

from sas_jax import pretrained  # noqa: E402
from sas_jax.errors import InputError  # noqa: E402
from sas_jax.pretrained import by_onnx  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, size=(5, 20, 20, 3), dtype=np.uint8)


def load(name):
    return pretrained.load(name, field="--model")


def features(network, **options):
    return np.concatenate(list(network.images(IMAGES, **options)))


def test_timm_with_its_own_transform(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    config = network.pretrained_cfg
    timm.models.save_for_hf(network, tmp_path, model_config={"num_classes": 1000})
    loaded = load(f"timm/{tmp_path}")
    assert loaded.size == round(config["input_size"][-1] / config["crop_pct"])
    found = features(loaded, batch_size=2)

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    with torch.no_grad():
        pixels = torch.stack([transform(Image.fromarray(image)) for image in IMAGES])
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL = {"image_size": 16, "patch_size": 8}


def processor(path):
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(path)


@pytest.mark.parametrize("pooled", [True, False])
def test_transformers_pooled_or_its_first_token(tmp_path, pooled):
    torch.manual_seed(0)
    network = transformers.ViTModel(transformers.ViTConfig(**VIT, **SMALL), add_pooling_layer=pooled).eval()
    network.save_pretrained(tmp_path)
    processor(tmp_path)
    found = features(load(f"hf/{tmp_path}"), batch_size=2)
    small = np.stack([np.asarray(Image.fromarray(x).resize((16, 16), Image.Resampling.BILINEAR)) for x in IMAGES])
    with torch.no_grad():
        output = network(torch.tensor((small / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2))
    expected = output.pooler_output if pooled else output.last_hidden_state[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def graph(path, operation="GlobalAveragePool", shape=("n", 3, 8, 8), metadata=None):
    """Saves a network of a single operation."""
    make = onnx.helper
    kind = onnx.TensorProto.FLOAT
    output = make.make_tensor_value_info("y", kind, ["n", 3, "h", "w"])
    body = make.make_graph(
        [make.make_node(operation, ["x"], ["y"])], "g", [make.make_tensor_value_info("x", kind, shape)], [output]
    )
    model = make.make_model(body, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    make.set_model_props(model, {key: json.dumps(value) for key, value in (metadata or {}).items()})
    onnx.save(model, path)
    return f"onnx/{path}"


@pytest.mark.parametrize("batch", ["n", 1, 2])
@pytest.mark.parametrize("metadata", [{}, {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}])
def test_onnx_of_any_batch_size_and_normalisation(tmp_path, batch, metadata):
    channels = "num_channels" if batch == "n" else 3  # as optimum names it
    loaded = load(graph(tmp_path / "m.onnx", shape=(batch, channels, 8, 8), metadata=metadata))
    assert loaded.size == 8
    mean, std = metadata.values() if metadata else (by_onnx.IMAGENET_MEAN, by_onnx.IMAGENET_STD)
    small = np.stack([np.asarray(Image.fromarray(x).resize((8, 8), Image.Resampling.BICUBIC)) for x in IMAGES])
    found = features(loaded, batch_size=3)
    np.testing.assert_allclose(found, (small.mean(axis=(1, 2)) / 255 - mean) / std, atol=1e-5)


def test_what_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="must be one vector per image, got"):
        features(load(graph(tmp_path / "m.onnx", "Relu")), batch_size=2)
    (tmp_path / "damaged.onnx").write_bytes(b"no graph")
    network = transformers.ViTModel(transformers.ViTConfig(**VIT, **SMALL))
    weights = {name: value for name, value in network.state_dict().items() if "layernorm" not in name}
    network.save_pretrained(tmp_path / "lacking", state_dict=weights)
    processor(tmp_path / "lacking")
    (tmp_path / "empty").mkdir()
    for name, sentence in (
        (f"onnx/{tmp_path / 'damaged.onnx'}", "which cannot be loaded "),
        (graph(tmp_path / "wide.onnx", shape=("n", 8, 8, 8)), r"its input must be float \[n, 3, h, w\], got"),
        (
            graph(tmp_path / "mean.onnx", metadata={"mean": [0.5]}),
            "must hold three numbers as mean and three above 0 as std",
        ),
        (f"hf/{tmp_path / 'lacking'}", "of its weights are missing or have a wrong shape"),
        (f"hf/{tmp_path / 'empty'}", "which cannot be loaded "),
        (f"timm/{tmp_path / 'empty'}", "which cannot be loaded "),
        ("hf/nobody/no-such-model", "it is not in the local cache, and offline mode is on; unset HF_HUB_OFFLINE"),
        ("timm/resnet18", "it is not in the local cache, and offline mode is on; unset HF_HUB_OFFLINE"),
        ("timm/resnet19", "Did you mean one of timm/resnet1"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            load(name)
        assert "\n" not in str(caught.value)
