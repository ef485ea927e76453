"""The selectors by name: the ways in which an arm can choose its images. For their looks, see results/selectors.py."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from sas_jax.selection import baselines
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.ranking import Ranking


@dataclasses.dataclass(frozen=True)
class Selector:
    """A way to choose images, given by exactly one of the first four attributes.

    Attributes:
        objective: ranks by greedy maximisation of this objective (see `sas_jax.rank`).
        baseline: (embeddings [n, d], classes [n], ids=) -> Ranking; uses the embeddings, but no objective on
            their similarity.
        draw: (key, classes [n]) -> Ranking, a different one for each seed.
        everything: takes all images, or all that a list names.
        self_similarity: replaces the configured one of an objective.
        partitioned: whether it uses the latent classes.
    """

    objective: str = ""
    baseline: Callable[..., Ranking] | None = None
    draw: Callable[[jax.Array, np.ndarray], Ranking] | None = None
    everything: bool = False
    self_similarity: float | None = None
    partitioned: bool = True

    @property
    def is_ranked(self) -> bool:
        """Whether a run ranks all images with it once, for all seeds and fractions."""
        return bool(self.objective) or self.baseline is not None


LISTED, FULL = "file", "full"  # the images of a list made elsewhere; all images

SELECTORS: dict[str, Selector] = {
    **{name: Selector(objective=name) for name in OBJECTIVES},
    "facility_location_self0": Selector(objective="facility_location", self_similarity=0.0),
    "random": Selector(draw=lambda key, classes: baselines.random(key, len(classes)), partitioned=False),
    "random_balanced": Selector(draw=baselines.random_balanced),
    "prototypes_easy": Selector(baseline=baselines.prototypes),
    "prototypes_hard": Selector(baseline=functools.partial(baselines.prototypes, hard=True)),
    "k_center": Selector(baseline=baselines.k_center),
    "semdedup": Selector(baseline=baselines.semdedup),
    LISTED: Selector(everything=True, partitioned=False),
    FULL: Selector(everything=True, partitioned=False),
}
