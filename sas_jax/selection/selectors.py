"""The selectors by name: all that an arm of a comparison may choose its images with. Its look is in results/."""

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
    """How images are chosen: by exactly one of the first four attributes.

    Attributes:
        objective: ranks by greedy maximisation of this objective (see `sas_jax.rank`).
        baseline: (embeddings [n, d], classes [n], ids=) -> Ranking; looks at the embeddings, and not at their
            similarity.
        draw: (key, classes [n]) -> Ranking, another one for each seed.
        everything: takes every image that there is, or that a list names.
        self_similarity: for an objective, in place of the configured one.
        partitioned: whether it looks at the latent classes.
    """

    objective: str = ""
    baseline: Callable[..., Ranking] | None = None
    draw: Callable[[jax.Array, np.ndarray], Ranking] | None = None
    everything: bool = False
    self_similarity: float | None = None
    partitioned: bool = True

    @property
    def is_ranked(self) -> bool:
        """Whether a run ranks all images by it once, for all seeds and fractions."""
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
