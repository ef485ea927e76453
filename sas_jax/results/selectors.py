"""The table of selectors as shown to readers: their display order, styles in plots, and descriptions.

A new selector needs one line here.
"""

import dataclasses
import enum


class Role(enum.Enum):
    """The role of an arm in a comparison."""

    UNTRAINED = enum.auto()
    CHOSEN = enum.auto()  # the subject of a run
    BASELINE = enum.auto()
    WHOLE = enum.auto()  # all images


@dataclasses.dataclass(frozen=True)
class Selector:
    """One way to choose images.

    Attributes:
        name: The name in arms.
        style: The style of its lines and points: a colour "s0" to "s8", optionally with "dashed".
        about: What it chooses, in words.
        role: The role of its arms in a comparison.
        rival: Its description as the reference of a comparison; "" if others are not compared with it.
        is_listed: Whether its subset is a list made elsewhere, so that its fraction is that of the listed images.
    """

    name: str
    style: str
    about: str
    role: Role = Role.CHOSEN
    rival: str = ""
    is_listed: bool = False


_TABLE = (
    Selector("untrained", "s0", "the encoder before training", Role.UNTRAINED),
    Selector("sas", "s1", "images most similar to those left out (Algorithm 1 of the paper)"),
    Selector("facility_location", "s5", "images that together represent all others best"),
    Selector("facility_location_self0", "s5 dashed", "facility_location in which no image represents itself"),
    Selector("similarity_sum", "s6", "images most similar to all others"),
    Selector("file", "s8 dashed", "a list of images from a file", is_listed=True),
    Selector("random", "s2", "random images", Role.BASELINE, rival="random subsets of the same size"),
    Selector("random_balanced", "s4", "random images within each latent class", Role.BASELINE),
    Selector("prototypes_easy", "s7", "images nearest to their class's mean", Role.BASELINE),
    Selector("prototypes_hard", "s7 dashed", "images farthest from their class's mean", Role.BASELINE),
    Selector("k_center", "s8", "images chosen so that every image is near one of them", Role.BASELINE),
    Selector("semdedup", "s4 dashed", "the least redundant images of each class", Role.BASELINE),
    Selector("full", "s3", "all images", Role.WHOLE, rival="all images"),
)
SELECTORS = {selector.name: selector for selector in _TABLE}
RIVALS = tuple(selector for selector in _TABLE if selector.rival)
_PLACES = {name: at for at, name in enumerate(SELECTORS)}


def named(name: str) -> Selector:
    """Returns a selector by name; an unknown one has the role CHOSEN and comes last."""
    return SELECTORS.get(name) or Selector(name, "s8", "")


def place(name: str) -> int:
    """Returns the position of a selector in display order."""
    return _PLACES.get(name, len(_PLACES))
