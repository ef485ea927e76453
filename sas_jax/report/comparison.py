"""Several runs on one page: their arms side by side, the differences of their configs, and their times."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from sas_jax.report import plots, provenance
from sas_jax.report.axes import Axes, figure, percentage
from sas_jax.report.parts import figures, note, notes, section
from sas_jax.report.runs import Run
from sas_jax.report.template import page
from sas_jax.results import differences, numbers, schema, tables
from sas_jax.results import notes as fixed
from sas_jax.results.arms import PRIMARY, Group, Kind, grouped, titles
from sas_jax.results.differences import Difference
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.schema import Results
from sas_jax.results.tables import Name, Stacked, Table, Value
from sas_jax.workdir import flatten

_COLOURS = 8
_MISSING = "no such field"
_LUCK = "The best of several runs is in part the luckiest."


@dataclasses.dataclass(frozen=True)
class _Column:
    """One of the compared runs."""

    name: str
    run: Run
    results: Results
    groups: list[Group]
    style: str


def html(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Writes several runs as one self-contained HTML page.

    Args:
        runs: Two or more.
        names: A unique name for each run.

    Returns:
        The page.
    """
    columns = []
    for at, (name, run) in enumerate(zip(names, runs, strict=True)):
        results = schema.partial(run.results)
        groups = grouped(results.arms, results.dataset.train_size)
        columns.append(_Column(name, run, results, groups, f"s{1 + at % _COLOURS}"))
    differing = differing_fields([run.config for run in runs])
    content = joined(
        element("h1", f"{len(runs)} runs: {', '.join(names)}"),
        element("p", " ".join(f"{column.name}: {_data(column.results)}." for column in columns), class_="soft"),
        *_differences(columns, differing),
        _arms(columns),
        _configs(columns, differing),
        _times(columns),
    )
    return page(f"sas_jax: {', '.join(names)}", content)


def differing_fields(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Returns the fields in which the configs differ, with their values in each; "no such field" if one lacks it."""
    flat = [flatten(config) for config in configs]
    fields = dict.fromkeys(name for each in flat for name in each)
    found = {name: [each.get(name, _MISSING) for each in flat] for name in fields}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _data(results: Results) -> str:
    return f"{results.dataset.name}, {numbers.count(results.dataset.train_size)} training images"


def _differences(columns: Sequence[_Column], differing: dict[str, list[Any]]) -> list[Markup | None]:
    """Returns the differences between runs, those within each run as in its own report, and notes on reading them."""
    within = [differences.of_run(column.groups) for column in columns]
    tests = {(column.results.dataset.name, column.results.dataset.test_size) for column in columns}
    between = differences.between([column.groups for column in columns]) if len(tests) == 1 else {}
    if len(tests) > 1:
        found = note("These runs have different test images, so their accuracies cannot be compared.")
    elif not between:
        found = note("No arm was measured in more than one of these runs.")
    else:
        found = joined(
            _between(columns, between).html("arms"),
            note(f"Below an accuracy is its difference from the first run that has the arm. {_LUCK}"),
        )
    shown = [*between.values(), *(each for mine in within for each in mine.values())]
    said = fixed.reading([group for column in columns for group in column.groups], shown)
    if other := [name for name in differing if name.startswith(("data.", "evaluation."))]:
        fields = ", ".join(f"config.{name}" for name in other)
        said.append(f"The runs were not evaluated in the same way: they differ in {fields}.")
    parts = [
        section(f"Differences within {column.name}", table.html("arms"))
        for column, mine in zip(columns, within, strict=True)
        if (table := tables.differences(column.groups, mine, titles(column.groups)))
    ]
    return [section("Differences between runs", found, id="answer"), *parts, notes(said)]


def _between(columns: Sequence[_Column], found: dict[tuple[Kind, str, int], Difference]) -> Table:
    """Returns a table of the arms that several runs have, with one column per run."""
    shared = {(kind, name) for kind, name, _ in found}
    groups = {group.kind: group for column in columns for group in column.groups}
    named = titles(list(groups.values()))
    rows: list[list[Value]] = []
    for kind in sorted(groups, key=lambda kind: kind.place):
        for name in (name for name in named if (kind, name) in shared):
            row: list[Value] = [Name(f"{kind.title}, {named[name]}", groups[kind].selector.style)]
            for at, column in enumerate(columns):
                measure = next((g.measures.get(name) for g in column.groups if g.kind == kind), None)
                difference = found.get((kind, name, at))
                row.append(Stacked(measure, difference) if measure and difference else measure)
            rows.append(row)
    return Table(["arm", *(column.name for column in columns)], rows)


def _arms(columns: Sequence[_Column]) -> Markup:
    pairs = [(group, column) for column in columns for group in column.groups]
    pairs.sort(key=lambda pair: pair[0].kind.place)
    table = tables.arms([group for group, _ in pairs])
    runs = [Name(column.name, column.style) for _, column in pairs]
    rows = [[row[0], run, *row[1:]] for row, run in zip(table.rows, runs, strict=True)]
    named = titles([group for group, _ in pairs])
    pictures = [_accuracies(columns, name, title) for name, title in named.items() if name in PRIMARY]
    head = [table.head[0], "run", *table.head[1:]] if rows else []
    return section("Arms", Table(head, rows).html("arms"), figures(pictures)) if rows else Markup()


def _accuracies(columns: Sequence[_Column], measure: str, title: str) -> Markup:
    """Plots accuracy against the fraction of the images, with one colour per run."""
    lines = [
        plots.Line(f"{column.name}: {line.name}", f"{column.style} {look}", line.points, f"{column.style}{dots}")
        for column in columns
        for chosen, look, dots in ((True, "plain", ""), (False, "dashed", " open"))
        for line in plots.lines([group for group in column.groups if group.chosen == chosen], measure)
    ]
    if not lines:
        return Markup()
    limits = plots.bounds([found for line in lines for _, found in line.points])
    axes = Axes((-0.05, 1.05), limits, x_label="fraction of the images", y_label=title, x_format=percentage,
                y_format=percentage, height=290)  # fmt: skip
    plots.draw(axes, lines, min(0.014, 0.1 / len(lines)))
    told = "; ".join(
        f"{line.name} {numbers.fraction(share)}: {found}" for line in lines for share, found in line.points
    )
    return figure(
        axes.svg(f"{title} by fraction. {told}"),
        f"{title} against the fraction of the images, with 95 % intervals. Baselines are dashed and hollow.",
        [(line.style, line.name) for line in lines],
    )


def _configs(columns: Sequence[_Column], differing: dict[str, list[Any]]) -> Markup:
    if not differing:
        return section("What differs", note("The configs of these runs are the same in every field."))
    rows = [
        [name, *(v if v is _MISSING else json.dumps(v, ensure_ascii=False, default=str) for v in values)]
        for name, values in differing.items()
    ]
    table = Table(["config.", *(column.name for column in columns)], rows)
    return section("What differs", table.html("facts"), note("All other fields of the configs are the same."))


def _times(columns: Sequence[_Column]) -> Markup:
    found = [_by_stage(provenance.seconds(column.results)) for column in columns]
    stages = list(dict.fromkeys(name for times in found for name in times))
    rows = [[name, *(numbers.duration(times.get(name)) for times in found)] for name in stages]
    rows.append(["total", *(numbers.duration(sum(times.values())) for times in found)])
    for name in ("devices", "commit"):
        rows.append([name, *(provenance.flat(column.run.environment.get(name)) for column in columns)])
    return section("Times", Table(["stage", *(column.name for column in columns)], rows).html())


def _by_stage(times: dict[str, float]) -> dict[str, float]:
    """Returns wall seconds by stage, summed over the stage's arms."""
    found: dict[str, float] = {}
    for name, taken in times.items():
        stage = name.partition("/")[0]
        found[stage] = found.get(stage, 0.0) + taken
    return found
