"""The state that the stages of a run share: stamps, images, trainers, and the outputs of earlier stages."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import sas_jax.data
from sas_jax import devices, files, plan, pretrained, settings
from sas_jax.data import index_files, subsets
from sas_jax.embedding import mean_embeddings, read_embeddings
from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.networks import encode, make_supervised_trainer, make_trainer, make_views, project
from sas_jax.run import fingerprints
from sas_jax.selection.ranking import Ranking
from sas_jax.selection.selectors import LISTED
from sas_jax.training import DEFAULT, Trainer
from sas_jax.workdir import Metrics, Workdir

# Folded into the run's key, one for each purpose.
EMBED, CLUSTER, RANDOM, PROBE, GEOMETRY = range(100, 105)


class Stamps:
    """The stamps of the stages that are done."""

    def __init__(self, workdir: Workdir, inputs: dict[str, str], log: Callable[[str], None]):
        """`inputs` holds the fingerprint of each stage's inputs."""
        self.inputs = inputs
        self.done_before: list[str] = []
        self._workdir = workdir
        self._log = log

    def is_done(self, stage: str) -> bool:
        """Returns whether the stage was done with these inputs."""
        return self._workdir.is_done(stage, self.inputs[stage])

    def facts(self, stage: str) -> dict[str, Any]:
        """Returns the stamp of a stage that is done."""
        stamp = self._workdir.stamp(stage)
        assert stamp is not None
        return stamp

    def damage(self, *names: str) -> str | None:
        """Returns which of these files is damaged, and why; None if all are intact."""
        found = ((self._workdir / name, self._workdir.damage(name)) for name in names)
        return next((f"{path} is damaged ({reason})" for path, reason in found if reason), None)

    def todo(self, stage: str, *names: str, damage: Callable[[], str | None] = lambda: None) -> bool:
        """Returns whether the stage must be run: its stamp or a file is missing, damaged or of other inputs.

        Args:
            stage: name of the stage.
            names: names of its files.
            damage: returns why another output is damaged, or None; called only if the stage is done.
        """
        done = self.is_done(stage)
        if self._workdir.writes:
            why = self._workdir.stamp_damage(stage)
            if done:
                why = self.damage(*names) or damage()
            if why:
                self._log(f"{why}: redoing {stage}")
                done = False
        if devices.as_writer_sees(done):
            self.done_before.append(stage)
            return False
        return True

    @contextlib.contextmanager
    def doing(self, stage: str) -> Iterator[dict[str, Any]]:
        """Stamps the stage when all processes have left the block, and waits for the stamp."""
        with self._workdir.doing(stage, self.inputs[stage]) as facts:
            yield facts
            devices.wait_for_all(f"{stage} is done")
        devices.wait_for_all(f"{stage} is stamped")


class Data:
    """The images of a run, read on first use."""

    def __init__(self, config: ConfigDict, workdir: Workdir, log: Callable[[str], None]):
        self._config = config
        self._workdir = workdir
        self._log = log
        self._listed: np.ndarray | None = None

    @functools.cached_property
    def found(self) -> tuple[sas_jax.data.Dataset, dict[str, Any]]:
        """The data set on disk, and the facts about it that go into the stamp of the data stage."""
        start = time.perf_counter()
        dataset = sas_jax.data.load(self._config.data)
        train, test = dataset.train, dataset.test
        not_evaluated = None
        if train.labels is None:
            not_evaluated = "the training images have no labels"
        elif test is None:
            not_evaluated = "there are no test images"
        elif test.labels is None:
            not_evaluated = "the test images have no labels"
        return dataset, {
            "train_images": fingerprints.train_images(self._config),
            "train_content": train.fingerprint(),
            "name": dataset.name,
            "train_size": len(train),
            "test_size": len(test) if test is not None else 0,
            "num_classes": len(dataset.class_names) if dataset.class_names else None,
            "num_labelled": 0 if train.labels is None else int(np.count_nonzero(train.labels >= 0)),
            "not_evaluated": not_evaluated,
            "skipped": list(dataset.skipped),
            "wall_seconds": round(time.perf_counter() - start, 3),
        }

    @functools.cached_property
    def dataset(self) -> sas_jax.data.Dataset:
        """The data set; raises InputError if the images are not those that the run began with."""
        dataset, facts = self.found
        stamp = self._workdir.stamp("data")
        same = stamp is not None and stamp["train_images"] == facts["train_images"]
        if stamp and same and stamp["train_content"] != facts["train_content"]:
            then, now = stamp["train_size"], len(dataset.train)
            found = f"{now:,} images with different content" if now == then else f"{now:,} images instead of {then:,}"
            raise InputError(
                f"The images of {dataset.name} must be those that the run in {self._workdir.path} started with, got "
                f"{found}. Restore the original images, give --restart to start over, or choose another --workdir."
            )
        return dataset

    @functools.cached_property
    def fits_devices(self) -> bool:
        """Whether the images are placed on every device, by config.data.placement and, for "auto", their size."""
        images, placement = self.dataset.train.images, self._config.data.placement
        in_memory = isinstance(images, np.ndarray)
        fits = in_memory and (placement == "device" or (placement == "auto" and devices.holds(images.nbytes)))
        return devices.everywhere(fits)

    @functools.cached_property
    def to_train_on(self) -> jax.Array | Images:
        """The training images, uint8 [n, h, w, 3], replicated on all devices if `fits_devices`."""
        images = self.dataset.train.images
        return jax.device_put(images, devices.replicated(devices.mesh())) if self.fits_devices else images

    def listed(self) -> np.ndarray:
        """Returns int64 [k], ascending: the images that config.selection.file lists. The file is read once."""
        if self._listed is None:
            section = self._config.selection
            self._listed = subsets.resolve(
                index_files.read(section.file),
                self.found[0].train.ids,
                order=section.file_order,
                split=section.file_split,
                drop=section.file_drop,
                root=self._config.data.folder,
                log=self._log,
            )
        return self._listed


class Trainers:
    """The trainers of a run, with one object for all runs of the same settings, so that they share one program."""

    def __init__(self, config: ConfigDict, data: Data):
        self._config = config
        self._data = data
        self._made: dict[str, Trainer] = {}

    @property
    def proxy(self) -> Trainer:
        """The trainer of the proxy."""
        return self._get(DEFAULT, self._config.proxy.encoder, self._config.proxy.train)

    def arm(self, method: str) -> Trainer:
        """Returns the trainer for the arms of a method."""
        return self._get(method, self._config.encoder, plan.training(self._config, method))

    def _get(self, method: str, encoder: ConfigDict, train: ConfigDict) -> Trainer:
        # Of the epochs, a trainer depends only on the share that is warm-up.
        of_run = train.to_dict() | {"epochs": 1, "warmup_epochs": train.warmup_epochs / train.epochs}
        key = json.dumps([method, encoder.to_dict(), of_run], sort_keys=True)
        if key not in self._made:
            self._made[key] = make_trainer(self._config, encoder, train, mesh=devices.mesh(), method=method)
        return self._made[key]

    @functools.cached_property
    def supervised(self) -> Trainer:
        """The trainer of the arms' encoder with labels."""
        labels = self._data.dataset.train.labels
        assert labels is not None
        return make_supervised_trainer(self._config, labels, num_classes=int(labels.max()) + 1, mesh=devices.mesh())

    @functools.cached_property
    def encode(self) -> Callable:
        """The arms' encoder as a function of (variables, images)."""
        return functools.partial(encode, self.arm(DEFAULT).method)

    @functools.cached_property
    def classify(self) -> Callable:
        """The supervised encoder and its classifier as a function of (variables, images)."""
        return functools.partial(project, self.supervised.method)


class Chosen:
    """The outputs of the stages up to the ranking (embeddings, latent classes, rankings), and the arms' subsets."""

    def __init__(self, config: ConfigDict, workdir: Workdir, stamps: Stamps, data: Data, log: Callable[[str], None]):
        self._config = config
        self._workdir = workdir
        self._stamps = stamps
        self._data = data
        self._log = log
        self._rankings: dict[str, Ranking] = {}

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """float32 [n, d], memory-mapped: only the parts in use are in memory."""
        return self._array("embeddings.npy", ndim=2, kind="f", mapped=True)

    def view_embeddings(self) -> np.ndarray:
        """Returns float32 [n, m, d], memory-mapped as well."""
        return self._array("view_embeddings.npy", ndim=3, kind="f", mapped=True)

    def similarity_embeddings(self, partition: str) -> np.ndarray:
        """Returns float32 [n, d]: the embeddings that the similarity within a partition is computed from."""
        path = plan.in_partition(self._config, partition).selection.similarity_embeddings
        if not path:
            return self.embeddings
        section = f"config.partitions.{partition}" if partition else "config.selection"
        return mean_embeddings(path, n=self._n, field=f"{section}.similarity_embeddings", log=self._log)

    def classes(self, partition: str) -> np.ndarray:
        """Returns int32 [n]: the latent classes of a partition, or for "" the run's own."""
        return self._array(plan.classes_file(partition), ndim=1, kind="i")

    def ranking(self, selector: str, partition: str = "") -> Ranking:
        """Returns the ranking of a selector within a partition."""
        name = plan.ranking_file(self._config, selector, partition)
        if name not in self._rankings:
            path = self._workdir / name
            try:
                self._rankings[name] = Ranking.load(os.fspath(path), n=self._n)
            except InputError as error:
                raise InputError(_damaged(path, files.reason(error))) from error
        return self._rankings[name]

    def subset(self, arm: plan.Arm) -> np.ndarray:
        """Returns int64 [k]: the ascending indices of an arm's images."""
        if arm.chooses.everything:
            return self._data.listed() if arm.selector == LISTED else np.arange(self._n)
        if arm.chooses.draw:
            key = jax.random.fold_in(jax.random.fold_in(settings.key(self._config.seed), RANDOM), arm.seed)
            classes = self.classes(arm.partition) if arm.chooses.partitioned else np.zeros(self._n, np.int32)
            ranking = arm.chooses.draw(key, classes)
        else:
            ranking = self.ranking(arm.selector, arm.partition)
        budgets = plan.in_partition(self._config, arm.partition).selection.budgets
        return ranking.subset(fraction=arm.fraction, budgets=budgets)

    def size(self, arm: plan.Arm, n: int) -> int:
        """Returns how many of n images an arm trains on."""
        if arm.selector != LISTED:
            return round(arm.fraction * n)
        stage = f"train/{arm.name}"
        return self._stamps.facts(stage)["size"] if self._stamps.is_done(stage) else len(self._data.listed())

    @property
    def _n(self) -> int:
        return self._stamps.facts("data")["train_size"]

    def _array(self, name: str, *, ndim: int, kind: str, mapped: bool = False) -> np.ndarray:
        """Loads a stage's array of n rows, and checks it, since files of earlier versions have no digest."""
        path = self._workdir / name
        try:
            found = files.map_array(path) if mapped else files.array(path)
            if found.ndim != ndim or len(found) != self._n or found.dtype.kind != kind:
                wanted = f"{ndim}-dimensional {'floats' if kind == 'f' else 'integers'} with {self._n} rows"
                raise ValueError(f"it holds {found.dtype} {list(found.shape)}, expected {wanted}")
        except Exception as error:  # for a damaged header, any error of Python's own parser
            raise InputError(_damaged(path, files.reason(error))) from error
        return found


class Run:
    """The state shared by the stages of one `pipeline.run` call; loaded data and compiled programs are reused.

    Attributes:
        config: the run's config.
        workdir: the run's directory.
        log: called with progress messages for the user.
        arms: the arms of the config.
        views: the augmentations.
        metrics: the lines of metrics.jsonl.
        stamps, data, trainers, chosen: see their classes.
        evaluates: whether the arms are evaluated, each as soon as it is trained.
        on_speed: called with a training stage, the number of images and the views per second, once they are known.
    """

    def __init__(self, config: ConfigDict, workdir: Workdir, log: Callable[[str], None]):
        self.config = config
        self.workdir = workdir
        self.log = log
        self.arms = plan.arms(config)
        self.views = make_views(config)
        self.metrics = Metrics(workdir)
        self.stamps = Stamps(workdir, fingerprints.inputs(config), log)
        self.data = Data(config, workdir, log)
        self.trainers = Trainers(config, self.data)
        self.chosen = Chosen(config, workdir, self.stamps, self.data, log)
        self.evaluates = False
        self.on_speed: Callable[[str, int, float], None] = lambda stage, n, views_per_second: None

    @functools.cached_property
    def embedding_files(self) -> tuple[str, ...]:
        """The files that the embed stage writes."""
        return ("embeddings.npy", "view_embeddings.npy") if plan.compares_views(self.config) else ("embeddings.npy",)

    @functools.cached_property
    def embedding_damage(self) -> str | None:
        """Why an embedding file is damaged, or None; checked once, as two stages ask and the files are large."""
        return self.stamps.damage(*self.embedding_files)


GIVEN = "config.proxy.embeddings"


def given_embeddings(config: ConfigDict, n: int, *, log: Callable[[str], None]) -> np.ndarray | None:
    """Reads config.proxy.embeddings, and checks that they suit the similarity.

    Returns:
        float32 [n, d] or [n, views, d]; None if a pretrained network has yet to compute them.
    """
    name, vectors = config.proxy.embeddings, None
    if pretrained.is_model(name):
        pretrained.check(name, field=GIVEN)
    else:
        vectors = read_embeddings(name, n=n, field=GIVEN, log=log)
    if (vectors is None or vectors.ndim == 2) and plan.compares_views(config):
        raise InputError(
            f"config.selection.similarity must be 'cosine' if {GIVEN} holds one vector per image, got "
            f"{config.selection.similarity!r}, which compares all pairs of views. Set it to 'cosine', or give "
            "embeddings [n, views, d]."
        )
    return vectors


def _damaged(path: epath.Path, reason: str) -> str:
    return (
        f"{path} must be intact, got a damaged file ({reason}). Remove the file and run the same command again to "
        f"recreate it."
    )
