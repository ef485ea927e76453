"""Evaluates an encoder's frozen features: linear probes and kNN in one call, the geometry in another."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from sas_jax import settings
from sas_jax.embedding import Apply, embed
from sas_jax.evaluation import blocks
from sas_jax.evaluation.accuracy import Accuracy, accuracy
from sas_jax.evaluation.geometry import Geometry, geometry
from sas_jax.evaluation.knn import knn
from sas_jax.evaluation.probe import linear_probe
from sas_jax.images import Images
from sas_jax.views import Views


@settings.fixed
def accuracies(
    apply: Apply,
    variables: Any,
    train: tuple[Images, np.ndarray],
    test: tuple[Images, np.ndarray],
    *,
    views: Views,
    section: Any,
    label: str,
    key: jax.Array | None = None,
    fractions: Sequence[float] = (),
    l2_grid: Sequence[float] = (),
    coarse: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the test accuracies of classifiers fitted to the features of the train images.

    Args:
        apply: (variables, float [b, s, s, 3]) -> float [b, d], the encoder.
        variables: its parameters and statistics.
        train: images uint8 [n, h, w, 3] and labels int [n]; -1 means unlabelled, and such images are left out.
        test: the same.
        views: size and normalisation of the images.
        section: has `batch_size`, `probe_l2`, `probe_iterations`, `knn_neighbours`, `knn_temperature`.
        label: names the encoder on the progress bar.
        key: a typed PRNG key for the labels drawn and held out and for SGD's order; the same one for all encoders that
            are compared. key(0) by default.
        fractions: for each, an additional probe that sees only this fraction of the labels.
        l2_grid: if given, each probe chooses its L2 from these by validation on a part of its training images.
        coarse: int [c], the coarse label of each label, for an additional probe on coarse labels.

    Returns:
        "probe" and "knn", each the dict of a `Probe` or `Accuracy`; "probe_few", by fraction ("0.01"); "probe_coarse",
        None without `coarse`. The features are scaled to a mean variance of 1 on the train images, so that the probe's
        L2 has the same effect at any scale of the encoder.
    """
    features, labels = [], []
    for split in (train, test):
        x, y = _labelled(
            apply, variables, split, views=views, batch_size=section.batch_size, label=f"features of {label}"
        )
        features.append(x)
        labels.append(y)
    # One factor for all features. With BatchNorm's running statistics, an untrained encoder's features are many times
    # smaller than a trained one's, and the probe's L2 would penalise the small ones more.
    scale = np.sqrt(np.mean(np.var(features[0], axis=0))) or 1.0
    features = [each / scale for each in features]
    num_classes = int(max(labels[0].max(), labels[1].max())) + 1
    key = settings.key(0) if key is None else key

    def probe(names: list[np.ndarray], number: int, fraction: float = 1.0) -> dict[str, Any]:
        return linear_probe(
            key,
            features[0],
            names[0],
            features[1],
            names[1],
            num_classes=number,
            l2=section.probe_l2,
            l2_grid=l2_grid,
            fraction=fraction,
            max_iterations=section.probe_iterations,
        ).to_dict()

    neighbours = knn(
        features[0],
        labels[0],
        features[1],
        labels[1],
        num_classes=num_classes,
        k=section.knn_neighbours,
        temperature=section.knn_temperature,
    )
    return {
        "probe": probe(labels, num_classes),
        "knn": neighbours.to_dict(),
        "probe_few": {f"{fraction:g}": probe(labels, num_classes, fraction) for fraction in fractions},
        "probe_coarse": None if coarse is None else probe([coarse[each] for each in labels], int(coarse.max()) + 1),
    }


@settings.fixed
def classifier_accuracy(
    apply: Apply, variables: Any, test: tuple[Images, np.ndarray], *, views: Views, batch_size: int, label: str
) -> Accuracy:
    """Measures a classifier's accuracy.

    Args:
        apply: (variables, float [b, s, s, 3]) -> float [b, c], the logits.
        variables: its parameters and statistics.
        test: images uint8 [n, h, w, 3] and labels int [n]; -1 means unlabelled, and such images are left out.
        views: size and normalisation of the images.
        batch_size: images per device and batch.
        label: names the classifier on the progress bar.

    Returns:
        The share of test images whose label has the largest logit.
    """
    logits, labels = _labelled(apply, variables, test, views=views, batch_size=batch_size, label=label)
    return accuracy(np.argmax(logits, axis=1) == labels)


@settings.fixed
def encoder_geometry(
    apply: Apply,
    variables: Any,
    train: tuple[Images, np.ndarray],
    test: tuple[Images, np.ndarray],
    *,
    subset: np.ndarray | None,
    views: Views,
    batch_size: int,
    key: jax.Array,
    label: str,
) -> Geometry:
    """Measures an encoder's geometry (see `geometry`), with two random views of each train image.

    Args:
        apply: (variables, float [b, s, s, 3]) -> float [b, d], the encoder.
        variables: its parameters and statistics.
        train: images uint8 [n, h, w, 3] and labels int [n]; -1 means unlabelled. They are embedded one block at a time.
        test: the same, for the nearest-centre classifier.
        subset: int [k], the train images that the encoder was trained on; None for no subset.
        views: the augmentation.
        batch_size: views per device and batch.
        key: a typed PRNG key for the views; the same one for all encoders that are compared.
        label: names the encoder on the progress bar.

    Returns:
        The geometry of the whole data set and of the subset.
    """
    (images, labels), (test_images, test_labels) = train, test
    out = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((1, views.size, views.size, 3), np.float32))
    every = functools.partial(embed, apply, variables, views=views)

    def two_views(rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(images))
        return every(
            blocks.Taken(images, np.arange(start, stop)),
            batch_size=max(1, batch_size // 2),
            num_views=2,
            keep_views=True,
            key=jax.random.fold_in(key, start),
            label=f"views of {label}",
        )

    plain = functools.partial(every, batch_size=batch_size, label=f"features of {label}")
    return geometry(
        _Computed(two_views, (len(images), 2, out.shape[-1])),
        labels,
        num_classes=int(max(labels.max(), test_labels.max())) + 1,
        subset=subset,
        test=(plain(test_images), test_labels),
    )


def _labelled(
    apply: Apply, variables: Any, split: tuple[Images, np.ndarray], *, views: Views, batch_size: int, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the outputs [k, d] for the labelled images, and their labels."""
    images, labels = split
    known = labels >= 0
    images = images if known.all() else images[known]
    return embed(apply, variables, images, views=views, batch_size=batch_size, label=label), labels[known]


class _Computed:
    """Rows that are computed on access."""

    def __init__(self, rows: Callable[[slice], np.ndarray], shape: tuple[int, ...]):
        self._rows = rows
        self.shape = shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._rows(rows)
