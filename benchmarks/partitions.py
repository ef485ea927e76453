"""Compares a run's partitions with its labels, and its rankings with those within the labels.

    python -m sas_jax.main --config=configs/compare_cifar100_quarter.py:E.npy --workdir=RUN --stop_after=rank
    python -m benchmarks.partitions --workdir=RUN --output=docs/results/partitions-NAME.json [--page=docs/PAGE.md]

This takes minutes and trains no arm. It measures how far each partition agrees with the labels, and what share of a
subset the same selector also chooses within the labels. The run must have reached its rankings, and its config must
have a partition "labels". The table is inserted into the page between the comments
`<!-- partitions-NAME: begin -->` and `<!-- partitions-NAME: end -->`.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import sas_jax.data
from benchmarks import results, tables
from sas_jax import Ranking, environment, plan
from sas_jax.latent_classes import agreement

FRACTIONS = (0.1, 0.2, 0.4)
LABELS = "labels"  # the partition that the others are compared with


def compare(rankings: dict[tuple[str, str], Ranking], labels: np.ndarray) -> dict[str, Any]:
    """Compares partitions with the labels, and subsets with those chosen within the labels.

    Args:
        rankings: rankings of the same n images, by selector and partition.
        labels: int [n].

    Returns:
        "partitions": by name, the agreement with the labels and the sizes of the latent classes. "rankings": by
        "selector@partition" and fraction, "shared", the share of the subset that is in the same selector's subset
        within LABELS (None if that is not ranked; the fraction by chance), and "fewest" and "most", the extreme numbers
        of images per label in the subset.
    """
    partitions = {name: ranking.classes for (_, name), ranking in rankings.items()}
    about = {}
    for name, classes in partitions.items():
        sizes = np.unique(classes, return_counts=True)[1]
        about[name] = agreement(classes, labels) | {
            "classes": len(sizes),
            "smallest": int(sizes.min()),
            "largest": int(sizes.max()),
        }
    found: dict[str, Any] = {}
    for (selector, name), ranking in rankings.items():
        reference = rankings.get((selector, LABELS))
        at = found[plan.within(selector, name)] = {}
        for fraction in FRACTIONS:
            subset = ranking.subset(fraction=fraction)
            counts = np.bincount(labels[subset], minlength=int(labels.max()) + 1)
            best = None if reference is None else reference.subset(fraction=fraction)
            at[f"{fraction:g}"] = {
                "shared": None if best is None else len(np.intersect1d(subset, best)) / len(subset),
                "fewest": int(counts.min()),
                "most": int(counts.max()),
            }
    return {"partitions": about, "rankings": found}


def table(found: dict[str, Any], fraction: str = "0.2") -> str:
    """Returns a Markdown table with a row per ranking."""
    head = (
        "ranking",
        "classes",
        "sizes",
        "purity",
        "accuracy",
        "NMI",
        f"shared at {float(fraction):.0%}",
        "of a label",
    )
    lines = [head, ("---", *["---:"] * (len(head) - 1))]
    for name, at in found["rankings"].items():
        about, numbers = found["partitions"][name.partition("@")[2]], at[fraction]
        shared = "" if numbers["shared"] is None else f"{numbers['shared']:.0%}"
        sizes = f"{about['smallest']:,} to {about['largest']:,}"
        agrees = (f"{about[measure]:.2f}" for measure in ("purity", "accuracy", "nmi"))
        lines.append((name, f"{about['classes']}", sizes, *agrees, shared, f"{numbers['fewest']} to {numbers['most']}"))
    return tables.markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, type=Path, help="the workdir of a run")
    parser.add_argument("--output", required=True, type=Path, help="the .json file to write")
    parser.add_argument("--page", type=Path, help="the Markdown page to insert the table into")
    given = parser.parse_args()
    config = ConfigDict(json.loads((given.workdir / "config.json").read_text()))
    labels = sas_jax.data.load(config.data).train.labels
    assert labels is not None
    rankings = {}
    for selector, partition in plan.ranked(config):
        path = given.workdir / plan.ranking_file(config, selector, partition)
        if path.exists():
            rankings[selector, partition] = Ranking.load(str(path), n=len(labels))
    about = {
        "benchmark": "partitions compared",
        "date": datetime.date.today().isoformat(),
        "command": f"python -m benchmarks.partitions {' '.join(sys.argv[1:])}",
        "environment": environment.describe(),
        "proxy": config.proxy.to_dict(),
        "embedding": config.embedding.to_dict(),
        "configured": {
            name: {
                field: results.without_directory(f"partitions.{name}.{field}", value)
                for field, value in partition.items()
            }
            for name, partition in plan.partitions(config).items()
        },
    }
    found = compare(rankings, labels)
    given.output.write_text(json.dumps(about | found, indent=1) + "\n")
    print(table(found))
    if given.page:
        given.page.write_text(tables.insert(given.page.read_text(), given.output.stem, table(found)))


if __name__ == "__main__":
    main()
