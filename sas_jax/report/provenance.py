"""The provenance of the numbers: time and cost by stage, the data, the machine and all parameters."""

import collections
import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sas_jax.report.parts import folded, note, section
from sas_jax.results import numbers
from sas_jax.results.arms import Group
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.schema import Results
from sas_jax.results.selectors import Role
from sas_jax.results.tables import Table, Value
from sas_jax.workdir import flatten

_NAMED_FILES = 20  # the maximum number of skipped files listed; the others are counted
SELECTING = ("proxy", "embed", "classes", "rank")  # the stages that are needed to find a subset


def run(
    results: Results,
    groups: Sequence[Group],
    records: Mapping[str, list[dict[str, Any]]],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> Markup:
    return section(
        "The run",
        _stages(results, groups, records, environment),
        _facts(results, environment),
        _parameters(config),
    )


def seconds(results: Results) -> dict[str, float]:
    """Returns wall seconds by stage."""
    return {name: found.wall_seconds or 0.0 for name, found in results.stages.items()}


def flat(value: object) -> str:
    """Formats a value on one line; repeated items of a list (eight devices of a kind) are counted."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        times = collections.Counter(map(flat, value))
        return ", ".join(f"{number} \u00d7 {text}" if number > 1 else text for text, number in times.items())
    if value is None:
        return numbers.NOTHING
    return numbers.count(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _stages(
    results: Results,
    groups: Sequence[Group],
    records: Mapping[str, list[dict[str, Any]]],
    environment: Mapping[str, Any],
) -> Markup | None:
    times = seconds(results)
    total, most = sum(times.values()), max(times.values(), default=0.0)
    if not total:
        return None
    rates = _rates(groups, records)
    rows: list[list[Value]] = [
        [
            name,
            numbers.duration(taken),
            element("span", class_="share", style=f"width:{100 * taken / most:.1f}%"),
            numbers.count(rates.get(name)),
        ]
        for name, taken in times.items()
    ]
    devices = environment.get("devices") or []
    device_time = ""
    if isinstance(devices, list | tuple) and environment.get("backend") != "cpu" and devices:
        device_time = f"{numbers.duration(total * len(devices))} of device time"
    rows.append(["total", numbers.duration(total), device_time, ""])
    text = f"Wall-clock time{f' on {flat(devices)}' if devices else ''}. {_cost(times, groups)}"
    return joined(
        element("h3", "Time and cost by stage"),
        note(text.strip()),
        Table(("stage", "time", "", "views/s"), rows).html("stages"),
    )


def _rates(groups: Sequence[Group], records: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Returns views per second by stage, for stages that trained something."""
    found = {
        f"train/{arm.name}": arm.views_per_second
        for group in groups
        for arm in group.arms
        if arm.views_per_second is not None and numbers.known(arm.views_per_second)
    }
    for stage, lines in records.items():
        rates = [line["views_per_second"] for line in lines if numbers.known(line.get("views_per_second"))]
        if rates and not stage.startswith("arms/"):
            found[stage] = statistics.median(rates)
    return found


def _cost(times: Mapping[str, float], groups: Sequence[Group]) -> str:
    """Describes the time to find the subset, and the times of training on it and on all images."""
    stages = [name for name in SELECTING if name in times]
    if not stages:
        return ""
    text = f"Finding the subset ({', '.join(stages)}) took {numbers.duration(sum(times[name] for name in stages))}"
    trained = [
        f"{group.title} {numbers.duration(taken)}"
        for group in groups
        if (group.chosen or group.kind.role == Role.WHOLE) and (taken := group.mean("train_seconds"))
    ]
    return f"{text}; one training run took: {', '.join(trained)}." if trained else f"{text}."


def _facts(results: Results, environment: Mapping[str, Any]) -> Markup | None:
    dataset = dataclasses.asdict(results.dataset)
    skipped = dataset.pop("skipped")
    rows = [(key.replace("_", " "), flat(value)) for key, value in dataset.items()]
    rows.append(("skipped files", numbers.count(len(skipped))))
    rows += [(key.replace("_", " "), flat(value)) for key, value in environment.items()]
    listed = None
    if skipped:
        number = len(skipped) - _NAMED_FILES
        items = [element("li", name) for name in skipped[:_NAMED_FILES]]
        left = element("li", f"and {numbers.count(number)} more") if number > 0 else None
        listed = folded("Skipped files", element("ul", *items, left, class_="notes"))
    return joined(element("h3", "Data and machine"), Table(("", ""), _wrapped(rows)).html("facts"), listed)


def _parameters(config: Mapping[str, Any]) -> Markup | None:
    if not config:
        return None
    rows = [(name, json.dumps(value, default=str, ensure_ascii=False)) for name, value in flatten(dict(config)).items()]
    facts = Table(("config.", "value"), _wrapped(rows)).html("facts")
    return folded(f"All {len(rows)} parameters", facts, id="parameters")


def _wrapped(rows: Iterable[tuple[str, str]]) -> list[tuple[str, Markup]]:
    """Returns rows whose second cell may break anywhere."""
    return [(name, element("span", text, class_="text")) for name, text in rows]
