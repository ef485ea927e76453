"""Where the numbers come from: time by stage, the data, the machine and the whole config."""

import collections
import json
from collections.abc import Mapping
from typing import Any

from sas_jax.report import numbers
from sas_jax.report.markup import Markup, element, joined
from sas_jax.report.parts import section

_NAMED_FILES = 20  # skipped files that are listed; the others are counted


def run(results: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any]) -> Markup:
    return section("The run", _stages(results.get("stages") or {}), _facts(results, environment), _config(config))


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    times = {name: float(found.get("wall_seconds") or 0.0) for name, found in stages.items()}
    total = sum(times.values())
    if not total:
        return None
    bars = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", numbers.duration(seconds)),
            element("td", element("span", class_="share", style=f"width:{100 * seconds / total:.1f}%"), class_="track"),
        )
        for name, seconds in times.items()
    ]
    last = element("tr", element("th", "all", scope="row"), element("td", numbers.duration(total)), element("td"))
    table = element("table", element("tbody", *bars, last), class_="stages")
    return joined(element("h3", "Time by stage"), element("div", table, class_="scroll", tabindex="0"))


def _facts(results: Mapping[str, Any], environment: Mapping[str, Any]) -> Markup | None:
    dataset = results.get("dataset") or {}
    names = list(dataset.get("skipped") or ())
    number = len(names)
    rows = [(key.replace("_", " "), _flat(value)) for key, value in dataset.items() if key != "skipped"]
    rows.append(("skipped files", numbers.count(number)))
    rows += [(key.replace("_", " "), _flat(value)) for key, value in environment.items()]
    body = [element("tr", element("th", key, scope="row"), element("td", value, class_="text")) for key, value in rows]
    listed = None
    if names:
        left = f"and {numbers.count(number - _NAMED_FILES)} more" if number > _NAMED_FILES else None
        items = [element("li", name) for name in (*names[:_NAMED_FILES], *([left] if left else []))]
        listed = element("details", element("summary", "Skipped files"), element("ul", *items, class_="notes"))
    return joined(
        element("h3", "Data and machine"),
        element("div", element("table", element("tbody", *body)), class_="scroll"),
        listed,
    )


def _flat(value: object) -> str:
    """A value on one line; what a list repeats (eight devices of a kind) is counted."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        times = collections.Counter(map(_flat, value))
        return ", ".join(f"{number} \u00d7 {text}" if number > 1 else text for text, number in times.items())
    if value is None:
        return numbers.NOTHING
    return numbers.count(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _config(config: Mapping[str, Any]) -> Markup | None:
    if not config:
        return None
    text = json.dumps(config, indent=2, default=str, ensure_ascii=False)
    return element("details", element("summary", "The whole config"), element("pre", text), id="config")
