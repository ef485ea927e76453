"""What a kind of pretrained networks is; each `by_*.py` has one."""

import dataclasses
from collections.abc import Callable

from sas_jax.pretrained.model import Model

FREE = 224  # pixels a side, where a network takes any size
ONLINE = "Check the name and the network, or download the model and give its folder."


@dataclasses.dataclass(frozen=True)
class Kind:
    """A library of networks.

    Attributes:
        packages: that it needs.
        check: raises InputError of (the name less its kind, the field) where it cannot be a network.
        load: makes a network of (the whole name, the name less its kind); raises whatever the library does.
        fix: what to do where it cannot be loaded.
    """

    packages: tuple[str, ...]
    check: Callable[[str, str], None]
    load: Callable[[str, str], Model]
    fix: str


def torch_device() -> str:
    """Where PyTorch computes."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
