"""Makes the tables of docs/tables.md from the json of `benchmarks.training`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.tables import hardware, markdown
from benchmarks.training_cases import PARTS
from benchmarks.training_measure import IMPLEMENTATIONS

OWN = "sas_jax"
PEERS = tuple(name for name, implementation in IMPLEMENTATIONS.items() if implementation.packages)

PEAKS = (
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
)
"""Makers' peak operations per second in dense bfloat16; the first name contained in the device's applies."""


QUIET = 0.1
"""Cores that other processes may use while steps are timed; the page reports any above."""


def peak(device: str) -> float | None:
    """Returns a device's peak operations per second in bfloat16; None for a CPU or an unlisted device."""
    return next((most for name, most in PEAKS if name in device), None)


def training(results: dict[str, Any]) -> str:
    """Returns all tables of one json of `training.py`, in Markdown."""
    names = columns(results)
    share = "Utilisation" if peak(results["hardware"]["device"]) else "10^9 operations a second"
    return "\n\n".join(
        [
            _origin(results, names),
            "**Views per second:** median (minimum-maximum) of groups of steps. `ratio`: sas_jax divided by the "
            "fastest PyTorch, and by PyTorch in float32. `*`: divided by PyTorch's step without augmentation.",
            _table(results, names, _views, {"ratio": _ratio, "ratio, float32": _ratio_in_float32}),
            f"**{share}:** the model's operations, three forward passes per view.",
            _table(results, names, _work, {}),
            "**Peak memory in MB:** of the device, or on a CPU of the process beyond its imports, without the loader's "
            "workers.",
            _table(results, names, _memory, {}),
            "**Seconds of compiling:** the time of the first step beyond that of a later step.",
            _table(results, names, _compiling, {}, parts=("step", "augmented")),
            _dtypes(results),
            _augmentation(results),
            _profiles(results),
            _disturbances(results),
            _reasons(results),
        ]
    )


def columns(results: dict[str, Any]) -> list[str]:
    """Returns the implementations that have a result."""
    return [name for name in IMPLEMENTATIONS if any(name in case["results"] for case in results["cases"].values())]


def network_label(case: dict[str, Any]) -> str:
    """Describes network and batch: "ResNet-10 x 0.25, 32 pixels, batch 128"."""
    network = case["network"]
    width = "" if network["width"] == 1 else f" x {network['width']:g}"
    return f"ResNet-{network['depth']}{width}, {network['size']} pixels, batch {case['batch']}"


def views_per_second(case: dict[str, Any], name: str) -> np.ndarray | None:
    """Returns the views per second of each group of steps; None if not measured."""
    result = case["results"].get(name)
    if result is None or result["status"] != "measured":
        return None
    return 2 * case["batch"] / np.array(result["seconds_per_step"])


def operations_per_second(case: dict[str, Any], name: str) -> float | None:
    """Returns the model's operations per second, three forward passes per view; None if not measured."""
    speeds = views_per_second(case, name)
    return None if speeds is None else 3 * case["forward_flops_per_view"] * float(np.median(speeds))


def _origin(results: dict[str, Any], names: list[str]) -> str:
    environment = results["environment"]
    versions = [
        f"{name} {environment['versions'][name]}" for name in (OWN, "jax", "flax") if name in environment["versions"]
    ]
    measured = [result for case in results["cases"].values() for result in case["results"].values()]
    for package in ("torch", "torchvision"):
        found = {result.get("versions", {}).get(package) for result in measured} - {None}
        versions += [f"{package} {version}" for version in sorted(found)]
    dtypes = []
    for name in names:
        found = {case["results"].get(name, {}).get("dtype") for case in results["cases"].values()} - {None}
        dtypes += [f"{IMPLEMENTATIONS[name].title} {' and '.join(sorted(found))}"] if found else []
    return (
        f"{hardware(results)}; Python {environment['python']}, {', '.join(versions)}; commit {environment['commit']}; "
        f"`{results['command']}`. Computed in: {', '.join(dtypes)}."
    )


def _table(
    results: dict[str, Any],
    names: list[str],
    cell: Callable[[dict[str, Any], str], str],
    more: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]],
    *,
    parts: tuple[str, ...] = tuple(PARTS),
) -> str:
    """Makes a table of cases by implementations and `more`, columns that are functions of the case and all results."""
    head = ["", *(IMPLEMENTATIONS[name].title for name in names), *more]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for case in results["cases"].values():
        if case["part"] in parts:
            cells = [cell(case, name) for name in names]
            label = f"{network_label(case)}, {PARTS[case['part']]}"
            lines.append([label, *cells, *(column(case, results) for column in more.values())])
    return markdown(lines)


def _views(case: dict[str, Any], name: str) -> str:
    speeds = views_per_second(case, name)
    if speeds is None:
        return "-"
    return f"{_number(np.median(speeds))} ({_number(speeds.min())}-{_number(speeds.max())})"


def _number(value: float) -> str:
    """Formats a number with three digits or more: 8.43, 84.3, 8,430."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _work(case: dict[str, Any], name: str) -> str:
    operations = operations_per_second(case, name)
    if operations is None:
        return "-"
    most = peak(case["results"][name]["device_kind"])
    return _number(operations / 1e9) if most is None else f"{operations / most:.1%}"


def _memory(case: dict[str, Any], name: str) -> str:
    result = case["results"].get(name, {})
    if result.get("status") != "measured":
        return "-"
    if result["device_memory_peak_bytes"] is not None:
        return f"{result['device_memory_peak_bytes'] / 1e6:,.0f}"
    if result["memory_peak_bytes"] is None:
        return "-"
    return f"{(result['memory_peak_bytes'] - result['memory_before_bytes']) / 1e6:,.0f}"


def _compiling(case: dict[str, Any], name: str) -> str:
    found = case["results"].get(name, {}).get("compile_seconds")
    return "-" if found is None else f"{found:.1f}"


def _best(case: dict[str, Any] | None, names: tuple[str, ...]) -> float | None:
    """Returns the highest median of these implementations; None if none was measured."""
    found = [views_per_second(case, name) for name in names] if case else []
    return max((float(np.median(speeds)) for speeds in found if speeds is not None), default=None)


def _sibling(results: dict[str, Any], case: dict[str, Any], part: str) -> dict[str, Any] | None:
    """Returns the case of the same network and batch with another part of a run; None if there is none."""
    for other in results["cases"].values():
        if (other["network"], other["batch"], other["part"]) == (case["network"], case["batch"], part):
            return other
    return None


def _ratio_in_float32(case: dict[str, Any], results: dict[str, Any]) -> str:
    return _ratio(case, results, ("torch_float32",))


def _ratio(case: dict[str, Any], results: dict[str, Any], peers: tuple[str, ...] = PEERS) -> str:
    of_views = case["part"] == "augmented"
    own = _best(case, (OWN,))
    other = _best(_sibling(results, case, "step") if of_views else case, peers)
    return "-" if own is None or other is None else f"{own / other:.2f}{' *' if of_views else ''}"


def _dtypes(results: dict[str, Any]) -> str:
    """Describes how PyTorch chose between float32 and autocast to bfloat16 on a CPU."""
    lines = []
    for case in results["cases"].values():
        for result in case["results"].values():
            if probe := result.get("dtype_probe_seconds"):
                times = " and ".join(f"{_number(1000 * seconds)} ms in {name}" for name, seconds in probe.items())
                lines.append(f"- {network_label(case)}: {times}, so it is measured in {result['dtype']}")
    if not lines:
        return "PyTorch computes in autocast to bfloat16."
    return "\n".join(["The trial that chose PyTorch's dtype, an eager step on a quarter of the batch:", "", *lines])


def _augmentation(results: dict[str, Any]) -> str:
    """Describes the cost of the views on top of the step."""
    lines = []
    for case in results["cases"].values():
        if case["part"] != "augmented":
            continue
        with_views, without = _best(case, (OWN,)), _best(_sibling(results, case, "step"), (OWN,))
        if with_views is not None and without is not None:
            lines.append(f"- {network_label(case)}: {without / with_views - 1:.1%} of the step alone")
    return "\n".join(
        ["What sas_jax's augmentation adds:", "", *lines] if lines else ["Augmentation was not measured separately."]
    )


def _profiles(results: dict[str, Any]) -> str:
    """Lists the largest operations of sas_jax's step."""
    lines = []
    for case in results["cases"].values():
        for operation in case["results"].get(OWN, {}).get("profile", []):
            of = f" ({operation['origin']})" if operation["origin"] else ""
            kind = f", {operation['kind']}" if operation["kind"] else ""
            lines.append(f"- {network_label(case)}: {operation['share']:.1%} `{operation['name']}`{kind}{of}")
    if not lines:
        return "No profile was taken."
    return "\n".join(["The largest operations of sas_jax's step with augmentation, by jax.profiler:", "", *lines])


def _disturbances(results: dict[str, Any]) -> str:
    """Lists the measurements that other processes disturbed."""
    lines = []
    for name, case in results["cases"].items():
        for column, result in case["results"].items():
            others = result.get("cores_used_by_others") or 0.0
            if others > QUIET:
                lines.append(f"- {name}: {IMPLEMENTATIONS[column].title}, {others:.1f} cores")
    if not lines:
        return f"Other processes used no more than {QUIET} cores while steps were timed."
    return "\n".join(["Disturbed measurements, not to be quoted. Other processes used:", "", *lines])


def _reasons(results: dict[str, Any]) -> str:
    """Lists the reasons for missing results."""
    lines = []
    for name, case in results["cases"].items():
        for column, result in case["results"].items():
            title = IMPLEMENTATIONS[column].title
            if result["status"] == "stopped":
                lines.append(f"- {name}: {title} was stopped after {result['limit_seconds']:g} s")
            elif result["status"] != "measured":
                lines.append(f"- {name}: {title} {result['reason']}")
    return "\n".join(["Not measured:", "", *lines] if lines else ["Everything was measured."])
