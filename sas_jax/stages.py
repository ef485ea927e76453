"""What the stages of a run share: its images, trainers, embeddings, rankings and subsets, and how a stage is done."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import sas_jax.data
from sas_jax import devices, files, plan, settings
from sas_jax.data import index_files, subsets
from sas_jax.embedding import mean_embeddings, read_embeddings
from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.networks import encode, make_supervised_trainer, make_trainer, make_views, project
from sas_jax.selection.ranking import Ranking
from sas_jax.selection.selectors import LISTED
from sas_jax.training import Trainer
from sas_jax.workdir import Metrics, Workdir

# Keys of a run, told apart by what they are for.
EMBED, CLUSTER, RANDOM, PROBE, GEOMETRY = range(100, 105)


class Stages:
    """What the stages of one call of `run` share; what is loaded and compiled is kept for those that follow."""

    def __init__(self, config: ConfigDict, workdir: Workdir, log: Callable[[str], None]):
        self.config = config
        self.workdir = workdir
        self.log = log
        self.arms = plan.arms(config)
        self.inputs = plan.inputs(config)
        self.mesh = devices.mesh()
        self.views = make_views(config)
        self.metrics = Metrics(workdir)
        self.done_before: list[str] = []
        self._rankings: dict[str, Ranking] = {}
        self._trainers: dict[str, Trainer] = {}

    def _is_done(self, stage: str) -> bool:
        return self.workdir.is_done(stage, self.inputs[stage])

    def _todo(self, stage: str, *names: str, damage: Callable[[], str | None] = lambda: None) -> bool:
        """Whether the stage has to be done: its stamp or one of its files is missing, damaged or of other inputs.

        Args:
            stage: its name.
            names: of its files.
            damage: of what else it leaves, asked where it is done; None where all is whole.
        """
        done = self._is_done(stage)
        if self.workdir.writes:
            why = self.workdir.stamp_damage(stage)
            if done:
                found = {self.workdir / name: self.workdir.damage(name) for name in names}
                why = next((f"{path} is damaged ({reason})" for path, reason in found.items() if reason), damage())
            if why:
                self.log(f"{why}: {stage} is done again")
                done = False
        if devices.as_writer_sees(done):
            self.done_before.append(stage)
            return False
        return True

    @contextlib.contextmanager
    def _doing(self, stage: str) -> Iterator[dict[str, Any]]:
        """The work of a stage, over when all processes have done their part and its files are there."""
        with self.workdir.doing(stage, self.inputs[stage]) as facts:
            yield facts
            devices.wait_for_all(f"{stage} is done")
        devices.wait_for_all(f"{stage} is stamped")

    @functools.cached_property
    def _loaded(self) -> tuple[sas_jax.data.Dataset, dict[str, Any]]:
        """The data set as it is on disk, and what its stamp will say."""
        start = time.perf_counter()
        dataset = sas_jax.data.load(self.config.data)
        train, test = dataset.train, dataset.test
        not_evaluated = None
        if train.labels is None:
            not_evaluated = "the training images have no labels"
        elif test is None:
            not_evaluated = "there are no test images"
        elif test.labels is None:
            not_evaluated = "the test images have no labels"
        return dataset, {
            "train_images": plan.train_images(self.config),
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
        """The images, read when the first stage asks for them."""
        dataset, facts = self._loaded
        stamp = self.workdir.stamp("data")
        same = stamp is not None and stamp["train_images"] == facts["train_images"]
        if stamp and same and stamp["train_content"] != facts["train_content"]:
            raise InputError(
                f"the images of {dataset.name} are not those that the run in {self.workdir.path} began with "
                f"({stamp['train_size']} then, {len(dataset.train)} now): give --restart, or another --workdir"
            )
        if not self._is_done("data"):
            with self._doing("data") as stamped:
                stamped |= facts
        self.log(f"data: {facts['train_size']:,} images of {dataset.name}, {facts['test_size']:,} to test on")
        for path in dataset.skipped[:10]:
            self.log(f"data: left out {path}")
        if len(dataset.skipped) > 10:
            self.log(f"data: left out {len(dataset.skipped) - 10} more")
        return dataset

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the data set once its stage is done."""
        stamp = self.workdir.stamp("data")
        assert stamp is not None
        return stamp

    @functools.cached_property
    def training_images(self) -> jax.Array | Images:
        """uint8 [n, h, w, 3], on every device where they are to be there, or fit."""
        images, placement = self.dataset.train.images, self.config.data.placement
        in_memory = isinstance(images, np.ndarray)
        fits = in_memory and (placement == "device" or (placement == "auto" and devices.holds(images.nbytes)))
        if devices.everywhere(fits):
            return jax.device_put(images, devices.replicated(self.mesh))
        self.log(f"data: the images are {'sent batch by batch' if in_memory else 'decoded as they are wanted'}")
        return images

    def _size(self, arm: plan.Arm, n: int) -> int:
        """How many of n images an arm trains on."""
        if arm.selector != LISTED:
            return round(arm.fraction * n)
        stamp = self.workdir.stamp(f"train/{arm.name}")
        return stamp["size"] if stamp and self._is_done(f"train/{arm.name}") else len(self._listed)

    @functools.cached_property
    def _listed(self) -> np.ndarray:
        """int64 [k], ascending: the images that config.selection.file lists."""
        section = self.config.selection
        return subsets.resolve(
            index_files.read(section.file),
            self._loaded[0].train.ids,
            order=section.file_order,
            split=section.file_split,
            drop=section.file_drop,
            root=self.config.data.folder,
            log=self.log,
        )

    def _given_embeddings(self, n: int, *, log: Callable[[str], None]) -> np.ndarray:
        """config.proxy.embeddings, checked to be what the similarity needs."""
        vectors = read_embeddings(self.config.proxy.embeddings, n=n, field="config.proxy.embeddings", log=log)
        if vectors.ndim == 2 and self.config.selection.similarity != "cosine":
            raise InputError(
                f"config.selection.similarity must be 'cosine' where config.proxy.embeddings holds one vector an "
                f"image, got {self.config.selection.similarity!r}, which compares all pairs of views. Set it, or give "
                f"[n, views, d]."
            )
        return vectors

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """float32 [n, d]."""
        return self._array("embeddings.npy", ndim=2, kind="f")

    def similarity_embeddings(self, partition: str) -> np.ndarray:
        """float32 [n, d]: what the similarity within a partition is measured on."""
        path = plan.in_partition(self.config, partition).selection.similarity_embeddings
        if not path:
            return self.embeddings
        field = f"config.partitions.{partition}" if partition else "config.selection"
        n = self.facts["train_size"]
        return mean_embeddings(path, n=n, field=f"{field}.similarity_embeddings", log=self.log)

    def classes(self, partition: str) -> np.ndarray:
        """int32 [n]: the latent classes of a partition, "" for the run's own."""
        return self._array(self._classes_name(partition), ndim=1, kind="i")

    def _classes_name(self, partition: str) -> str:
        return f"latent_classes-{partition}.npy" if partition else "latent_classes.npy"

    def _array(self, name: str, *, ndim: int, kind: str) -> np.ndarray:
        """An array of n rows that a stage left. A digest told `_todo` of damage, but earlier versions kept none."""
        path, n = self.workdir / name, self.facts["train_size"]
        try:
            found = files.array(path)
            if found.ndim != ndim or len(found) != n or found.dtype.kind != kind:
                raise ValueError(f"it holds {found.dtype} {list(found.shape)}, of {n} images")
        except Exception as error:  # a damaged header shows as whatever Python's own parser meets in it
            raise InputError(_damaged(path, files.reason(error))) from error
        return found

    def ranking(self, selector: str, partition: str = "") -> Ranking:
        name = plan.ranking_file(self.config, selector, partition)
        if name not in self._rankings:
            path = self.workdir / name
            try:
                self._rankings[name] = Ranking.load(os.fspath(path), n=self.facts["train_size"])
            except InputError as error:
                raise InputError(_damaged(path, files.reason(error))) from error
        return self._rankings[name]

    def subset(self, arm: plan.Arm) -> np.ndarray:
        """int64 [k], ascending indices of an arm's images."""
        n = self.facts["train_size"]
        if arm.chooses.everything:
            return self._listed if arm.selector == LISTED else np.arange(n)
        if arm.chooses.draw:
            key = jax.random.fold_in(jax.random.fold_in(settings.key(self.config.seed), RANDOM), arm.seed)
            classes = self.classes(arm.partition) if arm.chooses.partitioned else np.zeros(n, np.int32)
            ranking = arm.chooses.draw(key, classes)
        else:
            ranking = self.ranking(arm.selector, arm.partition)
        budgets = plan.in_partition(self.config, arm.partition).selection.budgets
        return ranking.subset(fraction=arm.fraction, budgets=budgets)

    @functools.cached_property
    def _proxy_trainer(self) -> Trainer:
        return make_trainer(self.config, self.config.proxy.encoder, self.config.proxy.train, mesh=self.mesh)

    def _arm_trainer(self, method: str) -> Trainer:
        if method not in self._trainers:
            self._trainers[method] = make_trainer(
                self.config, self.config.encoder, plan.training(self.config, method), mesh=self.mesh, method=method
            )
        return self._trainers[method]

    @functools.cached_property
    def _encode(self) -> Callable:
        """The arms' encoder as a function of (variables, images); one object, so that all arms share one program."""
        return functools.partial(encode, self._arm_trainer("simclr").method)

    @functools.cached_property
    def _supervised_trainer(self) -> Trainer:
        train = self.dataset.train
        assert train.labels is not None
        num_classes = int(train.labels.max()) + 1
        return make_supervised_trainer(self.config, train.labels, num_classes=num_classes, mesh=self.mesh)

    @functools.cached_property
    def _classify(self) -> Callable:
        """The supervised encoder and its classifier as a function of (variables, images); one object, one program."""
        return functools.partial(project, self._supervised_trainer.method)


def _damaged(path: epath.Path, reason: str) -> str:
    return (
        f"{path} must be as this run wrote it, got a damaged file ({reason}). Remove the file and run the same command "
        f"again, which makes it anew."
    )
