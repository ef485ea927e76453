"""Assembles results.json from the stamps of a run's stages."""

from typing import Any

from ml_collections import ConfigDict

from sas_jax import plan
from sas_jax.workdir import Workdir

_DATASET = ("name", "train_size", "test_size", "num_classes", "not_evaluated", "skipped")
_CLASSES = ("num_classes", "sizes", "agreement", "few_labels", "chosen")
MEASURED = ("probe", "knn", "probe_few", "probe_coarse", "geometry")
_TRAINED = ("size", "steps", "loss", "spread", "collapsed", "train_seconds", "views_per_second")
_UNTRAINED = {
    "name": "untrained",
    "selector": None,
    "fraction": None,
    "seed": 0,
    "method": None,
    "step_rule": None,
    "partition": "",
    "size": 0,
    "epochs": 0,
    "steps": 0,
    "loss": None,
    "spread": None,
    "collapsed": None,
    "train_seconds": 0.0,
    "views_per_second": None,
}


def collect(config: ConfigDict, inputs: dict[str, str], workdir: Workdir) -> dict[str, Any]:
    """Collects the results of the stages that are done; `inputs` holds the fingerprints of the config's stages.

    Returns:
        "dataset", "latent_classes", "partitions" (by name, those of config.partitions that arms name) and "selection"
        as far as their stages are done, "stages" with their "wall_seconds", and "arms": the untrained encoder first,
        then each trained arm with its "probe", "knn", "probe_few" (by fraction of the labels), "probe_coarse" and
        "geometry", and as "supervised" the accuracy of the same network trained on the subset with labels.
    """
    done = {stage: stamp for stage in inputs if (stamp := workdir.stamp(stage)) and stamp["inputs"] == inputs[stage]}
    found: dict[str, Any] = {}
    if data := done.get("data"):
        found["dataset"] = {name: data[name] for name in _DATASET}
    if classes := done.get("classes"):
        section = config.latent_classes
        found["latent_classes"] = {"method": section.method, "embeddings": section.embeddings} | {
            name: classes[name] for name in _CLASSES
        }
    found["partitions"] = {
        name: dict(plan.partitions(config)[name]) | {fact: stamp[fact] for fact in _CLASSES}
        for name in plan.partitions_of_arms(config)
        if name and (stamp := done.get(plan.classes_stage(name)))
    }
    if ranked := done.get("rank"):
        found["selection"] = {
            "objective": config.selection.objective,
            "similarity": config.selection.similarity,
            "turning_fraction": ranked["turning_fraction"],
        }
    found["stages"] = {stage: {"wall_seconds": stamp["wall_seconds"]} for stage, stamp in done.items()}
    found["arms"] = []
    if untrained := done.get("evaluate/untrained"):
        found["arms"].append(_UNTRAINED | {name: untrained[name] for name in MEASURED} | {"supervised": None})
    for arm in plan.arms(config):
        if trained := done.get(f"train/{arm.name}"):
            evaluated = done.get(f"evaluate/{arm.name}", dict.fromkeys(MEASURED))
            supervised = done.get(f"supervised/{arm.name}", {"accuracy": None})
            found["arms"].append(
                {
                    "name": arm.name,
                    "selector": arm.selector,
                    "fraction": arm.fraction,
                    "seed": arm.seed,
                    "method": arm.method,
                    "step_rule": arm.step_rule,
                    "partition": arm.partition,
                    "epochs": _epochs(config, arm, trained),
                }
                | {name: trained[name] for name in _TRAINED}
                | {name: evaluated[name] for name in MEASURED}
                | {"supervised": supervised["accuracy"]}
            )
    return found


def _epochs(config: ConfigDict, arm: plan.Arm, trained: dict[str, Any]) -> float:
    """Returns the number of epochs that the arm was trained for."""
    if arm.step_rule == "epochs":
        return config.train.epochs
    return round(trained["steps"] / (trained["size"] // config.train.batch_size), 2)
