"""Each source from its files to the report, and its subset back in the library that made the files.

All hold the same digits, so proxies trained on them give the same ranking, and encoders the same accuracies.
"""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import sas_jax
from sas_jax import config_file
from sas_jax.export_subset import export_subset
from sas_jax.run import pipeline, state

pytestmark = pytest.mark.usefixtures("one_stage")

PER_CLASS = {"train": 8, "test": 4}


def digits(split):
    """Returns images uint8 [n, 32, 32, 3] and labels int [n], sorted by class."""
    found = load_digits()
    first = 0 if split == "train" else PER_CLASS["train"]
    rows = [np.flatnonzero(found.target == label)[first : first + PER_CLASS[split]] for label in range(10)]
    pixels = (found.images[np.concatenate(rows)] * 15.9).astype(np.uint8)
    return np.kron(pixels, np.ones((4, 4), np.uint8))[..., None].repeat(3, -1), found.target[np.concatenate(rows)]


DIGITS = {split: digits(split) for split in PER_CLASS}


def names(split):
    """Returns the images' names as paths without suffix, in the order of torchvision's ImageFolder."""
    return [f"{label}/{k:03d}" for k, label in enumerate(DIGITS[split][1])]


def png(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def opened(path):
    return np.asarray(Image.open(path))


class Folder:
    """One sub-folder per class, read by torchvision if it is installed."""

    format = ""
    output = "subset.npy"

    def write(self, root):
        for split in DIGITS:
            for name, image in zip(names(split), DIGITS[split][0], strict=True):
                (root / split / name).parent.mkdir(parents=True, exist_ok=True)
                (root / split / f"{name}.png").write_bytes(png(image))
        return {"data.name": "folder", "data.folder": root / "train", "data.test_folder": root / "test"}

    def selected(self, root, output):
        try:
            from torchvision.datasets import ImageFolder
        except ImportError:  # in the order that torchvision reads: by class, then by name
            paths = sorted((root / "train").glob("*/*.png"), key=lambda path: (path.parent.name, path.name))
            return [opened(paths[index]) for index in np.load(output)]
        from torch.utils.data import Subset

        return [np.asarray(image) for image, _ in Subset(ImageFolder(root / "train"), np.load(output).tolist())]


class Unlabelled(Folder):
    """All images in one folder, found again by their paths."""

    output = "subset.txt"

    def write(self, root):
        for name, image in zip(names("train"), DIGITS["train"][0], strict=True):
            (root / f"{name.replace('/', '_')}.png").write_bytes(png(image))
        return {"data.name": "folder", "data.folder": root}

    def selected(self, root, output):
        return [opened(root / line) for line in output.read_text().splitlines()]


class Parquet:
    """Parquet files as on the Hugging Face hub."""

    format = "hf"
    output = "subset.npy"

    def datasets(self):
        datasets = pytest.importorskip("datasets", reason="the extra dev has it")
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(map(str, range(10))))}
        )
        made = {}
        for split, (images, labels) in DIGITS.items():
            rows = [{"bytes": png(image), "path": None} for image in images]
            made[split] = datasets.Dataset.from_dict({"image": rows, "label": labels.tolist()}, features)
        return datasets.DatasetDict(made)

    def write(self, root):
        for split, dataset in self.datasets().items():
            for number in range(2):
                shard = dataset.shard(2, number, contiguous=True)
                shard.to_parquet(root / f"{split}-{number:05d}-of-00002.parquet")
        return {"data.name": "parquet", "data.folder": root}

    def read(self, root):
        import datasets

        files = sorted(map(str, root.glob("train-*.parquet")))
        return datasets.Dataset.from_parquet(files, cache_dir=str(root.parent / "cache"))

    def selected(self, root, output):
        return [np.asarray(row["image"]) for row in self.read(root).select(np.load(output))]


class Arrow(Parquet):
    """Arrow files as `Dataset.save_to_disk` writes them."""

    def write(self, root):
        self.datasets().save_to_disk(root, num_shards={"train": 2, "test": 1})
        return {"data.name": "parquet", "data.folder": root}

    def read(self, root):
        import datasets

        return datasets.load_from_disk(root)["train"]


class WebDataset:
    """Tar files."""

    format = "wds"
    output = "subset.txt"

    def write(self, root):
        webdataset = pytest.importorskip("webdataset", reason="the extra dev has it")
        for split, (images, labels) in DIGITS.items():
            with webdataset.TarWriter(str(root / f"{split}-000000.tar")) as writer:
                for name, image, label in zip(names(split), images, labels, strict=True):
                    writer.write({"__key__": name, "png": png(image), "cls": int(label)})
        return {"data.name": "webdataset", "data.folder": root}

    def selected(self, root, output):
        import webdataset

        keys = set(output.read_text().splitlines())
        with open(root / "train-000000.tar", "rb") as file:
            members = webdataset.tariterators.tar_file_expander([{"url": file.name, "stream": file}])
            samples = webdataset.tariterators.group_by_keys(members)
            return [opened(io.BytesIO(sample["png"])) for sample in samples if sample["__key__"] in keys]


class Archive:
    """CIFAR-10's archive, as torchvision downloads it."""

    format = ""
    output = "subset.npy"

    def write(self, root):
        folder = root / "cifar-10-batches-py"
        folder.mkdir()
        (images, labels), test = DIGITS["train"], DIGITS["test"]
        parts = zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True)
        batches = {f"data_batch_{number}": part for number, part in enumerate(parts, 1)} | {"test_batch": test}
        for name, (pixels, classes) in batches.items():
            rows = pixels.transpose(0, 3, 1, 2).reshape(-1, 3072)
            (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": classes.tolist()}))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(map(str, range(10)))}))
        return {"data.name": "torchvision", "data.folder": root}

    def selected(self, root, output):
        try:
            from torchvision.datasets import CIFAR10, cifar
        except ImportError:
            rows = []
            for number in range(1, 6):
                rows.append(pickle.loads((root / "cifar-10-batches-py" / f"data_batch_{number}").read_bytes())["data"])
            return np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)[np.load(output)]
        from torch.utils.data import Subset

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cifar, "check_integrity", lambda *_: True)  # the checksums of the published archive
            dataset = CIFAR10(root)
        return [np.asarray(image) for image, _ in Subset(dataset, np.load(output).tolist())]


def to_the_report(source, folder):
    """Returns the source's files, its run's directory, and the run's results."""
    root = folder / "files"
    root.mkdir()
    fields = [f"{name}={value}" for name, value in source.write(root).items()]
    config = config_file.read("image_folder", fields=fields)
    config.data.image_size = 8
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.depth, encoder.width, encoder.head_features, encoder.stem = 10, 0.125, 16, "3x3"
    for train in (config.proxy.train, config.train):
        train.epochs, train.batch_size = 1, 16
    config.embedding.views = 2
    config.latent_classes.num_classes = 3
    config.evaluation.probe_iterations = 10
    config.evaluation.geometry = False
    config.arms = (("selected", 0.3, 0),)
    return root, folder / "run", pipeline.run(config, folder / "run", log=lambda _: None)


@pytest.fixture(scope="module")
def expected(one_stage, tmp_path_factory):
    """Returns `to_the_report` of the digits in a folder; the programs of all runs here are compiled once."""
    shared, new = [], state.Trainers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "Trainers", lambda *of: (shared or shared.append(new(*of)) or shared)[0])
        yield to_the_report(Folder(), tmp_path_factory.mktemp("folder"))


def found(workdir, results):
    """Returns the ranking and the accuracies of a run."""
    ranking = sas_jax.Ranking.load(workdir / "ranking.parquet")
    return ranking, [(arm["probe"], arm["knn"]) for arm in results["arms"]]


@pytest.mark.parametrize("source", [Folder, Unlabelled, Parquet, Arrow, WebDataset, Archive])
def test_the_ranking_of_a_folder_and_a_subset_that_its_library_selects(source, expected, tmp_path):
    root, workdir, results = expected if source is Folder else to_the_report(source(), tmp_path)
    assert (workdir / "report.html").stat().st_size > 0
    (ranking, measured), (wanted, wanted_measured) = found(workdir, results), found(*expected[1:])
    np.testing.assert_array_equal(ranking.position, wanted.position)
    np.testing.assert_array_equal(ranking.gain, wanted.gain)
    assert measured == ([(None, None)] * 2 if source is Unlabelled else wanted_measured)
    output = tmp_path / source.output
    export_subset(str(workdir / "ranking.parquet"), output=str(output), fraction=0.3, format=source.format)
    chosen = DIGITS["train"][0][wanted.subset(fraction=0.3)]
    np.testing.assert_array_equal(np.stack(list(source().selected(root, output))), chosen)
