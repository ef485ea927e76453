"""Schemas of a run's JSON files other than results.json, as far as other modules depend on their fields."""

import dataclasses
from typing import Any

from sas_jax.results import schema
from sas_jax.typed import Anything, ByNumber, Count, Finite, Number, Text


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Named:
    name: Text


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Proxy:
    embeddings: Text | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    data: _Named
    proxy: _Proxy | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A line of metrics.jsonl."""

    stage: Text
    step: Finite
    epoch: Finite | None = None
    loss: Number | None = None
    views_per_second: Number | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stamp:
    inputs: Text


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageStamp(Stamp):
    wall_seconds: Finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Data(StageStamp):
    train_images: Text
    train_content: Text
    name: Text
    train_size: Count
    test_size: Count
    num_classes: Count | None
    num_labelled: Count
    not_evaluated: Text | None
    skipped: tuple[Text, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Classes(StageStamp):
    num_classes: Count | None
    sizes: tuple[Count, ...] | None
    agreement: dict[str, Anything] | None
    few_labels: schema.FewLabels | None
    chosen: schema.Chosen | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rank(StageStamp):
    turning_fraction: Number | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Train(StageStamp):
    size: Count
    steps: Count
    loss: Number | None
    spread: Number | None
    train_seconds: Number | None
    views_per_second: Number | None
    collapsed: Anything | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Evaluate(StageStamp):
    probe: schema.Accuracy | None
    knn: schema.Accuracy | None
    probe_few: dict[ByNumber, schema.Accuracy] | None
    probe_coarse: schema.Accuracy | None
    geometry: schema.Geometry | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Supervised(StageStamp):
    accuracy: schema.Accuracy | None


STAMPS: dict[str, Any] = {
    "data": _Data,
    "classes": _Classes,
    "rank": _Rank,
    "train": _Train,
    "evaluate": _Evaluate,
    "supervised": _Supervised,
}
"""The schema of a stage's stamp, by the first part of the stage's name."""
