"""The answer in words. A difference is claimed only where two 95 % intervals do not overlap."""

from collections.abc import Sequence

from sas_jax.report import numbers
from sas_jax.report.arms import FILE, FULL, UNTRAINED, Group, Measure, named, order, relative, settings

MEASURES = {"probe": "linear probe", "knn": "kNN"}


def measure_name(groups: Sequence[Group]) -> str | None:
    """The accuracy that the words are about: the linear probe where it was made, else kNN, else None."""
    trained = [group for group in groups if group.selector != UNTRAINED]
    for name in MEASURES:
        if any(getattr(group, name) for group in trained):
            return name
    return None


def answers(groups: Sequence[Group]) -> list[str]:
    """The sentences that open the report: each chosen subset beside its rivals.

    Args:
      groups: The arms, seeds together.

    Returns:
      Sentences, the most important first; empty where nothing was measured. Where there are several methods or step
      rules, those of each by itself.
    """
    divided = settings(groups)
    if len(divided) < 2:
        return _answers(groups)
    return [
        f"{name[:1].upper()}{name[1:]}: {sentence}" if name else sentence
        for name, members in divided
        for sentence in _answers(members)
    ]


def _answers(groups: Sequence[Group]) -> list[str]:
    """Of arms trained by one method under one step rule."""
    name = measure_name(groups)
    if name is None:
        return []
    measured = [(group, measure) for group in groups if (measure := getattr(group, name)) is not None]
    trained = [(group, measure) for group, measure in measured if group.selector != UNTRAINED]
    chosen = [(group, measure) for group, measure in trained if group.chosen]
    full = next(((group, measure) for group, measure in trained if group.selector == FULL), None)
    matches = [(group, measure, _rivals(group, trained)) for group, measure in chosen]
    sentences = _over_fractions(matches)
    if full:
        sentences += _kept(matches, full)
    for group, measure, rivals in matches:
        if rivals and full and len(matches) == 1:
            reached = [f"{one.title} reaches {found}" for one, found in ((group, measure), *rivals)]
            sentences.append(f"In accuracy: {', '.join(reached)}.")
        elif rivals:
            beside = ", ".join(f"{rival.title} {found}" for rival, found in rivals)
            sentences.append(f"{group.title} reaches {measure}, {beside}: {_verdict(group, measure, rivals)}")
        else:
            sentences.append(f"{group.title} reaches {measure}; no random subset of its size was trained beside it.")
    if not chosen:
        sentences.extend(f"{group.title} reaches {measure}." for group, measure in trained if group.selector != FULL)
    if full:
        sentences.append(_against_full(full, chosen))
    sentences.append(_against_untrained(measured))
    sentences += _supervised(groups)
    return sentences


def _rivals(group: Group, others: Sequence[tuple[Group, Measure]]) -> list[tuple[Group, Measure]]:
    """What a chosen subset is compared with: baselines of its size."""
    return [
        (rival, found)
        for rival, found in others
        if not rival.chosen and rival.selector not in (FULL, UNTRAINED) and rival.is_as_large_as(group)
    ]


def _kept(
    matches: Sequence[tuple[Group, Measure, list[tuple[Group, Measure]]]], full: tuple[Group, Measure]
) -> list[str]:
    """How much of the accuracy of all images each subset reaches."""
    size = full[0].mean("size")
    whole = f"all {numbers.count(size)} images" if size else "all images"

    def share(measure: Measure) -> str | None:
        found = relative(measure, full[1])
        return numbers.interval(*found) if found else None

    if len(matches) == 1:
        ((group, measure, rivals),) = matches
        reached = share(measure)
        if reached is None or group.fraction is None:
            return []
        by = "those listed in a file" if group.selector == FILE else f"chosen by {group.selector}"
        beside = "".join(f"; {rival.selector} reaches {share(found)}" for rival, found in rivals)
        verdict = f": {_verdict(group, measure, rivals)}" if rivals else "."
        return [f"{_sized(group)}, {by}, reach {reached} of the accuracy of {whole}{beside}{verdict}"]
    by_selector: dict[str, list[str]] = {}
    for group, measure in (*((g, m) for g, m, _ in matches), *(pair for *_, rivals in matches for pair in rivals)):
        if (reached := share(measure)) is not None and group.fraction is not None:
            told = by_selector.setdefault(group.selector, [])
            if (text := f"{reached} at {numbers.fraction(group.fraction)}") not in told:
                told.append(text)
    if not by_selector:
        return []
    parts = "; ".join(f"{selector} reaches {', '.join(told)}" for selector, told in by_selector.items())
    return [f"Of the accuracy of {whole}, {parts}."]


def _sized(group: Group) -> str:
    return f"{numbers.fraction(group.fraction)} of the images"


def _supervised(groups: Sequence[Group]) -> list[str]:
    """What networks trained with labels reach on the same subsets: the paper's second claim is about it."""
    measured = [(group, found) for group in groups if (found := group.supervised) is not None]
    if not measured:
        return []
    matches = [(group, found, _rivals(group, measured)) for group, found in measured if group.chosen]
    if told := _over_fractions(matches):
        return [f"Networks trained with labels on the same images: {' '.join(told)}"]
    reached = ", ".join(f"{group.title} {found}" for group, found in measured)
    verdicts = [f" {group.title}: {_verdict(group, found, rivals)}" for group, found, rivals in matches if rivals]
    return [f"Networks trained with labels on the same images reach: {reached}.{''.join(verdicts)}"]


def _over_fractions(chosen: Sequence[tuple[Group, Measure, list[tuple[Group, Measure]]]]) -> list[str]:
    """For a selector with several fractions, at which of them it differs from each rival."""
    signs: dict[tuple[str, str], dict[int, list[Group]]] = {}
    for group, measure, rivals in chosen:
        for rival, found in rivals:
            by_sign = signs.setdefault((group.selector, rival.selector), {1: [], -1: [], 0: []})
            by_sign[order(measure, found)].append(group)
    sentences = []
    for (selector, rival_selector), by_sign in signs.items():
        if sum(map(len, by_sign.values())) > 1:
            parts = [
                f"{phrase} at {', '.join(numbers.fraction(group.fraction) for group in by_sign[sign])}"
                for sign, phrase in ((1, "ahead"), (-1, "behind"), (0, "no difference can be claimed"))
                if by_sign[sign]
            ]
            sentences.append(f"{selector} against {rival_selector} of the same size: {'; '.join(parts)}.")
    return sentences


def _verdict(group: Group, measure: Measure, rivals: Sequence[tuple[Group, Measure]]) -> str:
    parts = []
    for sign, place in ((1, "ahead of"), (-1, "behind")):
        names = [rival.selector for rival, found in rivals if order(measure, found) == sign]
        if names:
            parts.append(f"{group.selector} is {place} {' and '.join(names)}, and the intervals do not overlap")
    alike = [(rival, found) for rival, found in rivals if order(measure, found) == 0]
    if alike:
        to = f" to {' and '.join(rival.selector for rival, _ in alike)}" if parts else ""
        parts.append(f"no difference{to} can be claimed from {_evidence(measure, alike[0][1])}")
    return "; ".join(parts) + "."


def _evidence(one: Measure, other: Measure) -> str:
    seeds = min(len(one.seeds), len(other.seeds))
    test = f"one test set of {numbers.plural(one.n, 'image')}"
    return test if seeds < 2 else f"{test} and {seeds} seeds"


def _against_full(full: tuple[Group, Measure], chosen: Sequence[tuple[Group, Measure]]) -> str:
    group, measure = full
    size = group.mean("size")
    sentence = f"{FULL} (all {numbers.count(size)} images) reaches {measure}" if size else f"{FULL} reaches {measure}"
    return _placed(sentence, [(one, order(found, measure)) for one, found in chosen])


def _against_untrained(measured: Sequence[tuple[Group, Measure]]) -> str:
    base = next((measure for group, measure in measured if group.selector == UNTRAINED), None)
    if base is None:
        return "The untrained encoder was not measured, so what training added cannot be told."
    return _placed(
        f"The untrained encoder, measured in the same way, reaches {base}",
        [(group, order(measure, base)) for group, measure in measured if group.selector != UNTRAINED],
    )


def _placed(sentence: str, others: Sequence[tuple[Group, int]]) -> str:
    """The sentence, and after it the others by where their intervals lie: above, below, or not to be told apart."""
    text = f"{sentence}."
    for sign, phrase in (
        (1, "Above it, with intervals apart: "),
        (-1, "Below it, with intervals apart: "),
        (0, "No difference to it can be claimed for "),
    ):
        groups = [group for group, found in others if found == sign]
        if groups:
            text += f" {phrase}{named(groups)}."
    return text


def caveats(groups: Sequence[Group], latent_method: str | None) -> list[str]:
    """What a reader must know to weigh the answer: the rule, what the intervals cover, what was not held equal.

    Args:
      groups: The arms, seeds together.
      latent_method: Where the latent classes came from.

    Returns:
      Sentences.
    """
    name = measure_name(groups)
    sentences = []
    if name is not None:
        sentences.append(
            f"Accuracies are those of the {MEASURES[name]} on frozen features. A difference is claimed only where two "
            "95 % intervals do not overlap. This rule is cautious, and overlap does not show that two arms are equal."
        )
        trained = [group for group in groups if group.selector != UNTRAINED]
        seeds = {len(group.arms) for group in trained}
        if seeds == {1}:
            sentences.append(
                "Each arm was trained once: the intervals cover the choice of test images, not what another seed would "
                "change."
            )
        elif 1 in seeds:
            sentences.append(
                "The intervals cover the choice of test images, and the seeds where an arm has several; an arm with "
                "one seed may differ by more than its interval shows."
            )
        else:
            sentences.append("The intervals cover the choice of test images and the spread over seeds (Student's t).")
    steps = [value for group in groups if group.selector != UNTRAINED and (value := group.mean("steps"))]
    if steps and max(steps) > 1.05 * min(steps):
        sentences.append(
            f"The arms did not take equally many steps ({numbers.count(min(steps))} to {numbers.count(max(steps))}): "
            "between sizes, the amount of data and the length of training differ together."
        )
    collapsed = [group.title for group in groups if any(arm.get("collapsed") for arm in group.arms)]
    if collapsed:
        sentences.append(
            f"The outputs of {', '.join(collapsed)} collapsed to nearly one point, in at least one seed: such an "
            "encoder has learned little, whatever its images."
        )
    if latent_method == "labels":
        sentences.append("The latent classes are the labels themselves: an analysis, since the method must do without.")
    return sentences
