"""The stages: each is a function of a run that does its remaining work.

images --train--> proxy --views--> embeddings --> latent classes --> ranking --fraction--> subset
subset --train--> encoder --> linear probe, kNN --> report
"""

import functools
import math
from typing import Any

import jax
import numpy as np
from etils import epath

from sas_jax import devices, environment, files, latent_classes, plan, pretrained, report, settings
from sas_jax.embedding import embed, write_parts
from sas_jax.evaluation import accuracies, classifier_accuracy, coarse_classes, encoder_geometry
from sas_jax.latent_classes import Given
from sas_jax.networks import of_encoder, project
from sas_jax.results import collect as results
from sas_jax.run import claim
from sas_jax.run.state import CLUSTER, EMBED, GEOMETRY, GIVEN, PROBE, Run, given_embeddings
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.rank import rank as rank_embeddings
from sas_jax.selection.selectors import SELECTORS
from sas_jax.training import COLLAPSED, DEFAULT, FitResult, Trainer, fit, load_trained
from sas_jax.training.checkpoint import damage as checkpoint_damage
from sas_jax.workdir import fingerprint, jsonable, write_array, write_json


def data(run: Run) -> None:
    """Reads the images and stamps their fingerprint, so that later stages can tell whether they have changed."""
    if not run.stamps.todo("data"):
        return
    dataset, facts = run.data.dataset, run.data.found[1]
    with run.stamps.doing("data") as stamped:
        stamped |= facts
    run.log(f"data: {facts['train_size']:,} training and {facts['test_size']:,} test images of {dataset.name}")
    for path in dataset.skipped[:10]:
        run.log(f"data: skipped {path}")
    if len(dataset.skipped) > 10:
        run.log(f"data: skipped {len(dataset.skipped) - 10} more")


def proxy(run: Run) -> None:
    """Trains the proxy on all images."""
    if run.config.proxy.embeddings or not run.stamps.todo("proxy", damage=lambda: _proxy_damage(run)):
        return
    with run.stamps.doing("proxy") as facts:
        everything = np.arange(len(run.data.dataset.train.images))
        facts |= _facts(
            _fit(
                run,
                "proxy",
                "proxy",
                run.trainers.proxy,
                "config.proxy.train",
                everything,
                seed=run.config.seed,
                epochs=run.config.proxy.train.epochs,
            )
        )


def embeddings(run: Run) -> None:
    """Embeds all images with the proxy, or uses the given embeddings."""
    if not run.stamps.todo("embed", damage=lambda: run.embedding_damage):
        return
    pairs = plan.compares_views(run.config)
    n = len(run.data.dataset.train)
    with run.stamps.doing("embed"):
        if run.config.proxy.embeddings:
            if not run.workdir.writes:
                return
            vectors = _given(run)
        else:
            vectors = embed(
                functools.partial(project, run.trainers.proxy.method),
                _variables(_trained(run, "proxy", "proxy", run.trainers.proxy)),
                run.data.dataset.train.images,
                views=run.views,
                num_views=run.config.embedding.views,
                keep_views=pairs,
                key=jax.random.fold_in(settings.key(run.config.seed), EMBED),
                batch_size=run.config.embedding.batch_size,
                label="embeddings",
                whole=False,
            )
        if run.workdir.writes:
            (run.workdir / "view_embeddings.npy").unlink(missing_ok=True)
        if vectors.ndim == 3:
            if pairs:
                _write_embeddings(run, "view_embeddings.npy", vectors, n)
            vectors = vectors.mean(axis=1, dtype=np.float32)
        _write_embeddings(run, "embeddings.npy", vectors, n)


def _write_embeddings(run: Run, name: str, vectors: np.ndarray, n: int) -> None:
    """Writes one array of n rows: all at once, or this process's part together with those of all other processes."""
    with run.workdir.writing(name) as path:
        if len(vectors) == n:
            write_array(path, vectors)
        else:
            write_parts(path, vectors, n)


def _given(run: Run) -> np.ndarray:
    """Returns the embeddings of config.proxy.embeddings: rows of a file, or features from a pretrained network."""
    train = run.data.dataset.train
    vectors = given_embeddings(run.config, len(train), log=run.log)
    if vectors is not None:
        return vectors
    return pretrained.embed_images(
        run.config.proxy.embeddings,
        train.images,
        source=train.fingerprint(),
        folder=run.workdir.path,
        field=GIVEN,
        batch_size=run.config.embedding.batch_size,
        log=run.log,
    )


def classes(run: Run) -> None:
    """Makes the latent classes of each partition."""
    for name in plan.partitions_of_arms(run.config):
        stage, file = plan.classes_stage(name), plan.classes_file(name)
        if not run.stamps.todo(stage, file):
            continue
        section = plan.in_partition(run.config, name).latent_classes
        method = latent_classes.METHODS[section.method]
        with run.stamps.doing(stage) as facts:
            if not run.workdir.writes and not method.together:
                continue
            key = jax.random.fold_in(settings.key(run.config.seed), CLUSTER)
            given = Given(run.data.dataset, lambda: run.chosen.embeddings, run.workdir, run.log)
            found, about = latent_classes.make(key, section, given)
            with run.workdir.writing(file) as path:
                if run.workdir.writes:
                    write_array(path, found)
            facts |= about
        if method.clusters and not section.embeddings and not run.config.proxy.embeddings:
            run.log(
                "classes: the latent classes are clusters of the proxy's embeddings; embeddings of a pretrained "
                "network usually give better ones (config.latent_classes.embeddings, docs/latent_classes.md)"
            )


def rankings(run: Run) -> None:
    """Ranks all images by each selector that ranks, within each partition that an arm combines with it."""
    for selector, name in plan.ranked(run.config):
        stage, file = plan.rank_stage(run.config, selector, name), plan.ranking_file(run.config, selector, name)
        if not run.stamps.todo(stage, file):
            continue
        run.log(f"{stage}: ranking {run.stamps.facts('data')['train_size']:,} images by {plan.within(selector, name)}")
        with run.stamps.doing(stage) as facts, run.workdir.writing(file) as path:
            _rank(run, selector, name, path, facts)


def _rank(run: Run, selector: str, name: str, path: epath.Path, facts: dict[str, Any]) -> None:
    """Writes a ranking; all processes compute one by an objective, only the writing process one by a baseline."""
    chooses, selection = SELECTORS[selector], run.config.selection
    if chooses.baseline and not run.workdir.writes:
        return
    within, ids = run.chosen.classes(name), run.data.dataset.train.ids
    if chooses.baseline:
        chooses.baseline(run.chosen.similarity_embeddings(name), within, ids=ids).save(path)
        facts["turning_fraction"] = None
        return
    to_itself = selection.self_similarity if chooses.self_similarity is None else chooses.self_similarity
    own = "" if run.workdir.writes else f"-{jax.process_index()}"
    partial = path.parent / f"{path.name}.partial{own}"
    ranking = rank_embeddings(
        run.chosen.view_embeddings() if plan.compares_views(run.config) else run.chosen.similarity_embeddings(name),
        within,
        objective=chooses.objective,
        kind=selection.similarity,
        tau=selection.tau,
        self_similarity=to_itself,
        normalize=False,
        ids=ids,
        mesh=devices.mesh(),
        resume=str(partial),
    )
    if run.workdir.writes:
        ranking.save(path)
    partial.unlink()
    facts["turning_fraction"] = ranking.turning_fraction if OBJECTIVES[chooses.objective].cut else None


def subsets(run: Run) -> None:
    """Writes the configured objective's subsets; the arms do not read them but derive theirs from the ranking."""
    if not run.workdir.writes:
        return
    for path in files.matching(run.workdir.path, "subset-[0-9]*.npy"):
        path.unlink()
    for arm in run.arms:
        if plan.rank_stage(run.config, arm.selector, arm.partition) == "rank":
            write_array(run.workdir / f"subset-{arm.fraction_name}.npy", run.chosen.subset(arm))


def train(run: Run) -> None:
    """Trains the arms, and evaluates each as soon as it is trained, so that a stopped comparison has results."""
    if run.evaluates:
        _evaluate(run, None)
    for arm in run.arms:
        stage = f"train/{arm.name}"
        if run.stamps.todo(stage, damage=functools.partial(_arm_damage, run, arm)):
            subset = run.chosen.subset(arm)
            with run.stamps.doing(stage) as facts:
                fitted = _fit(
                    run,
                    stage,
                    f"arms/{arm.name}",
                    run.trainers.arm(arm.method),
                    "config.train",
                    subset,
                    seed=run.config.seed + arm.seed,
                    epochs=run.config.train.epochs,
                    like=len(run.data.dataset.train.images) if arm.step_rule == "steps" else None,
                )
                facts |= _facts(fitted) | {"size": len(subset)}
            if facts["collapsed"]:
                run.log(
                    f"{stage}: the outputs collapsed to nearly one point (spread {facts['spread']}; 1 is uniform on "
                    f"the sphere), so the arm has learned little; try a lower learning rate"
                )
        if run.evaluates:
            _evaluate(run, arm)


def evaluate(run: Run) -> None:
    """Trains and evaluates supervised networks on the arms' subsets; `train` has evaluated the encoders."""
    for arm in () if run.stamps.facts("data")["not_evaluated"] else run.arms:
        if not plan.trains_supervised(run.config, arm):
            continue
        stage = f"supervised/{arm.name}"
        if run.stamps.todo(stage):
            with run.stamps.doing(stage) as facts:
                facts |= _supervised(run, stage, arm)
            _write_results(run)
    if run.workdir.writes and (why := run.workdir.damage("results.json")):
        run.log(f"rewriting {run.workdir / 'results.json'} ({why})")
        _write_results(run)


def make_report(run: Run) -> None:
    """Writes results.json and report.html."""
    if not run.workdir.writes:
        return
    found = results.collect(run.config, run.stamps.inputs, run.workdir)
    inputs = fingerprint(found)
    if run.workdir.is_done("report", inputs):
        if not (why := run.workdir.damage("report.html")):
            run.stamps.done_before.append("report")
            return
        run.log(f"rebuilding {run.workdir / 'report.html'} ({why})")
    current = {"proxy"} & run.stamps.inputs.keys()
    current |= {f"{kind}/{arm.name}" for kind in ("arms", "supervised") for arm in run.arms}
    dataset = run.data.dataset
    with run.workdir.doing("report", inputs):
        _write_results(run)
        if lines := run.metrics.damaged():
            run.log(f"report: {lines} lines of {run.workdir / 'metrics.jsonl'} are damaged and were skipped")
        html = report.html(
            results=found,
            config=jsonable(run.config.to_dict()),
            environment=environment.describe(),
            metrics=[line for line in run.metrics.lines() if line["stage"] in current],
            ranking=run.chosen.ranking(run.config.selection.objective),
            embeddings=run.chosen.embeddings,
            images=dataset.train.images,
            labels=dataset.train.labels if run.stamps.facts("data")["num_labelled"] else None,
            class_names=dataset.class_names,
        )
        with run.workdir.writing("report.html") as page:
            files.write_whole(page, lambda aside: aside.write_text(html))


def _fit(
    run: Run,
    stage: str,
    directory: str,
    trainer: Trainer,
    section: str,
    subset: np.ndarray,
    *,
    seed: int,
    epochs: int,
    like: int | None = None,
) -> FitResult:
    """Trains for `epochs` epochs of the subset, or of `like` images if given, resuming from the last checkpoint."""
    path = run.workdir / directory
    if run.workdir.writes:
        claim.take_checkpoints(path, run.stamps.inputs[stage], vouched=run.stamps.is_done(stage), log=run.log)
    devices.wait_for_all(f"the checkpoints of {directory} are this run's")
    if not run.data.fits_devices:
        in_memory = isinstance(run.data.dataset.train.images, np.ndarray)
        how = "sent to the devices batch by batch" if in_memory else "decoded on demand"
        run.log(f"{directory}: the images are {how}")
    return fit(
        trainer,
        run.data.to_train_on,
        subset,
        stage=directory,
        section=section,
        steps=epochs * ((like or len(subset)) // trainer.batch_size),
        seed=seed,
        directory=path / "checkpoints",
        runtime=run.config.runtime,
        metrics=run.metrics,
        log=run.log,
        on_speed=functools.partial(run.on_speed, directory, len(run.data.dataset.train.images)),
    )


def _trained(run: Run, stage: str, directory: str, trainer: Trainer) -> Any:
    """Loads the final state of a training stage from its last checkpoint."""
    return load_trained(trainer, run.workdir / directory / "checkpoints", steps=run.stamps.facts(stage)["steps"])


def _proxy_damage(run: Run) -> str | None:
    """Returns why the proxy's last checkpoint is unusable; None if it is usable or no longer needed."""
    if run.stamps.is_done("embed") and not run.embedding_damage:
        return None
    steps = run.stamps.facts("proxy")["steps"]
    return checkpoint_damage(run.workdir / "proxy" / "checkpoints", steps, last=steps)


def _arm_damage(run: Run, arm: plan.Arm) -> str | None:
    """Returns why the encoder of a trained arm is unusable; None if it is usable."""
    stage = f"train/{arm.name}"
    if files.is_remote(run.workdir.path) and run.stamps.is_done(f"evaluate/{arm.name}"):
        return None  # not checked, as in `Workdir.damage`
    steps = run.stamps.facts(stage)["steps"]
    return checkpoint_damage(run.workdir / "arms" / arm.name / "checkpoints", steps, last=steps)


def _evaluate(run: Run, arm: plan.Arm | None) -> None:
    """Evaluates an arm's encoder, or the untrained one if `arm` is None."""
    stage = f"evaluate/{arm.name if arm else 'untrained'}"
    if not run.stamps.todo(stage):
        return
    reason = run.stamps.facts("data")["not_evaluated"]
    if reason and arm is None:
        run.log(f"evaluate: {reason}, so there is no linear probe and no kNN")
    with run.stamps.doing(stage) as facts:
        facts |= dict.fromkeys(results.MEASURED) if reason else _measured(run, arm)
    _write_results(run)


def _write_results(run: Run) -> None:
    """Writes results.json, as far as the run has come."""
    if run.workdir.writes:
        with run.workdir.writing("results.json") as path:
            write_json(path, results.collect(run.config, run.stamps.inputs, run.workdir))


def _measured(run: Run, arm: plan.Arm | None) -> dict[str, Any]:
    """Returns the probes, kNN and geometry of an arm's encoder, or of the untrained one if `arm` is None."""
    name = arm.name if arm else "untrained"
    run.log(f"evaluate: linear probe and kNN of {name}")
    if arm:
        state = _trained(run, f"train/{name}", f"arms/{name}", run.trainers.arm(arm.method))
    else:
        trainer = run.trainers.arm(DEFAULT)
        state = trainer.init(trainer.key(run.config.seed))
    variables = of_encoder(_variables(state))
    evaluation = run.config.evaluation
    dataset = run.data.dataset
    images, test = dataset.train, dataset.test
    assert test is not None
    assert images.labels is not None
    assert test.labels is not None
    key = settings.key(run.config.seed)  # not the arm's seed, so that all arms share one draw
    labelled = (images.images, images.labels), (test.images, test.labels)
    found = accuracies(
        run.trainers.encode,
        variables,
        *labelled,
        views=run.views,
        section=evaluation,
        label=name,
        key=jax.random.fold_in(key, PROBE),
        fractions=evaluation.probe_fractions,
        l2_grid=evaluation.probe_l2_grid,
        coarse=coarse_classes(dataset.class_names),
    )
    if not evaluation.geometry:
        return found | {"geometry": None}
    measured = encoder_geometry(
        run.trainers.encode,
        variables,
        *labelled,
        subset=run.chosen.subset(arm) if arm else None,
        views=run.views,
        batch_size=evaluation.batch_size,
        key=jax.random.fold_in(key, GEOMETRY),
        label=name,
    )
    return found | {"geometry": measured.to_dict()}


def _supervised(run: Run, stage: str, arm: plan.Arm) -> dict[str, Any]:
    """Trains the encoder with labels on an arm's labelled images, and evaluates it on the test images."""
    images, test = run.data.dataset.train, run.data.dataset.test
    assert test is not None
    assert images.labels is not None
    assert test.labels is not None
    subset = run.chosen.subset(arm)
    subset = subset[images.labels[subset] >= 0]
    fitted = _fit(
        run,
        stage,
        stage,
        run.trainers.supervised,
        "config.train",
        subset,
        seed=run.config.seed + arm.seed,
        epochs=run.config.train.epochs,
    )
    measured = classifier_accuracy(
        run.trainers.classify,
        _variables(fitted.state),
        (test.images, test.labels),
        views=run.views,
        batch_size=run.config.evaluation.batch_size,
        label=stage,
    )
    return _facts(fitted) | {"size": len(subset), "accuracy": measured.to_dict()}


def _variables(state: Any) -> dict[str, Any]:
    """Returns the parameters and batch statistics, on the host."""
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats})


def _facts(result: FitResult) -> dict[str, Any]:
    """Returns the facts that a training stage adds to its stamp."""
    return {
        "steps": result.steps,
        "loss": result.loss,
        "spread": round(result.spread, 4),
        "collapsed": result.spread < COLLAPSED,
        "train_seconds": result.train_seconds,
        "views_per_second": None if math.isnan(result.views_per_second) else round(result.views_per_second, 1),
        "devices": [device.device_kind for device in jax.devices()],
    }
