"""The geometry of the arms' features, where it was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from sas_jax.report import numbers
from sas_jax.report.arms import FULL, UNTRAINED, Group, mean, pooled
from sas_jax.report.markup import Markup, element, joined
from sas_jax.report.parts import accuracy, label_name, note, section, table

_TEXT = (
    "Of unit features. Alignment: the mean squared distance of two views of an image; low is good. Class centres are "
    "the means of the labelled classes: a low inner product of two says that their classes lie apart, and the nearest "
    "centre classifies the test images. Moved: how far, at most, a class's centre in the subset lies from that of all "
    "its images; a subset that stands for the whole keeps it small."
)
_HEAD = ("arm", "of", "images", "alignment", "nearest centre", "mean product", "largest product", "moved")


def geometry(groups: Sequence[Group], class_names: Sequence[str] | None) -> Markup:
    """The table of alignment, class centres and the nearest-centre classifier, on the subset and on all images.

    Args:
      groups: The arms, seeds together.
      class_names: The labels' names.
    """
    rows: list[tuple[object, ...]] = []
    for group in groups:
        found = [each for arm in group.arms if (each := arm.get("geometry"))]
        for name, of in (("subset", "its subset"), ("whole", "all images")):
            parts = [part for each in found if (part := each.get(name))]
            if parts and not (name == "subset" and group.selector in (UNTRAINED, FULL)):
                moved = mean(found, "largest_distance") if name == "subset" else None
                rows.append((group.title, of, *_part(parts, class_names), numbers.decimal(moved)))
    return section("Geometry", note(_TEXT), table(_HEAD, rows)) if rows else Markup()


def _part(parts: Sequence[Mapping[str, Any]], class_names: Sequence[str] | None) -> tuple[object, ...]:
    nearest = pooled([part.get("nearest_centre") for part in parts])
    pair = None
    if len(parts) == 1 and (closest := parts[0].get("closest_classes")):
        pair = element("small", " and ".join(label_name(label, class_names) for label in closest))
    return (
        numbers.count(mean(parts, "n")),
        numbers.decimal(mean(parts, "alignment")),
        accuracy(nearest),
        numbers.decimal(mean(parts, "mean_product")),
        joined(numbers.decimal(mean(parts, "largest_product")), pair),
    )
