"""The small tables that the commands print."""

from typing import Any


def arms(results: dict[str, Any]) -> str:
    """The arms of a run side by side, each accuracy with its 95 % interval; "" where there are none."""
    if not results["arms"]:
        return ""
    longest = max(len(arm["name"]) for arm in results["arms"])
    header = ("arm".ljust(longest), "images", "epochs", "linear probe %", "kNN %", "training")
    rows = [
        (
            arm["name"].ljust(longest),
            f"{arm['size']:,}",
            str(arm["epochs"]),
            _percent(arm["probe"]),
            _percent(arm["knn"]),
            f"{arm['train_seconds']:,.0f} s",
        )
        for arm in results["arms"]
    ]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = tuple("-" * width for width in widths)
    lines = ["  ".join(map(str.rjust, row, widths)) for row in (header, rule, *rows)]
    note = ""
    measured = [arm["probe"] for arm in results["arms"] if arm["probe"]]
    if measured:
        note = (
            f"(in brackets: 95 % intervals from the {measured[0]['n']:,} test images; no difference is shown by "
            f"intervals that overlap)\n"
        )
    return "\n" + "\n".join(lines) + "\n" + note + "\n"


def _percent(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return "-"
    return f"{100 * accuracy['value']:.1f} ({100 * accuracy['low']:.1f}-{100 * accuracy['high']:.1f})"
