"""The latent classes of a config, from runs that stop after making them."""

import csv
import functools
import importlib.util
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import sas_jax.data
from configs import default
from sas_jax import latent_classes, pretrained
from sas_jax.errors import InputError
from sas_jax.latent_classes import Given, Known, clip
from sas_jax.run import pipeline
from sas_jax.workdir import Workdir


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def dataset(digits):
    return sas_jax.data.load(config(digits).data)


@pytest.fixture(scope="module")
def pixels(dataset, tmp_path_factory):
    """Writes a .npy of the images themselves, in which k-means finds most digits."""
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    images = dataset.train.images[..., 0].reshape(len(dataset.train), -1).astype(np.float32)
    np.save(path, images)
    return str(path)


def config(digits, **overrides):
    found = default.get_config()
    found.data.name, found.data.dir, found.data.image_size = "digits", str(digits), 8
    found.update_from_flattened_dict(overrides)
    return found


def classes(workdir, digits, pixels, **overrides):
    """Returns the classes and their facts in results.json."""
    fields = {f"latent_classes.{name}": value for name, value in overrides.items()}
    results = pipeline.run(
        config(digits, **{"proxy.embeddings": pixels}, **fields), workdir, stop_after="classes", log=lambda _: None
    )
    return np.load(workdir / "latent_classes.npy"), results["latent_classes"]


def refused(workdir, digits, pixels, **overrides):
    with pytest.raises(InputError) as caught:
        classes(workdir, digits, pixels, **overrides)
    assert not (workdir / "stamps" / "embed.json").exists()
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def test_few_labels_keep_what_they_saw_and_spread_it(tmp_path, digits, pixels, dataset):
    found, facts = classes(tmp_path, digits, pixels, method="few_labels", labelled_fraction=0.1)
    labels = dataset.train.labels
    assert facts["method"] == "few_labels"
    sizes = np.bincount(labels)
    assert facts["few_labels"]["num_labelled"] == np.floor(0.1 * sizes + 0.5).sum()
    assert 0.8 < facts["few_labels"]["accuracy"] <= 1
    assert facts["agreement"] == latent_classes.agreement(found, labels)
    assert np.mean(found == labels) > 0.85


def test_few_labels_from_a_file_by_the_names_of_classes(tmp_path, digits, pixels, dataset):
    rows = np.random.default_rng(0).permutation(len(dataset.train))[:300]
    with open(tmp_path / "few.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label"])
        writer.writerows((dataset.train.ids[row], dataset.class_names[dataset.train.labels[row]]) for row in rows)
    options = {"method": "few_labels", "labels_file": str(tmp_path / "few.csv")}
    found, facts = classes(tmp_path / "run", digits, pixels, **options)
    assert facts["few_labels"]["num_labelled"] == 300
    np.testing.assert_array_equal(found[rows], dataset.train.labels[rows])
    assert np.mean(found == dataset.train.labels) > 0.85


def test_kmeans_on_embeddings_of_its_own(tmp_path, digits, pixels, dataset):
    other = np.eye(3, dtype=np.float32)[np.arange(len(dataset.train)) % 3]
    np.save(tmp_path / "other.npy", other)
    options = {"embeddings": str(tmp_path / "other.npy"), "num_classes": 3}
    found, facts = classes(tmp_path / "run", digits, pixels, **options)
    assert latent_classes.agreement(found, np.arange(len(found)) % 3)["accuracy"] == 1
    assert facts["embeddings"] == str(tmp_path / "other.npy")
    assert facts["few_labels"] is facts["chosen"] is None


def test_the_number_of_classes_is_chosen(tmp_path, digits, pixels, dataset):
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(16, 16)))[0][:6]
    np.save(
        tmp_path / "six.npy",
        (centres[np.arange(len(dataset.train)) % 6] + rng.normal(0, 0.05, (len(dataset.train), 16))).astype(np.float32),
    )
    found, facts = classes(tmp_path / "run", digits, pixels, embeddings=str(tmp_path / "six.npy"), num_classes=0)
    assert len(np.unique(found)) == facts["num_classes"] == 6
    assert facts["chosen"]["decided"]
    assert len(facts["chosen"]["tried"]) == len(facts["chosen"]["silhouettes"])
    json.dumps(facts)


class Brightness:
    """Replaces a CLIP model: embeds images by which of their halves is bright, and names by which half they mean."""

    device = "cpu"

    def images(self, images, *, batch_size):
        halves = np.asarray(images[:], np.float32).mean(axis=(2, 3)).reshape(len(images), 2, -1).mean(axis=2)
        return halves / np.linalg.norm(halves, axis=1, keepdims=True)

    def names(self, class_names, templates):
        return np.eye(2, dtype=np.float32)[["upper", "lower"].index(class_names[0]) ^ np.arange(len(class_names))]


@pytest.fixture
def brightness(monkeypatch):
    loaded = []
    monkeypatch.setattr(clip, "check_installed", lambda: None)
    monkeypatch.setattr(clip, "load", lambda name: loaded.append(name) or Brightness())
    return loaded


def test_zero_shot_compares_images_with_the_names_given(tmp_path, digits, pixels, dataset, brightness):
    options = {"method": "clip_zeroshot", "class_names": ("upper", "lower"), "prompts": ("the {} half",)}
    found, facts = classes(tmp_path, digits, pixels, **options)
    halves = Brightness().images(dataset.train.images, batch_size=1)
    np.testing.assert_array_equal(found, np.argmax(halves, axis=1))
    assert facts["num_classes"] == 2
    assert brightness == ["openai/clip-vit-base-patch32"] * 2  # once for the images and once for the names


def test_clip_embeddings_are_made_once(tmp_path, digits, pixels, dataset, brightness):
    classes(tmp_path, digits, pixels, embeddings="clip", num_classes=2)
    fields = {"latent_classes.embeddings": "clip", "latent_classes.num_classes": 3, "proxy.embeddings": pixels}
    pipeline.run(config(digits, **fields), tmp_path, stop_after="classes", rerun=True, log=lambda _: None)
    assert len(brightness) == 1
    own = functools.partial(pytest.fail, "the run's own embeddings are not wanted")
    given = latent_classes.make(
        jax.random.key(0),
        config(digits, **fields).latent_classes,
        Given(dataset, own, Workdir(tmp_path), lambda _: None),
    )[0]
    halves = Brightness().images(dataset.train.images, batch_size=1)
    np.testing.assert_array_equal(
        given, latent_classes.kmeans(jax.random.key(0), halves, num_classes=3, restarts=5).labels
    )


@pytest.fixture
def network(monkeypatch):
    """Replaces a pretrained network; its features are the images' pixels."""
    loaded = []
    pixels = pretrained.Model("timm/fake", 8, "cpu", lambda x: x, lambda x: x[..., 0].reshape(len(x), -1))
    monkeypatch.setattr(pretrained, "check", lambda name, field: None)
    monkeypatch.setattr(pretrained, "load", lambda name, field: loaded.append((name, field)) or pixels)
    return loaded


def test_features_of_a_pretrained_network_are_made_once_and_used_as_those_of_a_file(tmp_path, digits, pixels, network):
    """In place of the proxy, for the run's own classes and for another partition."""
    given, _ = classes(tmp_path / "file", digits, pixels, embeddings=pixels)
    for num_classes in (10, 3):
        fields = {"latent_classes.embeddings": "timm/fake", "latent_classes.num_classes": num_classes}
        partitions = {"few": {"method": "few_labels", "labelled_fraction": 0.1}}
        run = config(digits, **{"proxy.embeddings": "timm/fake"}, **fields)
        run.partitions, run.arms = ConfigDict(partitions), (("sas@few", 0.2, 0),)
        results = pipeline.run(run, tmp_path / "run", stop_after="classes", rerun=True, log=lambda _: None)
        if num_classes == 10:
            np.testing.assert_array_equal(np.load(tmp_path / "run" / "latent_classes.npy"), given)
            vectors = (np.load(tmp_path / folder / "embeddings.npy") for folder in ("run", "file"))
            np.testing.assert_array_equal(*vectors)
    assert network == [("timm/fake", "config.proxy.embeddings")]
    assert (tmp_path / "run" / "pretrained-timm-fake.npz").exists()
    assert results["latent_classes"]["embeddings"] == "timm/fake"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"method": "few_labels", "labels_file": "none.csv"}, "none.csv"),
        ({"method": "few_labels", "labelled_fraction": 0.0}, "config.latent_classes.labelled_fraction"),
        ({"embeddings": "none.npy"}, "config.latent_classes.embeddings (none.npy) must be a .npy file"),
        ({"embeddings": "clip"}, "pip install 'sas_jax[clip]'"),
        ({"embeddings": "hf/facebook/dinov2-small"}, "pip install 'sas_jax[pretrained]'"),
        ({"method": "clip_zeroshot", "prompts": ("a photo",)}, "got 'a photo'"),
        ({"method": "clip_zeroshot", "class_names": ("a", "a")}, "'a' twice"),
        (
            {"prompts": ("a {}",)},
            "config.latent_classes.prompts must be empty if config.latent_classes.method is 'kmeans'",
        ),
        ({"method": "labels", "embeddings": "clip"}, "set the method to 'kmeans' or 'few_labels'"),
        ({"num_classes": 10**6}, "must be at most the 1437 images"),
        ({"num_classes": -1}, "config.latent_classes.num_classes must be a whole number from 0"),
    ],
)
def test_what_cannot_be_used_is_found_before_anything_is_computed(
    tmp_path, digits, pixels, monkeypatch, overrides, message
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("torch", "transformers") else found(name)
    )
    assert message in refused(tmp_path, digits, pixels, **overrides)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet18", r"^config\.proxy\.embeddings timm/\.\.\. requires torch and timm \(not installed: torch"),
        ("onnx/none.onnx", r"^config\.proxy\.embeddings must name an ONNX file, got 'none\.onnx'"),
    ],
)
def test_a_proxy_that_cannot_be_had_is_found_before_anything_is_computed(tmp_path, digits, monkeypatch, name, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name == "onnxruntime" else None)
    with pytest.raises(InputError, match=message):
        classes(tmp_path / "run", digits, name)


def test_a_network_gives_one_vector_an_image(tmp_path, digits, network):
    run = config(digits, **{"proxy.embeddings": "timm/fake", "selection.similarity": "gaussian"})
    with pytest.raises(InputError, match=r"must be 'cosine' if config\.proxy\.embeddings holds one vector"):
        pipeline.run(run, tmp_path / "run", log=lambda _: None)
    assert not network


@pytest.mark.parametrize(
    ("method", "num_labelled", "message"),
    [
        ("labels", 5, "must not be 'labels' for images without labels, got 'labels' for few"),
        ("few_labels", 0, "must name a .csv of id,label if the data set has no labels, got '' for few"),
    ],
)
def test_methods_that_need_labels(method, num_labelled, message):
    section = default.get_config().latent_classes
    section.method = method
    known = Known("few", 10, num_labelled, functools.partial(pytest.fail, "the images are not wanted"))
    with pytest.raises(InputError, match=message):
        latent_classes.check(section, known)


def test_too_few_images_to_choose_a_number_from():
    section = default.get_config().latent_classes
    section.num_classes = 0
    with pytest.raises(
        InputError,
        match=r"the 39 images of few, got 0, which .* needs at least 40",
    ):
        latent_classes.check(section, Known("few", 39, 0, pytest.fail))
