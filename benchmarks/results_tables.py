"""From the json of `benchmarks.results` to the tables of docs/results.md: arms, seeds together, beside their rivals."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special

from benchmarks import tables
from sas_jax.report import numbers
from sas_jax.report.arms import EPOCHS, FULL, UNTRAINED, Group, Measure, grouped, order, pooled, settings

RANDOM = "random"
FEWEST_SEEDS = 3
"""Seeds that two arms must share for a difference between them to be tested."""

LEVEL = 0.05
SHORT_FRACTION = 0.2
SHORT_SELECTORS = ("sas", "facility_location", "similarity_sum", RANDOM)
SELECTORS = ("sas", "facility_location", "facility_location_self0", "similarity_sum", "file", RANDOM, "random_balanced",
             "prototypes_easy", "prototypes_hard", "k_center", "semdedup", FULL)  # fmt: skip
"""The order of rows: what the runs are about, then what it is compared with."""

TITLES = {"probe": "Linear probe", "knn": "kNN", "supervised": "Supervised: networks trained with labels"}
_FEW = "probe_few/"
_LATENT_CLASSES = {
    "kmeans": "k-means",
    "labels": "the labels",
    "few_labels": "few labels",
    "clip_zeroshot": "CLIP",
    "file": "a file",
}


@dataclasses.dataclass(frozen=True)
class Difference:
    """One arm's accuracy less another's, in [-1, 1], with its 95 % interval.

    Attributes:
      value: The mean over the seeds that both have.
      low: Of the interval: over seeds where these are enough, else of the test images.
      high: Likewise.
      seeds: How many seeds both have.
      p: Of a t test on the seeds' differences; None where they are too few.
      apart: Whether the arms' own intervals, which cover test images and seeds, do not overlap.
      sign: 1 ahead and -1 behind where that is beyond chance, else 0; `judged` sets it.
    """

    value: float
    low: float
    high: float
    seeds: int
    p: float | None
    apart: bool
    sign: int = 0

    def __str__(self) -> str:
        ends = f"{_points(self.low)} to {_points(self.high)}"
        if self.p is None:
            return f"{_points(self.value)} ({ends}; {numbers.plural(self.seeds, 'seed')})"
        return f"{_points(self.value)} ({ends}){self._verdict()}"

    def _verdict(self) -> str:
        if not (self.low > 0 or self.high < 0):
            return ""
        word = "ahead" if self.value > 0 else "behind"
        return f" ({word})" if not self.sign else f" **{word}**" if self.apart else f" {word}"

    def reversed(self) -> "Difference":
        """The other arm's accuracy less the first one's."""
        return dataclasses.replace(self, value=-self.value, low=-self.high, high=-self.low, sign=-self.sign)


def measured(group: Group, name: str) -> Measure | None:
    """A group's accuracy: "probe", "knn", "supervised", or "probe_few/0.05" for the probe on 5 % of the labels."""
    return group.few.get(name.removeprefix(_FEW)) if name.startswith(_FEW) else getattr(group, name)


def by_seed(group: Group, name: str) -> dict[int, Mapping[str, Any]]:
    """The same by seed, as results.json has it, of the seeds that have it."""
    kind, _, share = name.partition("/")
    found = {arm["seed"]: (arm.get(kind) or {}).get(share) if share else arm.get(kind) for arm in group.arms}
    return {seed: measure for seed, measure in found.items() if measure is not None}


def paired(one: Group, other: Group, name: str) -> Difference | None:
    """One group's accuracy less another's over the seeds that both have; None where they share none.

    Arms of one seed begin with the same weights and meet the same test images: their difference varies less than either
    of them. With `FEWEST_SEEDS` or more the interval is Student's t on the seeds' differences, whose spread is taken as
    no less than what rounding to whole test images gives; with fewer it is that of two independent accuracies.

    Args:
      one: A group.
      other: What it is set against.
      name: As `measured` takes it.

    Returns:
      The difference.

    Source:
      Donner & Zou, "Closed-form confidence intervals for functions of the normal mean and standard deviation" (2012):
      an interval of a difference from those of its parts.
    """
    ours, theirs = by_seed(one, name), by_seed(other, name)
    shared = sorted(ours.keys() & theirs.keys())
    a, b = pooled([ours[seed] for seed in shared]), pooled([theirs[seed] for seed in shared])
    if a is None or b is None:
        return None
    found = [mine - its for mine, its in zip(a.seeds, b.seeds, strict=True)]
    mean, apart = statistics.fmean(found), order(a, b) != 0
    if len(shared) < FEWEST_SEEDS:
        below = ((a.value - a.low) ** 2 + (b.high - b.value) ** 2) ** 0.5
        above = ((a.high - a.value) ** 2 + (b.value - b.low) ** 2) ** 0.5
        return Difference(mean, mean - below, mean + above, len(shared), None, apart)
    freedom = len(shared) - 1
    error = max(statistics.stdev(found), 1 / (6**0.5 * a.n)) / len(shared) ** 0.5
    half = float(special.stdtrit(freedom, 0.975)) * error
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, len(shared), p, apart)


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for their number by Holm's step-down method, in the order given.

    Source:
      Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = largest
    return adjusted


def judged(found: Sequence[Difference | None]) -> list[Difference | None]:
    """One table's differences, each with its sign where it is beyond chance after Holm's correction for all of them."""
    adjusted = iter(holm([each.p for each in found if each is not None and each.p is not None]))
    return [
        each
        if each is None or each.p is None or next(adjusted) >= LEVEL
        else dataclasses.replace(each, sign=1 if each.value > 0 else -1)
        for each in found
    ]


def groups_of(content: dict[str, Any]) -> list[Group]:
    """The arms of a json of `benchmarks.results`, seeds together, selectors in the order of `SELECTORS`."""
    results = content["results"]
    places = {selector: place for place, selector in enumerate((UNTRAINED, *SELECTORS))}
    found = grouped(results["arms"], results["dataset"].get("train_size"))
    return sorted(found, key=lambda group: (group.setting_place, places[group.selector], group.fraction or 0.0))


def main_setting(groups: Sequence[Group]) -> list[Group]:
    """The groups of the large tables: SimCLR with the same number of epochs, or where there is none, the first setting.

    The untrained encoder is among them.
    """
    divided = dict(settings(groups))
    return divided.get("", next(iter(divided.values())))


def measures(groups: Sequence[Group]) -> dict[str, str]:
    """The accuracies that a trained group has, with their titles."""
    trained = [group for group in groups if group.selector != UNTRAINED]
    few = {share for group in trained for share in group.few}
    names = dict(TITLES)
    supervised = names.pop("supervised")
    names |= {f"{_FEW}{share}": f"Linear probe on {_percent(float(share))} of the labels" for share in sorted(few)}
    names["supervised"] = supervised
    return {name: title for name, title in names.items() if any(measured(group, name) for group in trained)}


def run(content: dict[str, Any], image: str | None) -> str:
    """All that the page says of one run, in Markdown.

    Args:
      content: A json of `benchmarks.results`.
      image: Its plot, relative to the page; None where nothing is measured.
    """
    groups = groups_of(content)
    parts = [f"## {title(content)}", _origin(content)]
    if image is None:
        return "\n\n".join([*parts, "No arm is measured yet."])
    parts += [f"![Accuracy of the linear probe against the fraction of the images]({image})", _rule(content)]
    for name, words in measures(main_setting(groups)).items():
        parts += _section(main_setting(groups), name, words)
    others = [members for _, members in settings(groups) if members != main_setting(groups)]
    trained = [[group for group in members if group.selector != UNTRAINED] for members in others]
    steps = [members for members in trained if any(group.step_rule != EPOCHS for group in members)]
    methods = [members for members in trained if members not in steps]
    if steps:
        parts += ["### Equal steps: each arm as many as all images have in the same number of epochs", _list(steps)]
    if methods:
        parts += ["### Other methods", _list(methods)]
    if collapsed := [group.title for group in groups if any(arm.get("collapsed") for arm in group.arms)]:
        parts.append(f"Collapsed to nearly one point, in at least one seed: {', '.join(collapsed)}.")
    return "\n\n".join(parts)


def short(contents: Sequence[dict[str, Any]]) -> str:
    """The table of the README: each run at 20 %, by the linear probe."""
    head = ["", *SHORT_SELECTORS, FULL]
    rows = []
    for content in contents:
        groups = main_setting(groups_of(content))
        against_random = _against(groups, "probe", RANDOM)
        base = _find(groups, RANDOM, SHORT_FRACTION)
        row = [f"{title(content)}; {content['hardware']}, {content['date']}; {progress(content)}"]
        for selector in SHORT_SELECTORS:
            group = _find(groups, selector, SHORT_FRACTION)
            row.append(_joined(group, against_random.get((selector, SHORT_FRACTION))))
        below = None if base is None else _against(groups, "probe", FULL).get((RANDOM, SHORT_FRACTION))
        row.append(_joined(_find(groups, FULL, 1.0), below and below.reversed()))
        rows.append(row)
    return "\n\n".join(
        [
            f"Linear probe in % after contrastive training on {_percent(SHORT_FRACTION)} of the images, and below it "
            "the difference to random subsets of that size in points (95 % interval, paired by seed). ahead, behind: "
            "beyond chance after Holm's correction for all comparisons of its table; in bold also on other test "
            "images, in brackets only without the correction. No word: no difference is shown, which does not show "
            "that they are equal. Where seeds are counted they are too few for a word.",
            _table(head, rows),
        ]
    )


def title(content: dict[str, Any]) -> str:
    """What a run is called: its title and where its latent classes came from."""
    method = content["results"]["latent_classes"].get("method")
    return f"{content['title']}; latent classes from {_LATENT_CLASSES.get(method, method)}"


def progress(content: dict[str, Any]) -> str:
    """How far the run has come: "143 of 222 arms trained, 140 measured"."""
    trained = [arm for arm in content["results"]["arms"] if arm.get("selector")]
    done = sum("probe" in arm or "knn" in arm for arm in trained)
    if done == len(trained) == content["wanted"]:
        return f"all {content['wanted']} arms"
    return f"{len(trained)} of {content['wanted']} arms trained, {done} measured"


def _origin(content: dict[str, Any]) -> str:
    environment, results = content["environment"], content["results"]
    versions = environment.get("versions", {})
    named = ", ".join(f"{name} {versions[name]}" for name in ("sas_jax", "jax", "flax", "optax") if name in versions)
    dataset, latent = results["dataset"], results["latent_classes"]
    classes = f"{latent['num_classes']} latent classes from {_LATENT_CLASSES.get(latent['method'], latent['method'])}"
    if purity := (latent.get("agreement") or {}).get("purity"):
        classes += f", {numbers.percent(purity)} of the images with the most frequent label of theirs"
    return (
        f"{content['hardware']}, {content['date']}; Python {environment.get('python')}, {named}; commit "
        f"{environment.get('commit')}; `{content['command']}`. {dataset['name']}: "
        f"{numbers.count(dataset['train_size'])} training and {numbers.count(dataset['test_size'])} test images; "
        f"{classes}. **{progress(content)[:1].upper()}{progress(content)[1:]}.** What the config has otherwise than "
        f"configs/default.py, and every seed's accuracy, is in the json."
    )


def _rule(content: dict[str, Any]) -> str:
    return (
        "Accuracies are in %, mean ± half the width of the 95 % interval (number of seeds); the interval covers the "
        "choice of the test images and, with several seeds, the seeds (Student's t). Differences are in points, over "
        "the seeds that both arms have: arms of one seed begin with the same weights and meet the same "
        f"{numbers.count(content['results']['dataset']['test_size'])} test images. With {FEWEST_SEEDS} seeds or more "
        "the interval is Student's t on the seeds' differences, which is about these test images and, for a chosen "
        "subset, about this one ranking: another proxy has another one. It is that of the single comparison, whereas "
        "ahead and behind mean beyond chance (5 %) after Holm's correction for all differences of a table. Bold: "
        "moreover the two accuracies' own intervals, which cover other test images, do not overlap. In brackets: "
        "the single comparison's interval leaves 0 out, but after the correction chance is not ruled out; of twenty "
        "comparisons of equals one is expected to. No word: no difference is shown, which does not show that there "
        "is none. Where the number of seeds is given there are "
        "fewer than that: the interval is that of two independent accuracies, covers no seeds where it is one, and "
        "nothing is claimed."
    )


def _section(groups: Sequence[Group], name: str, words: str) -> list[str]:
    """An accuracy of all selectors and fractions, and the differences to random and to all images."""
    having = [group for group in groups if group.selector != UNTRAINED and measured(group, name)]
    accuracies = {
        (group.selector, group.fraction): _accuracy(group, name) for group in having if group.fraction is not None
    }
    parts = [f"### {words}", _matrix(accuracies)]
    base = next((found for group in groups if group.selector == UNTRAINED and (found := measured(group, name))), None)
    if base:
        parts.append(f"The untrained encoder reaches {base}.")
    for rival, to in ((RANDOM, "random subsets of the same size"), (FULL, "all images")):
        if differences := _against(groups, name, rival):
            cells = {place: str(each) for place, each in differences.items()}
            parts += [f"{words}: the difference to {to}.", _matrix(cells)]
    return parts


def _against(groups: Sequence[Group], name: str, rival: str) -> dict[tuple[str, float], Difference]:
    """By selector and fraction, the differences of one table: to random of the same size, or to all images."""
    mine = [
        (group, other)
        for group in groups
        if group.selector not in (UNTRAINED, FULL, rival) and group.fraction is not None
        if (other := _rival(groups, group, rival)) is not None
    ]
    found = judged([paired(group, other, name) for group, other in mine])
    return {
        (group.selector, group.fraction): each
        for (group, _), each in zip(mine, found, strict=True)
        if each is not None and group.fraction is not None
    }


def _rival(groups: Sequence[Group], group: Group, selector: str) -> Group | None:
    for other in groups:
        if other.selector == selector and (selector == FULL or other.is_as_large_as(group)):
            return other
    return None


def _find(groups: Sequence[Group], selector: str, fraction: float) -> Group | None:
    return next((group for group in groups if (group.selector, group.fraction) == (selector, fraction)), None)


def _list(settings_: Sequence[Sequence[Group]]) -> str:
    """A row for each arm of other settings: probe and kNN, beside random and all images of the same setting.

    All its differences are corrected for one another.
    """
    rows: list[list[str]] = []
    asked: list[Difference | None] = []
    names = ("probe", "knn")
    for groups in settings_:
        for group in groups:
            for name in names:
                for selector in (RANDOM, FULL):
                    rival = None if group.selector in (FULL, selector) else _rival(groups, group, selector)
                    asked.append(None if rival is None else paired(group, rival, name))
    found = iter(judged(asked))
    for groups in settings_:
        for group in groups:
            row = [group.title]
            for name in names:
                row.append(_accuracy(group, name))
                row += [numbers.NOTHING if each is None else str(each) for each in (next(found), next(found))]
            rows.append(row)
    head = [""]
    for name in names:
        head += [TITLES[name], "to random", "to full"]
    return _table(head, rows)


def _joined(group: Group | None, difference: Difference | None) -> str:
    accuracy = numbers.NOTHING if group is None else _accuracy(group, "probe")
    return accuracy if difference is None else f"{accuracy}<br>{difference}"


def _accuracy(group: Group, name: str) -> str:
    found = measured(group, name)
    if found is None:
        return numbers.NOTHING
    return f"{100 * found.value:.1f} ± {50 * (found.high - found.low):.1f} ({len(found.seeds)})"


def _matrix(cells: Mapping[tuple[str, float], str]) -> str:
    """Selectors by fractions."""
    fractions = sorted({fraction for _, fraction in cells})
    selectors = dict.fromkeys(selector for selector, _ in cells)
    rows = [[each, *(cells.get((each, fraction), numbers.NOTHING) for fraction in fractions)] for each in selectors]
    return _table(["", *map(_percent, fractions)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return tables.markdown(lines)


def _percent(share: float) -> str:
    return numbers.fraction(share)


def _points(difference: float) -> str:
    return numbers.points(round(difference, 3) + 0.0)  # no minus before a zero
