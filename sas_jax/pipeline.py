"""The stages in the order the data flows; the one place that joins the rooms.

images --train--> proxy --views--> embeddings --> latent classes --> ranking --fraction--> subset
subset --train--> encoder --> linear probe, kNN --> report
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import sas_jax.data
from sas_jax import devices, environment, latent_classes, plan, report, results
from sas_jax.embedding import embed, read_embeddings
from sas_jax.errors import InputError
from sas_jax.estimate import Estimate
from sas_jax.evaluation import knn, linear_probe
from sas_jax.networks import encode, make_method, make_views, project
from sas_jax.selection import baselines
from sas_jax.selection.rank import rank
from sas_jax.selection.ranking import Ranking
from sas_jax.training import FitResult, Trainer, check_batch, fit, optimizer
from sas_jax.workdir import (
    Metrics,
    Workdir,
    digest,
    fingerprint,
    flatten,
    jsonable,
    read_array,
    write_array,
    write_json,
    write_whole,
)

# Keys of a run, told apart by what they are for.
EMBED, CLUSTER, RANDOM = range(100, 103)


def run(
    config: ConfigDict,
    workdir: epath.PathLike,
    *,
    stop_after: str = "report",
    rerun: bool = False,
    restart: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Does what of a run is not done yet.

    Args:
        config: as configs/default.py makes it.
        workdir: where the run's files are; one run has one directory.
        stop_after: the last stage, one of `plan.STAGES`.
        rerun: where the directory holds a run of another config, do again the stages that depend on the difference.
        restart: remove what the directory holds of a run, and begin anew.
        log: gets sentences for the person who waits.

    Returns:
        What results.json holds, as far as the run went.

    Raises:
        InputError: something given cannot be used; what was finished before is kept.
    """
    if stop_after not in plan.STAGES:
        raise InputError(f"--stop_after has to be one of {', '.join(plan.STAGES)}, but is {stop_after!r}: choose one")
    plan.check(config)
    return _Run(config, Workdir(workdir), log).go(stop_after, rerun=rerun, restart=restart)


class _Run:
    """One call of `run`: what is loaded and compiled is kept for the stages that follow."""

    def __init__(self, config: ConfigDict, workdir: Workdir, log: Callable[[str], None]):
        self.config = config
        self.workdir = workdir
        self.log = log
        self.arms = plan.arms(config)
        self.inputs = plan.inputs(config)
        self.mesh = devices.mesh()
        self.views = make_views(config)
        self.metrics = Metrics(workdir)
        self.estimate = Estimate(config, self.arms, log)
        self.done_before: list[str] = []
        self._rankings: dict[str, Ranking] = {}

    def go(self, stop_after: str, *, rerun: bool, restart: bool) -> dict[str, Any]:
        self._claim(rerun=rerun, restart=restart)
        stages: dict[str, Callable[[], None]] = {
            "data": self._data,
            "proxy": self._proxy,
            "embed": self._embed,
            "classes": self._classes,
            "rank": self._rank,
            "subset": self._subset,
            "train": self._train,
            "evaluate": self._evaluate,
            "report": self._report,
        }
        try:
            for name in plan.STAGES[: plan.STAGES.index(stop_after) + 1]:
                stages[name]()
        finally:
            self.metrics.close()
        if self.done_before:
            self.log(f"nothing to do again for: {', '.join(self.done_before)}")
        return results.collect(self.config, self.workdir)

    # The directory

    def _claim(self, *, rerun: bool, restart: bool) -> None:
        """Makes the directory this run's, or refuses where it holds a run of another config."""
        self.workdir.prepare()
        stored = None if restart else self.workdir.stored_config()
        if restart:
            self.workdir.clear()
        config = self.config.to_dict()
        wanted = flatten(plan.without_runtime(jsonable(config)))
        if stored is not None and not rerun:
            found = flatten(plan.without_runtime(stored))
            fields = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
            if fields:
                changes = "; ".join(f"config.{name} was {found.get(name)}, is {wanted.get(name)}" for name in fields)
                redo = [stage for stage, inputs in self.inputs.items() if not self.workdir.is_done(stage, inputs)]
                raise InputError(
                    f"{self.workdir.path} holds a run of another config ({changes}): give --rerun to do "
                    f"{', '.join(redo) or 'nothing'} anew and keep the rest, --restart to begin from nothing, or "
                    f"another --workdir"
                )
        write_json(self.workdir / "config.json", jsonable(config))
        write_json(self.workdir / "environment.json", environment.describe())

    # The stages

    @functools.cached_property
    def dataset(self) -> sas_jax.data.Dataset:
        """The images, read when the first stage asks for them."""
        stamp = self.workdir.stamp("data")
        start = time.perf_counter()
        dataset = sas_jax.data.load(self.config.data)
        splits = [split for split in (dataset.train, dataset.test) if split is not None]
        content = fingerprint(*(digest(a) for split in splits for a in (split.images, split.labels, split.ids)))
        facts = {
            "content": content,
            "name": dataset.name,
            "train_size": len(dataset.train),
            "test_size": len(dataset.test) if dataset.test is not None else 0,
            "num_classes": len(dataset.class_names) if dataset.class_names else None,
            "labelled": dataset.train.labels is not None,
            "skipped": len(dataset.skipped),
            "wall_seconds": round(time.perf_counter() - start, 3),
        }
        if not self.workdir.is_done("data", self.inputs["data"]):
            with self.workdir.doing("data", self.inputs["data"]) as stamped:
                stamped |= facts
        elif stamp and stamp["content"] != content:
            raise InputError(
                f"the images of {dataset.name} are not those that the run in {self.workdir.path} began with "
                f"({stamp['train_size']} then, {len(dataset.train)} now): give --restart, or another --workdir"
            )
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
    def device_images(self) -> jax.Array:
        """uint8 [n, h, w, 3] on every device."""
        return jax.device_put(self.dataset.train.images, devices.replicated(self.mesh))

    def _todo(self, stage: str, *files: epath.Path) -> bool:
        """Whether the stage has to be done: its stamp or one of its files is not there, or is of other inputs."""
        if self.workdir.is_done(stage, self.inputs[stage]) and all(file.exists() for file in files):
            self.done_before.append(stage)
            return False
        return True

    def _data(self) -> None:
        if self._todo("data"):
            _ = self.dataset
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Finds what does not fit the number of images or devices before hours are spent on the stages ahead of it."""
        n = self.facts["train_size"]
        trained: list[tuple[str, int, ConfigDict, str]] = [
            (arm.name, round(arm.fraction * n), self.config.train, "config.train") for arm in self.arms
        ]
        if not self.config.proxy.embeddings:
            trained.append(("proxy", n, self.config.proxy.train, "config.proxy.train"))
        for name, size, train, section in trained:
            check_batch(name, size, train.batch_size, section=section)
            if train.batch_size % self.mesh.size:
                raise InputError(
                    f"{section}.batch_size has to be a multiple of the {self.mesh.size} devices, but is "
                    f"{train.batch_size}: choose {-(-train.batch_size // self.mesh.size) * self.mesh.size}"
                )
        section = self.config.latent_classes
        if section.method == "file":
            latent_classes.from_file(section.file, n=n)
        elif section.method == "labels" and not self.facts["labelled"]:
            raise InputError(
                f"config.latent_classes.method 'labels' wants a labelled data set, but {self.facts['name']} has no "
                f"labels: use 'kmeans'"
            )
        elif section.method == "kmeans" and section.num_classes > n:
            raise InputError(
                f"config.latent_classes.num_classes has to be at most the {n} images, but is "
                f"{section.num_classes}: lower it"
            )

    def _trainer(self, encoder: ConfigDict, train: ConfigDict) -> Trainer:
        method = make_method(encoder, temperature=train.temperature, compute_dtype=self.config.compute_dtype)
        return Trainer(method, optimizer.build(train), views=self.views, batch_size=train.batch_size, mesh=self.mesh)

    @functools.cached_property
    def _proxy_trainer(self) -> Trainer:
        return self._trainer(self.config.proxy.encoder, self.config.proxy.train)

    @functools.cached_property
    def _encode(self) -> Callable:
        """The arms' encoder as a function of (variables, images); one object, so that all arms share one program."""
        return functools.partial(encode, self._arm_trainer.method)

    @functools.cached_property
    def _arm_trainer(self) -> Trainer:
        return self._trainer(self.config.encoder, self.config.train)

    def _fit(
        self, stage: str, directory: str, trainer: Trainer, section: str, subset: np.ndarray, seed: int
    ) -> FitResult:
        """Trains, or finds what was trained."""
        train = self.config.proxy.train if stage == "proxy" else self.config.train
        path = self.workdir / directory
        owner = path / "inputs.json"
        # checkpoints of another config must never be gone on from
        if path.exists() and not (owner.exists() and owner.read_text() == self.inputs[stage]):
            path.rmtree()
        path.mkdir(parents=True, exist_ok=True)
        owner.write_text(self.inputs[stage])
        return fit(
            trainer,
            self.device_images,
            subset,
            stage=directory,
            section=section,
            epochs=train.epochs,
            seed=seed,
            directory=path / "checkpoints",
            runtime=self.config.runtime,
            metrics=self.metrics,
            log=self.log,
            on_speed=functools.partial(self.estimate.report, directory, len(self.dataset.train.images)),
        )

    def _fit_proxy(self) -> FitResult:
        everything = np.arange(len(self.dataset.train.images))
        return self._fit("proxy", "proxy", self._proxy_trainer, "config.proxy.train", everything, self.config.seed)

    def _fit_arm(self, arm: plan.Arm) -> FitResult:
        return self._fit(
            f"train/{arm.name}",
            f"arms/{arm.name}",
            self._arm_trainer,
            "config.train",
            self.subset(arm),
            self.config.seed + arm.seed,
        )

    def _proxy(self) -> None:
        if not self.config.proxy.embeddings and self._todo("proxy"):
            with self.workdir.doing("proxy", self.inputs["proxy"]) as facts:
                facts |= _facts(self._fit_proxy())

    def _embed(self) -> None:
        pairs = self.config.selection.similarity != "cosine"  # such similarity compares all views, not their means
        path, views_path = self.workdir / "embeddings.npy", self.workdir / "view_embeddings.npy"
        if not self._todo("embed", path, *([views_path] if pairs else [])):
            return
        with self.workdir.doing("embed", self.inputs["embed"]):
            if self.config.proxy.embeddings:
                vectors = read_embeddings(self.config.proxy.embeddings, n=len(self.dataset.train), log=self.log)
            else:
                state = self._fit_proxy().state
                vectors = embed(
                    functools.partial(project, self._proxy_trainer.method),
                    {"params": state.params, "batch_stats": state.batch_stats},
                    self.dataset.train.images,
                    views=self.views,
                    num_views=self.config.embedding.views,
                    keep_views=pairs,
                    key=jax.random.fold_in(jax.random.key(self.config.seed), EMBED),
                    batch_size=self.config.embedding.batch_size,
                    label="embeddings",
                )
            views_path.unlink(missing_ok=True)
            if vectors.ndim == 3:
                if pairs:
                    write_array(views_path, vectors)
                vectors = vectors.mean(axis=1, dtype=np.float32)
            elif pairs:
                raise InputError(
                    f"config.selection.similarity {self.config.selection.similarity!r} compares all pairs of views, "
                    f"but config.proxy.embeddings holds one vector an image: give [n, views, d], or use 'cosine'"
                )
            write_array(path, vectors)

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """float32 [n, d]."""
        return read_array(self.workdir / "embeddings.npy")

    def _classes(self) -> None:
        path = self.workdir / "latent_classes.npy"
        if not self._todo("classes", path):
            return
        section = self.config.latent_classes
        with self.workdir.doing("classes", self.inputs["classes"]) as facts:
            labels = self.dataset.train.labels
            classes = latent_classes.assign(
                section.method,
                key=jax.random.fold_in(jax.random.key(self.config.seed), CLUSTER),
                embeddings=self.embeddings,
                labels=labels,
                file=section.file,
                num_classes=section.num_classes,
                restarts=section.restarts,
            )
            write_array(path, classes)
            sizes = np.unique(classes, return_counts=True)[1]
            facts["num_classes"] = len(sizes)
            facts["sizes"] = sizes.tolist()
            facts["agreement"] = None if labels is None else latent_classes.agreement(classes, labels)
        self.log(f"classes: {len(sizes)} latent classes of {sizes.min()} to {sizes.max()} images")

    @functools.cached_property
    def classes(self) -> np.ndarray:
        """int32 [n]."""
        return read_array(self.workdir / "latent_classes.npy")

    def _ranking_path(self, objective: str) -> epath.Path:
        """ranking.parquet for the configured objective; another that an arm names carries its name."""
        configured = objective == self.config.selection.objective
        return self.workdir / ("ranking.parquet" if configured else f"ranking-{objective}.parquet")

    def ranking(self, objective: str) -> Ranking:
        if objective not in self._rankings:
            self._rankings[objective] = Ranking.load(self._ranking_path(objective))
        return self._rankings[objective]

    def _rank(self) -> None:
        selection = self.config.selection
        for objective in plan.objectives(self.config):
            stage = plan.rank_stage(self.config, objective)
            if not self._todo(stage, self._ranking_path(objective)):
                continue
            with self.workdir.doing(stage, self.inputs[stage]) as facts:
                pairs = selection.similarity != "cosine"
                vectors = read_array(self.workdir / "view_embeddings.npy") if pairs else self.embeddings
                ranking = rank(
                    vectors,
                    self.classes,
                    objective=objective,
                    kind=selection.similarity,
                    tau=selection.tau,
                    self_similarity=selection.self_similarity,
                    normalize=False,
                    ids=self.dataset.train.ids,
                    mesh=self.mesh,
                )
                ranking.save(self._ranking_path(objective))
                facts["turning_fraction"] = ranking.turning_fraction if objective == "sas" else None
            self.log(f"{stage}: {len(ranking.position)} images ranked by {objective}")

    def subset(self, arm: plan.Arm) -> np.ndarray:
        """int64 [k], ascending indices of an arm's images."""
        n = self.facts["train_size"]
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), RANDOM), arm.seed)
        if arm.selector == "full":
            return np.arange(n)
        if arm.selector == "random":
            ranking = baselines.random(key, n)
        elif arm.selector == "random_balanced":
            ranking = baselines.random_balanced(key, self.classes)
        else:
            ranking = self.ranking(arm.selector)
        return ranking.subset(fraction=arm.fraction)

    def _subset(self) -> None:
        """The files of the configured objective's subsets; every arm finds its own again from the ranking."""
        for arm in self.arms:
            if arm.selector == self.config.selection.objective:
                write_array(self.workdir / f"subset-{arm.fraction_name}.npy", self.subset(arm))

    def _train(self) -> None:
        for arm in self.arms:
            stage = f"train/{arm.name}"
            if self._todo(stage):
                with self.workdir.doing(stage, self.inputs[stage]) as facts:
                    facts |= _facts(self._fit_arm(arm)) | {"size": len(self.subset(arm))}

    def _evaluate(self) -> None:
        todo = [arm for arm in (None, *self.arms) if self._todo(_evaluation(arm))]
        if not todo:
            return
        if self.dataset.test is None or self.dataset.train.labels is None or self.dataset.test.labels is None:
            missing = "no labels" if self.dataset.train.labels is None else "no labelled test images"
            self.log(f"evaluate: {self.dataset.name} has {missing}, so there is no linear probe and no kNN")
        for arm in todo:
            stage = _evaluation(arm)
            with self.workdir.doing(stage, self.inputs[stage]) as facts:
                facts |= self._accuracies(arm)

    def _accuracies(self, arm: plan.Arm | None) -> dict[str, Any]:
        """Linear probe and kNN of an arm's encoder (None: of the untrained one), on the frozen features."""
        train, test = self.dataset.train, self.dataset.test
        if test is None or train.labels is None or test.labels is None:
            return {"probe": None, "knn": None}
        key = jax.device_put(jax.random.key(self.config.seed), devices.replicated(self.mesh))
        state = self._fit_arm(arm).state if arm else self._arm_trainer.init(key)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        settings = self.config.evaluation
        labelled = [_labelled(split) for split in (train, test)]  # of some sets only a part has labels
        features = [
            embed(
                self._encode,
                variables,
                images,
                views=self.views,
                batch_size=settings.batch_size,
                label=f"features of {arm.name if arm else 'untrained'}",
            )
            for images, _ in labelled
        ]
        labels = [labels for _, labels in labelled]
        num_classes = int(max(labels[0].max(), labels[1].max())) + 1
        given = (features[0], labels[0], features[1], labels[1])
        probe = linear_probe(
            *given, num_classes=num_classes, l2=settings.probe_l2, max_iterations=settings.probe_iterations
        )
        neighbours = knn(
            *given, num_classes=num_classes, k=settings.knn_neighbours, temperature=settings.knn_temperature
        )
        return {"probe": probe.to_dict(), "knn": neighbours.to_dict()}

    def _report(self) -> None:
        found = results.collect(self.config, self.workdir)
        path = self.workdir / "results.json"
        page = self.workdir / "report.html"
        inputs = fingerprint(found)
        if page.exists() and self.workdir.is_done("report", inputs):
            self.done_before.append("report")
            return
        with self.workdir.doing("report", inputs):
            write_json(path, found)
            html = report.html(
                results=found,
                config=jsonable(self.config.to_dict()),
                environment=environment.describe(),
                metrics=self.metrics.lines(),
                ranking=self.ranking(self.config.selection.objective),
                embeddings=self.embeddings,
                images=self.dataset.train.images,
                labels=self.dataset.train.labels,
                class_names=self.dataset.class_names,
            )
            write_whole(page, lambda aside: aside.write_text(html))


def _evaluation(arm: plan.Arm | None) -> str:
    return f"evaluate/{arm.name if arm else 'untrained'}"


def _labelled(split: sas_jax.data.Split) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split that have a label, and the labels."""
    assert split.labels is not None
    known = split.labels >= 0
    return (split.images, split.labels) if known.all() else (split.images[known], split.labels[known])


def _facts(result: FitResult) -> dict[str, Any]:
    """What a training stage leaves in its stamp."""
    return {
        "steps": result.steps,
        "loss": result.loss,
        "train_seconds": result.train_seconds,
        "views_per_second": round(result.views_per_second, 1),
    }
