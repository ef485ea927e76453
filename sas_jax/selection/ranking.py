"""Rankings: the order in which a selector picks each class's examples; every subset is a prefix of it."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sas_jax.errors import InputError, exactly_one
from sas_jax.selection import budgets as division
from sas_jax.selection import checks, columns, ranking_files


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """The order in which the examples of each latent class are picked.

    Attributes:
        position: int32 [n], the example's position in the order of its class, 0 first; -1 where not ranked.
        gain: float32 [n], the marginal gain when it was picked; nan where not ranked, or if the selector has no gains.
        classes: int32 [n], the latent class, 0 or more. Given as text, they are numbered from 0 in sorted order, and
            metadata["class_names"] holds the names in that order.
        ids: str [n], the unique names of the examples in their data set; None if they only have an index.
        metadata: JSON-serialisable: "objective", "kind" (of the similarity), "parameters", "versions", "fingerprint"
            (of the array that was ranked, see `fingerprint`) and "source" (the name of its file), where available.

    Raises:
        InputError: the columns are invalid (see columns.py), or the metadata are not a mapping.
    """

    position: np.ndarray
    gain: np.ndarray
    classes: np.ndarray
    ids: np.ndarray | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        checked, class_names = columns.check(self.position, self.gain, self.classes, self.ids)
        for name, values in zip(("position", "gain", "classes", "ids"), checked, strict=True):
            object.__setattr__(self, name, values)
        if not isinstance(self.metadata, Mapping):
            raise InputError(f"`metadata` must be a mapping, got {checks.shown(self.metadata)}. Give {{}} for none.")
        if class_names is not None:
            object.__setattr__(self, "metadata", {**self.metadata, columns.CLASS_NAMES: class_names})

    def __len__(self) -> int:
        return len(self.position)

    def subset(
        self,
        *,
        fraction: float | None = None,
        size: int | None = None,
        rounding: str = "nearest",
        budgets: str | None = None,
    ) -> np.ndarray:
        """Returns the examples to keep: a prefix of each class's ranking.

        Args:
            fraction: in (0, 1]: round(fraction n) examples. Or give the size.
            size: the number of examples, from 1 to the number ranked.
            rounding: "nearest", or, with a fraction, "floor": floor(fraction |V_k|) of each class, as the authors' code
                does.
            budgets: "proportional" (the classes in proportion to their sizes) or "balanced" (the same number from each
                class, as long as it has enough); see budgets.py. None: those of the ranking, "proportional" by default.

        Returns:
            int64 [k], ascending indices. Smaller subsets of the same rounding and budgets are contained in larger
            ones.

        Raises:
            InputError: neither or both of `fraction` and `size` are given, or they are out of range or beyond what was
                ranked.
        """
        exactly_one({"`fraction`": fraction is not None, "`size`": size is not None})
        if rounding not in ("nearest", "floor"):
            raise InputError(f"`rounding` must be 'nearest' or 'floor', got {rounding!r}. Choose one.")
        if rounding == "floor" and budgets not in (None, division.PROPORTIONAL):
            raise InputError(f"`budgets` must be 'proportional' with rounding='floor', got {budgets!r}. Omit one.")
        budgets = self._budgets(budgets)
        if size is not None:
            if rounding == "floor":
                raise InputError("`rounding` must be omitted with `size`, which is exact, got 'floor'. Omit it.")
            return division.take(self.position, self.classes, size, budgets=budgets)
        assert fraction is not None
        if rounding == "floor":
            return division.take_floor(self.position, self.classes, fraction)
        size = division.size_of(fraction, len(self))
        return division.take(self.position, self.classes, size, budgets=budgets)

    def _budgets(self, wanted: str | None) -> str:
        """Returns the budgets of a subset; raises InputError if the ranking is too short to determine it."""
        parameters = self.metadata.get("parameters")
        parameters = parameters if isinstance(parameters, Mapping) else {}
        ranked_by = parameters.get("budgets", division.PROPORTIONAL)
        if wanted is None:
            return ranked_by
        division.check(wanted)
        complete = parameters.get("budget") == parameters.get("candidates")
        if wanted != ranked_by and not complete:
            raise InputError(
                f"A subset with budgets={wanted!r} must be of a ranking of every candidate, or of one with these "
                f"budgets, got one of {parameters.get('budget')} of {parameters.get('candidates')} candidates with "
                f"budgets={ranked_by!r}. Rank again with budgets={wanted!r}."
            )
        return wanted

    @property
    def turning_points(self) -> dict[int, int | None]:
        """Each class's first position with a gain below 0: from there on, picking lowers the objective.

        It is the size of the class if all of it is ranked without one, and None if the ranking stops before.
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
        """The fraction of all examples that come before their class's turning point; None if one is unknown."""
        points = self.turning_points.values()
        if None in points:
            return None
        return sum(point for point in points if point is not None) / len(self)

    def save(self, path: str) -> None:
        """Writes a .parquet, .csv or .npz with the columns index, id, class, position and gain, and the metadata.

        The file is written atomically.

        Args:
            path: path of the file.

        Raises:
            InputError: the suffix is unsupported, the path cannot be written, or the metadata are not JSON values.
        """
        from sas_jax.selection.objectives import OBJECTIVES  # here, because it needs JAX and a ranking must not

        points = {str(label): point for label, point in self.turning_points.items()}
        turning = {"turning_points": points, "turning_fraction": self.turning_fraction}
        objective = OBJECTIVES.get(str(self.metadata.get("objective")))
        metadata = dict(self.metadata) | (turning if objective and objective.cut else {})
        ranking_files.save(path, (self.position, self.gain, self.classes, self.ids), metadata)

    @classmethod
    def load(cls, path: str, *, of: Any = None, ids: Any = None, n: int | None = None) -> "Ranking":
        """Reads a file that `save` wrote, and checks that it is the ranking of these examples.

        A ranking holds indices into a data set: used on another one, or on the same in another order, it silently
        selects the wrong examples. Pass what you have of the data set that it will be used on.

        Args:
            path: path of a .parquet, .csv or .npz.
            of: the embeddings or the similarity matrix that were ranked, float [n, ...]; compared by their fingerprint.
            ids: str [n], the names of the examples; compared one by one.
            n: the number of examples, `len(dataset)`.

        Returns:
            The Ranking.

        Raises:
            InputError: the file is missing, truncated, damaged, edited or not a ranking, its suffix is unsupported, or
                it is not the ranking of these examples.
        """
        (position, gain, classes, names), metadata = ranking_files.load(path)
        ranking = cls(position, gain, classes, names, metadata)
        ranking._check_origin(path, of, ids, n)
        return ranking

    def _check_origin(self, path: str, of: Any, ids: Any, n: int | None) -> None:
        """Raises InputError, naming both origins, unless what is given matches the examples that were ranked."""
        known = {name: self.metadata.get(name) for name in ("objective", "source", "fingerprint")}
        made = (f"by {known['objective']} " if known["objective"] else "") + "from "
        made += _origin(len(self), known["source"], known["fingerprint"])
        wrong = f"The ranking {path} was made {made} and cannot be used on"
        remedy = "Load the ranking of these examples, or rank them."
        if n is not None and checks.integer(n) != len(self):
            raise InputError(f"{wrong} {checks.shown(n)} examples. {remedy}")
        if of is not None:
            values = checks.array("`of`", of)
            if known["fingerprint"] is None:
                raise InputError(
                    f"The ranking {path} was made {made} and has no fingerprint to compare with `of`. Pass `ids` or "
                    f"`n` instead."
                )
            try:
                given = fingerprint(values)
            except (TypeError, ValueError) as error:  # it has no length, or is not numeric
                raise InputError(
                    f"`of` must be the ranked array, floats [n, ...], got {values.dtype} {list(values.shape)}. Pass "
                    f"the array that was given to rank."
                ) from error
            if (len(values), given) != (len(self), known["fingerprint"]):
                source = os.path.basename(getattr(of, "filename", None) or "")  # of a mapped file
                raise InputError(f"{wrong} {_origin(len(values), source, given)}. {remedy}")
        if ids is not None:
            given_ids = checks.array("`ids`", ids)
            if self.ids is None:
                raise InputError(
                    f"The ranking {path} was made {made} and has no ids to compare with `ids`. Pass `of` or `n` "
                    f"instead."
                )
            if given_ids.shape != self.ids.shape:
                raise InputError(f"{wrong} examples with ids of the shape {list(given_ids.shape)}. {remedy}")
            names = checks.ids(given_ids, len(self))
            assert names is not None
            differ = np.flatnonzero(names != self.ids)
            if differ.size:
                i = differ[0]
                order = (
                    " (they are the same names in a different order)"
                    if set(names.tolist()) == set(self.ids.tolist())
                    else ""
                )
                raise InputError(
                    f"{wrong} other examples: entry {i} is {str(self.ids[i])!r} in the ranking and {str(names[i])!r} "
                    f"here, and {differ.size} of {len(self)} differ{order}. {remedy}"
                )


def _origin(n: int, source: str | None, name: str | None) -> str:
    """Describes an origin: "60 examples of E.npy with the fingerprint 0123456789abcdef", as far as known."""
    return f"{n:,} examples" + (f" of {source}" if source else "") + (f" with the fingerprint {name}" if name else "")


def fingerprint(values: np.ndarray) -> str:
    """Fingerprints embeddings or a matrix: the first 16 hex digits of a SHA-256 of shape and float32 values."""
    digest = hashlib.sha256(str(values.shape).encode())
    with np.errstate(over="ignore"):  # values beyond float32 count as infinite
        step = max(1, (1 << 24) // max(1, math.prod(values.shape[1:])))  # 64 MiB at a time
        for begin in range(0, len(values), step):
            digest.update(np.ascontiguousarray(values[begin : begin + step], "<f4").data)
    return digest.hexdigest()[:16]
