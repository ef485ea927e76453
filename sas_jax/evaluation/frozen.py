"""How good an encoder's frozen features are for the labels: linear probe and kNN in one call."""

from typing import Any

import numpy as np

from sas_jax.embedding import Apply, embed
from sas_jax.evaluation.knn import knn
from sas_jax.evaluation.probe import linear_probe
from sas_jax.views import Views


def accuracies(
    apply: Apply,
    variables: Any,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    views: Views,
    settings: Any,
    label: str,
) -> dict[str, dict[str, Any]]:
    """Accuracies on the test images, of classifiers fitted to the features of the train images.

    Args:
        apply: (variables, float [b, s, s, 3]) -> float [b, d], the encoder.
        variables: its parameters and statistics.
        train: images uint8 [n, h, w, 3] and labels int [n]; -1 is no label, and such images are left out.
        test: the same.
        views: size and normalisation of the images.
        settings: `batch_size`, `probe_l2`, `probe_iterations`, `knn_neighbours`, `knn_temperature`.
        label: names the encoder on the progress bar.

    Returns:
        "probe" and "knn", each the dict of an `Accuracy`. The features are scaled to a mean variance of 1 on the train
        images, so that the probe's L2 weighs the same whatever an encoder's scale.
    """
    features, labels = [], []
    for images, given in (train, test):
        known = given >= 0
        images = images if known.all() else images[known]
        features.append(
            embed(apply, variables, images, views=views, batch_size=settings.batch_size, label=f"features of {label}")
        )
        labels.append(given[known])
    # One factor for all: BatchNorm's running statistics leave an untrained encoder's features many times smaller than a
    # trained one's, and the L2 on the probe's weights would hold the small ones back.
    scale = np.sqrt(np.mean(np.var(features[0], axis=0))) or 1.0
    features = [each / scale for each in features]
    num_classes = int(max(labels[0].max(), labels[1].max())) + 1
    given_to_both = (features[0], labels[0], features[1], labels[1])
    probe = linear_probe(
        *given_to_both, num_classes=num_classes, l2=settings.probe_l2, max_iterations=settings.probe_iterations
    )
    neighbours = knn(
        *given_to_both, num_classes=num_classes, k=settings.knn_neighbours, temperature=settings.knn_temperature
    )
    return {"probe": probe.to_dict(), "knn": neighbours.to_dict()}
