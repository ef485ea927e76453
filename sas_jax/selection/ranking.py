"""A ranking: the order in which a selector picks each class's examples, from which every subset is a prefix."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sas_jax.errors import InputError
from sas_jax.selection import budgets, ranking_files


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """The order in which the examples of each latent class are picked.

    Attributes:
      position: int32 [n], the example's place in its class's order, 0 first; -1 where it was not ranked.
      gain: float32 [n], the marginal gain when it was picked; nan where it was not ranked, or by a selector without.
      classes: int32 [n], the latent class.
      ids: str [n], the names of the examples in their data set; None where they have none but the index.
      metadata: of JSON's types: "objective", "kind" (of the similarity), "parameters", "versions" and "fingerprint"
        (of what was ranked, see `fingerprint`), as far as the selector has them.
    """

    position: np.ndarray
    gain: np.ndarray
    classes: np.ndarray
    ids: np.ndarray | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "position", np.asarray(self.position, np.int32))
        object.__setattr__(self, "gain", np.asarray(self.gain, np.float32))
        object.__setattr__(self, "classes", np.asarray(self.classes, np.int32))
        if self.ids is not None:
            object.__setattr__(self, "ids", np.asarray(self.ids, str))
        for name in ("gain", "classes", "ids"):
            values = getattr(self, name)
            if values is not None and values.shape != self.position.shape:
                raise InputError(
                    f"A ranking has one entry an example in each of its columns, and position has "
                    f"{list(self.position.shape)} and {name} {list(values.shape)}."
                )

    def __len__(self) -> int:
        return len(self.position)

    def subset(
        self, *, fraction: float | None = None, size: int | None = None, rounding: str = "nearest"
    ) -> np.ndarray:
        """The examples to keep: a prefix of each class's ranking, the classes in proportion (see budgets.py).

        Args:
          fraction: in (0, 1]: round(fraction n) examples. Or give the size.
          size: how many examples, from 1 to the number ranked.
          rounding: "nearest", or, with a fraction, "floor": floor(fraction |V_k|) of each class, as the authors' code
            does.

        Returns:
          int64 [k], ascending indices. Every smaller subset of the same rounding lies in every larger one.

        Raises:
          InputError: neither or both given, out of range, or beyond what was ranked.
        """
        if (fraction is None) == (size is None):
            raise InputError("A subset has either a fraction= or a size=; give one of the two.")
        if rounding not in ("nearest", "floor"):
            raise InputError(f'rounding is "nearest" or "floor", and this is {rounding!r}.')
        if size is not None:
            if rounding == "floor":
                raise InputError('rounding="floor" is for a fraction; a size is exact, so leave the rounding out.')
            return budgets.take(self.position, self.classes, size)
        assert fraction is not None
        budgets.check_fraction(fraction)
        if rounding == "floor":
            return budgets.take_floor(self.position, self.classes, fraction)
        return budgets.take(self.position, self.classes, round(fraction * len(self)))

    @property
    def turning_points(self) -> dict[int, int | None]:
        """By class, the first position whose gain is below 0: beyond it, picking makes the objective smaller.

        A class ranked to its end without one turns at its end; None where the ranking stops before.
        """
        labels, places, sizes = np.unique(self.classes, return_inverse=True, return_counts=True)
        ranked = np.bincount(places[self.position >= 0], minlength=len(labels))
        points, negative = sizes.copy(), self.gain < 0
        np.minimum.at(points, places[negative], self.position[negative])
        known = (points < sizes) | (ranked == sizes)
        return {
            int(label): int(point) if sure else None for label, point, sure in zip(labels, points, known, strict=True)
        }

    @property
    def turning_fraction(self) -> float | None:
        """The fraction of all examples that stand before their class's turning point; None where one is not known."""
        points = self.turning_points.values()
        if None in points:
            return None
        return sum(point for point in points if point is not None) / len(self)

    def save(self, path: str) -> None:
        """Writes a .parquet, .csv or .npz with the columns index, id, class, position and gain, and the metadata.

        The file appears whole or not at all.

        Raises:
          InputError: another suffix, or a place that cannot be written.
        """
        points = {str(label): point for label, point in self.turning_points.items()}
        turning = {"turning_points": points, "turning_fraction": self.turning_fraction}
        metadata = dict(self.metadata) | (turning if self.metadata.get("objective") == "sas" else {})
        ranking_files.save(path, self.position, self.gain, self.classes, self.ids, metadata)

    @classmethod
    def load(cls, path: str) -> "Ranking":
        """Reads what `save` wrote.

        Raises:
          InputError: no such file, another suffix, or a file that is cut short or not a ranking.
        """
        position, gain, classes, ids, metadata = ranking_files.load(path)
        return cls(position, gain, classes, ids, metadata)


def fingerprint(values: np.ndarray) -> str:
    """A name for embeddings or a matrix by their values: the first 16 hex digits of a SHA-256 of shape and float32s."""
    digest = hashlib.sha256(str(values.shape).encode())
    with np.errstate(over="ignore"):  # what float32 does not hold counts as infinite
        for begin in range(0, len(values), 65536):
            digest.update(np.ascontiguousarray(values[begin : begin + 65536], "<f4").data)
    return digest.hexdigest()[:16]
