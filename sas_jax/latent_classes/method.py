"""The interface of latent-class methods, and their inputs."""

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
    """The n images to partition; see `sas_jax.data.Split`."""

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
    """Facts about a data set, known before its images are read.

    Attributes:
        name: the name of the data set.
        n: number of images.
        num_labelled: number of labelled images.
        load: reads the data set.
    """

    name: str
    n: int
    num_labelled: int
    load: Callable[[], Dataset]


@dataclasses.dataclass(frozen=True)
class Given:
    """The inputs of a method.

    Attributes:
        dataset: the data set whose training images are partitioned.
        own: returns the run's own embeddings, float32 [n, d].
        workdir: caches the embeddings of pretrained networks.
        log: takes progress messages.
    """

    dataset: Dataset
    own: Callable[[], np.ndarray]
    workdir: Workdir
    log: Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Fingerprints of everything that classes may depend on.

    Attributes:
        images: the fingerprint of the images.
        embeddings: the fingerprint of the run's own embeddings.
        seed: config.seed.
        file, folder: return the fingerprint of a path.
        given: returns the fingerprint of a file of embeddings, or of the images' features from a pretrained network.
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
        facts: additional facts for results.json.
    """

    classes: np.ndarray
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method:
    """A method to make latent classes. Each function takes config.latent_classes.

    Attributes:
        fields: the fields of config.latent_classes that the classes depend on.
        check: raises InputError if the config does not fit the data set, before anything is computed.
        inputs: returns what the classes depend on, to be hashed: each of `fields`, and the contents it refers to.
        make: makes the classes, with a typed PRNG key.
        needs: the one of `fields` that must not be empty; "" if all may be.
        clusters: whether the classes are clusters of embeddings, without labels or names.
        together: whether all processes make the classes, in one program; otherwise only process 0 does.
    """

    fields: tuple[str, ...]
    check: Callable[[ConfigDict, Known], None]
    inputs: Callable[[Mapping[str, Any], Inputs], tuple[Any, ...]]
    make: Callable[[jax.Array, ConfigDict, Given], Made]
    needs: str = ""
    clusters: bool = False
    together: bool = False


def checked(classes: np.ndarray, n: int, source: str) -> np.ndarray:
    """Returns external classes as int32 [n], at least 0; raises InputError unless there is one per example."""
    if classes.shape != (n,):
        found = f"{classes.shape[0]}" if classes.ndim == 1 else f"an array of shape {list(classes.shape)}"
        raise InputError(
            f"The latent classes of {source} must be one for each of the {n} examples, got {found}. Make them for this "
            f"data set and split, in its order."
        )
    return arrays.classes(f"The latent classes of {source}", classes)[0]
