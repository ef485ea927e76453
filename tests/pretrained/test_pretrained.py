"""Pretrained networks without PyTorch or ONNX Runtime: names, batches, the shape of outputs, the cache.

test_pretrained_torch.py loads real, tiny networks.
"""

import contextlib
import importlib.util
import sys
import types

import jax
import numpy as np
import pytest

from sas_jax import pretrained, settings
from sas_jax.errors import InputError
from sas_jax.views import Views, view

IMAGES = np.random.default_rng(0).integers(0, 256, size=(9, 4, 4, 3), dtype=np.uint8)


def model(forward=lambda batch: batch.mean(axis=(1, 2))):
    return pretrained.Model("timm/fake", 4, "cpu", lambda batch: batch.astype(np.float64), forward)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("timm/resnet18", True),
        ("hf/facebook/dinov2-small", True),
        ("onnx//data/model.onnx", True),
        ("timm/features.npy", False),
        ("features/timm.npy", False),
        ("timm", False),
        ("clip", False),
        ("", False),
    ],
)
def test_names_of_networks_differ_from_paths(name, is_one):
    assert pretrained.is_model(name) == is_one


def features(network, **options):
    return np.concatenate(list(network.images(IMAGES, **options)))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_features_are_in_the_images_order_in_float32(batch_size):
    found = features(model(), batch_size=batch_size)
    np.testing.assert_allclose(found, IMAGES.mean(axis=(1, 2)), rtol=1e-6)
    assert found.dtype == np.float32


def test_ones_behind_the_vectors_are_dropped():
    found = features(model(lambda batch: batch.mean(axis=(1, 2))[:, :, None, None]), batch_size=4)
    assert found.shape == (9, 3)


@pytest.mark.parametrize(
    ("forward", "sentence"),
    [
        (lambda batch: batch, r"timm/fake must be one vector per image, got \[4, 4, 4, 3\]\. Choose"),
        (lambda batch: batch.mean(axis=(1, 2, 3)), r"must be one vector per image, got \[4\]\."),
        (lambda batch: batch.mean(axis=(1, 2)) * np.nan, "timm/fake must be finite, got NaN or infinity"),
    ],
)
def test_outputs_that_are_no_vectors(forward, sentence):
    with pytest.raises(InputError, match=sentence):
        features(model(forward), batch_size=4)


def test_views_are_those_of_their_seed_and_image_whatever_the_batch():
    plain = Views(size=4, mean=(0, 0, 0), std=(1, 1, 1), blur=0.5)
    one, expected = jax.jit(view, static_argnames="views"), []
    for index, image in enumerate(IMAGES):
        vectors = []
        for number in range(3):
            key = jax.random.fold_in(jax.random.fold_in(settings.key(5), index), number)
            vector = np.round(np.asarray(one(key, image, views=plain)) * 255).mean(axis=(0, 1))
            vectors.append(vector / np.linalg.norm(vector))
        expected.append(np.mean(vectors, axis=0))
    random = pretrained.RandomViews(Views(size=9, mean=(0.4, 0.5, 0.6), blur=0.5), 3, seed=5)
    for batch_size in (1, 14):
        found = features(model(), batch_size=batch_size, random=random)
        np.testing.assert_allclose(found, expected, atol=2e-3)  # a pixel may be rounded differently


@pytest.mark.parametrize("name", ["resnet18", "jax/resnet18", "timm/", "/timm", ""])
def test_names_without_a_kind(name):
    with pytest.raises(
        InputError, match=r"^--model must be timm/NAME or hf/NAME .* or onnx/FILE, got .*\. Correct it\.$"
    ):
        pretrained.check(name, field="--model")


@pytest.mark.parametrize(
    ("name", "package"),
    [("timm/resnet18", "timm"), ("hf/a/b", "transformers"), ("hf/a/b", "torch"), ("onnx/m.onnx", "onnxruntime")],
)
def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch, name, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each: None if each == package else found("json"))
    with pytest.raises(InputError, match=rf"\(not installed: {package}\)\. Run pip install 'sas_jax\[pretrained\]'\.$"):
        pretrained.load(name, field="--model")


@pytest.fixture
def fake_timm(monkeypatch):
    """Replaces timm by a list of names and a network that is never reached."""

    def create_model(name, **options):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand tried twice.")

    names = ["resnet18", "resnet34", "vit_small_patch14_dinov2", "efficientnet_lite0"]
    timm = types.SimpleNamespace(
        list_models=lambda pretrained=False: [f"{name}.in1k" for name in names] if pretrained else names,
        create_model=create_model,
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace())
    monkeypatch.setattr(pretrained, "asked_if_reachable", lambda: contextlib.nullcontext(""))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet19", "timm/resnet18"),
        ("resnet34.in2k", "timm/resnet34.in1k"),
        ("dinov2", "timm/vit_small_patch14_dinov2"),
    ],
)
def test_unknown_names_get_the_nearest(fake_timm, name, nearest):
    with pytest.raises(InputError) as caught:
        pretrained.check(f"timm/{name}", field="config.latent_classes.embeddings")
    assert str(caught.value).startswith(
        f"Unknown timm model 'timm/{name}' in config.latent_classes.embeddings. Did you mean one of timm/"
    )
    assert nearest in str(caught.value)


@pytest.mark.parametrize(("problem", "said"), [("", "We couldn't connect to"), ("the hub is away", "the hub is away)")])
def test_weights_that_cannot_be_fetched_are_one_sentence(fake_timm, monkeypatch, problem, said):
    monkeypatch.setattr(pretrained, "asked_if_reachable", lambda: contextlib.nullcontext(problem))
    with pytest.raises(InputError) as caught:
        pretrained.load("timm/resnet18", field="--model")
    assert f"got 'timm/resnet18', which cannot be loaded ({said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_onnx_file_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(InputError, match=r"must name an ONNX file, got .*which is not a file"):
        pretrained.check(f"onnx/{tmp_path / 'none.onnx'}", field="--model")


def test_embedded_once_and_known_by_the_files_contents(monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(pretrained, "load", lambda name, field: loaded.append(name) or model())
    file = tmp_path / "m.onnx"
    options = {"source": "s", "folder": tmp_path, "field": "--model", "log": lambda _: None}
    file.write_bytes(b"graph")
    for weights, count in ((b"1", 1), (b"1", 1), (b"2", 2)):
        (tmp_path / "m.onnx.data").write_bytes(weights)
        found = pretrained.embed_images(f"onnx/{file}", IMAGES, **options)
        expected = IMAGES.mean(axis=(1, 2))
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
        assert len(loaded) == count


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("hf/facebook/dinov2-small", "pretrained-hf-facebook-dinov2-small.npz"),
        ("timm/resnet18.a1_in1k", "pretrained-timm-resnet18.a1_in1k.npz"),
        (f"onnx/{'x' * 300}", f"pretrained-{'x' * 100}.npz"),
    ],
)
def test_caches_are_named_after_networks(monkeypatch, tmp_path, name, file):
    monkeypatch.setattr(pretrained, "load", lambda name, field: model())
    pretrained.embed_images(name, IMAGES, source="s", folder=tmp_path, field="f", log=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == [file]
