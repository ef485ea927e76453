"""The protocol of image inputs: an array, or any object that can be indexed like one."""

from typing import Any, Protocol

import numpy as np


class Images(Protocol):
    """Images, uint8 [n, h, w, 3], on the host: in memory, or decoded from files on access."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, 3)."""

    @property
    def dtype(self) -> Any:
        """uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Returns uint8 [h, w, 3] for an int, [k, h, w, 3] for a slice or int [k]."""
