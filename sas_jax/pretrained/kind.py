"""The interface of a kind of pretrained networks; each `by_*.py` implements one."""

import dataclasses
from collections.abc import Callable

from sas_jax.pretrained.model import Model

FREE = 224  # image side in pixels for networks that take any size
ONLINE = "Check the name and the network, or download the model and give its folder."


@dataclasses.dataclass(frozen=True)
class Kind:
    """A library of networks.

    Attributes:
        packages: the packages that it needs.
        check: takes the name without its kind, and the field; raises InputError if there can be no such network.
        load: takes the whole name, and the name without its kind; returns the network, or raises the library's errors.
        fix: what the user should do if loading fails.
    """

    packages: tuple[str, ...]
    check: Callable[[str, str], None]
    load: Callable[[str, str], Model]
    fix: str


def torch_device() -> str:
    """Returns the device on which PyTorch computes."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
