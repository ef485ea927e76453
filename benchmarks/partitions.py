"""Compares latent classes of one run's embeddings: by k-means, by few labels, by the labels.

python -m benchmarks.partitions --workdir=runs/cifar100 --output=docs/results/partitions.json

The run has to have come as far as its embeddings, on a labelled data set. Agreement with the labels, the share of one
20 % subset that is in another, and seconds.
"""

import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

import sas_jax
import sas_jax.data
from sas_jax import environment, latent_classes
from sas_jax.latent_classes import few_labels

WORKDIR = flags.DEFINE_string("workdir", "", "A run's directory.")
OUTPUT = flags.DEFINE_string("output", "", "The .json to write.")
FRACTION = 0.2
FEW = (0.01, 0.1)


def compare(x: np.ndarray, labels: np.ndarray, *, num_classes: int) -> dict[str, Any]:
    """Partitions embeddings [n, d] with labels [n] in several ways, ranks by sas within each, and compares."""
    key = jax.random.key(0)
    ways: dict[str, Callable[[], tuple[np.ndarray, dict[str, Any]]]] = {
        "kmeans": lambda: (latent_classes.kmeans(key, x, num_classes=num_classes).labels, {}),
        "kmeans, another seed": lambda: (
            latent_classes.kmeans(jax.random.key(1), x, num_classes=num_classes).labels,
            {},
        ),
        **{f"few_labels, {fraction:.0%}": lambda fraction=fraction: _few(key, x, labels, fraction) for fraction in FEW},
        "labels": lambda: (labels, {}),
    }
    partitions, subsets = {}, {}
    for name, way in ways.items():
        start = time.perf_counter()
        classes, facts = way()
        between = time.perf_counter()
        ranking = sas_jax.rank(x, classes, objective="sas", normalize=False)
        end = time.perf_counter()
        sizes = np.unique(classes, return_counts=True)[1]
        partitions[name] = {
            **latent_classes.agreement(classes, labels),
            "classes": len(sizes),
            "smallest": int(sizes.min()),
            "largest": int(sizes.max()),
            "seconds": between - start,
            "rank_seconds": end - between,
            **facts,
        }
        subsets[name] = ranking.subset(fraction=FRACTION)
        print(name, partitions[name])
    overlap = {
        one: {other: len(np.intersect1d(subset, subsets[other])) / len(subset) for other in subsets}
        for one, subset in subsets.items()
    }
    return {"partitions": partitions, "fraction": FRACTION, "overlap": overlap}


def _few(key: jax.Array, x: np.ndarray, labels: np.ndarray, fraction: float) -> tuple[np.ndarray, dict[str, Any]]:
    few = few_labels.draw(key, labels, fraction=fraction)
    found = few_labels.spread(key, x, few)
    others = float(np.mean(found.classes[few < 0] == labels[few < 0]))
    facts = {"num_labelled": found.num_labelled, "l2": found.l2, "held_out": found.accuracy, "of_the_others": others}
    return found.classes, facts


def main(_: list[str]) -> None:
    workdir = Path(WORKDIR.value)
    config = ConfigDict(json.loads((workdir / "config.json").read_text()))
    labels = sas_jax.data.load(config.data).train.labels
    assert labels is not None
    found = compare(np.load(workdir / "embeddings.npy"), labels, num_classes=int(labels.max()) + 1)
    about = {
        "benchmark": "latent classes compared",
        "date": datetime.date.today().isoformat(),
        "command": f"python -m benchmarks.partitions {' '.join(sys.argv[1:])}",
        "environment": environment.describe(),
        "proxy": config.proxy.to_dict(),
        "embedding": config.embedding.to_dict(),
    }
    Path(OUTPUT.value).write_text(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
