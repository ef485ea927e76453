"""The stages in the order the data flows; the one place that joins the rooms.

images --train--> proxy --views--> embeddings --> latent classes --> ranking --fraction--> subset
subset --train--> encoder --> linear probe, kNN --> report
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sas_jax import claim, config_checks, devices, environment, files, partition, plan, report, results, settings
from sas_jax.embedding import embed
from sas_jax.errors import InputError
from sas_jax.estimate import Estimate
from sas_jax.evaluation import accuracies, classifier_accuracy, coarse_classes, encoder_geometry
from sas_jax.networks import of_encoder, project
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.rank import rank
from sas_jax.selection.selectors import LISTED, SELECTORS
from sas_jax.stages import CLUSTER, EMBED, GEOMETRY, PROBE, Stages
from sas_jax.training import COLLAPSED, FitResult, Trainer, TrainState, check_batch, fit
from sas_jax.training.checkpoint import damage as checkpoint_damage
from sas_jax.workdir import Workdir, fingerprint, jsonable, write_array, write_json


@settings.fixed
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
    config_checks.check(config)
    directory = Workdir(workdir, writes=devices.is_writer())
    with directory.held():
        return _Run(config, directory, log).go(stop_after, rerun=rerun, restart=restart)


class _Run(Stages):
    """One call of `run`."""

    def go(self, stop_after: str, *, rerun: bool, restart: bool) -> dict[str, Any]:
        wanted = plan.STAGES[: plan.STAGES.index(stop_after) + 1]
        given = self.config.to_dict()
        if self.workdir.writes:
            claim.check(self.workdir, given, self.inputs, rerun=rerun, restart=restart, log=self.log)
        n = self._check_sizes(wanted, fresh=restart)
        if self.workdir.writes:
            claim.take(self.workdir, self.inputs, restart=restart)
            for name, value in (("config.json", jsonable(given)), ("environment.json", environment.describe())):
                with self.workdir.writing(name) as path:
                    write_json(path, value)
        devices.wait_for_all("the workdir is taken")
        self.estimate = Estimate(self.config, self._images_to_train_on(wanted, n), self.log)
        stages: dict[str, Callable[[], None]] = {
            "data": self._data,
            "proxy": self._proxy,
            "embed": self._embed,
            "classes": self._classes,
            "rank": self._rank,
            "subset": self._subset,
            "train": functools.partial(self._train, evaluates="evaluate" in wanted),
            "evaluate": self._evaluate_with_labels,
            "report": self._report,
        }
        try:
            for name in wanted:
                stages[name]()
        finally:
            self.metrics.close()
        if self.done_before:
            self.log(f"nothing to do again for: {', '.join(self.done_before)}")
        return results.collect(self.config, self.inputs, self.workdir)

    def _images_to_train_on(self, wanted: Sequence[str], n: int) -> int:
        """How many images of n all the encoders see in one epoch that are not trained yet."""
        left = [arm for arm in self.arms if "train" in wanted and not self._is_done(f"train/{arm.name}")]
        sizes = [n if arm.step_rule == "steps" else self._size(arm, n) for arm in left]
        if "evaluate" in wanted:
            with_labels = [arm for arm in self.arms if plan.trains_supervised(self.config, arm)]
            sizes += [self._size(arm, n) for arm in with_labels if not self._is_done(f"supervised/{arm.name}")]
        return sum(sizes)

    def _check_sizes(self, wanted: Sequence[str], *, fresh: bool) -> int:
        """Finds what of the wanted stages does not fit the images or the devices, before anything is done or removed.

        Returns how many images there are to train on.
        """
        stamp = self.workdir.stamp("data")
        facts = stamp if stamp and not fresh and self._is_done("data") else self._loaded[1]
        n = facts["train_size"]
        trained: list[tuple[str, int, ConfigDict, str]] = []
        if "train" in wanted:
            trained += [(arm.name, self._size(arm, n), self.config.train, "config.train") for arm in self.arms]
        elif any(arm.selector == LISTED for arm in self.arms):
            _ = self._listed
        if self.config.proxy.embeddings:
            self._given_embeddings(n, log=lambda _: None)
        elif "proxy" in wanted:
            trained.append(("proxy", n, self.config.proxy.train, "config.proxy.train"))
        for name, size, section, where in trained:
            check_batch(name, size, section.batch_size, section=where)
            if section.batch_size % self.mesh.size:
                raise InputError(
                    f"{where}.batch_size has to be a multiple of the {self.mesh.size} devices, but is "
                    f"{section.batch_size}: choose {-(-section.batch_size // self.mesh.size) * self.mesh.size}"
                )
        for name in plan.partitions_of_arms(self.config) if "classes" in wanted else ():
            if not self._is_done(plan.classes_stage(name)):
                section = plan.in_partition(self.config, name).latent_classes
                partition.check(section, facts, lambda: self._loaded[0])
        return n

    def _data(self) -> None:
        if self._todo("data"):
            _ = self.dataset

    def _fit(
        self,
        stage: str,
        directory: str,
        trainer: Trainer,
        section: str,
        subset: np.ndarray,
        seed: int,
        *,
        like: int | None = None,
    ) -> FitResult:
        """Trains, or finds what was trained: for the section's epochs, or as many steps as `like` images have then."""
        epochs = self.config.proxy.train.epochs if stage == "proxy" else self.config.train.epochs
        path = self.workdir / directory
        if self.workdir.writes:
            claim.take_checkpoints(path, self.inputs[stage], vouched=self._is_done(stage), log=self.log)
        devices.wait_for_all(f"the checkpoints of {directory} are this run's")
        return fit(
            trainer,
            self.training_images,
            subset,
            stage=directory,
            section=section,
            steps=epochs * ((like or len(subset)) // trainer.batch_size),
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
            self._arm_trainer(arm.method),
            "config.train",
            self.subset(arm),
            self.config.seed + arm.seed,
            like=len(self.dataset.train.images) if arm.step_rule == "steps" else None,
        )

    def _proxy(self) -> None:
        if not self.config.proxy.embeddings and self._todo("proxy"):
            with self._doing("proxy") as facts:
                facts |= _facts(self._fit_proxy())

    def _embed(self) -> None:
        pairs = self.config.selection.similarity != "cosine"  # such similarity compares all views, not their means
        if not self._todo("embed", "embeddings.npy", *(["view_embeddings.npy"] if pairs else [])):
            return
        with self._doing("embed"):
            if self.config.proxy.embeddings:
                vectors = self._given_embeddings(len(self.dataset.train), log=self.log)
            else:
                vectors = embed(
                    functools.partial(project, self._proxy_trainer.method),
                    _variables(self._fit_proxy().state),
                    self.dataset.train.images,
                    views=self.views,
                    num_views=self.config.embedding.views,
                    keep_views=pairs,
                    key=jax.random.fold_in(settings.key(self.config.seed), EMBED),
                    batch_size=self.config.embedding.batch_size,
                    label="embeddings",
                )
            if self.workdir.writes:
                (self.workdir / "view_embeddings.npy").unlink(missing_ok=True)
                if vectors.ndim == 3:
                    if pairs:
                        with self.workdir.writing("view_embeddings.npy") as path:
                            write_array(path, vectors)
                    vectors = vectors.mean(axis=1, dtype=np.float32)
                with self.workdir.writing("embeddings.npy") as path:
                    write_array(path, vectors)

    def _classes(self) -> None:
        for name in plan.partitions_of_arms(self.config):
            stage = plan.classes_stage(name)
            if not self._todo(stage, self._classes_name(name)):
                continue
            with self._doing(stage) as facts:
                if not self.workdir.writes:
                    continue
                classes, found = partition.make(
                    jax.random.fold_in(settings.key(self.config.seed), CLUSTER),
                    plan.in_partition(self.config, name).latent_classes,
                    self.dataset,
                    lambda: self.embeddings,
                    self.workdir,
                    self.log,
                )
                with self.workdir.writing(self._classes_name(name)) as path:
                    write_array(path, classes)
                facts |= found

    def _rank(self) -> None:
        for selector, name in plan.ranked(self.config):
            stage, file = plan.rank_stage(self.config, selector, name), plan.ranking_file(self.config, selector, name)
            if not self._todo(stage, file):
                continue
            self.log(f"{stage}: {self.facts['train_size']:,} images by {plan.within(selector, name)}")
            with self._doing(stage) as facts:
                if self.workdir.writes:
                    with self.workdir.writing(file) as path:
                        self._rank_by(selector, name, path, facts)

    def _rank_by(self, selector: str, partition: str, path: epath.Path, facts: dict[str, Any]) -> None:
        """Writes the ranking; one process does it, for the others have to train on the very same subset."""
        classes, ids = self.classes(partition), self.dataset.train.ids
        chooses, selection = SELECTORS[selector], self.config.selection
        if chooses.baseline:
            chooses.baseline(self.similarity_embeddings(partition), classes, ids=ids).save(path)
            facts["turning_fraction"] = None
            return
        pairs = selection.similarity != "cosine"
        to_itself = selection.self_similarity if chooses.self_similarity is None else chooses.self_similarity
        partial = path.parent / f"{path.name}.partial"
        ranking = rank(
            self._array("view_embeddings.npy", ndim=3, kind="f") if pairs else self.similarity_embeddings(partition),
            classes,
            objective=chooses.objective,
            kind=selection.similarity,
            tau=selection.tau,
            self_similarity=to_itself,
            normalize=False,
            ids=ids,
            mesh=devices.local_mesh(),
            resume=str(partial),
        )
        ranking.save(path)
        partial.unlink()
        facts["turning_fraction"] = ranking.turning_fraction if OBJECTIVES[chooses.objective].cut else None

    def _subset(self) -> None:
        """The files of the configured objective's subsets; every arm finds its own again from the ranking."""
        if not self.workdir.writes:
            return
        for path in files.matching(self.workdir.path, "subset-[0-9]*.npy"):
            path.unlink()
        for arm in self.arms:
            if arm.selector == self.config.selection.objective and not arm.partition:
                write_array(self.workdir / f"subset-{arm.fraction_name}.npy", self.subset(arm))

    def _train(self, *, evaluates: bool) -> None:
        """Trains the arms, and measures each as soon as it is trained: a comparison that is stopped has its numbers."""
        if evaluates:
            self._evaluate(None)
        for arm in self.arms:
            stage = f"train/{arm.name}"
            if self._todo(stage, damage=functools.partial(self._checkpoint_damage, arm)):
                with self._doing(stage) as facts:
                    facts |= _facts(self._fit_arm(arm)) | {"size": len(self.subset(arm))}
                if facts["collapsed"]:
                    self.log(
                        f"{stage}: the outputs collapsed to nearly one point (spread {facts['spread']}, where 1 is "
                        f"even around the sphere): the arm has learned little; try a lower learning rate"
                    )
            if evaluates:
                self._evaluate(arm)

    def _checkpoint_damage(self, arm: plan.Arm) -> str | None:
        """Why the encoder of a trained arm cannot be used; None where it can."""
        if files.is_remote(self.workdir.path):
            return None  # as of `Workdir.damage`
        stamp = self.workdir.stamp(f"train/{arm.name}")
        assert stamp is not None
        return checkpoint_damage(self.workdir / "arms" / arm.name / "checkpoints", stamp["steps"])

    def _evaluate(self, arm: plan.Arm | None) -> None:
        """Measures an arm's encoder, or where it is None the untrained one."""
        stage = f"evaluate/{arm.name if arm else 'untrained'}"
        if not self._todo(stage):
            return
        reason = self.facts["not_evaluated"]
        if reason and arm is None:
            self.log(f"evaluate: {reason}, so there is no linear probe and no kNN")
        with self._doing(stage) as facts:
            facts |= dict.fromkeys(results.MEASURED) if reason else self._measured(arm)
        self._write_results()

    def _evaluate_with_labels(self) -> None:
        """Networks trained with labels on the arms' subsets."""
        for arm in () if self.facts["not_evaluated"] else self.arms:
            if not plan.trains_supervised(self.config, arm):
                continue
            stage = f"supervised/{arm.name}"
            if self._todo(stage):
                with self._doing(stage) as facts:
                    facts |= self._supervised(stage, arm)
                self._write_results()
        if self.workdir.writes and (why := self.workdir.damage("results.json")):
            self.log(f"{self.workdir / 'results.json'} is written again ({why})")
            self._write_results()

    def _write_results(self) -> None:
        """results.json as far as the run has come."""
        if self.workdir.writes:
            with self.workdir.writing("results.json") as path:
                write_json(path, results.collect(self.config, self.inputs, self.workdir))

    def _measured(self, arm: plan.Arm | None) -> dict[str, Any]:
        """Probes, kNN and geometry of an arm's encoder, or where it is None of the untrained one."""
        name = arm.name if arm else "untrained"
        self.log(f"evaluate: linear probe and kNN of {name}")
        untrained = self._arm_trainer("simclr")
        state = self._fit_arm(arm).state if arm else untrained.init(untrained.key(self.config.seed))
        variables = of_encoder(_variables(state))
        evaluation = self.config.evaluation
        train, test = self.dataset.train, self.dataset.test
        assert test is not None
        assert train.labels is not None
        assert test.labels is not None
        key = settings.key(self.config.seed)  # not the arm's: one draw for all
        labelled = (train.images, train.labels), (test.images, test.labels)
        found = accuracies(
            self._encode,
            variables,
            *labelled,
            views=self.views,
            settings=evaluation,
            label=name,
            key=jax.random.fold_in(key, PROBE),
            fractions=evaluation.probe_fractions,
            l2_grid=evaluation.probe_l2_grid,
            coarse=coarse_classes(self.dataset.class_names),
        )
        if not evaluation.geometry:
            return found | {"geometry": None}
        measured = encoder_geometry(
            self._encode,
            variables,
            *labelled,
            subset=self.subset(arm) if arm else None,
            views=self.views,
            batch_size=evaluation.batch_size,
            key=jax.random.fold_in(key, GEOMETRY),
            label=name,
        )
        return found | {"geometry": measured.to_dict()}

    def _supervised(self, stage: str, arm: plan.Arm) -> dict[str, Any]:
        """The encoder trained with labels on those images of an arm that have one, and measured on the test images."""
        train, test = self.dataset.train, self.dataset.test
        assert test is not None
        assert train.labels is not None
        assert test.labels is not None
        subset = self.subset(arm)
        subset = subset[train.labels[subset] >= 0]
        seed = self.config.seed + arm.seed
        fitted = self._fit(stage, stage, self._supervised_trainer, "config.train", subset, seed)
        measured = classifier_accuracy(
            self._classify,
            _variables(fitted.state),
            (test.images, test.labels),
            views=self.views,
            batch_size=self.config.evaluation.batch_size,
            label=stage,
        )
        return _facts(fitted) | {"size": len(subset), "accuracy": measured.to_dict()}

    def _report(self) -> None:
        if not self.workdir.writes:
            return
        found = results.collect(self.config, self.inputs, self.workdir)
        inputs = fingerprint(found)
        if self.workdir.is_done("report", inputs):
            if not (why := self.workdir.damage("report.html")):
                self.done_before.append("report")
                return
            self.log(f"{self.workdir / 'report.html'} is made again ({why})")
        current = {"proxy"} & self.inputs.keys()
        current |= {f"{kind}/{arm.name}" for kind in ("arms", "supervised") for arm in self.arms}
        with self.workdir.doing("report", inputs):
            self._write_results()
            if lines := self.metrics.damaged():
                self.log(f"report: {lines} lines of {self.workdir / 'metrics.jsonl'} are damaged and left out")
            html = report.html(
                results=found,
                config=jsonable(self.config.to_dict()),
                environment=environment.describe(),
                metrics=[line for line in self.metrics.lines() if line["stage"] in current],
                ranking=self.ranking(self.config.selection.objective),
                embeddings=self.embeddings,
                images=self.dataset.train.images,
                labels=self.dataset.train.labels if self.facts["num_labelled"] else None,
                class_names=self.dataset.class_names,
            )
            with self.workdir.writing("report.html") as page:
                files.write_whole(page, lambda aside: aside.write_text(html))


def _variables(state: TrainState) -> dict[str, Any]:
    """Parameters and statistics, on the host."""
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats})


def _facts(result: FitResult) -> dict[str, Any]:
    """What a training stage leaves in its stamp."""
    return {
        "steps": result.steps,
        "loss": result.loss,
        "spread": round(result.spread, 4),
        "collapsed": result.spread < COLLAPSED,
        "train_seconds": result.train_seconds,
        "views_per_second": None if math.isnan(result.views_per_second) else round(result.views_per_second, 1),
        "devices": [device.device_kind for device in jax.devices()],
    }
