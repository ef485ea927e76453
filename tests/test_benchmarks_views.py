"""The agreement of two draws of views: complete if all are alike, higher with more views, and no view counts twice."""

import json

import numpy as np
import pytest

from benchmarks import tables, views

CLASSES, EACH, FEATURES = 4, 30, 16


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def drawn(spread, number=16, seed=0):
    """Draws views [n, number, d] around examples in well separated classes; also returns the classes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), EACH)
    examples = 3 * np.eye(FEATURES)[labels] + rng.normal(size=(CLASSES * EACH, FEATURES)) / 2
    return unit(examples[:, None] + spread * rng.normal(size=(len(labels), number, FEATURES))), labels


def test_views_that_are_alike_agree_wholly():
    for each in views.compare(*drawn(0), num_classes=CLASSES):
        assert each["norm"] == pytest.approx(1, abs=1e-6)
        assert {share for shares in each["overlap"].values() for share in shares.values()} == {1.0}


def test_more_views_agree_more():
    found = views.compare(*drawn(1.0), num_classes=CLASSES)
    assert [each["views"] for each in found] == [1, 2, 4, 8]
    norms = [each["norm"] for each in found]
    assert norms == sorted(norms, reverse=True)
    for partition in views.PARTITIONS:
        for objective in views.OBJECTIVES:
            shares = [each["overlap"][partition][objective] for each in found]
            assert shares[-1] > shares[0]
            assert all(0 <= share <= 1 for share in shares)


def test_no_view_is_in_both_draws():
    """The views of the first draw are all alike, and so are the others': one of each agrees as much as many of each."""
    one, labels = drawn(0, number=1)
    other = unit(one + np.random.default_rng(1).normal(size=one.shape))
    *_, most = views.compare(np.concatenate([one] * 8 + [other] * 8, axis=1), labels, num_classes=CLASSES)
    (single,) = views.compare(np.concatenate([one, other], axis=1), labels, num_classes=CLASSES)
    assert most["views"] == 8
    assert most["overlap"] == single["overlap"]
    assert single["overlap"]["labels"]["facility_location"] < 1


def test_picks_are_told_by_their_similarity_to_their_class():
    drawn_views, labels = drawn(1.0)
    z = drawn_views.mean(axis=1)
    found = views.picks(z, {"labels": labels, "all": np.zeros(len(z), np.int64)})
    for partition in found.values():
        # similarity_sum ranks by the sum, so it picks the last fifth of the places: 1 - 0.1 on average.
        assert partition["similarity_sum"]["percentile"] == pytest.approx(0.9, abs=0.02)
        assert partition["sas"]["in_sas"] == 1
        assert partition["facility_location"]["percentile"] < partition["facility_location_self0"]["percentile"] + 0.1
        assert all(0 <= each[name] <= 1 for each in partition.values() for name in each)


def test_page_shows_the_results_that_lie_beside_it():
    page = (views.ROOT / "docs" / "selection.md").read_text()
    paths = sorted((views.ROOT / "docs" / "results").glob("views-*.json"))
    assert paths
    for path in paths:
        assert tables.insert(page, path.stem, views.table(json.loads(path.read_text()))) == page, (
            "docs/selection.md does not show docs/results/views-*.json: run python -m benchmarks.views write"
        )
