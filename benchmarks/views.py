"""How many views an embedding wants: how far two draws of so many views agree on what to select.

    python -m benchmarks.views measure --workdir=RUN --output=docs/results/views-NAME.json
    python -m benchmarks.views write

The first embeds the training images of a run by its proxy, whose labels have to be known: twice 1, 2, 4, ... views, no
view in both. The second puts the tables into docs/selection.md.
"""

import argparse
import datetime
import json
import shlex
import sys
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
PARTITIONS = {"labels": "the labels", "kmeans": "k-means of these views"}


def compare(views: np.ndarray, labels: np.ndarray, *, num_classes: int) -> list[dict[str, Any]]:
    """The agreement of two draws of 1, 2, 4, ... views.

    Args:
      views: float32 [n, m, d], unit vectors; m views serve two draws of at most m / 2.
      labels: int [n].
      num_classes: of k-means.

    Returns:
      For each number of views: "views", the root mean square of an embedding's norm ("norm": 1 where views agree),
      and by partition and objective the share of one draw's 20 % subset that is in the other's ("overlap").
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
                objective: len(np.intersect1d(one, other)) / len(one)
                for objective, one, other in zip(OBJECTIVES, *subsets, strict=True)
            }
        norm = float(np.sqrt(np.mean(np.sum(draws[0] ** 2, axis=1))))
        found.append({"views": number, "norm": norm, "overlap": overlap})
        print(found[-1], flush=True)
        number *= 2
    return found


def measure(workdir: Path, most: int) -> dict[str, Any]:
    """Embeds a run's images by its proxy, and compares."""
    config = ConfigDict(json.loads((workdir / "config.json").read_text()))
    train = sas_jax.data.load(config.data).train
    assert train.labels is not None
    trainer = networks.make_trainer(config, config.proxy.encoder, config.proxy.train, mesh=devices.mesh(1))
    checkpoints = Checkpoints(workdir / "proxy" / "checkpoints")
    state, _ = checkpoints.restore(trainer.abstract_state())
    checkpoints.close()
    assert state is not None
    start = time.process_time()
    views = embed(
        lambda variables, images: networks.project(trainer.method, variables, images),
        {"params": state.params, "batch_stats": state.batch_stats},
        train.images,
        views=networks.make_views(config),
        batch_size=config.embedding.batch_size,
        num_views=2 * most,
        keep_views=True,
        key=jax.random.key(1),
    )
    seconds = time.process_time() - start
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.views", *sys.argv[1:]]),
        "environment": environment.describe(),
        "images": len(train.images),
        "proxy": config.proxy.to_dict(),
        "core_seconds_a_thousand_views": 1e3 * seconds / (len(train.images) * 2 * most),
        "found": compare(views, train.labels, num_classes=config.latent_classes.num_classes),
    }


def table(results: dict[str, Any]) -> str:
    """What a json holds, in Markdown."""
    proxy = results["proxy"]
    encoder, epochs = proxy["encoder"], proxy["train"]["epochs"]
    origin = (
        f"{results['images']:,} images, a ResNet-{encoder['depth']} of width {encoder['width']:g} after {epochs} "
        f"epochs; {results['core_seconds_a_thousand_views']:.1f} core-seconds a thousand views; {results['date']}, "
        f"Python {results['environment']['python']}, jax {results['environment']['versions']['jax']}, commit "
        f"{results['environment']['commit']}. By chance the share would be {FRACTION:.0%}."
    )
    columns = [(partition, objective) for partition in PARTITIONS for objective in OBJECTIVES]
    head = ["views", "norm", *(f"{objective}, {PARTITIONS[partition]}" for partition, objective in columns)]
    lines = [head, ["---:"] * len(head)]
    for each in results["found"]:
        shares = [f"{each['overlap'][partition][objective]:.0%}" for partition, objective in columns]
        lines.append([str(each["views"]), f"{each['norm']:.3f}", *shares])
    return f"{origin}\n\n{tables.markdown(lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "write"))
    parser.add_argument("--workdir", type=Path, help="for measure: of a run that has trained its proxy")
    parser.add_argument("--output", type=Path, help="for measure: docs/results/views-NAME.json")
    parser.add_argument("--most", type=int, default=32, help="views of a draw, at most")
    options = parser.parse_args()
    if options.action == "measure":
        if options.workdir is None or options.output is None:
            parser.error("measure takes a run and writes a json: give --workdir and --output")
        options.output.write_text(json.dumps(measure(options.workdir, options.most), indent=1) + "\n")
    else:
        page = ROOT / "docs" / "selection.md"
        text = page.read_text()
        for path in sorted((ROOT / "docs" / "results").glob("views-*.json")):
            text = tables.insert(text, path.stem, table(json.loads(path.read_text())))
        page.write_text(text)


if __name__ == "__main__":
    main()
