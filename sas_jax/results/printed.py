"""The text that the command prints at the end of a run."""

import textwrap
from collections.abc import Mapping
from typing import Any

from sas_jax.results import differences, notes, schema, tables
from sas_jax.results.arms import PRIMARY, grouped

_WIDTH = 100


def text(results: Mapping[str, Any]) -> str:
    """Returns the tables of a run's arms and of their differences from random subsets and all images; "" without arms.

    Args:
        results: As returned by `collect.collect`.
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
