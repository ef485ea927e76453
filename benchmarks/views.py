"""Measures how well two draws of views agree, by the number of views, and what each objective picks.

    python -m benchmarks.views measure --workdir=RUN --output=docs/results/views-NAME.json
    python -m benchmarks.views write

`measure` embeds the training images of a run, which must be labelled, by its proxy: two disjoint draws of 1, 2, 4, ...
views. `write` inserts the tables into docs/selection.md.
"""

import argparse
import datetime
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import sas_jax
import sas_jax.data
from benchmarks import tables
from benchmarks.topology import ROOT
from sas_jax import devices, environment, latent_classes, networks
from sas_jax.embedding import embed
from sas_jax.training.checkpoint import Checkpoints

FRACTION = 0.2
OBJECTIVES = ("sas", "facility_location", "similarity_sum")
PICKED = (*((each, each, 1.0) for each in OBJECTIVES), ("facility_location_self0", "facility_location", 0.0))
PARTITIONS = {"labels": "within labels", "kmeans": "within k-means"}


def compare(views: np.ndarray, labels: np.ndarray, *, num_classes: int) -> list[dict[str, Any]]:
    """Returns the agreement of two draws of 1, 2, 4, ... views.

    Args:
        views: float32 [n, m, d], unit vectors; m views allow two draws of at most m / 2.
        labels: int [n].
        num_classes: number of k-means clusters.

    Returns:
        For each number of views: "views", the root mean square of an embedding's norm ("norm": 1 if views agree), and
        by partition and objective the share of one draw's 20 % subset that is in the other's ("overlap").
    """
    found = []
    number = 1
    while 2 * number <= views.shape[1]:
        draws = [views[:, first : first + number].mean(axis=1) for first in (0, number)]
        overlap: dict[str, dict[str, float]] = {}
        for partition in PARTITIONS:
            subsets = []
            for draw in draws:
                classes = labels
                if partition == "kmeans":
                    classes = latent_classes.kmeans(jax.random.key(0), draw, num_classes=num_classes).labels
                rankings = [sas_jax.rank(draw, classes, objective=each, normalize=False) for each in OBJECTIVES]
                subsets.append([ranking.subset(fraction=FRACTION) for ranking in rankings])
            overlap[partition] = {
                objective: _shared(one, other) for objective, one, other in zip(OBJECTIVES, *subsets, strict=True)
            }
        norm = float(np.sqrt(np.mean(np.sum(draws[0] ** 2, axis=1))))
        found.append({"views": number, "norm": norm, "overlap": overlap})
        print(found[-1], flush=True)
        number *= 2
    return found


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of two subsets of equal size that is in both."""
    return len(np.intersect1d(one, other)) / len(one)


def picks(z: np.ndarray, partitions: dict[str, np.ndarray]) -> dict[str, dict[str, dict[str, float]]]:
    """Describes each objective's 20 % subset of embeddings [n, d], by partition (classes int [n]).

    Returns:
        By partition and objective: "percentile", the mean rank, from 0 to 1, of a pick within its class by its summed
        similarity to the class (0.5 for random picks), and "in_sas", the share of the picks that sas also picks.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for partition, classes in partitions.items():
        place = np.empty(len(z))
        for label in np.unique(classes):
            of = np.flatnonzero(classes == label)
            total = np.maximum(z[of] @ z[of].T, 0).sum(axis=1)
            place[of] = np.argsort(np.argsort(total)) / max(1, len(of) - 1)
        subsets = {}
        for name, objective, itself in PICKED:
            ranking = sas_jax.rank(z, classes, objective=objective, self_similarity=itself, normalize=False)
            subsets[name] = ranking.subset(fraction=FRACTION)
        found[partition] = {
            name: {"percentile": float(place[subset].mean()), "in_sas": _shared(subset, subsets["sas"])}
            for name, subset in subsets.items()
        }
    return found


def measure(workdir: Path, most: int) -> dict[str, Any]:
    """Embeds a run's images by its proxy, and compares the draws."""
    config = ConfigDict(json.loads((workdir / "config.json").read_text()))
    train = sas_jax.data.load(config.data).train
    assert train.labels is not None
    trainer = networks.make_trainer(config, config.proxy.encoder, config.proxy.train, mesh=devices.mesh(1))
    checkpoints = Checkpoints(workdir / "proxy" / "checkpoints")
    state, _ = checkpoints.restore(trainer.abstract_state)
    checkpoints.close()
    assert state is not None
    start = time.process_time()
    views = embed(
        functools.partial(networks.project, trainer.method),
        {"params": state.params, "batch_stats": state.batch_stats},
        train.images,
        views=networks.make_views(config),
        batch_size=config.embedding.batch_size,
        num_views=2 * most,
        keep_views=True,
        key=jax.random.key(1),
    )
    seconds = time.process_time() - start
    k = config.latent_classes.num_classes
    z = views.mean(axis=1)
    clustered = latent_classes.kmeans(jax.random.key(0), z, num_classes=k).labels
    return {
        "date": datetime.date.today().isoformat(),
        "command": f"python -m benchmarks.views measure --workdir=runs/{workdir.name} --most={most}",
        "environment": environment.describe(),
        "images": len(train.images),
        "proxy": config.proxy.to_dict(),
        "core_seconds_a_thousand_views": 1e3 * seconds / (len(train.images) * 2 * most),
        "found": compare(views, train.labels, num_classes=k),
        "picks": picks(z, {"labels": train.labels, "kmeans": clustered}),
    }


def table(results: dict[str, Any]) -> str:
    """Returns the tables of a json, in Markdown."""
    proxy = results["proxy"]
    encoder, epochs = proxy["encoder"], proxy["train"]["epochs"]
    origin = (
        f"{results['images']:,} images, a ResNet-{encoder['depth']} of width {encoder['width']:g} after {epochs} "
        f"epochs; {results['core_seconds_a_thousand_views']:.1f} core-seconds per thousand views; {results['date']}, "
        f"Python {results['environment']['python']}, jax {results['environment']['versions']['jax']}, commit "
        f"{results['environment']['commit']}. Random subsets share {FRACTION:.0%}."
    )
    columns = [(partition, objective) for partition in PARTITIONS for objective in OBJECTIVES]
    head = ["views", "norm", *(f"{objective}, {PARTITIONS[partition]}" for partition, objective in columns)]
    lines = [head, ["---:"] * len(head)]
    for each in results["found"]:
        shares = [f"{each['overlap'][partition][objective]:.0%}" for partition, objective in columns]
        lines.append([str(each["views"]), f"{each['norm']:.3f}", *shares])
    words = (
        f"The 20 % chosen with all {2 * results['found'][-1]['views']} views: the mean percentile of a pick's "
        "similarity to its latent class (50 by chance), and the share of the picks that `sas` also picks (20 % by "
        "chance)."
    )
    picked = [["", *(f"{what}, {PARTITIONS[each]}" for each in PARTITIONS for what in ("percentile", "in sas"))]]
    picked.append(["---", *["---:"] * 2 * len(PARTITIONS)])
    for name, _, _ in PICKED:
        cells = [results["picks"][each][name] for each in PARTITIONS]
        shown = [text for cell in cells for text in (f"{100 * cell['percentile']:.0f}", f"{cell['in_sas']:.0%}")]
        picked.append([name, *shown])
    return "\n\n".join([origin, tables.markdown(lines), words, tables.markdown(picked)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "write"))
    parser.add_argument("--workdir", type=Path, help="for measure: workdir of a run with a trained proxy")
    parser.add_argument("--output", type=Path, help="for measure: the json file to write, docs/results/views-NAME.json")
    parser.add_argument("--most", type=int, default=32, help="maximum number of views per draw")
    options = parser.parse_args()
    if options.action == "measure":
        if options.workdir is None or options.output is None:
            parser.error("--workdir and --output must be given for measure, got only one or none. Give both.")
        options.output.write_text(json.dumps(measure(options.workdir, options.most), indent=1) + "\n")
    else:
        page = ROOT / "docs" / "selection.md"
        text = page.read_text()
        for path in sorted((ROOT / "docs" / "results").glob("views-*.json")):
            text = tables.insert(text, path.stem, table(json.loads(path.read_text())))
        page.write_text(text)


if __name__ == "__main__":
    main()
