"""Draws the json of a benchmark and inserts its tables into docs/tables.md.

    python -m benchmarks.plot docs/results/selection-*.json docs/results/training-*.json

The plot of docs/results/selection-cpu.json is docs/images/benchmark-selection-cpu.png.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import tables, training_plot, training_tables
from benchmarks.implementations import IMPLEMENTATIONS

COLOURS = {
    "sas_jax": "#0072B2",
    "sas_jax_matrices": "#56B4E9",
    "apricot": "#D55E00",
    "apricot_compiled": "#E69F00",
    "submodlib": "#009E73",
    "kmedoids": "#CC79A7",
    "numpy": "#555555",
}
"""From the palette of Okabe and Ito, which colour-blind readers can distinguish."""

PANELS = (("facility_location", 0.2), ("facility_location", 0.8), ("sas", 0.2))


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws time against size for single classes in three panels, and all other cases as bars in a fourth."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    single = {
        name: case for name, case in results["cases"].items() if case["classes"] == 1 and case["given"] == "similarity"
    }
    for axis, (objective, fraction) in zip(axes.flat, PANELS, strict=False):
        rows = [case for case in single.values() if (case["objective"], case["fraction"]) == (objective, fraction)]
        axis.set_visible(bool(rows))
        _lines(axis, sorted(rows, key=lambda case: case["examples"]))
        axis.set_title(f"{objective.replace('_', ' ')}, one class, similarity given, {fraction:.0%}", loc="left")
    others = {name: case for name, case in results["cases"].items() if name not in single}
    axes.flat[3].set_visible(bool(others))
    _bars(axes.flat[3], others)
    axes.flat[3].set_title("several classes, and from embeddings", loc="left")
    handles = [
        plt.Line2D([], [], color=colour, marker="o", label=IMPLEMENTATIONS[name].title)
        for name, colour in COLOURS.items()
    ]
    handles += [
        plt.Line2D(
            [], [], color=COLOURS["sas_jax"], marker="o", linestyle="--", fillstyle="none", label="sas_jax, cold"
        ),
        plt.Line2D([], [], color="black", marker="^", linestyle="", label="stopped: takes longer"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"Seconds of a warm call, {tables.hardware(results)}", x=0.01, ha="left", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(axis, rows: list[dict[str, Any]]) -> None:
    for name, colour in COLOURS.items():
        found = [(case["examples"], case["results"].get(name)) for case in rows]
        points = [(n, tables.seconds(result)) for n, result in found if tables.seconds(result) is not None]
        stopped = [(n, result["limit_seconds"]) for n, result in found if result and result["status"] == "stopped"]
        style = {"color": colour, "linewidth": 2.5 if name == "sas_jax" else 1.2}
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, **style)
        if stopped:
            axis.plot(*zip(*stopped, strict=True), marker="^", linestyle="", color=colour)
        if name == "sas_jax" and points:
            cold = [(n, result["cold_seconds"]) for n, result in found if result and result["status"] == "measured"]
            axis.plot(
                *zip(*cold, strict=True), marker="o", markersize=4, linestyle="--", fillstyle="none", color=colour
            )
    sizes = [case["examples"] for case in rows]
    axis.set(xscale="log", yscale="log", xlabel="examples", ylabel="seconds")
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def _bars(axis, rows: dict[str, dict[str, Any]]) -> None:
    labels, place = [], 0.0
    for name, case in rows.items():
        start = place
        for column, colour in COLOURS.items():
            result = case["results"].get(column)
            time = tables.seconds(result)
            if result is not None and result["status"] == "stopped":
                axis.barh(place, result["limit_seconds"], color=colour, alpha=0.3)
                axis.plot(result["limit_seconds"], place, marker=">", color=colour)
            elif time is not None:
                axis.barh(place, time, color=colour)
            else:
                continue
            place += 1
        labels.append(((start + place - 1) / 2, tables.label(name, case).replace(", ", "\n", 1)))
        place += 1
    axis.set(xscale="log", xlabel="seconds")
    axis.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=8)
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results", nargs="+", type=Path, help="json files of benchmarks.selection or benchmarks.training"
    )
    parser.add_argument("--page", type=Path, default=Path("docs/tables.md"), help="the page to insert the tables into")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="the folder for the plots")
    options = parser.parse_args()
    for path in options.results:
        results = json.loads(path.read_text())
        of_training = results.get("benchmark") == "training"
        (training_plot.draw if of_training else draw)(results, options.images / f"benchmark-{path.stem}.png")
        text = (training_tables.training if of_training else tables.selection)(results)
        options.page.write_text(tables.insert(options.page.read_text(), path.stem, text))


if __name__ == "__main__":
    main()
