"""The pipeline with each data set's config, on small images in the layout of that data set.

tests/data/ tests how the layouts are read; these tests rank, train and measure. The networks have few channels and the
images few pixels, but stems, splits, optimizers and names are those of the config. One test trains a proxy and another
an encoder, because compiling either takes most of the time.
"""

import importlib
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

import sas_jax
from configs import imagenet, stl10, tinyimagenet
from configs import tfds as any_tfds
from sas_jax import config_checks
from sas_jax.data import prepared
from sas_jax.run import pipeline

pytestmark = pytest.mark.usefixtures("one_stage")

CLASSES = ("n01440764", "n02102040", "n03000684")


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(stl10.__file__).parent.glob("*.py")))
def test_every_config_can_be_used(name):
    module = importlib.import_module(f"configs.{name}")
    config_checks.check(module.get_config())
    assert name == "default" or f"--config=configs/{name}.py" in module.__doc__, "the command to run it"


def small(module, **overrides):
    """Returns the config with the smallest networks, one epoch and images of 16 pixels."""
    config = module.get_config()
    config.data.image_size = 16
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.depth, encoder.width, encoder.head_features = 10, 0.125, 16
    for train in (config.proxy.train, config.train):
        train.epochs, train.batch_size, train.remat = 1, 8, False
    config.embedding.views = 2
    config.latent_classes.num_classes = 3
    config.evaluation.probe_iterations = 20
    config.evaluation.knn_neighbours = 5
    config.evaluation.geometry = False
    config.arms = (("selected", 0.4, 0),)
    config.update_from_flattened_dict(overrides)
    return config


def run(config, workdir, stop_after="report"):
    """Returns the content of results.json, the ranking, and the messages."""
    said = []
    found = pipeline.run(config, workdir, stop_after=stop_after, log=said.append)
    return found, sas_jax.Ranking.load(workdir / "ranking.parquet"), said


def given(n, path):
    """Writes embeddings to use in place of a proxy."""
    np.save(path, np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32))
    return {"proxy.embeddings": str(path)}


def pixels(label, seed, side):
    """Draws an image whose colour depends on the class, for labelled data sets."""
    rng = np.random.default_rng(seed)
    tint = np.eye(3)[label] * 150 if label >= 0 else rng.integers(0, 150, 3)
    return (tint + rng.integers(0, 100, (side, side, 3))).astype(np.uint8)


def build(set_name, features, splits, data_dir):
    """Prepares a data set; `splits` gives the (key, example) pairs of each."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = set_name
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return splits

        def _generate_examples(self):
            raise NotImplementedError

    return prepared.prepare(Builder, epath.Path(data_dir))


def test_stl10_trains_on_all_and_is_measured_by_the_labelled(tmp_path):
    """Features, splits, keys and the labels of unlabelled images are those of tfds's own builder."""
    sizes = {"train": 30, "test": 21, "unlabelled": 50}

    def examples(split):
        for i in range(sizes[split]):
            label = -1 if split == "unlabelled" else i % 3
            yield i, {"image": Image.fromarray(pixels(label, [len(split), i], 96)), "label": label}

    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    features = {
        "image": tfds.features.Image(shape=(96, 96, 3)),
        "label": tfds.features.ClassLabel(names=names),
    }
    build("stl10", features, {split: examples(split) for split in sizes}, tmp_path / "tfds")
    fields = {"data.dir": str(tmp_path / "tfds"), "evaluation.probe_fractions": (0.2,), "train.epochs": 3}
    config = small(stl10, **fields, **given(80, tmp_path / "e.npy"))
    assert (config.encoder.stem, config.data.train_split) == ("3x3_pool", "train+unlabelled")
    results, ranking, _ = run(config, tmp_path / "run")
    assert ranking.ids.tolist() == [f"train_{i:05d}" for i in range(30)] + [f"unlabelled_{i:05d}" for i in range(50)]
    assert (results["dataset"]["train_size"], results["dataset"]["test_size"]) == (80, 21)
    untrained, arm = results["arms"]
    assert arm["size"] == 32
    for measured in (untrained, arm):
        assert measured["probe"]["n"] == 21
        assert measured["probe"]["train_size"] == 30, "images without a label are no examples of a class"
        assert measured["probe_few"]["0.2"]["train_size"] == 6
    assert arm["probe"]["value"] > 0.6, "a class is a colour"
    assert (tmp_path / "run" / "report.html").exists()


def test_tinyimagenet_is_measured_on_val(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for label, wnid in enumerate(CLASSES):
        for part, count in ((f"train/{wnid}/images", 16), ("val/images", 7), ("test/images", 1)):
            (root / part).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                name = f"{wnid}_{i}.JPEG" if part.startswith("train") else f"{part[:-7]}_{3 * i + label}.JPEG"
                image = Image.fromarray(pixels(label, [label, i, count], 64))
                (image.convert("L") if i == 3 else image).save(root / part / name)
                lines += [f"{name}\t{wnid}\t0\t0\t63\t63\n"] if part == "val/images" else []
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(reversed(CLASSES)))
    (root / "words.txt").write_text(
        "".join(f"{w}\t{n}\n" for w, n in zip(CLASSES, ("tench", "springer, dog", "saw"), strict=True))
    )
    overrides = {"data.folder": str(root), "data.placement": "stream"} | given(48, tmp_path / "e.npy")
    config = small(tinyimagenet, **overrides)
    assert (config.encoder.stem, config.train.learning_rate) == ("3x3_pool", 2e-3)
    results, ranking, _ = run(config, tmp_path / "run", stop_after="subset")
    assert ranking.ids[0] == "train/n01440764/images/n01440764_0.JPEG"
    assert (root / ranking.ids[-1]).exists()
    found = results["dataset"]
    assert (len(ranking), found["test_size"], found["num_classes"], found["not_evaluated"]) == (48, 21, 3, None)


def jpeg(label, seed, mode):
    file = io.BytesIO()
    Image.fromarray(pixels(label, seed, 40)).resize((50, 40)).convert(mode).save(file, "JPEG")
    file.seek(0)
    return file


MODES = ("RGB", "L", "CMYK")


def test_imagenet_as_tfds_has_it(tmp_path):
    """Features, keys and splits are those of tfds's own builder; its unlabelled test split is not used."""

    def examples(split, count):
        for i in range(count):
            name = f"{CLASSES[i % 3]}_{i}.JPEG" if split == "train" else f"ILSVRC2012_{split}_{i:08d}.JPEG"
            image = jpeg(i % 3, [len(split), i], MODES[i // 3 % 3])
            yield name, {"image": image, "label": -1 if split == "test" else i % 3, "file_name": name}

    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "file_name": tfds.features.Text(),
    }
    splits = {split: examples(split, count) for split, count in (("train", 24), ("validation", 9), ("test", 3))}
    build("imagenet2012", features, splits, tmp_path / "tfds")
    config = small(imagenet, **{"data.dir": str(tmp_path / "tfds")})
    assert (config.encoder.stem, config.train.optimizer, config.data.placement) == ("7x7_pool", "lars", "stream")
    results, ranking, said = run(config, tmp_path / "run", stop_after="subset")
    assert sorted(ranking.ids) == sorted(f"{CLASSES[i % 3]}_{i}.JPEG" for i in range(24))
    assert results["dataset"]["test_size"] == 9
    assert results["dataset"]["not_evaluated"] is None
    assert len(np.load(tmp_path / "run" / "subset-0.40.npy")) == 10
    assert "proxy: the images are decoded on demand" in said


def test_imagenet_in_folders(tmp_path):
    for label, name in enumerate(CLASSES):
        for split, count in (("train", 8), ("val", 3)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                path = tmp_path / split / name / f"{name}_{i}.JPEG"
                path.write_bytes(jpeg(label, [label, i, count], MODES[i % 3]).getvalue())
    folders = {"data.folder": str(tmp_path / "train"), "data.test_folder": str(tmp_path / "val")}
    config = small(imagenet, **folders, **given(24, tmp_path / "e.npy"), **{"data.name": "folder"})
    results, ranking, _ = run(config, tmp_path / "run", stop_after="subset")
    assert ranking.ids.tolist() == [f"{name}/{name}_{i}.JPEG" for name in CLASSES for i in range(8)]
    assert (results["dataset"]["test_size"], results["dataset"]["num_classes"]) == (9, 3)
    assert results["dataset"]["not_evaluated"] is None
    assert results["dataset"]["skipped"] == []


def test_any_data_set_of_tfds_by_its_name(tmp_path):
    """With another name for the image feature, and without labels and ids."""
    features = {"picture": tfds.features.Image(encoding_format="png"), "caption": tfds.features.Text()}
    drawn = ((f"key{i}", {"picture": Image.fromarray(pixels(-1, i, 20)), "caption": "a colour"}) for i in range(24))
    build("pictures", features, {"train": drawn}, tmp_path / "tfds")
    fields = {"data.dir": str(tmp_path / "tfds"), "data.name": "pictures", "data.test_split": ""}
    config = small(any_tfds, **fields, **given(24, tmp_path / "e.npy"))
    results, ranking, _ = run(config, tmp_path / "run", stop_after="subset")
    assert ranking.ids.tolist() == [str(i) for i in range(24)]
    assert results["dataset"]["not_evaluated"] == "the training images have no labels"
