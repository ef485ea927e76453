"""Differences between arms, paired by seed, and the one rule for claiming them.

The command's table, the reports, README and docs all show the results of `of_run` and `between`.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from scipy import special

from sas_jax.results import numbers, selectors
from sas_jax.results.arms import EPOCHS, PRIMARY, Group, Kind, apart, main_setting, pooled, settings, titles
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.selectors import Role

FEWEST_SEEDS = 3
"""The number of seeds that two arms must share before their difference is tested."""

LEVEL = 0.05
LEGEND = (
    f"Ahead and behind mark differences beyond chance (p < {LEVEL} after Holm's correction for multiple comparisons). "
    "In bold, the arms' own intervals, which cover other test images, do not overlap either. In brackets, the "
    "difference is beyond chance only without the correction. No word means that no difference was shown, not that "
    "the arms are equal. Differences given with their number of seeds have too few seeds for a test."
)


@dataclasses.dataclass(frozen=True)
class Difference:
    """One arm's accuracy minus another's, in [-1, 1], with its 95 % interval.

    Attributes:
        value: The mean over the shared seeds.
        low: The lower end of the interval: over seeds if there are enough, else of the test images.
        high: The upper end.
        seeds: The number of shared seeds.
        p: The p value of a t test on the seeds' differences; None if there are too few.
        apart: Whether the arms' own intervals, which cover test images and seeds, do not overlap.
        sign: 1 if significantly ahead, -1 if significantly behind, else 0; set by `judged`.
    """

    value: float
    low: float
    high: float
    seeds: int
    p: float | None
    apart: bool
    sign: int = 0

    def __str__(self) -> str:
        return f"{_points(self.value)} ({self._interval}){self.verdict and f' {self.verdict}'}"

    @property
    def _interval(self) -> str:
        seeds = f"; {numbers.plural(self.seeds, 'seed')}" if self.p is None else ""
        return f"{_points(self.low)} to {_points(self.high)}{seeds}"

    @property
    def verdict(self) -> str:
        """The claim: "ahead" or "behind", in brackets if only without Holm's correction; "" for no claim."""
        if self.p is None or not (self.low > 0 or self.high < 0):
            return ""
        word = "ahead" if self.value > 0 else "behind"
        return word if self.sign else f"({word})"

    @property
    def is_bold(self) -> bool:
        return bool(self.sign) and self.apart

    def markdown(self) -> str:
        return str(self).replace(self.verdict, f"**{self.verdict}**") if self.is_bold else str(self)

    text = markdown

    def html(self) -> Markup:
        verdict = element("b" if self.is_bold else "span", self.verdict) if self.verdict else None
        lines = f"({self._interval})".replace("; ", ";\n").split("\n")  # keeps the column narrow
        small = joined(*(joined(" ", element("small", line)) for line in lines))
        return joined(_points(self.value), small, " ", verdict)

    def reversed(self) -> "Difference":
        """Returns the other arm's accuracy minus the first one's."""
        return dataclasses.replace(self, value=-self.value, low=-self.high, high=-self.low, sign=-self.sign)


Differences = Mapping[tuple[Kind, str, str], Difference]
"""Differences by the group's kind, the rival's name, and the accuracy's name."""


def paired(one: Group, other: Group, name: str) -> Difference | None:
    """Returns one group's accuracy minus another's over their shared seeds; None if they share none.

    Arms of one seed start from the same weights and share the test images, so their difference varies less than either
    accuracy. With `FEWEST_SEEDS` or more, the interval is Student's t on the seeds' differences, whose standard
    deviation is taken to be at least that of rounding to whole test images. With fewer, the interval is that of two
    independent accuracies.

    Args:
        one: A group.
        other: The group to compare it with.
        name: The accuracy's name.

    Returns:
        The difference, whose sign `judged` has yet to set.

    Source:
        Donner & Zou, "Closed-form confidence intervals for functions of the normal mean and standard deviation" (2012):
        the interval of a difference from those of its parts.
    """
    ours, theirs = one.by_seed(name), other.by_seed(name)
    shared = sorted(ours.keys() & theirs.keys())
    a, b = pooled([ours[seed] for seed in shared]), pooled([theirs[seed] for seed in shared])
    if a is None or b is None:
        return None
    found = [mine - its for mine, its in zip(a.seeds, b.seeds, strict=True)]
    mean, are_apart = statistics.fmean(found), apart(a, b)
    if len(shared) < FEWEST_SEEDS:
        below = ((a.value - a.low) ** 2 + (b.high - b.value) ** 2) ** 0.5
        above = ((a.high - a.value) ** 2 + (b.value - b.low) ** 2) ** 0.5
        return Difference(mean, mean - below, mean + above, len(shared), None, are_apart)
    freedom = len(shared) - 1
    error = max(statistics.stdev(found), 1 / (6**0.5 * max(a.n, 1))) / len(shared) ** 0.5
    half = float(special.stdtrit(freedom, 0.975)) * error
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, len(shared), p, are_apart)


def holm(values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for their number by Holm's step-down method, in the order given.

    Source:
        Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = largest
    return adjusted


def judged(found: Sequence[Difference | None]) -> list[Difference | None]:
    """Returns a table's differences, with signs for those significant after Holm's correction for all of them."""
    adjusted = iter(holm([each.p for each in found if each is not None and each.p is not None]))
    return [
        each
        if each is None or each.p is None or next(adjusted) >= LEVEL
        else dataclasses.replace(each, sign=1 if each.value > 0 else -1)
        for each in found
    ]


def of_run(groups: Sequence[Group]) -> dict[tuple[Kind, str, str], Difference]:
    """Returns the differences of a run's arms from random subsets of their size, and from all images.

    Those of the main setting are corrected together if they share the accuracy and the rival. Those of other step
    rules, in the primary accuracies, are corrected together, and likewise those of other methods.

    Args:
        groups: The arms of a run, grouped over seeds.
    """
    main = main_setting(groups)
    found: dict[tuple[Kind, str, str], Difference] = {}
    for name in titles(main):
        for rival in selectors.RIVALS:
            found |= _family([(group, rival.name, name, main) for group in main])
    others = [members for members in settings(groups).values() if members != main]
    steps = [members for members in others if any(group.kind.step_rule != EPOCHS for group in members)]
    for listed in (steps, [members for members in others if members not in steps]):
        found |= _family(
            [
                (group, rival.name, name, members)
                for members in listed
                for group in members
                for name in PRIMARY
                for rival in selectors.RIVALS
            ]
        )
    return found


def between(runs: Sequence[Sequence[Group]]) -> dict[tuple[Kind, str, int], Difference]:
    """Returns the differences of runs' arms from the same arms of the first run that has them, corrected together.

    Args:
        runs: The groups of each run, measured on the same test images.

    Returns:
        The differences by kind, accuracy and index of the run.
    """
    keys, found = [], []
    for kind in dict.fromkeys(group.kind for groups in runs for group in groups):
        having = [(at, group) for at, groups in enumerate(runs) for group in groups if group.kind == kind]
        for name in dict.fromkeys(name for _, group in having for name in group.measures):
            (_, first), *rest = [(at, group) for at, group in having if name in group.measures]
            keys += [(kind, name, at) for at, _ in rest]
            found += [paired(group, first, name) for _, group in rest]
    return {key: each for key, each in zip(keys, judged(found), strict=True) if each is not None}


def _family(asked: Sequence[tuple[Group, str, str, Sequence[Group]]]) -> dict[tuple[Kind, str, str], Difference]:
    """Returns differences that are corrected together, for entries of (group, rival, accuracy, other groups)."""
    keys, found = [], []
    for group, rival, name, others in asked:
        if (other := _rival(group, rival, others)) is not None:
            keys.append((group.kind, rival, name))
            found.append(paired(group, other, name))
    return {key: each for key, each in zip(keys, judged(found), strict=True) if each is not None}


def _rival(group: Group, name: str, others: Sequence[Group]) -> Group | None:
    """Returns the rival of a group: of its size, or trained on all images; preferably of its partition."""
    if group.kind.role in (Role.UNTRAINED, Role.WHOLE) or group.kind.selector == name:
        return None
    found = [
        other
        for other in others
        if other.kind.selector == name and (other.kind.role == Role.WHOLE or other.is_as_large_as(group))
    ]
    found.sort(key=lambda other: other.kind.partition != group.kind.partition)
    return found[0] if found else None


def _points(difference: float) -> str:
    return numbers.points(numbers.rounded(difference, 3))
