"""The ways to latent classes, and their agreement with labels."""

import io
import itertools
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
    "convert", [lambda c: c.astype(float), lambda c: np.array(list("abcdefg"))[c], lambda c: c == 3]
)
def test_a_class_is_a_distinct_value(tmp_path, convert):
    given = np.arange(40) % 7
    np.save(tmp_path / "classes.npy", convert(given))
    classes = latent_classes.assign("file", embeddings=X, file=tmp_path / "classes.npy")
    np.testing.assert_array_equal(classes, np.unique(convert(given), return_inverse=True)[1])


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (np.zeros(39, int), "each of the 40 examples, and .*classes.npy holds 39"),
        (np.zeros((40, 1), int), r"each of the 40 examples, and .* an array of shape \[40, 1\]"),
        (np.full(40, 0.5), r"classes of .*classes.npy must be text, or whole numbers .* and entry 0 is 0\.5; number"),
        (np.zeros(40, complex), "must be whole numbers or text, and these are complex128; convert"),
        (np.arange(40) - 1, "from 0 to 2.31 - 1, and entry 0 is -1; number"),
        (np.arange(40) + 2**31, "entry 0 is 2147483648; number"),
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
        ("archive.npz", "an archive of arrays"),
        ("none.npy", "none.npy does not exist"),
        ("", "cannot be read as one"),  # the folder itself
    ):
        with pytest.raises(InputError, match=sentence):
            latent_classes.from_file(tmp_path / name, n=40)
    with pytest.raises(InputError, match=r"want the path of a \.npy file and were given none"):
        latent_classes.assign("file", embeddings=X)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda header: b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header, st.binary(max_size=60)
        ),
        st.builds(lambda cut: saved(np.arange(40))[:cut], st.integers(0, 447)),
        st.builds(
            lambda place, byte: saved(np.arange(40))[:place] + bytes([byte]) + saved(np.arange(40))[place + 1 :],
            st.integers(0, 447),
            st.integers(0, 255),
        ),
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")  # Python's parser comments on what it finds in a damaged header
def test_any_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / "classes.npy"
    path.write_bytes(content)
    try:
        found = latent_classes.from_file(path, n=40)
    except InputError:
        return
    assert found.shape == (40,)
    assert found.min() >= 0


def test_bad_methods_and_labels():
    with pytest.raises(
        InputError, match="method of kmeans, few_labels, clip_zeroshot, labels, file and were given 'kmean'"
    ):
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


def test_agreement_leaves_out_what_has_no_label():
    rng = np.random.default_rng(0)
    classes, labels = rng.integers(4, size=300), rng.integers(-1, 5, size=300)
    known = labels >= 0
    assert latent_classes.agreement(classes, labels) == latent_classes.agreement(classes[known], labels[known])
    with pytest.raises(InputError, match="9 classes and 9 labels, 0 known"):
        latent_classes.agreement(np.zeros(9, int), np.full(9, -1))


def test_agreement_of_a_thousand_classes_takes_little_memory_whatever_their_numbers():
    rng = np.random.default_rng(0)
    labels = rng.integers(1000, size=20_000)
    classes = rng.permutation(1000)[labels]
    tracemalloc.start()
    found = latent_classes.agreement(classes * 2_000_000, labels * 2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["accuracy"] == pytest.approx(1.0)
    assert peak < 10 * 1000 * 1000 * 8  # a handful of tables of a thousand by a thousand


def test_agreement_wants_one_label_per_class():
    with pytest.raises(InputError, match="2 classes and 3 labels"):
        latent_classes.agreement(np.zeros(2, int), np.zeros(3, int))
