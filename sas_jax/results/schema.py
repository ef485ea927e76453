"""results.json as frozen dataclasses. Fields that files of earlier versions lack have their defaults."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sas_jax import typed
from sas_jax.typed import Anything, ByNumber, Count, Finite, Number, Share, Text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A share of `n` test images, with its 95 % interval."""

    value: Share
    low: Share
    high: Share
    n: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometryPart:
    """The geometry of the features of some images."""

    n: Count | None = None
    alignment: Number | None = None
    mean_product: Number | None = None
    largest_product: Number | None = None
    closest_classes: tuple[Count, ...] | None = None
    nearest_centre: Accuracy | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
    """The geometry of an arm's features, on all images and on its subset."""

    whole: GeometryPart | None = None
    subset: GeometryPart | None = None
    largest_distance: Number | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One training run; or the untrained encoder, which has neither images nor steps."""

    name: Text
    selector: Text = "untrained"
    fraction: Number | None = None
    seed: Count = 0
    method: Text = "simclr"
    step_rule: Text = "epochs"
    partition: Text = ""  # of the latent classes that the selector used; "" for those of config.latent_classes
    size: Count | None = None
    epochs: Number | None = None
    steps: Number | None = None
    loss: Number | None = None
    spread: Number | None = None
    collapsed: Anything = None
    train_seconds: Number | None = None
    views_per_second: Number | None = None
    probe: Accuracy | None = None
    knn: Accuracy | None = None
    probe_few: dict[ByNumber, Accuracy] = dataclasses.field(default_factory=dict)  # by the fraction of the labels
    probe_coarse: Accuracy | None = None
    supervised: Accuracy | None = None
    geometry: Geometry | None = None

    def accuracy(self, name: str) -> Accuracy | None:
        """Returns an accuracy by its name: "probe", "knn", "probe_few/0.05", ..."""
        field, _, share = name.partition("/")
        found = getattr(self, field)
        return found.get(share) if share else found


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewLabels:
    """How latent classes were made from a few labels."""

    num_labelled: Count | None = None
    l2: Number | None = None
    accuracy: Number | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """How the number of latent classes was chosen."""

    decided: Anything = None
    tried: tuple[Count, ...] = ()
    silhouettes: tuple[Finite, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    name: Text | None = None
    train_size: Count | None = None
    test_size: Count | None = None
    num_classes: Count | None = None
    not_evaluated: Text | None = None
    skipped: tuple[Text, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentClasses:
    method: Text | None = None
    embeddings: Text | None = None
    num_classes: Count | None = None
    sizes: tuple[Count, ...] = ()
    agreement: dict[str, Anything] = dataclasses.field(default_factory=dict)
    few_labels: FewLabels | None = None
    chosen: Chosen | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    objective: Text | None = None
    similarity: Text | None = None
    turning_fraction: Number | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    wall_seconds: Finite | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """A run's results.json."""

    dataset: Dataset
    latent_classes: LatentClasses
    selection: Selection
    stages: dict[str, Stage]
    arms: tuple[Arm, ...]


def read(content: Any, place: str = "") -> Results:
    """Reads the results of a run from the content of its results.json.

    Args:
        content: The parsed JSON.
        place: The name of the content in error messages.

    Raises:
        ValueError: A value is invalid; names the first one, such as "arms[2].probe.low is not a number from 0 to 1".
    """
    return typed.build(Results, content, place)


def partial(content: Mapping[str, Any]) -> Results:
    """Reads the results of a run that may have stopped early; missing sections are empty."""
    sections: dict[str, Any] = {"dataset": {}, "latent_classes": {}, "selection": {}, "stages": {}, "arms": []}
    return read(sections | dict(content))
