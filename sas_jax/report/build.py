"""The report of a run: what ran, its results with intervals, and how they came about."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sas_jax.images import Images
from sas_jax.report import examples, geometry, outcome, provenance, selected
from sas_jax.report.template import page
from sas_jax.results import schema
from sas_jax.results.arms import grouped
from sas_jax.results.markup import joined


def html(
    *,
    results: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    metrics: Iterable[Mapping[str, Any]] | None = None,
    ranking: Any = None,
    embeddings: np.ndarray | None = None,
    images: Images | None = None,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    without_images: str = "",
) -> str:
    """Writes a run as one self-contained HTML page, which loads nothing, runs no script and is under 5 MB.

    Parts that a run does not have (it was stopped early, there are no labels, the embeddings came from a file) are
    replaced by the reason.

    Args:
        results: The content of `results.json`: dataset, latent_classes, selection, stages, arms.
        config: The whole config, nested.
        environment: Versions, devices, commit.
        metrics: Records of `metrics.jsonl`: stage, step, epoch, loss.
        ranking: Has position int32 [n], gain float32 [n] and classes int32 [n].
        embeddings: float32 [n, d].
        images: uint8 [n, s, s, 3], the training images in the ranking's order.
        labels: int [n], -1 for images without a label.
        class_names: The labels' names.
        without_images: Why there are no images, if so.

    Returns:
        The page.
    """
    config = _nested(config or {})
    found = schema.partial(results)
    groups = grouped(found.arms, found.dataset.train_size)
    records = _by_stage(metrics or [])
    content = joined(
        outcome.opening(found, config, groups),
        outcome.arms(found, groups),
        examples.picks(ranking, images, labels, class_names, without_images),
        selected.selection(found, groups, ranking, embeddings),
        selected.latent_classes(found, ranking, labels, class_names),
        geometry.geometry(groups, class_names),
        outcome.training(records, groups, config),
        provenance.run(found, groups, records, config, _nested(environment or {})),
    )
    return page(f"sas_jax report: {(results.get('dataset') or {}).get('name', 'a run')}", content)


def _nested(value: Any) -> Any:
    """Converts nested mappings, such as ml_collections', to plain dicts."""
    if hasattr(value, "items"):
        return {str(key): _nested(inner) for key, inner in value.items()}
    return value


def _by_stage(metrics: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    stages: dict[str, list[dict[str, Any]]] = {}
    for record in metrics:
        stages.setdefault(str(record.get("stage", "training")), []).append(dict(record))
    return stages
