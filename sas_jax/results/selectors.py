"""The one table of selectors as readers meet them: their order, their look in every plot, and what they are.

A new selector needs one line here.
"""

import dataclasses
import enum


class Role(enum.Enum):
    """What an arm is to a comparison."""

    UNTRAINED = enum.auto()
    CHOSEN = enum.auto()  # what a run is about
    BASELINE = enum.auto()
    WHOLE = enum.auto()  # all images


@dataclasses.dataclass(frozen=True)
class Selector:
    """One way to choose images.

    Attributes:
        name: As arms carry it.
        style: Of its lines and points: a colour "s0" to "s8", perhaps "dashed".
        about: What it chooses, in words.
        role: In a comparison.
        rival: What it is called where others are compared with it; "" where they are not.
        is_listed: Its subset is a list that was made elsewhere, so its fraction is that of the images listed.
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
    Selector("file", "s8 dashed", "a list of images made elsewhere", is_listed=True),
    Selector("random", "s2", "random images", Role.BASELINE, rival="random subsets of the same size"),
    Selector("random_balanced", "s4", "random images of each latent class, in proportion", Role.BASELINE),
    Selector("prototypes_easy", "s7", "images nearest to their class's mean", Role.BASELINE),
    Selector("prototypes_hard", "s7 dashed", "images farthest from their class's mean", Role.BASELINE),
    Selector("k_center", "s8", "images that leave no other far from all of them", Role.BASELINE),
    Selector("semdedup", "s4 dashed", "images that are least like another one of their class", Role.BASELINE),
    Selector("full", "s3", "all images", Role.WHOLE, rival="all images"),
)
SELECTORS = {selector.name: selector for selector in _TABLE}
RIVALS = tuple(selector for selector in _TABLE if selector.rival)
_PLACES = {name: at for at, name in enumerate(SELECTORS)}


def named(name: str) -> Selector:
    """A selector by name; one that the table does not know is a chosen one, and comes last."""
    return SELECTORS.get(name) or Selector(name, "s8", "")


def place(name: str) -> int:
    """Where a selector stands in the order of display."""
    return _PLACES.get(name, len(_PLACES))
