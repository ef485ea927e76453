"""Dataclasses from JSON: required fields, optional fields, and values that do not fit."""

import dataclasses

import pytest

from sas_jax import typed
from sas_jax.typed import Anything, ByNumber, Count, Finite, Number, Share, Text


@dataclasses.dataclass(frozen=True)
class Inner:
    share: Share


@dataclasses.dataclass(frozen=True)
class Outer:
    name: Text
    size: Count | None
    inner: Inner | None = None
    rows: tuple[Finite, ...] = ()
    shares: dict[ByNumber, Inner] = dataclasses.field(default_factory=dict)
    loss: Number = 7.0
    more: Anything = None


WHOLE = {"name": "a", "size": 3, "inner": {"share": 1}, "rows": [1, 2.5], "shares": {"0.5": {"share": 0.5}, "1": None},
         "loss": float("nan"), "more": [None], "unknown": object()}  # fmt: skip


def test_a_value_becomes_a_dataclass():
    found = typed.build(Outer, WHOLE)
    assert (found.name, found.size, found.inner, found.rows) == ("a", 3, Inner(1), (1, 2.5))
    assert found.shares == {"0.5": Inner(0.5)}
    assert found.more == [None]
    assert typed.defect(Outer, WHOLE) is None


def test_what_may_be_missing_has_its_default():
    assert typed.build(Outer, {"name": "a", "size": None, "loss": None}) == Outer("a", None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": None}, "x.name is missing"),
        ({"name": 3}, "x.name is not a string"),
        ({"size": 2.0}, "x.size is not a non-negative integer"),
        ({"size": True}, "x.size is not a non-negative integer"),
        ({"size": 2**63}, "x.size is not a non-negative integer"),
        ({"inner": {"share": 1.1}}, "x.inner.share is not a number from 0 to 1"),
        ({"inner": 3}, "x.inner is not an object"),
        ({"rows": 3}, "x.rows is not a list"),
        ({"rows": [1, float("inf")]}, "x.rows[1] is not a finite number"),
        ({"shares": {"a": {"share": 1}}}, "x.shares must have numbers as keys"),
        ({"loss": "3"}, "x.loss is not a number"),
    ],
)
def test_the_first_place_that_does_not_fit_is_said(change, sentence):
    assert typed.defect(Outer, WHOLE | change, "x") == sentence


def test_what_may_be_null_has_to_be_there():
    assert typed.defect(Outer, {"name": "a"}) == "size is missing"
