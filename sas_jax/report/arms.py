"""Arms as they are compared: seeds together, accuracies with intervals, and the rule for claiming a difference."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special

from sas_jax.report import numbers

UNTRAINED = "untrained"
SIMCLR, EPOCHS = "simclr", "epochs"
METHOD_NAMES = {"byol": "BYOL", "simsiam": "SimSiam", "moco": "MoCo"}
FULL = "full"
FILE = "file"  # the subset is listed in a file that was made elsewhere
BASELINES = ("random", "random_balanced", FULL)


@dataclasses.dataclass(frozen=True)
class Measure:
    """An accuracy over the seeds of an arm, with its 95 % interval; all shares in [0, 1]."""

    value: float
    low: float
    high: float
    n: int  # test images
    seeds: tuple[float, ...]  # the single values

    def __str__(self) -> str:
        return numbers.interval(self.value, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Group:
    """The arms that differ only in their seed."""

    selector: str
    fraction: float | None
    method: str  # the contrastive method that trained them
    step_rule: str  # "epochs", or "steps": as many as all images have
    arms: tuple[Mapping[str, Any], ...]
    probe: Measure | None
    knn: Measure | None
    coarse: Measure | None = None  # the probe, of coarse classes
    supervised: Measure | None = None  # a network trained with labels on the same images
    few: Mapping[str, Measure] = dataclasses.field(default_factory=dict)  # probes by the fraction of labels they saw

    @property
    def title(self) -> str:
        whole = self.selector in (UNTRAINED, FULL) or self.fraction is None
        at = "" if whole else f" at {numbers.fraction(self.fraction)}"
        return f"{self.selector}{at}{self.setting and f' ({self.setting})'}"

    @property
    def setting(self) -> str:
        """How it was trained, in words; "" for SimCLR with the same number of epochs, which needs none."""
        words = [] if self.method == SIMCLR else [METHOD_NAMES.get(self.method, self.method)]
        return ", ".join(words + ([] if self.step_rule == EPOCHS else ["equal steps"]))

    @property
    def kind(self) -> tuple[str, float | None, str, str]:
        """What tells it from the other groups of a run."""
        return self.selector, self.fraction, self.method, self.step_rule

    @property
    def setting_place(self) -> tuple[bool, str, bool]:
        """The order of settings: SimCLR first, the same number of epochs first."""
        return self.method != SIMCLR, self.method, self.step_rule != EPOCHS

    @property
    def chosen(self) -> bool:
        """Whether a ranking chose its images: what the run is about, not what it is compared with."""
        return self.selector != UNTRAINED and self.selector not in BASELINES

    def is_as_large_as(self, other: "Group") -> bool:
        """Whether both have the same fraction of the images, or the same number (a file's fraction is not round)."""
        size = self.mean("size")
        return self.fraction == other.fraction or (size is not None and size == other.mean("size"))

    def mean(self, field: str) -> float | None:
        """The mean of a number over the seeds that have it; None where none does."""
        return mean(self.arms, field)


def mean(records: Sequence[Mapping[str, Any]], field: str) -> float | None:
    """The mean of a number over the records that have it; None where none does."""
    values = [record[field] for record in records if numbers.known(record.get(field))]
    return statistics.fmean(values) if values else None


def pooled(measures: Sequence[Mapping[str, Any] | None]) -> Measure | None:
    """One accuracy and interval from an arm's seeds.

    All seeds meet the same test images, so their test-set error does not average out: the half-widths of the single
    intervals are averaged, and the seeds' own uncertainty (Student's t on their mean) is added in quadrature.

    Args:
      measures: An accuracy's dict for each seed, or None where it was not measured.

    Returns:
      The measure, or None where no seed has one.
    """
    found = [measure for measure in measures if measure is not None and numbers.known(measure.get("value"))]
    if not found:
        return None
    values = tuple(float(measure["value"]) for measure in found)
    value = statistics.fmean(values)
    below = statistics.fmean(measure["value"] - measure["low"] for measure in found)
    above = statistics.fmean(measure["high"] - measure["value"] for measure in found)
    spread = 0.0
    if len(values) > 1:
        error = statistics.stdev(values) / len(values) ** 0.5
        spread = float(special.stdtrit(len(values) - 1, 0.975)) * error
    return Measure(
        value=value,
        low=max(0.0, value - (below**2 + spread**2) ** 0.5),
        high=min(1.0, value + (above**2 + spread**2) ** 0.5),
        n=int(found[0]["n"]),
        seeds=values,
    )


def grouped(arms: Sequence[Mapping[str, Any]], n: int | None = None) -> list[Group]:
    """Puts the seeds of an arm together: untrained first, then by fraction, chosen subsets before their baselines.

    Args:
      arms: The rows of `results.json`.
      n: The number of training images, of which a listed subset is a fraction.
    """
    together: dict[tuple[str, float | None, str, str], list[Mapping[str, Any]]] = {}
    for arm in arms:
        selector, share = arm.get("selector") or UNTRAINED, arm.get("fraction")
        if selector == FILE:
            share = arm["size"] / n if arm.get("size") and n else None
        kind = selector, share, arm.get("method") or SIMCLR, arm.get("step_rule") or EPOCHS
        together.setdefault(kind, []).append(arm)
    groups = [
        Group(
            selector=selector,
            fraction=share,
            method=method,
            step_rule=step_rule,
            arms=tuple(members),
            probe=pooled([arm.get("probe") for arm in members]),
            knn=pooled([arm.get("knn") for arm in members]),
            coarse=pooled([arm.get("probe_coarse") for arm in members]),
            supervised=pooled([arm.get("supervised") for arm in members]),
            few=_few(members),
        )
        for (selector, share, method, step_rule), members in together.items()
    ]
    return sorted(
        groups,
        key=lambda g: (g.selector != UNTRAINED, g.setting_place, g.fraction or 0.0, not g.chosen, g.selector),
    )


def settings(groups: Sequence[Group]) -> list[tuple[str, list[Group]]]:
    """The groups that can be set against each other: trained by one method under one step rule.

    With equal steps, all images are those of the same number of epochs: theirs is the number of steps.

    Returns:
      For each setting its words, and its groups in their order; the untrained encoder is in all. One where nothing
      was trained.
    """
    trained = [group for group in groups if group.selector != UNTRAINED]
    first: dict[str, Group] = {}  # of each setting
    for group in trained:
        first.setdefault(group.setting, group)

    def belongs(group: Group, to: Group) -> bool:
        same_rule = group.step_rule == to.step_rule or group.selector == FULL
        return group.selector == UNTRAINED or (group.method == to.method and same_rule)

    found = [(name, [group for group in groups if belongs(group, to)]) for name, to in first.items()]
    return found or [("", list(groups))]


def _few(members: Sequence[Mapping[str, Any]]) -> dict[str, Measure]:
    """The probes that saw few labels, by fraction, fewest first."""
    found = [arm.get("probe_few") or {} for arm in members]
    shares = sorted({share for each in found for share in each}, key=float)
    return {share: measure for share in shares if (measure := pooled([each.get(share) for each in found])) is not None}


def named(groups: Sequence[Group]) -> str:
    """Several groups in words, each selector once: sas at 5 %, 20 %; full."""
    together: dict[str, list[Group]] = {}
    for group in groups:
        together.setdefault(group.selector, []).append(group)
    parts = [
        ", ".join([members[0].title, *(numbers.fraction(member.fraction) for member in members[1:])])
        for members in together.values()
    ]
    return ("; " if any(", " in part for part in parts) else ", ").join(parts)


def order(one: Measure, other: Measure) -> int:
    """1 where `one` is above `other` and their intervals do not overlap, -1 where it is below, 0 where they do."""
    return int(one.low > other.high) - int(one.high < other.low)


def relative(one: Measure, other: Measure) -> tuple[float, float, float] | None:
    """One accuracy as a share of another, with its 95 % interval, as if they had been measured on different images.

    They were measured on the same, so the true interval is narrower.

    Args:
      one: The accuracy of a subset's encoder.
      other: That of all images' encoder.

    Returns:
      The ratio, the interval's low and high end; None where the other's interval reaches down to 0, or up to twice it.

    Source:
      Donner & Zou, "Closed-form confidence intervals for functions of the normal mean and standard deviation" (2012):
      an interval of a ratio from those of its parts.
    """
    a, b = one.value, other.value
    if not (other.low > 0 and other.high < 2 * b):
        return None

    def end(mine: float, its: float, sign: int) -> float:
        root = max(0.0, (a * b) ** 2 - mine * its * (2 * a - mine) * (2 * b - its)) ** 0.5
        return (a * b + sign * root) / (its * (2 * b - its))

    return a / b, max(0.0, end(one.low, other.high, -1)), end(one.high, other.low, 1)
