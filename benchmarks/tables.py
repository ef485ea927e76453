"""Makes the tables of docs/tables.md from the json of a benchmark.

The tables of a file in docs/results are inserted between two comments of the page:
`<!-- selection-cpu: begin -->` and `<!-- selection-cpu: end -->` for selection-cpu.json.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.implementations import IMPLEMENTATIONS

OWN = "sas_jax"
MATRICES = "sas_jax_matrices"
AS_SHIPPED = ("apricot", "submodlib", "kmedoids")
PACKAGES = tuple(name for name, implementation in IMPLEMENTATIONS.items() if implementation.package)


def insert(page: str, stem: str, text: str) -> str:
    """Returns the page with this text between the comments of `stem`.json.

    Raises:
        ValueError: the page has no such comments.
    """
    begin, end = f"<!-- {stem}: begin -->", f"<!-- {stem}: end -->"
    if begin not in page or end not in page:
        raise ValueError(
            f"The page must have the lines {begin} and {end} for {stem}.json. Add them where its tables should be."
        )
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def selection(results: dict[str, Any]) -> str:
    """Returns all tables of one json of `selection.py`, in Markdown."""
    names = [name for name in IMPLEMENTATIONS if any(name in case["results"] for case in results["cases"].values())]
    return "\n\n".join(
        [
            _origin(results),
            "**Seconds of a warm call:** median (minimum-maximum). `> 60`: stopped after 60 s. `*`: a single run, the "
            "first call of its process. `matrices`: the time to make the matrices, which only sas_jax's time includes. "
            "The last three columns divide the time of the best package (as shipped, in any form) and of NumPy by that "
            "of sas_jax, with matrices given where that was measured.",
            _table(results, names, _warm, {"matrices": _matrices, "shipped": _shipped, "any": _any, "NumPy": _numpy}),
            "**Seconds of a cold call:** the first call of a new process after its imports. sas_jax reads its compiled "
            "programs from its cache on disk; `compiling` is its first call with an empty cache.",
            _table(results, names, _cold, {"compiling": _compiling}),
            "**Memory in MB** beyond what the process held before its first call (imports and input).",
            _table(results, names, _memory, {}),
            "**Value of the objective** in float64: the relative difference to the value of NumPy's picks, in "
            "millionths. `replay`: the largest shortfall of a pick of sas_jax against the best candidate, in "
            "millionths of the largest first gain.",
            _table(results, names, _value, {"replay": _replay}),
            _reasons(results),
        ]
    )


def markdown(lines: Iterable[Iterable[str]]) -> str:
    """Formats a table; the first line is its head, the second the alignment of its columns."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def label(name: str, case: dict[str, Any]) -> str:
    """Describes a case in words."""
    if case["classes"] == 1:
        examples = f"{case['examples']:,}" + (" from embeddings" if case["given"] == "embeddings" else "")
    elif case["smallest_class"] == case["largest_class"]:
        examples = f"{case['classes']} classes of {case['largest_class']:,}"
    else:
        examples = f"{case['classes']} classes of {case['smallest_class']:,} to {case['largest_class']:,}"
        synthetic = "-mixed-" in name
        examples += "" if synthetic else f" ({name.split('-', 1)[1].rsplit('-', 1)[0]})"
    return f"{case['objective'].replace('_', ' ')}, {examples}, {case['fraction']:.0%}"


def seconds(result: dict[str, Any] | None) -> float | None:
    """Returns the time of a call: the median of the warm calls, or the only one; None if none finished."""
    if result is None or result["status"] != "measured":
        return None
    return float(np.median(result["warm_seconds"] or [result["cold_seconds"]]))


def best(case: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """Returns the shortest time of these implementations; None if none finished."""
    found = [seconds(case["results"].get(name)) for name in names]
    return min((time for time in found if time is not None), default=None)


def hardware(results: dict[str, Any]) -> str:
    """Describes hardware and date: "AMD EPYC, 2 cores, 24 GiB, 2026-12-01"."""
    found = results["hardware"]
    measured = [result for case in results["cases"].values() for result in case["results"].values()]
    dates = sorted({result["date"] for result in measured if "date" in result})
    parts = [found["processor"], f"{found['cores']} cores"]
    if found["memory_bytes"]:
        parts.append(f"{found['memory_bytes'] / 2**30:.0f} GiB")
    if found["device"] != "cpu":
        parts.append(found["device"])
    return ", ".join([*parts, " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "not measured"])


def _origin(results: dict[str, Any]) -> str:
    environment = results["environment"]
    versions = [f"{name} {environment['versions'][name]}" for name in (OWN, "jax", "numpy")]
    for package, name in {IMPLEMENTATIONS[name].package: name for name in PACKAGES}.items():
        found = {case["results"].get(name, {}).get("version") for case in results["cases"].values()} - {None}
        versions += [f"{package} {version}" for version in sorted(found)]
    return (
        f"{hardware(results)}; Python {environment['python']}, {', '.join(versions)}; commit {environment['commit']}; "
        f"`{results['command']}`."
    )


def _table(results: dict[str, Any], names: list[str], cell, more: dict[str, Any]) -> str:
    """Makes a table of cases by implementations and `more`, columns that are functions of the whole case."""
    head = ["", *(IMPLEMENTATIONS[name].title for name in names), *more]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, case in results["cases"].items():
        cells = [cell(case["results"].get(column), case) for column in names]
        lines.append([label(name, case), *cells, *(column(case) for column in more.values())])
    return markdown(lines)


def _warm(result: dict[str, Any] | None, case: dict[str, Any]) -> str:
    if result is not None and result["status"] == "stopped":
        return f"> {result['limit_seconds']:g}"
    if result is not None and result["status"] == "failed":
        return "failed"
    middle = seconds(result)
    if result is None or middle is None:
        return "-"
    warm = result["warm_seconds"]
    return f"{_digits(middle)} ({_digits(min(warm))}-{_digits(max(warm))})" if warm else f"{_digits(middle)} *"


def _digits(time: float) -> str:
    """Formats seconds with two to four digits: 0.0021, 0.215, 3.21, 32.1."""
    return f"{time:.4f}" if time < 0.1 else f"{time:.3f}" if time < 1 else f"{time:.2f}" if time < 10 else f"{time:.1f}"


def _cold(result: dict[str, Any] | None, case: dict[str, Any]) -> str:
    if result is None or result["status"] != "measured":
        return _warm(result, case)
    return _digits(result["cold_seconds"])


def _memory(result: dict[str, Any] | None, case: dict[str, Any]) -> str:
    if result is None or result["status"] != "measured" or result["memory_peak_bytes"] is None:
        return "-"
    return f"{(result['memory_peak_bytes'] - result['memory_before_bytes']) / 1e6:,.0f}"


def _value(result: dict[str, Any] | None, case: dict[str, Any]) -> str:
    reference = case["results"].get("numpy", {}).get("value")
    if result is None or result.get("value") is None or reference is None:
        return "-"
    return f"{1e6 * (result['value'] / reference - 1):.2f}"


def _ratio(case: dict[str, Any], names: tuple[str, ...]) -> str:
    # The others receive matrices, so sas_jax is compared with matrices given, if that was measured.
    result = case["results"].get(MATRICES, case["results"].get(OWN))
    if result is not None and result["status"] == "failed":
        return "failed"
    own, other = seconds(result), best(case, names)
    return "-" if own is None or other is None else f"{other / own:.1f}"


def _shipped(case: dict[str, Any]) -> str:
    return _ratio(case, AS_SHIPPED)


def _any(case: dict[str, Any]) -> str:
    return _ratio(case, PACKAGES)


def _numpy(case: dict[str, Any]) -> str:
    return _ratio(case, ("numpy",))


def _matrices(case: dict[str, Any]) -> str:
    """Formats the time to make the others' matrices, in cases where sas_jax makes its own within its time."""
    return _digits(case["matrix_seconds"]) if case["classes"] > 1 else "-"


def _compiling(case: dict[str, Any]) -> str:
    own = case["results"].get(OWN, {})
    return _digits(own["first_ever_seconds"]) if own.get("status") == "measured" else "-"


def _replay(case: dict[str, Any]) -> str:
    shortfall = case["results"].get(OWN, {}).get("largest_shortfall")
    return "-" if shortfall is None else f"{1e6 * shortfall:.3f}"


def _reasons(results: dict[str, Any]) -> str:
    """Lists the reasons for missing results."""
    lines = []
    for name, case in results["cases"].items():
        for column, result in case["results"].items():
            if result["status"] in ("skipped", "failed"):
                lines.append(f"- {label(name, case)}: {IMPLEMENTATIONS[column].title} {result['reason']}")
    return "\n".join(["Not measured:", "", *lines] if lines else ["Everything was measured."])
