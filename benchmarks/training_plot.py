"""Draws the json of `benchmarks.training`: views per second, one panel per network; `plot.py` calls it."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import tables, training_tables
from benchmarks.training_cases import PARTS
from benchmarks.training_measure import IMPLEMENTATIONS

COLOURS = {
    "sas_jax": "#0072B2",
    "sas_jax_plain": "#56B4E9",
    "torch_float32": "#CC79A7",
    "torch": "#D55E00",
    "torch_compile": "#E69F00",
}
"""From the palette of Okabe and Ito, which colour-blind readers can distinguish."""


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws medians with minimum and maximum as bars, for each part of a run and each implementation."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for case in results["cases"].values():
        panels.setdefault(training_tables.network_label(case), []).append(case)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels) + 1, 4.5), layout="constrained", squeeze=False
    )
    names = training_tables.columns(results)
    for axis, (label, cases) in zip(axes.flat, panels.items(), strict=True):
        _bars(axis, cases, names)
        axis.set_title(label, loc="left", fontsize=10)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name], label=IMPLEMENTATIONS[name].title) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), frameon=False)
    figure.suptitle(f"Views per second, {tables.hardware(results)}", x=0.01, ha="left", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(axis, cases: list[dict[str, Any]], names: list[str]) -> None:
    place, ticks = 0.0, []
    for case in sorted(cases, key=lambda case: list(PARTS).index(case["part"])):
        found = {name: training_tables.views_per_second(case, name) for name in names}
        measured = {name: speeds for name, speeds in found.items() if speeds is not None}
        for at, (name, speeds) in enumerate(measured.items()):
            middle = np.median(speeds)
            reach = [[middle - speeds.min()], [speeds.max() - middle]]
            axis.bar(place + at, middle, color=COLOURS[name], yerr=reach, capsize=3, error_kw={"linewidth": 1})
        ticks.append((place + (len(measured) - 1) / 2, PARTS[case["part"]]))
        place += len(measured) + 1
    axis.set_xticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=8)
    axis.set_ylabel("views per second")
    axis.grid(alpha=0.3, axis="y")
    axis.set_axisbelow(True)
