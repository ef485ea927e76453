"""Finds the operations of a training step that take the most time, in a trace of jax.profiler."""

import collections
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

# Operations that contain others and include their time.
CONTAINERS = ("while", "call", "conditional")

_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<type>\(.*?\)|\S+) (?P<kind>[\w-]+)\((?P<rest>.*)$", re.M
)
_COMPUTATION = re.compile(r"^%?(?P<name>[\w.-]+) \([^\n]*\{$(?P<body>.*?)^\}", re.M | re.S)
_ORIGIN = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r"calls=%?([\w.-]+)")


def trace(run: Callable[[], None], folder: Path) -> Any:
    """Traces `run` into a folder for xprof and Perfetto, and returns the jax.profiler.ProfileData."""
    with jax.profiler.trace(str(folder)):
        run()
    files = folder.glob("plugins/profile/*/*.xplane.pb")
    return jax.profiler.ProfileData.from_file(str(max(files, key=lambda path: path.stat().st_mtime)))


def largest(profile: Any, hlo: str, number: int = 3) -> list[dict[str, Any]]:
    """Returns the operations that took the most time, and their layers in the model.

    Args:
        profile: from `trace`.
        hlo: the compiled program's text, whose comments name the layer that an operation comes from.
        number: how many operations to return.

    Returns:
        For each its `name`, its `share` of the total time, its `kind` with the shape of its result, and its `origin`;
        the last two are None if the text lacks them. If operations overlap, as on a CPU, the time counts for each of
        them. Empty if the trace has no operations.
    """
    seconds = operation_seconds(profile)
    described, total = describe(hlo), sum(seconds.values())
    return [
        {"name": name, "share": time / total} | described.get(name, {"kind": None, "origin": None})
        for name, time in seconds.most_common(number)
    ]


def operation_seconds(profile: Any) -> collections.Counter[str]:
    """Returns the seconds of each operation in a trace, by name; by the devices' own clocks, if there are devices."""
    planes = list(profile.planes)
    seconds: collections.Counter[str] = collections.Counter()
    for plane in [plane for plane in planes if plane.name.startswith("/device:")] or planes:
        started: list[tuple[str, Any, float, float]] = []
        ended: dict[Any, float] = {}
        for line_name, event in ((line.name, event) for line in plane.lines for event in line.events):
            stats = dict(event.stats)
            # A GPU's streams hold only kernels and copies; those of a CUDA graph may not name their operation.
            name = stats.get("hlo_op", event.name if line_name.startswith("Stream") else None)
            if event.name.startswith("end: "):
                ended[stats.get("_c")] = event.start_ns
            elif name is not None and not name.startswith(CONTAINERS):
                started.append((name, stats.get("_p"), event.start_ns, event.duration_ns))
        for name, link, start, duration in started:
            # On a CPU the event of a convolution is only its start; a linked event marks its end.
            seconds[name] += max(duration, ended.get(link, start) - start) / 1e9
    return seconds


def describe(hlo: str) -> dict[str, dict[str, str | None]]:
    """Returns for each operation of a program its `kind`, as "convolution f32[3,3,8,8]", and its `origin`, in words."""
    # A fusion without an origin has that of its last part with one.
    inside = {match["name"]: ([None, *_ORIGIN.findall(match["body"])])[-1] for match in _COMPUTATION.finditer(hlo)}
    found: dict[str, dict[str, str | None]] = {}
    for match in _INSTRUCTION.finditer(hlo):
        own, calls = _ORIGIN.search(match["rest"]), _CALLS.search(match["rest"])
        origin = own[1] if own else inside.get(calls[1]) if calls else None
        shape = re.sub(r"\{.*?\}", "", match["type"])  # without its layout
        shape = "several" if shape.startswith("(") else shape
        found[match["name"]] = {"kind": f"{match['kind']} {shape}", "origin": in_words(origin) if origin else None}
    return found


def in_words(origin: str) -> str:
    """Shortens jit(f)/transpose(jvp(SimCLR.loss))/SimCLR/encoder/Conv_0/x to "backward, encoder/Conv_0/x"."""
    marks = {"transpose(jvp": "backward, ", "jvp(": "forward, ", "vmap(vmap(": "views, "}
    direction = next((word for mark, word in marks.items() if mark in origin), "")
    path = re.sub(r"/\(.*:.*\)$", "/several", origin)  # merged operations
    return direction + re.sub(r"^(?:jit\(\w+\)/)?(?:\w*\(?jvp\([\w.]*\)\)?/)?(?:SimCLR/)?", "", path)
