"""What the command prints when a run is over."""

import textwrap
from collections.abc import Mapping
from typing import Any

from sas_jax.results import differences, notes, schema, tables
from sas_jax.results.arms import PRIMARY, grouped

_WIDTH = 100


def text(results: Mapping[str, Any]) -> str:
    """The arms of a run side by side, and their differences to random subsets and all images; "" without arms.

    Args:
        results: As `collect.collect` returns them.
    """
    run = schema.partial(results)
    if not run.arms:
        return ""
    groups = grouped(run.arms, run.dataset.train_size)
    found = differences.of_run(groups)
    shown = {key: each for key, each in found.items() if key[2] in PRIMARY}
    compared = tables.differences(groups, shown, PRIMARY, accuracies=False)
    said = " ".join(notes.reading(groups, shown.values()))
    parts = [tables.arms(groups, brief=True).text(), compared.text() if compared else "", textwrap.fill(said, _WIDTH)]
    return "\n" + "\n".join(part for part in parts if part) + "\n\n"
