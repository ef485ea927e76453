"""Probe and kNN on an encoder's features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from sas_jax.embedding import embed
from sas_jax.evaluation import accuracies, blocks, encoder_geometry, geometry, knn, linear_probe
from sas_jax.views import Views

VIEWS = Views(size=4, mean=(0.5,) * 3, std=(0.5,) * 3)
KEY = jax.random.key(0)
SECTION = ConfigDict(
    {"batch_size": 8, "probe_l2": 1e-3, "probe_iterations": 200, "knn_neighbours": 5, "knn_temperature": 0.1}
)


def flat(variables, images):
    return variables * images.reshape(len(images), -1)


@pytest.fixture(scope="module")
def splits():
    """Images whose brightness, with noise, determines which of three classes they are of."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90).astype(np.int32)
    images = np.clip(rng.normal(60 + 50 * labels[:, None, None, None], 60, (90, 4, 4, 3)), 0, 255).astype(np.uint8)
    return (images[:60], labels[:60]), (images[60:], labels[60:])


def measured(splits, factor=1.0, **options):
    train, test = splits
    return accuracies(flat, jnp.float32(factor), train, test, views=VIEWS, section=SECTION, label="flat", **options)


def by_hand(splits):
    (train, train_labels), (test, test_labels) = splits
    x, t = ((images.reshape(len(images), -1) / 255.0 - 0.5) / 0.5 for images in (train, test))
    scale = np.sqrt(x.var(axis=0).mean())
    return x / scale, train_labels, t / scale, test_labels


def test_equals_probe_and_knn_on_features_by_hand(splits):
    given = by_hand(splits)
    found = measured(splits)
    assert found["probe"] == linear_probe(KEY, *given, num_classes=3, l2=1e-3, max_iterations=200).to_dict()
    assert (found["probe_few"], found["probe_coarse"]) == ({}, None)
    assert found["knn"] == knn(*given, num_classes=3, k=5, temperature=0.1).to_dict()
    assert found["probe"]["value"] > 0.6


def test_few_labels_coarse_labels_and_the_choice_of_l2(splits):
    x, y, t, u = by_hand(splits)
    coarse, key = np.array([1, 0, 1]), jax.random.key(3)
    found = measured(splits, key=key, fractions=(0.5,), l2_grid=(1e-2, 1.0), coarse=coarse)
    options = {"l2": 1e-3, "l2_grid": (1e-2, 1.0), "max_iterations": 200}
    few = linear_probe(key, x, y, t, u, num_classes=3, fraction=0.5, **options)
    assert found["probe_few"] == {"0.5": few.to_dict()}
    assert few.train_size == 30
    assert found["probe"] == linear_probe(key, x, y, t, u, num_classes=3, **options).to_dict()
    of_two = linear_probe(key, x, coarse[y], t, coarse[u], num_classes=2, **options)
    assert found["probe_coarse"] == of_two.to_dict() != found["probe"]


def test_an_encoders_scale_does_not_matter(splits):
    """Otherwise an untrained encoder, whose features are small, would look worse than it is."""
    assert measured(splits, 1e-4) == measured(splits)


def test_images_without_a_label_are_left_out(splits):
    (images, labels), test = splits
    hidden = labels.copy()
    hidden[::3] = -1
    known = hidden >= 0
    assert measured(((images, hidden), test)) == measured(((images[known], labels[known]), test))


def test_geometry_is_that_of_two_random_views_of_each_image(splits, monkeypatch):
    (train, labels), (test, _) = splits
    options = {"views": Views(size=4, mean=(0.5,) * 3, std=(0.5,) * 3), "batch_size": 16, "key": KEY, "label": "flat"}
    subset = np.arange(0, 60, 3)
    found = encoder_geometry(flat, jnp.float32(2.0), *splits, subset=subset, **options)
    views = embed(
        flat,
        jnp.float32(1.0),
        train,
        views=options["views"],
        batch_size=8,
        num_views=2,
        keep_views=True,
        key=jax.random.fold_in(KEY, 0),
    )
    plain = test.reshape(len(test), -1) / 127.5 - 1
    by_hand = geometry(views, labels, num_classes=3, subset=subset, test=(plain, splits[1][1]))
    assert found.subset.n == 20
    assert found.whole.alignment == pytest.approx(by_hand.whole.alignment, rel=1e-5)
    assert found.subset.largest_product == pytest.approx(by_hand.subset.largest_product, rel=1e-5)
    assert found.whole.nearest_centre == by_hand.whole.nearest_centre
    # In blocks of 7 images, each image gets views of its own, and none is skipped.
    monkeypatch.setattr(blocks, "rows_a_block", lambda entries: 7)
    in_blocks = encoder_geometry(flat, jnp.float32(2.0), *splits, subset=subset, **options)
    assert in_blocks.whole.n == 60
    assert in_blocks.whole.alignment == pytest.approx(found.whole.alignment, rel=0.2)
    assert in_blocks.whole.alignment != found.whole.alignment
