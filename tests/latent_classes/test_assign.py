"""The ways to latent classes, and their agreement with labels."""

import itertools

import jax
import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from sas_jax import latent_classes
from sas_jax.errors import InputError

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


def test_kmeans_is_that_of_the_embeddings_and_the_key():
    options = {"num_classes": 5, "restarts": 2, "iterations": 7}
    classes = latent_classes.assign("kmeans", embeddings=X, key=jax.random.key(1), **options)
    np.testing.assert_array_equal(classes, latent_classes.kmeans(jax.random.key(1), X, **options).labels)


def test_kmeans_needs_a_key():
    with pytest.raises(TypeError, match="needs a key"):
        latent_classes.assign("kmeans", embeddings=X, num_classes=5)


def test_labels_are_passed_on():
    labels = np.arange(40, dtype=np.int64) % 4
    classes = latent_classes.assign("labels", embeddings=X, labels=labels)
    np.testing.assert_array_equal(classes, labels)
    assert classes.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_file_is_read(tmp_path, dtype):
    np.save(tmp_path / "classes.npy", np.arange(40, dtype=dtype) % 7)
    classes = latent_classes.assign("file", embeddings=X, file=tmp_path / "classes.npy")
    np.testing.assert_array_equal(classes, np.arange(40) % 7)
    assert classes.dtype == np.int32


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (np.zeros(39, int), "each of the 40 examples, and .*classes.npy holds 39"),
        (np.zeros((40, 1), int), r"each of the 40 examples, and .* an array of shape \[40, 1\]"),
        (np.zeros(40), "want integers, and .* holds float64"),
        (np.zeros(40, bool), "want integers, and .* holds bool"),
        (np.arange(40) - 1, "from 0 to 2.31 - 1, and .* holds -1 to 38"),
        (np.arange(40) + 2**31, "holds 2147483648 to"),
        (np.array([{}] * 40), "cannot be read as one"),
    ],
)
def test_bad_files(tmp_path, classes, sentence):
    np.save(tmp_path / "classes.npy", classes, allow_pickle=True)
    with pytest.raises(InputError, match=sentence):
        latent_classes.assign("file", embeddings=X, file=tmp_path / "classes.npy")


def test_files_that_are_no_array(tmp_path):
    (tmp_path / "text.npy").write_text("0 1 2")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "whole.npy", np.zeros(40, int))
    (tmp_path / "short.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    np.savez(tmp_path / "archive.npz", a=np.zeros(40, int))
    for name, sentence in (
        ("text.npy", "text.npy cannot be read as one"),
        ("empty.npy", "empty.npy cannot be read as one"),
        ("short.npy", "short.npy cannot be read as one"),
        ("archive.npz", "archive of several"),
        ("none.npy", "none.npy does not exist"),
        ("", "cannot be read as one"),  # the folder itself
    ):
        with pytest.raises(InputError, match=sentence):
            latent_classes.from_file(tmp_path / name, n=40)
    with pytest.raises(InputError, match=r"want the path of a \.npy file and were given none"):
        latent_classes.assign("file", embeddings=X)


def test_bad_methods_and_labels():
    with pytest.raises(InputError, match="method of kmeans, labels, file and were given 'kmean'"):
        latent_classes.assign("kmean", embeddings=X)
    with pytest.raises(InputError, match="this one has no labels: use method 'kmeans'"):
        latent_classes.assign("labels", embeddings=X)
    with pytest.raises(InputError, match="the data set's labels holds 3"):
        latent_classes.assign("labels", embeddings=X, labels=np.zeros(3, int))


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_agreement_equals_the_definitions(sizes):
    rng = np.random.default_rng(sum(sizes))
    classes, labels = (rng.integers(size, size=200) for size in sizes)
    # Every one-to-one matching, the smaller side's parts each to a different one of the larger side's.
    small, large = (classes, labels) if sizes[0] <= sizes[1] else (labels, classes)
    matchings = itertools.permutations(range(max(sizes)), min(sizes))
    best = max(np.mean(np.asarray(matching)[small] == large) for matching in matchings)
    found = latent_classes.agreement(classes, labels)
    assert found["accuracy"] == pytest.approx(best)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, classes))
    purity = sum(np.bincount(labels[classes == c]).max() for c in range(sizes[0])) / 200
    assert found["purity"] == pytest.approx(purity)


def test_agreement_does_not_depend_on_names():
    labels = np.random.default_rng(0).integers(6, size=100)
    found = latent_classes.agreement(np.array([17, 3, 99, 0, 5, 41])[labels], labels)
    assert found == pytest.approx({"accuracy": 1.0, "nmi": 1.0, "purity": 1.0})
    assert latent_classes.agreement(np.zeros(9, int), np.zeros(9, int))["nmi"] == 1.0


def test_agreement_wants_one_label_per_class():
    with pytest.raises(InputError, match="2 classes and 3 labels"):
        latent_classes.agreement(np.zeros(2, int), np.zeros(3, int))
