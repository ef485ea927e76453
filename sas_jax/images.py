"""What the rooms take for images: an array, or whatever can be indexed like one."""

from typing import Any, Protocol

import numpy as np


class Images(Protocol):
    """uint8 [n, h, w, 3] on the host: in memory, or in files that are decoded when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, 3)."""

    @property
    def dtype(self) -> Any:
        """uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """An int, a slice or int [k] -> uint8 [h, w, 3] or [k, h, w, 3]."""
