"""Reads JSON into frozen dataclasses, with short messages for values that do not fit.

A field without a default must be in the JSON, and may be null only if its type allows None. A field with a default may
be missing or null, and then has the default. Unknown fields are ignored.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any


class Kind(str):
    """The required kind of a single value, as messages name it."""


_NUMBER, _FINITE, _COUNT = Kind("a number"), Kind("a finite number"), Kind("a non-negative integer")
_SHARE, _TEXT = Kind("a number from 0 to 1"), Kind("a string")
_ANY = Kind("anything")

Number = Annotated[float, _NUMBER]
Finite = Annotated[float, _FINITE]
Count = Annotated[int, _COUNT]
Share = Annotated[float, _SHARE]
Text = Annotated[str, _TEXT]
Anything = Annotated[Any, _ANY]
ByNumber = Annotated[str, "number"]
"""Keys of a dict that are numbers, written as text."""


def build(kind: Any, value: Any, place: str = "") -> Any:
    """Converts a value from JSON to a type.

    Args:
        kind: A dataclass, one of the types above, `tuple[kind, ...]`, `dict[str, kind]`, or one of these or None.
        value: The value from JSON.
        place: The path of the value, for messages.

    Raises:
        ValueError: Names the first place that does not fit, such as "arms[2].probe.low is not a number from 0 to 1".
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else build(inner[0], value, place)
    if origin is Annotated:
        if not _is(value, inner[1]):
            raise ValueError(f"{place} is not {inner[1]}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{place} is not a list")
        return tuple(build(inner[0], each, f"{place}[{at}]") for at, each in enumerate(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"{place} is not an object")
    if origin is dict:
        if inner[0] is ByNumber and not all(map(_is_number, value)):
            raise ValueError(f"{place} must have numbers as keys")
        return {name: build(inner[1], each, _below(place, name)) for name, each in value.items() if each is not None}
    found = {}
    for name, (wanted, is_required) in _fields(kind).items():
        if value.get(name) is not None:
            found[name] = build(wanted, value[name], _below(place, name))
        elif is_required:
            if name not in value or type(None) not in typing.get_args(wanted):
                raise ValueError(f"{_below(place, name)} is missing")
            found[name] = None
    return kind(**found)


def defect(kind: Any, value: Any, place: str = "") -> str | None:
    """Returns why `build` rejects a value; None if it accepts it."""
    try:
        build(kind, value, place)
    except ValueError as error:
        return str(error)
    return None


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Returns, by name, each field's type and whether it has no default."""
    hints = typing.get_type_hints(kind, include_extras=True)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    }


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is(value: Any, kind: Kind) -> bool:
    if kind is _ANY:
        return True
    if kind is _TEXT:
        return isinstance(value, str)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if isinstance(value, int) and abs(value) >= 2**63:
        return False
    if kind is _COUNT:
        return isinstance(value, int) and value >= 0
    if kind is _SHARE:
        return 0 <= value <= 1
    return kind is _NUMBER or math.isfinite(value)
