"""Groups the arms that differ only in their seed, and pools their accuracies with 95 % intervals."""

import dataclasses
import functools
import statistics
from collections.abc import Iterable, Sequence

from scipy import special

from sas_jax.results import numbers, selectors
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.schema import Accuracy, Arm
from sas_jax.results.selectors import Role, Selector

SIMCLR, EPOCHS = Arm(name="").method, Arm(name="").step_rule  # the defaults, which titles omit
_METHODS = {"byol": "BYOL", "simsiam": "SimSiam", "moco": "MoCo"}

FEW = "probe_few/"
MEASURES = {
    "probe": "Linear probe",
    "knn": "kNN",
    FEW: "Linear probe on {} of the labels",
    "probe_coarse": "Linear probe on coarse classes",
    "supervised": "Supervised: networks trained with labels",
}
"""An arm's accuracies and their titles, in display order."""

PRIMARY = ("probe", "knn")
"""The accuracies that every evaluated arm has."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """An accuracy pooled over the seeds of an arm, with its 95 % interval; all values are shares in [0, 1]."""

    value: float
    low: float
    high: float
    n: int  # test images
    seeds: tuple[float, ...]  # the value of each seed

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
    """The settings that identify a group of arms."""

    selector: str
    partition: str  # of the latent classes that the selector used
    fraction: float | None
    method: str  # the contrastive method that trained them
    step_rule: str  # "epochs", or "steps": as many steps as with all images

    @property
    def title(self) -> str:
        whole = self.role in (Role.UNTRAINED, Role.WHOLE) or self.fraction is None
        at = "" if whole else f" at {numbers.fraction(self.fraction)}"
        return f"{self.who}{at}{self.setting and f' ({self.setting})'}"

    @property
    def who(self) -> str:
        """The selector, with its partition if it is not the run's own."""
        return f"{self.selector} in {self.partition}" if self.partition else self.selector

    @property
    def role(self) -> Role:
        return selectors.named(self.selector).role

    @property
    def setting(self) -> str:
        """The method and step rule in words; "" for the defaults, SimCLR with equal epochs."""
        words = [] if self.method == SIMCLR else [_METHODS.get(self.method, self.method)]
        return ", ".join(words + ([] if self.step_rule == EPOCHS else ["equal steps"]))

    @property
    def place(self) -> tuple[object, ...]:
        """The sort key for display: untrained first, then by setting, selector, partition and fraction."""
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
        """Whether the group is the subject of the run, not a reference for comparison."""
        return self.kind.role == Role.CHOSEN

    @functools.cached_property
    def measures(self) -> dict[str, Measure]:
        """The accuracies by name, such as "probe_few/0.05", in display order."""
        few = sorted({share for arm in self.arms for share in arm.probe_few}, key=float)
        names = [each for name in MEASURES for each in ([name + share for share in few] if name == FEW else [name])]
        found = {name: pooled([arm.accuracy(name) for arm in self.arms]) for name in names}
        return {name: measure for name, measure in found.items() if measure is not None}

    def by_seed(self, name: str) -> dict[int, Accuracy]:
        """Returns an accuracy by seed, for the seeds that have it."""
        return {arm.seed: found for arm in self.arms if (found := arm.accuracy(name)) is not None}

    def mean(self, field: str) -> float | None:
        """Returns the mean of a field over the seeds that have it; None if none has it."""
        return mean(getattr(arm, field) for arm in self.arms)

    def is_as_large_as(self, other: "Group") -> bool:
        """Returns whether both have the same fraction or number of images (a list's fraction is not round)."""
        size = self.mean("size")
        return self.fraction == other.fraction or (size is not None and size == other.mean("size"))


def mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the finite numbers; None if there are none."""
    found = [value for value in values if value is not None and numbers.known(value)]
    return statistics.fmean(found) if found else None


def pooled(measures: Sequence[Accuracy | None]) -> Measure | None:
    """Pools the accuracies of an arm's seeds into one accuracy with an interval.

    All seeds share the same test images, so their test-set error does not average out: the half-widths of the seeds'
    intervals are averaged, and the uncertainty over seeds (Student's t on their mean) is added in quadrature.

    Args:
        measures: An accuracy for each seed, or None if it was not measured.

    Returns:
        The measure, or None if no seed has one.
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
    """Groups the arms that differ only in their seed, in display order.

    Args:
        arms: The arms of a run's results.
        n: The number of training images, from which the fraction of a listed subset is computed.
    """
    together: dict[Kind, list[Arm]] = {}
    for arm in arms:
        share = arm.fraction
        if selectors.named(arm.selector).is_listed:
            share = arm.size / n if arm.size and n else None
        together.setdefault(Kind(arm.selector, arm.partition, share, arm.method, arm.step_rule), []).append(arm)
    return [Group(kind, tuple(together[kind])) for kind in sorted(together, key=lambda kind: kind.place)]


def settings(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Divides the groups into comparable ones: trained by one method with one step rule.

    Settings with equal steps include the groups trained on all images for equal epochs, which have the same number of
    steps.

    Returns:
        The groups of each setting in their order, by the setting's words. Each includes the untrained encoder. If
        nothing was trained, all groups are in one setting.
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
    """Returns the groups of SimCLR with equal epochs or, if there are none, those of the first setting."""
    divided = settings(groups)
    return divided.get("", next(iter(divided.values())))


def titles(groups: Sequence[Group]) -> dict[str, str]:
    """Returns the titles, by name and in display order, of the accuracies that any of the groups has."""
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
    """Lists several groups in words, naming each selector once: sas at 5 %, 20 %; full."""
    together: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        together.setdefault((group.kind.who, group.kind.setting), []).append(group)
    parts = [
        ", ".join([members[0].title, *(numbers.fraction(member.fraction) for member in members[1:])])
        for members in together.values()
    ]
    return ("; " if any(", " in part for part in parts) else ", ").join(parts)


def apart(one: Measure, other: Measure) -> bool:
    """Returns whether the two intervals do not overlap."""
    return one.low > other.high or one.high < other.low
