"""Arms whose accuracies a test sets."""

from collections.abc import Callable
from typing import Any

import pytest

from sas_jax.results.arms import Group, grouped
from sas_jax.results.schema import Accuracy, Arm


@pytest.fixture(scope="session")
def make_arm() -> Callable[..., Arm]:
    """Returns `make_arm(selector, fraction, probe, seed, n, **fields)`; its interval is from -3 to +2 points."""

    def make(selector="sas", fraction=0.2, probe=None, seed=0, n=1000, **fields: Any) -> Arm:
        accuracy = None
        if probe is not None:
            accuracy = Accuracy(value=probe, low=max(0, probe - 0.03), high=min(1, probe + 0.02), n=n)
        size = round(1437 * fraction) if fraction else 0
        given = {"name": f"{selector}-{fraction}-s{seed}", "size": size, "steps": size // 10, "probe": accuracy}
        return Arm(selector=selector, fraction=fraction, seed=seed, **(given | fields))

    return make


@pytest.fixture(scope="session")
def make_group(make_arm) -> Callable[..., Group]:
    """Returns `make_group({seed: probe}, **arguments of make_arm)`."""

    def make(values: dict[int, float], **fields: Any) -> Group:
        return grouped([make_arm(probe=value, seed=seed, **fields) for seed, value in values.items()])[0]

    return make
