"""Several runs on one page: the answer in words, their arms side by side, what their configs differ in, their times."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sas_jax.report import numbers, provenance, words
from sas_jax.report.arms import FULL, UNTRAINED, Group, Measure, grouped, order
from sas_jax.report.axes import Axes, figure, percentage
from sas_jax.report.markup import Markup, element, joined
from sas_jax.report.parts import accuracy, figures, note, section, sentence, table
from sas_jax.report.runs import Run
from sas_jax.report.template import page
from sas_jax.workdir import flatten

_COLOURS = 8
_MISSING = "not there"


@dataclasses.dataclass(frozen=True)
class _Column:
    """A run among others."""

    name: str
    run: Run
    groups: list[Group]
    style: str

    def measured(self, kind: tuple[str, float | None, str, str], measure: str) -> Measure | None:
        """An arm's accuracy; None where the run has none."""
        found = [getattr(g, measure) for g in self.groups if g.kind == kind]
        return found[0] if found else None


def html(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Writes several runs as one self-contained HTML page.

    Args:
      runs: Two or more.
      names: What each is called; no two are equal.

    Returns:
      The page.
    """
    columns = [
        _Column(name, run, _groups(run), f"s{1 + at % _COLOURS}")
        for at, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    differing = differences([run.config for run in runs])
    content = joined(
        element("h1", f"{len(runs)} runs: {', '.join(names)}"),
        element("p", " ".join(f"{column.name}: {_data(column.run)}." for column in columns), class_="soft"),
        _answer(columns, differing),
        _arms(columns),
        _configs(columns, differing),
        _times(columns),
    )
    return page(f"sas_jax: {', '.join(names)}", content)


def differences(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """By field, its value in each config, for the fields in which they differ; "not there" where one lacks it."""
    flat = [flatten(config) for config in configs]
    fields = dict.fromkeys(name for each in flat for name in each)
    found = {name: [each.get(name, _MISSING) for each in flat] for name in fields}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _groups(run: Run) -> list[Group]:
    return grouped(run.results["arms"], run.results["dataset"].get("train_size"))


def _data(run: Run) -> str:
    dataset = run.results["dataset"]
    return f"{dataset.get('name')}, {numbers.count(dataset.get('train_size'))} training images"


def _answer(columns: Sequence[_Column], differing: dict[str, list[Any]]) -> Markup:
    sentences = _against_each_other(columns) if _same_test(columns) else []
    if not sentences:
        why = (
            "No arm was measured in more than one of these runs"
            if _same_test(columns)
            else "These runs are of different test images, so their accuracies cannot be set against each other"
        )
        sentences = [f"{why}; each is told by itself."]
    alone = [f"{column.name}: {said[0]}" for column in columns if (said := words.answers(column.groups))]
    notes = []
    if any(words.measure_name(column.groups) for column in columns):
        notes.append(
            "A difference is claimed only where two 95 % intervals do not overlap; overlap does not show that two are "
            "equal. Where several runs are compared, the best of them is in part the luckiest."
        )
    if other := [name for name in differing if name.startswith(("data.", "evaluation."))]:
        named = ", ".join(f"config.{name}" for name in other)
        notes.append(f"The runs were not measured in the same way: they differ in {named}.")
    return joined(
        element(
            "section",
            element("p", sentence(sentences[0]), class_="first"),
            element("ul", *(element("li", sentence(text)) for text in (*sentences[1:], *alone))),
            id="answer",
        ),
        element("ul", *(element("li", text) for text in notes), class_="notes", id="reading") if notes else None,
    )


def _same_test(columns: Sequence[_Column]) -> bool:
    found = {(c.run.results["dataset"].get("name"), c.run.results["dataset"].get("test_size")) for c in columns}
    return len(found) == 1


def _kinds(columns: Sequence[_Column]) -> list[tuple[str, float | None, str, str]]:
    """The selectors and fractions of all runs: by fraction, chosen subsets before their baselines."""
    groups = sorted(
        (group for column in columns for group in column.groups),
        key=lambda g: (
            g.selector == UNTRAINED,
            g.setting_place,
            g.selector == FULL,
            g.fraction or 0.0,
            not g.chosen,
            g.selector,
        ),
    )
    return list(dict.fromkeys(group.kind for group in groups))


def _against_each_other(columns: Sequence[_Column]) -> list[str]:
    """For each arm that several runs have, which is ahead."""
    sentences = []
    for kind in _kinds(columns):
        for measure in words.MEASURES:
            found = [(c.name, m) for c in columns if (m := c.measured(kind, measure)) is not None]
            if len(found) > 1:
                title = next(g.title for c in columns for g in c.groups if g.kind == kind)
                reached = ", ".join(f"{name} {one}" for name, one in found)
                sentences.append(f"{title}, {words.MEASURES[measure]}: {reached}. {_verdict(found)}")
                break
    return sentences


def _verdict(found: Sequence[tuple[str, Measure]]) -> str:
    best, top = max(found, key=lambda pair: pair[1].value)
    behind = [name for name, one in found if order(top, one) == 1]
    alike = [name for name, one in found if order(top, one) == 0 and name != best]
    parts = []
    if behind:
        parts.append(f"{best} is ahead of {' and '.join(behind)}, and the intervals do not overlap")
    if alike:
        pair = f"between {best} and {' and '.join(alike)} " if behind else ""
        parts.append(f"{'no' if behind else 'No'} difference {pair}can be claimed")
    return "; ".join(parts) + "."


def _arms(columns: Sequence[_Column]) -> Markup:
    rows = []
    for kind in _kinds(columns):
        for column in columns:
            for group in column.groups:
                if group.kind == kind:
                    seeds = element("small", f"{len(group.arms)} seeds") if len(group.arms) > 1 else None
                    key = element("span", class_=f"key {column.style}")
                    rows.append(
                        (
                            joined(group.title, seeds),
                            joined(key, column.name),
                            numbers.count(group.mean("size")),
                            accuracy(group.probe),
                            accuracy(group.knn),
                            numbers.count(group.mean("epochs")),
                            numbers.count(group.mean("steps")),
                            numbers.duration(group.mean("train_seconds") or None),
                        )
                    )
    head = ("arm", "run", "images", "linear probe", "kNN", "epochs", "steps", "training")
    pictures = [_accuracies(columns, measure, title) for measure, title in (("probe", "Linear probe"), ("knn", "kNN"))]
    return section("Arms", table(head, rows, "arms"), figures(pictures)) if rows else Markup()


def _accuracies(columns: Sequence[_Column], measure: str, title: str) -> Markup:
    """Accuracy against the fraction of the images, a colour a run."""
    lines = []
    for column in columns:
        for selector, setting in dict.fromkeys(
            (g.selector, g.setting) for g in column.groups if g.selector != UNTRAINED
        ):
            points = [
                (group.fraction, found)
                for group in column.groups
                if (group.selector, group.setting) == (selector, setting)
                and group.fraction is not None
                and (found := getattr(group, measure)) is not None
            ]
            if points:
                chosen = any(group.chosen for group in column.groups if group.selector == selector)
                name = f"{selector} ({setting})" if setting else selector
                lines.append((column, name, chosen, points))
    if not lines:
        return Markup()
    low = min(found.low for *_, points in lines for _, found in points)
    high = max(found.high for *_, points in lines for _, found in points)
    room = 0.04 * (high - low) or 0.02
    bounds = (max(0.0, low - room), min(1.0, high + room))
    axes = Axes((-0.05, 1.05), bounds, x_label="fraction of the images", y_label=title, x_format=percentage,
                y_format=percentage, height=290)  # fmt: skip
    for at, (column, _, chosen, points) in enumerate(lines):
        shift = min(0.014, 0.1 / len(lines)) * (at - (len(lines) - 1) / 2)  # so that intervals stay apart
        x = np.array([fraction for fraction, _ in points]) + shift
        axes.curve(x, np.array([found.value for _, found in points]), f"{column.style} {_line(chosen)}")
        for place, (_, found) in zip(x, points, strict=True):
            axes.spread((place, place), (found.low, found.high), column.style)
            axes.point(place, found.value, column.style if chosen else f"{column.style} open")
    told = "; ".join(
        f"{column.name} {selector} {numbers.fraction(fraction)}: {found}"
        for column, selector, _, points in lines
        for fraction, found in points
    )
    legend = [
        (f"{column.style} {_line(chosen)}", f"{column.name}: {selector}") for column, selector, chosen, _ in lines
    ]
    return figure(
        axes.svg(f"{title} by fraction. {told}"),
        f"{title} against the fraction of the images, with 95 % intervals. Baselines are dashed and hollow.",
        legend,
    )


def _line(chosen: bool) -> str:
    return "plain" if chosen else "dashed"


def _configs(columns: Sequence[_Column], differing: dict[str, list[Any]]) -> Markup:
    if not differing:
        return section("What differs", note("The configs of these runs are the same in every field."))
    rows = [
        (
            name,
            *(_MISSING if v is _MISSING else json.dumps(v, ensure_ascii=False, default=str) for v in values),
        )
        for name, values in differing.items()
    ]
    head = ("config.", *(column.name for column in columns))
    return section("What differs", table(head, rows, "facts"), note("All other fields of the configs are the same."))


def _times(columns: Sequence[_Column]) -> Markup:
    found = [_by_stage(provenance.seconds(column.run.results)) for column in columns]
    stages = list(dict.fromkeys(name for times in found for name in times))
    rows = [(name, *(numbers.duration(times.get(name)) for times in found)) for name in stages]
    rows.append(("all", *(numbers.duration(sum(times.values())) for times in found)))
    for name in ("devices", "commit"):
        rows.append((name, *(provenance.flat(column.run.environment.get(name)) for column in columns)))
    return section("Times", table(("stage", *(column.name for column in columns)), rows))


def _by_stage(times: dict[str, float]) -> dict[str, float]:
    """Wall seconds, those of a stage's arms together."""
    found: dict[str, float] = {}
    for name, taken in times.items():
        stage = name.partition("/")[0]
        found[stage] = found.get(stage, 0.0) + taken
    return found
