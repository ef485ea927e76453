"""Fixed sentences shown with tables of arms: what the intervals cover, and what was not held equal."""

from collections.abc import Iterable, Sequence

from sas_jax.results import latent_classes, numbers
from sas_jax.results.arms import Group
from sas_jax.results.differences import FEWEST_SEEDS, LEGEND, Difference


def reading(groups: Sequence[Group], found: Iterable[Difference]) -> list[str]:
    """Returns what a reader must know about the accuracies and differences of a table.

    Args:
        groups: The arms, grouped over seeds.
        found: The differences that the table shows.
    """
    trained = [group for group in groups if group.is_trained]
    measured = [measure for group in groups for measure in group.measures.values()]
    if not measured:
        return []
    tests = numbers.plural(max(measure.n for measure in measured), "test image")
    sentences = [f"Accuracies are in %, with 95 % intervals from the {tests} and the seeds (Student's t)."]
    if all(len(group.arms) == 1 for group in trained):
        sentences = [
            f"Accuracies are in %, with 95 % intervals from the {tests}. Each arm has one seed, which cannot show that "
            f"arms differ, because accuracies also vary between seeds. Give each arm {FEWEST_SEEDS} seeds or more."
        ]
    elif any(len(group.arms) < FEWEST_SEEDS for group in trained):
        sentences.append(
            f"Intervals of arms with fewer than {FEWEST_SEEDS} seeds may be too narrow, so their differences are not "
            f"tested."
        )
    if differences := list(found):
        sentences.append("Differences are in percentage points, paired by seed, with 95 % intervals.")
        if any(each.p is not None for each in differences):
            sentences.append(LEGEND)
    return sentences


def unequal(groups: Sequence[Group], latent_method: str | None) -> list[str]:
    """Returns caveats: unequal numbers of steps, collapsed outputs, and latent classes that are the labels.

    Args:
        groups: The arms, grouped over seeds.
        latent_method: The method of the latent classes.
    """
    sentences = []
    steps = [value for group in groups if group.is_trained and (value := group.mean("steps"))]
    if steps and max(steps) > 1.05 * min(steps):
        sentences.append(
            f"The arms were trained for different numbers of steps ({numbers.count(min(steps))} to "
            f"{numbers.count(max(steps))}): subsets of different sizes differ in the amount of data and also in the "
            "length of training."
        )
    if collapsed := [group.title for group in groups if any(arm.collapsed for arm in group.arms)]:
        sentences.append(
            f"The outputs of {', '.join(collapsed)} collapsed to nearly one point in at least one seed. A collapsed "
            "encoder has learned little, regardless of its images."
        )
    if latent_classes.named(latent_method).labels:
        sentences.append(
            "The latent classes are the labels themselves. This run is an analysis, because the method itself must not "
            "use labels."
        )
    return sentences
