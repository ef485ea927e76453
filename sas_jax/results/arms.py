"""Arms as they are compared: the seeds of an arm put together, their accuracies pooled with 95 % intervals."""

import dataclasses
import functools
import statistics
from collections.abc import Iterable, Sequence

from scipy import special

from sas_jax.results import numbers, selectors
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.schema import Accuracy, Arm
from sas_jax.results.selectors import Role, Selector

SIMCLR, EPOCHS = Arm(name="").method, Arm(name="").step_rule  # what needs no word in a title
_METHODS = {"byol": "BYOL", "simsiam": "SimSiam", "moco": "MoCo"}

FEW = "probe_few/"
MEASURES = {
    "probe": "Linear probe",
    "knn": "kNN",
    FEW: "Linear probe on {} of the labels",
    "probe_coarse": "Linear probe on coarse classes",
    "supervised": "Supervised: networks trained with labels",
}
"""An arm's accuracies and their titles, in the order of display."""

PRIMARY = ("probe", "knn")
"""The accuracies of every arm that was evaluated."""


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

    def text(self) -> str:
        return f"{100 * self.value:.1f} ({100 * self.low:.1f}-{100 * self.high:.1f})"

    def markdown(self) -> str:
        return f"{100 * self.value:.1f} ± {50 * (self.high - self.low):.1f} ({len(self.seeds)})"

    def html(self) -> Markup:
        single = f"seeds {numbers.span(min(self.seeds), max(self.seeds))}" if len(self.seeds) > 1 else None
        return joined(
            numbers.percent(self.value),
            element("small", numbers.span(self.low, self.high)),
            element("small", single) if single else None,
        )


@dataclasses.dataclass(frozen=True)
class Kind:
    """What tells groups of arms apart."""

    selector: str
    partition: str  # of the latent classes that the selector looked at
    fraction: float | None
    method: str  # the contrastive method that trained them
    step_rule: str  # "epochs", or "steps": as many as all images have

    @property
    def title(self) -> str:
        whole = self.role in (Role.UNTRAINED, Role.WHOLE) or self.fraction is None
        at = "" if whole else f" at {numbers.fraction(self.fraction)}"
        return f"{self.who}{at}{self.setting and f' ({self.setting})'}"

    @property
    def who(self) -> str:
        """The selector, and where it has one of several the partition that it looked at."""
        return f"{self.selector} in {self.partition}" if self.partition else self.selector

    @property
    def role(self) -> Role:
        return selectors.named(self.selector).role

    @property
    def setting(self) -> str:
        """How it was trained, in words; "" for SimCLR with the same number of epochs, which needs none."""
        words = [] if self.method == SIMCLR else [_METHODS.get(self.method, self.method)]
        return ", ".join(words + ([] if self.step_rule == EPOCHS else ["equal steps"]))

    @property
    def place(self) -> tuple[object, ...]:
        """The order of display: untrained first, then by setting, selector, partition and fraction."""
        setting = self.method != SIMCLR, self.method, self.step_rule != EPOCHS
        return (
            self.role != Role.UNTRAINED,
            setting,
            selectors.place(self.selector),
            self.selector,
            self.partition,
            self.fraction or 0.0,
        )


@dataclasses.dataclass(frozen=True)
class Group:
    """The arms that differ only in their seed."""

    kind: Kind
    arms: tuple[Arm, ...]

    @property
    def title(self) -> str:
        return self.kind.title

    @property
    def selector(self) -> Selector:
        return selectors.named(self.kind.selector)

    @property
    def fraction(self) -> float | None:
        return self.kind.fraction

    @property
    def is_trained(self) -> bool:
        return self.kind.role != Role.UNTRAINED

    @property
    def chosen(self) -> bool:
        """Whether it is what the run is about, not what that is compared with."""
        return self.kind.role == Role.CHOSEN

    @functools.cached_property
    def measures(self) -> dict[str, Measure]:
        """Its accuracies by name, "probe_few/0.05" among them, in the order of display."""
        few = sorted({share for arm in self.arms for share in arm.probe_few}, key=float)
        names = [each for name in MEASURES for each in ([name + share for share in few] if name == FEW else [name])]
        found = {name: pooled([arm.accuracy(name) for arm in self.arms]) for name in names}
        return {name: measure for name, measure in found.items() if measure is not None}

    def by_seed(self, name: str) -> dict[int, Accuracy]:
        """An accuracy by seed, of the seeds that have it."""
        return {arm.seed: found for arm in self.arms if (found := arm.accuracy(name)) is not None}

    def mean(self, field: str) -> float | None:
        """The mean of a number over the seeds that have it; None where none does."""
        return mean(getattr(arm, field) for arm in self.arms)

    def is_as_large_as(self, other: "Group") -> bool:
        """Whether both have the same fraction of the images, or the same number (a list's fraction is not round)."""
        size = self.mean("size")
        return self.fraction == other.fraction or (size is not None and size == other.mean("size"))


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers that are known; None where none is."""
    found = [value for value in values if value is not None and numbers.known(value)]
    return statistics.fmean(found) if found else None


def pooled(measures: Sequence[Accuracy | None]) -> Measure | None:
    """One accuracy and interval from an arm's seeds.

    All seeds meet the same test images, so their test-set error does not average out: the half-widths of the single
    intervals are averaged, and the seeds' own uncertainty (Student's t on their mean) is added in quadrature.

    Args:
        measures: An accuracy for each seed, or None where it was not measured.

    Returns:
        The measure, or None where no seed has one.
    """
    found = [measure for measure in measures if measure is not None]
    if not found:
        return None
    values = tuple(float(measure.value) for measure in found)
    value = statistics.fmean(values)
    below = statistics.fmean(measure.value - measure.low for measure in found)
    above = statistics.fmean(measure.high - measure.value for measure in found)
    spread = 0.0
    if len(values) > 1:
        error = statistics.stdev(values) / len(values) ** 0.5
        spread = float(special.stdtrit(len(values) - 1, 0.975)) * error
    return Measure(
        value=value,
        low=max(0.0, value - (below**2 + spread**2) ** 0.5),
        high=min(1.0, value + (above**2 + spread**2) ** 0.5),
        n=found[0].n,
        seeds=values,
    )


def grouped(arms: Sequence[Arm], n: int | None = None) -> list[Group]:
    """Puts the seeds of an arm together, in the order of display.

    Args:
        arms: Of a run's results.
        n: The number of training images, of which a listed subset is a fraction.
    """
    together: dict[Kind, list[Arm]] = {}
    for arm in arms:
        share = arm.fraction
        if selectors.named(arm.selector).is_listed:
            share = arm.size / n if arm.size and n else None
        together.setdefault(Kind(arm.selector, arm.partition, share, arm.method, arm.step_rule), []).append(arm)
    return [Group(kind, tuple(together[kind])) for kind in sorted(together, key=lambda kind: kind.place)]


def settings(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups that can be set against each other: trained by one method under one step rule.

    With equal steps, all images are those of the same number of epochs: theirs is the number of steps.

    Returns:
        By the setting's words, its groups in their order; the untrained encoder is in all. One where nothing was
        trained.
    """
    first: dict[str, Group] = {}  # of each setting
    for group in groups:
        if group.is_trained:
            first.setdefault(group.kind.setting, group)

    def belongs(kind: Kind, to: Kind) -> bool:
        same_rule = kind.step_rule == to.step_rule or kind.role == Role.WHOLE
        return kind.role == Role.UNTRAINED or (kind.method == to.method and same_rule)

    found = {name: [each for each in groups if belongs(each.kind, to.kind)] for name, to in first.items()}
    return found or {"": list(groups)}


def main_setting(groups: Sequence[Group]) -> list[Group]:
    """The groups of SimCLR with the same number of epochs; where there are none, those of the first setting."""
    divided = settings(groups)
    return divided.get("", next(iter(divided.values())))


def titles(groups: Sequence[Group]) -> dict[str, str]:
    """The accuracies that some of the groups have, by name, with their titles, in the order of display."""
    names = {name for group in groups for name in group.measures}
    few = sorted((name for name in names if name.startswith(FEW)), key=lambda name: float(name.removeprefix(FEW)))
    found: dict[str, str] = {}
    for name, title in MEASURES.items():
        if name == FEW:
            found |= {each: title.format(numbers.fraction(float(each.removeprefix(FEW)))) for each in few}
        elif name in names:
            found[name] = title
    return found


def named(groups: Sequence[Group]) -> str:
    """Several groups in words, each selector once: sas at 5 %, 20 %; full."""
    together: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        together.setdefault((group.kind.who, group.kind.setting), []).append(group)
    parts = [
        ", ".join([members[0].title, *(numbers.fraction(member.fraction) for member in members[1:])])
        for members in together.values()
    ]
    return ("; " if any(", " in part for part in parts) else ", ").join(parts)


def apart(one: Measure, other: Measure) -> bool:
    """Whether the two intervals do not overlap."""
    return one.low > other.high or one.high < other.low
