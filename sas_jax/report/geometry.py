"""The geometry of the arms' features, if it was measured."""

from collections.abc import Sequence

from sas_jax.report.parts import label_name, note, section
from sas_jax.results import numbers
from sas_jax.results.arms import Group, mean, pooled
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.schema import GeometryPart
from sas_jax.results.selectors import Role
from sas_jax.results.tables import Table, Value

_TEXT = (
    "Measured on unit-length features. Alignment is the mean squared distance between two views of an image; lower is "
    "better. Class centres are the means of the labelled classes: a low inner product of two centres means that their "
    "classes are far apart, and the nearest centre classifies the test images. Moved is the largest distance between "
    "a class's centre in the subset and its centre in all images; it is small for a representative subset."
)
_HEAD = ("arm", "measured on", "images", "alignment", "nearest centre", "mean product", "largest product", "moved")


def geometry(groups: Sequence[Group], class_names: Sequence[str] | None) -> Markup:
    """Returns the table of alignment, class centres and the nearest-centre classifier, on the subset and on all images.

    Args:
        groups: The arms, grouped over seeds.
        class_names: The labels' names.
    """
    rows: list[list[Value]] = []
    for group in groups:
        found = [arm.geometry for arm in group.arms if arm.geometry]
        subsets = [each.subset for each in found if each.subset]
        wholes = [each.whole for each in found if each.whole]
        if subsets and group.kind.role not in (Role.UNTRAINED, Role.WHOLE):
            moved = numbers.decimal(mean(each.largest_distance for each in found))
            rows.append([group.title, "its subset", *_part(subsets, class_names), moved])
        if wholes:
            rows.append([group.title, "all images", *_part(wholes, class_names), numbers.NOTHING])
    return section("Geometry", note(_TEXT), Table(_HEAD, rows).html("arms")) if rows else Markup()


def _part(parts: Sequence[GeometryPart], class_names: Sequence[str] | None) -> list[Value]:
    pair = None
    if len(parts) == 1 and (closest := parts[0].closest_classes):
        pair = element("small", " and ".join(label_name(label, class_names) for label in closest))
    return [
        numbers.count(mean(part.n for part in parts)),
        numbers.decimal(mean(part.alignment for part in parts)),
        pooled([part.nearest_centre for part in parts]),
        numbers.decimal(mean(part.mean_product for part in parts)),
        joined(numbers.decimal(mean(part.largest_product for part in parts)), pair),
    ]
