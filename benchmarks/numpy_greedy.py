"""Greedy selection in NumPy: the incremental form, the exact value of picks, and their replay.

The incremental form takes only 15 lines, so it is one of the compared implementations: when a pick raises the coverage
c_i of example i by r_i, the gain of j falls by clip(s_ij - c_i, 0, r_i), which is 0 if r_i is 0. Blocks of 32 changed
rows were the fastest of 8, 32, 64 and single rows.
"""

from collections.abc import Callable, Iterator

import numpy as np

Rows = Callable[[np.ndarray], np.ndarray]
"""Maps indices int [k] to similarities float32 [k, n], a copy."""

_BLOCK = 32


class FacilityLocation:
    """The gains of facility location given the picks, float64 [n]."""

    def __init__(self, rows: Rows, n: int):
        self.rows, self.coverage = rows, np.zeros(n, np.float32)
        self.gains = np.zeros(n)
        for start in range(0, n, 256):
            self.gains += rows(np.arange(start, min(start + 256, n))).sum(0, dtype=np.float64)

    def pick(self, e: int) -> None:
        rise = np.maximum(self.rows(np.array([e]))[0] - self.coverage, 0)
        changed = np.flatnonzero(rise)
        for start in range(0, len(changed), _BLOCK):
            i = changed[start : start + _BLOCK]
            fall = self.rows(i)
            fall -= self.coverage[i, None]
            np.clip(fall, 0, rise[i, None], out=fall)
            self.gains -= fall.sum(0, dtype=np.float64)
        self.coverage += rise


class Sas:
    """The gains of SAS given the picks, float64 [n]: the similarity to all others, minus twice that to the picks."""

    def __init__(self, rows: Rows, n: int):
        self.rows, self.gains = rows, np.zeros(n)
        for start in range(0, n, 256):
            indices = np.arange(start, min(start + 256, n))
            block = rows(indices)
            block[np.arange(len(indices)), indices] = 0
            self.gains += block.sum(0, dtype=np.float64)

    def pick(self, e: int) -> None:
        self.gains -= 2 * self.rows(np.array([e]))[0]


OBJECTIVES: dict[str, type[FacilityLocation] | type[Sas]] = {"facility_location": FacilityLocation, "sas": Sas}


def greedy(objective: str, rows: Rows, n: int, budget: int) -> np.ndarray:
    """Returns the picks, int64 [budget]; ties go to the lowest index."""
    function = OBJECTIVES[objective](rows, n)
    picks = np.empty(budget, np.int64)
    for step in range(budget):
        picks[step] = e = int(function.gains.argmax())
        function.pick(e)
        function.gains[e] = -np.inf
    return picks


def shortfall(objective: str, rows: Rows, n: int, picks: np.ndarray) -> float:
    """Returns the largest shortfall of a pick's gain from the best candidate's, divided by the largest first gain."""
    function = OBJECTIVES[objective](rows, n)
    worst, largest = 0.0, function.gains.max()
    for e in picks:
        worst = max(worst, function.gains.max() - function.gains[e])  # inf if e was picked before
        function.pick(e)
        function.gains[e] = -np.inf
    return float(worst / largest)


def value(objective: str, rows: Rows, n: int, picks: np.ndarray) -> float:
    """Returns the objective's value of the picks, summed in float64 from its definition."""
    picked = np.zeros(n, bool)
    picked[picks] = True
    total = 0.0
    for indices in _blocks(n if objective == "facility_location" else np.flatnonzero(~picked)):
        to_picked = rows(indices)[:, picks]
        best = to_picked.max(axis=1) if objective == "facility_location" else to_picked
        total += best.sum(dtype=np.float64)
    return float(total)


def _blocks(indices: np.ndarray | int) -> Iterator[np.ndarray]:
    indices = np.arange(indices) if isinstance(indices, int) else indices
    for start in range(0, len(indices), 256):
        yield indices[start : start + 256]
