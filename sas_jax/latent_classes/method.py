"""What a latent-class method is, and what it is given."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from sas_jax import arrays
from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.workdir import Workdir


class Split(Protocol):
    """The images that are partitioned, n of them; see `sas_jax.data.Split`."""

    @property
    def images(self) -> Images: ...
    @property
    def labels(self) -> np.ndarray | None: ...
    @property
    def ids(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def fingerprint(self) -> str: ...


class Dataset(Protocol):
    """See `sas_jax.data.Dataset`."""

    @property
    def train(self) -> Split: ...
    @property
    def class_names(self) -> Sequence[str] | None: ...


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a data set before its images are read.

    Attributes:
        name: of the data set.
        n: images.
        num_labelled: how many of them have a label.
        load: reads the data set.
    """

    name: str
    n: int
    num_labelled: int
    load: Callable[[], Dataset]


@dataclasses.dataclass(frozen=True)
class Given:
    """What classes are made from.

    Attributes:
        dataset: its training images are partitioned.
        own: gives the run's embeddings, float32 [n, d].
        workdir: keeps the embeddings of pretrained networks.
        log: is told what is done.
    """

    dataset: Dataset
    own: Callable[[], np.ndarray]
    workdir: Workdir
    log: Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Fingerprints of what classes may depend on.

    Attributes:
        images: of the images.
        embeddings: of the run's embeddings.
        seed: config.seed.
        file, folder: of a path.
        given: of a file of embeddings, or of the images' features by a pretrained network.
    """

    images: str
    embeddings: str
    seed: int
    file: Callable[[str], str]
    folder: Callable[[str], str]
    given: Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Made:
    """Latent classes.

    Attributes:
        classes: int32 [n], at least 0.
        facts: what was found on the way, for results.json.
    """

    classes: np.ndarray
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to make latent classes. Each function is given config.latent_classes.

    Attributes:
        fields: of config.latent_classes that the classes depend on.
        check: finds what does not fit the data set, before anything is computed.
        inputs: what the classes depend on, to be hashed: every one of `fields`, and what lies behind it.
        make: makes the classes, with a typed PRNG key.
        needs: the one of `fields` that must not be empty; "" where all may.
        clusters: whether the classes are clusters of embeddings, without labels or names.
        together: of several processes all make the classes, in one program; else the first one does.
    """

    fields: tuple[str, ...]
    check: Callable[[ConfigDict, Known], None]
    inputs: Callable[[Mapping[str, Any], Inputs], tuple[Any, ...]]
    make: Callable[[jax.Array, ConfigDict, Given], Made]
    needs: str = ""
    clusters: bool = False
    together: bool = False


def checked(classes: np.ndarray, n: int, source: str) -> np.ndarray:
    """Classes made elsewhere as int32 [n], at least 0; InputError where they are not one for each of n examples."""
    if classes.shape != (n,):
        found = f"{classes.shape[0]}" if classes.ndim == 1 else f"an array of shape {list(classes.shape)}"
        raise InputError(
            f"The latent classes of {source} must be one for each of the {n} examples, got {found}. Make them for this "
            f"data set and split, in its order."
        )
    return arrays.classes(f"The latent classes of {source}", classes)[0]
