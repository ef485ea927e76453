"""Classes from few labels, against scikit-learn's logistic regression and cross-validation; the .csv reader."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sas_jax.errors import InputError
from sas_jax.latent_classes import few_labels

KEY = jax.random.key(5)
DIGITS, TARGET = load_digits(return_X_y=True)


def hide(labels, known):
    return np.where(np.isin(np.arange(len(labels)), known), labels, -1)


@pytest.fixture(scope="module")
def digits():
    labels = few_labels.draw(KEY, TARGET, fraction=0.05)
    return labels, few_labels.spread(KEY, DIGITS, labels)


def test_few_digits_name_the_rest(digits):
    labels, found = digits
    assert found.num_labelled == (labels >= 0).sum() < 100
    assert (found.classes == TARGET)[labels < 0].mean() > 0.8
    assert found.classes.dtype == np.int32


def test_the_labelled_keep_their_label():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, size=60)  # not linearly separable
    labels[40:] = -1
    found = few_labels.spread(KEY, x, labels).classes
    np.testing.assert_array_equal(found[:40], labels[:40])
    assert set(found[40:]) <= {0, 1, 2}


def test_the_rest_is_what_scikit_learn_predicts(digits):
    labels, found = digits
    few = labels >= 0
    x = DIGITS - DIGITS[few].mean(axis=0)
    x = x / np.sqrt((x[few] ** 2).sum(axis=1).mean())
    # scikit-learn's C is 1 / (2 n l2).
    reference = LogisticRegression(C=1 / (2 * few.sum() * found.l2), tol=1e-6, max_iter=5000).fit(x[few], labels[few])
    assert (reference.predict(x[~few]) == found.classes[~few]).mean() > 0.995


def test_the_l2_has_the_lowest_held_out_cross_entropy(digits):
    labels, found = digits
    few = np.flatnonzero(labels >= 0)
    centre, scale = few_labels._moments(DIGITS[few])
    x, y = (DIGITS[few] - centre) * scale, labels[few]
    fold = few_labels._folds(KEY, y)
    losses, right = [], []
    for l2 in few_labels.L2_TRIED:
        loss, hits = 0.0, 0
        for number in range(few_labels.FOLDS):
            inside, outside = fold != number, fold == number
            model = LogisticRegression(C=1 / (2 * inside.sum() * l2), tol=1e-6, max_iter=5000).fit(x[inside], y[inside])
            loss -= model.predict_log_proba(x[outside])[np.arange(outside.sum()), y[outside]].sum()
            hits += (model.predict(x[outside]) == y[outside]).sum()
        losses.append(loss)
        right.append(hits)
    assert found.l2 == few_labels.L2_TRIED[np.argmin(losses)]
    assert found.accuracy == pytest.approx(right[np.argmin(losses)] / len(few), abs=0.03)


@pytest.mark.parametrize("sizes", [[2, 2, 2], [1, 7, 2, 30], [5, 5], [1, 2]])
def test_folds_leave_some_of_each_class_and_are_of_one_size(sizes):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    fold = few_labels._folds(KEY, y)
    np.testing.assert_array_equal(fold == -1, np.bincount(y)[y] == 1)
    counts = np.bincount(fold[fold >= 0], minlength=few_labels.FOLDS)
    assert counts.max() - counts.min() <= 1
    for number in range(few_labels.FOLDS):
        assert set(y[fold != number]) == set(y)
        per_class = np.bincount(y[fold == number], minlength=len(sizes))
        assert (per_class <= -(-np.array(sizes) // few_labels.FOLDS)).all()


def test_many_labels_are_judged_on_one_fold(monkeypatch):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(50, 2)) - 3, rng.normal(size=(50, 2)) + 3])
    labels = np.repeat([0, 1], 50)
    labels[::10] = -1
    monkeypatch.setattr(few_labels, "MANY", 89)
    fits = []
    fit = few_labels.logistic.fit
    monkeypatch.setattr(few_labels.logistic, "fit", lambda x, *a, **o: fits.append(len(x)) or fit(x, *a, **o))
    found = few_labels.spread(KEY, x, labels)
    assert fits == [72] * len(few_labels.L2_TRIED) + [90]
    assert found.accuracy == 1.0


def test_one_label_a_class_takes_the_middle_l2():
    found = few_labels.spread(KEY, np.array([[0.0], [1.0], [9.0], [11.0]]), np.array([4, -1, -1, 2**31 - 1]))
    np.testing.assert_array_equal(found.classes, [4, 4, 2**31 - 1, 2**31 - 1])
    assert found.accuracy is None
    assert found.l2 == few_labels.L2_TRIED[len(few_labels.L2_TRIED) // 2]


def test_one_class_is_everybodys():
    np.testing.assert_array_equal(few_labels.spread(KEY, np.eye(3), np.array([-1, 7, 7])).classes, [7, 7, 7])


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_embeddings_unit_and_origin_do_not_matter(scale):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, size=90)
    x = rng.normal(size=(90, 4)) + np.eye(4)[labels] * 2
    few = hide(labels, np.arange(30))
    plain, scaled = few_labels.spread(KEY, x, few), few_labels.spread(KEY, (x + 1) * scale, few)
    assert plain.l2 == scaled.l2
    assert (plain.classes == scaled.classes).mean() > 0.98


def test_blocks_of_the_rest_give_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    x, few = rng.normal(size=(50, 3)), hide(rng.integers(0, 2, size=50), np.arange(20))
    whole = few_labels.spread(KEY, x, few).classes
    monkeypatch.setattr(few_labels, "_BLOCK_ENTRIES", 3 * 7)
    np.testing.assert_array_equal(few_labels.spread(KEY, x, few).classes, whole)


@pytest.mark.parametrize(
    ("x", "labels", "sentence"),
    [
        (np.eye(3), np.full(3, -1), "at least one label, got none for 3"),
        (np.eye(3), np.zeros(2, int), r"got \[2\] and \[3, 3\]"),
        (np.zeros(3), np.zeros(3, int), r"got \[3\] and \[3\]"),
        (
            np.array([[0.0], [np.nan]]),
            np.zeros(2, int),
            "few labels' training set must have finite features, got .* in 2 of its 2",
        ),
        (np.array([[0.0], [np.nan], [np.inf]]), np.array([0, -1, -1]), "NaN or infinity in 2 of rows 1 to 2"),
    ],
)
def test_bad_input(x, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        few_labels.spread(KEY, x, labels)


@given(
    labels=st.lists(st.integers(-1, 4), min_size=1, max_size=60).filter(lambda labels: max(labels) >= 0),
    fractions=st.tuples(st.floats(0.001, 1.0), st.floats(0.001, 1.0)),
)
@settings(max_examples=40, deadline=None)
def test_draw_is_stratified_and_nested(labels, fractions):
    labels = np.array(labels)
    small, large = (few_labels.draw(KEY, labels, fraction=fraction) for fraction in sorted(fractions))
    for found, fraction in ((small, min(fractions)), (large, max(fractions))):
        np.testing.assert_array_equal(found[found >= 0], labels[found >= 0])
        for label in np.unique(labels[labels >= 0]):
            size = (labels == label).sum()
            assert abs((found == label).sum() - max(1, fraction * size)) <= 0.5 + 1e-9
    assert (large[small >= 0] >= 0).all()


def test_draw_is_of_the_key_and_uniform():
    labels = np.zeros(20, int)
    drawn = np.array([few_labels.draw(jax.random.key(s), labels, fraction=0.25) >= 0 for s in range(200)])
    assert (drawn.sum(axis=1) == 5).all()
    assert 0.1 < drawn.mean(axis=0).min() < drawn.mean(axis=0).max() < 0.4
    for fraction in (0, -1, 1.1, np.nan):
        with pytest.raises(InputError, match="must be more than 0 and at most 1"):
            few_labels.draw(KEY, labels, fraction=fraction)
    with pytest.raises(InputError, match="at least one label, got none"):
        few_labels.draw(KEY, labels - 1, fraction=0.5)


IDS = np.array(["a/1.png", "b, c.png", "x", "train_7"])


def read(tmp_path, content, **options):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return few_labels.read(path, ids=IDS, **options)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("id,label\nx,3\na/1.png,0\n", [0, -1, 3, -1]),
        ('label,note,id\r\n5,hm,"b, c.png"\r\n', [-1, 5, -1, -1]),
        ("\ufeffid, label\n\n x , 2147483647 \n", [-1, -1, 2**31 - 1, -1]),
        ("id,label\nx,7\nx,7\ntrain_7,\n", [-1, -1, 7, -1]),
        ("id,label\nx,wolf\na/1.png,bee\ntrain_7,wolf", [0, -1, 1, 1]),  # numbered in alphabetical order
        ("id,label\nx,-1\na/1.png,2", [1, -1, 0, -1]),  # names, because -1 is no class number
    ],
)
def test_csv(tmp_path, text, labels):
    found = read(tmp_path, text)
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.int32


def test_csv_of_the_data_sets_class_names(tmp_path):
    names = ("fish", "bee", "7", "wolf")
    text = "id,label\nx,wolf\na/1.png,bee\ntrain_7,7"
    np.testing.assert_array_equal(read(tmp_path, text, class_names=names), [1, -1, 3, 2])
    # One name is unknown, so the file's names get their own numbers.
    np.testing.assert_array_equal(read(tmp_path, text, class_names=names[1:]), [0, -1, 2, 1])
    np.testing.assert_array_equal(read(tmp_path, text.replace("7,7", "7,cat"), class_names=names), [0, -1, 2, 1])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "among them, got ''. Write id,label"),
        ("x,3\n", "among them, got 'x,3'. Write"),
        ("id,label,id\n", "got 'id,label,id'"),
        ("id,label\n", "at least one example, got none"),
        ("id,label\nx,\n", "at least one example, got none"),
        ("id,label\nx,1,2\n", "2 values per line, got 3 in line 2"),
        ("id,label\nx,1\n\nx,2\n", "got '1' for 'x' and, in line 4, '2'"),
        ("id,label\nz,1\nx,2\ny,2", "got 2 of 3 ids that are not in it, the first 'z'. Write ids such as 'a/1.png'"),
        ("id,label\nx,4000000000\n", "labels up to 2.31 - 1, got 4000000000"),
        ('id,label\n"x,1\n', "a line 2 that cannot be read"),
        ("id,label\nx," + "y" * 200_000, "field larger"),
        (b"id,label\nx,\xff", "cannot be read .*utf-8"),
    ],
)
def test_bad_csv(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, content)


def test_no_csv(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            few_labels.read(path, ids=IDS)


@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.lists(st.sampled_from(["id", "label", ",", "\n", "\r", '"', "x", "train_7", "1", "\0", "²", " "]))
        .map("".join)
        .map(str.encode),
        st.text(max_size=40).map(lambda text: f"id,label\n{text}".encode()),
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path, content):
    try:
        found = read(tmp_path, content)
    except InputError:
        return
    assert found.shape == IDS.shape
    assert found.max() >= 0
