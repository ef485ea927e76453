"""What the JSON files of a run hold, as far as others rest on it: a file that was damaged is found out here."""

import math
from collections.abc import Mapping
from typing import Any


class Each(dict):
    """A mapping all of whose values have the shape of its one entry; its keys are numbers where that is "number"."""


class Kind(str):
    """What a single value has to be, in words."""


NUMBER, FINITE, COUNT, SHARE, TEXT = map(Kind, ("a number", "a finite number", "a count", "a share", "text"))
ANY = Kind("anything")

# "!" marks what has to be there, "?" what has to be there and may be None; all else may be missing or None.
_ACCURACY = {"value!": SHARE, "low!": SHARE, "high!": SHARE, "n!": COUNT}
_PART = {
    "n": COUNT,
    "alignment": NUMBER,
    "mean_product": NUMBER,
    "largest_product": NUMBER,
    "closest_classes": [COUNT],
    "nearest_centre": _ACCURACY,
}
_ARM = {
    "name!": TEXT,
    "selector": TEXT,
    "fraction": NUMBER,
    "size": COUNT,
    "epochs": NUMBER,
    "steps": NUMBER,
    "method": TEXT,
    "step_rule": TEXT,
    "loss": NUMBER,
    "spread": NUMBER,
    "train_seconds": NUMBER,
    "views_per_second": NUMBER,
    "probe": _ACCURACY,
    "knn": _ACCURACY,
    "probe_few": Each({"number": _ACCURACY}),
    "probe_coarse": _ACCURACY,
    "supervised": _ACCURACY,
    "geometry": {"whole": _PART, "subset": _PART, "largest_distance": NUMBER},
}
_CLASSES = {
    "num_classes": COUNT,
    "sizes": [COUNT],
    "agreement": Each({"": ANY}),
    "few_labels": {"num_labelled": COUNT, "l2": NUMBER, "accuracy": NUMBER},
    "chosen": {"tried": [COUNT], "silhouettes": [FINITE]},
}
RESULTS = {
    "dataset!": {
        "name": TEXT,
        "train_size": COUNT,
        "test_size": COUNT,
        "num_classes": COUNT,
        "not_evaluated": TEXT,
        "skipped": [TEXT],
    },
    "latent_classes!": {"method": TEXT, "embeddings": TEXT, **_CLASSES},
    "selection!": {"objective": TEXT, "similarity": TEXT, "turning_fraction": NUMBER},
    "stages!": Each({"": {"wall_seconds": FINITE}}),
    "arms!": [_ARM],
}
CONFIG = {"data!": {"name!": TEXT}, "proxy": {"embeddings": TEXT}}
STAMPS: dict[str, dict[str, Any]] = {
    "data": {
        "train_images!": TEXT,
        "train_content!": TEXT,
        "name!": TEXT,
        "train_size!": COUNT,
        "test_size!": COUNT,
        "num_classes?": COUNT,
        "num_labelled!": COUNT,
        "not_evaluated?": TEXT,
        "skipped!": [TEXT],
    },
    "classes": {f"{name}?": shape for name, shape in _CLASSES.items()},
    "rank": {"turning_fraction?": NUMBER},
    "train": {
        "size!": COUNT,
        "steps!": COUNT,
        **{f"{name}?": _ARM[name] for name in ("loss", "spread", "train_seconds", "views_per_second")},
        "collapsed?": ANY,
    },
    "evaluate": {f"{name}?": _ARM[name] for name in ("probe", "knn", "probe_few", "probe_coarse", "geometry")},
    "supervised": {"accuracy?": _ACCURACY},
}
"""Of the stamp of a stage, by what its name begins with."""

METRIC = {"stage!": TEXT, "step!": FINITE, "epoch": FINITE, "loss": NUMBER, "views_per_second": NUMBER}


def defect(value: Any, shape: Any, place: str = "") -> str | None:
    """The first way in which a value is not of a shape, such as "arms[2].probe.low is no share"; None where it is.

    Args:
      value: From JSON.
      shape: A kind, a list of one shape, an `Each`, or a dict of shapes.
      place: What the value is called.
    """
    if isinstance(shape, Kind):
        return None if _is(value, shape) else f"{place} is not {shape}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is no list"
        return _first(defect(inner, shape[0], f"{place}[{at}]") for at, inner in enumerate(value) if inner is not None)
    if not isinstance(value, Mapping):
        return f"{place} is no object"
    if isinstance(shape, Each):
        (kind, shape), *_ = shape.items()
        if kind == "number" and not all(map(_is_number, value)):
            return f"{place} is not by numbers"
        return _first(defect(inner, shape, _below(place, name)) for name, inner in value.items() if inner is not None)
    for key, inner in shape.items():
        name = key.rstrip("!?")
        found = value.get(name)
        if found is None:
            if key.endswith("!") or (key.endswith("?") and name not in value):
                return f"{_below(place, name)} is not there"
        elif said := defect(found, inner, _below(place, name)):
            return said
    return None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _first(found: Any) -> str | None:
    return next((said for said in found if said), None)


def _is(value: Any, kind: Kind) -> bool:
    if kind is ANY:
        return True
    if kind is TEXT:
        return isinstance(value, str)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if isinstance(value, int) and abs(value) >= 2**63:
        return False
    if kind is COUNT:
        return isinstance(value, int) and value >= 0
    if kind is SHARE:
        return 0 <= value <= 1
    return kind is NUMBER or math.isfinite(value)
