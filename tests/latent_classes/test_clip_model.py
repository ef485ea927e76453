"""Loading and embedding with CLIP, on a tiny model with random weights that the tests save to disk."""

import json
import os

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read on import of transformers: no look-up of wrong names on the network
reason = "make test-torch runs these, with PyTorch and transformers"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

import jax  # noqa: E402
from PIL import Image  # noqa: E402

from sas_jax.data.streamed import StreamedImages  # noqa: E402
from sas_jax.errors import InputError  # noqa: E402
from sas_jax.latent_classes import clip, few_labels, kmeans  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(23, 20, 20, 3), dtype=np.uint8)
NAMES = ("red_fox", "bee", "whale")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saves a CLIPModel with two layers per tower and its CLIPProcessor, as transformers saves them."""
    path = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["."]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=32
    )
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = transformers.CLIPConfig(
        text_config={**tower, **special, "vocab_size": len(tokens), "max_position_embeddings": 32},
        vision_config={**tower, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(path)
    images = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, resample=3
    )
    transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return transformers.CLIPModel.from_pretrained(folder).eval()


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slow_images(model, images):
    """Embeds one image at a time, with PIL and the towers' own parts."""
    found = []
    for pixels in images:
        small = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC), np.float64) / 255
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        x = torch.tensor((small - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
        with torch.no_grad():
            found.append(model.visual_projection(model.vision_model(pixel_values=x).pooler_output)[0].numpy())
    return unit(np.stack(found))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_images_equal_the_towers_output_one_by_one(folder, model, tmp_path, batch_size):
    options = {"source": "s", "batch_size": batch_size, "log": lambda _: None}
    found = clip.embed_images(str(folder), IMAGES, cache=tmp_path / "clip.npz", **options)
    np.testing.assert_allclose(found, slow_images(model, IMAGES), atol=2e-5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


class Lazy(StreamedImages):
    def _decode(self, indices, out):
        out[:] = IMAGES[indices]


def test_images_that_are_decoded_when_asked_for(folder):
    loaded = clip.load(str(folder))
    np.testing.assert_array_equal(
        loaded.images(Lazy(len(IMAGES), 20), batch_size=5), loaded.images(IMAGES, batch_size=5)
    )


def test_embedded_once(folder, tmp_path, monkeypatch):
    options = {"source": "s", "cache": tmp_path / "clip.npz", "log": lambda _: None}
    first = clip.embed_images(str(folder), IMAGES, **options)
    monkeypatch.setattr(clip, "load", None)
    np.testing.assert_array_equal(clip.embed_images(str(folder), IMAGES, **options), first)


def test_names_are_the_mean_over_templates_of_unit_vectors(folder, model):
    templates = ("a photo of a {}.", "the {}, big")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = []
    for name in ("red fox", "bee", "whale"):
        vectors = []
        for template in templates:
            tokens = tokenizer([template.replace("{}", name)], return_tensors="pt")  # by itself, so without padding
            with torch.no_grad():
                vectors.append(unit(model.text_projection(model.text_model(**tokens).pooler_output)[0].numpy()))
        expected.append(unit(np.mean(vectors, axis=0)))
    found = clip.embed_names(str(folder), NAMES, templates=templates)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.dtype == np.float32
    # Every template counts: the first one alone gives other vectors.
    assert np.abs(clip.embed_names(str(folder), NAMES, templates=templates[:1]) - found).max() > 1e-3


def test_long_names_are_cut_to_what_the_model_reads(folder):
    assert np.isfinite(clip.embed_names(str(folder), ["whale " * 100])).all()


def test_all_ways_to_classes(folder, tmp_path):
    images = clip.embed_images(str(folder), IMAGES, source="s", cache=tmp_path / "c.npz", log=lambda _: None)
    names = clip.embed_names(str(folder), NAMES)
    key, labels = jax.random.key(0), np.where(np.arange(len(IMAGES)) < 9, np.arange(len(IMAGES)) % 3, -1)
    for classes in (
        clip.zero_shot(images, names),
        few_labels.spread(key, images, labels).classes,
        kmeans(key, images, num_classes=3).labels,
    ):
        assert classes.shape == (len(IMAGES),)
        assert set(classes) <= {0, 1, 2}


def test_a_folder_with_a_processors_own_files(folder, model, tmp_path):
    """The layout of models on the hub: preprocessor_config.json, vocab.json and merges.txt."""
    model.save_pretrained(tmp_path)
    transformers.AutoImageProcessor.from_pretrained(folder, backend="pil").save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").exists()
    found = clip.load(str(tmp_path)).images(IMAGES[:3], batch_size=3)
    np.testing.assert_allclose(found, slow_images(model, IMAGES[:3]), atol=2e-5)


def test_models_that_cannot_be_loaded(folder, tmp_path):
    import shutil

    def copy(name):
        return shutil.copytree(folder, tmp_path / name)

    other = copy("other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    damaged = copy("damaged")
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:500])
    lacking = copy("lacking")
    from safetensors.torch import load_file, save_file

    weights = load_file(lacking / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    no_weights = copy("no_weights")
    (no_weights / "model.safetensors").unlink()
    (tmp_path / "empty").mkdir()
    for name, sentence in (
        (other, "type 'bert', not 'clip'"),
        (damaged, "cannot be loaded"),
        (lacking, "1 of its weights are missing or have a wrong shape, the first visual_projection.weight"),
        (no_weights, "cannot be loaded"),
        (tmp_path / "empty", "cannot be loaded"),
        (tmp_path / "none", "cannot be loaded"),
        ("nobody/no-such-model", "cannot be loaded"),
    ):
        with pytest.raises(InputError, match=sentence):
            clip.load(str(name))
