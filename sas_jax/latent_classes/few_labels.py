"""Latent classes from few labels: logistic regression on the labelled embeddings predicts the other labels."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from sas_jax import arrays, files, logistic, settings
from sas_jax.errors import InputError

# The weights of the L2 penalty, on features with a total variance of 1; see `spread`.
L2_TRIED = tuple(10.0**power for power in range(-7, 1))
FOLDS = 5
# Above this many labelled examples one fold is precise enough: it gives the accuracy to within a percent.
MANY = 10_000

_BLOCK_ENTRIES = 1 << 24  # entries of a block's logits: 64 MiB


class FewLabels(NamedTuple):
    """Classes of all examples, predicted from a few labels.

    Attributes:
        classes: int32 [n]: the given label where there is one, else the predicted label.
        num_labelled: the number of labelled examples.
        l2: the chosen L2, one of L2_TRIED.
        accuracy: the share of held-out labelled examples predicted correctly at that L2, in [0, 1]; None if none could
            be held out.
    """

    classes: np.ndarray
    num_labelled: int
    l2: float
    accuracy: float | None


@settings.fixed
def spread(key: jax.Array, embeddings: np.ndarray, labels: np.ndarray) -> FewLabels:
    """Predicts the labels of the unlabelled examples by logistic regression on the labelled ones.

    The L2 is the one of L2_TRIED with the lowest mean cross-entropy on held-out labelled examples; ties go to the
    larger. The examples are held out by stratified five-fold cross-validation, or as one of the five folds if more than
    MANY are labelled. The only labelled example of a class is never held out; if this holds for all classes, the middle
    of L2_TRIED is used. The model is then fitted to all labelled examples. Features are first scaled by a single
    factor, so that their mean squared distance from their mean is 1 and an L2 means the same for every encoder.

    Args:
        key: a typed PRNG key, for the assignment to folds.
        embeddings: [n, d], finite, any real dtype.
        labels: int [n], negative where unknown; the numbers need not be consecutive.

    Returns:
        The classes of all n examples, and the chosen L2 with its accuracy.

    Raises:
        InputError: no example is labelled, or the embeddings are not a finite matrix with one row per example.
    """
    labels, embeddings = arrays.array("Labels", labels), arrays.array("Embeddings", embeddings)
    if np.ndim(embeddings) != 2 or labels.shape != np.shape(embeddings)[:1]:
        raise InputError(
            f"`labels` must hold one label for each row of `embeddings` [n, d], got {list(labels.shape)} and "
            f"{list(np.shape(embeddings))}. Give arrays of the same examples."
        )
    few = np.flatnonzero(labels >= 0)
    if not len(few):
        raise InputError(
            f"`labels` must hold at least one label, got none for {len(labels)} examples. Label some of each class, or "
            "use method 'kmeans'."
        )
    names, numbers = np.unique(labels[few], return_inverse=True)
    centre, scale = _moments(embeddings[few])

    def features(rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return ((rows - centre) * scale).astype(np.float32)

    x, y = logistic.checked_examples(
        features(embeddings[few]), numbers.astype(np.int32), num_classes=len(names), what="few labels' training set"
    )
    losses, right, held_out = _cross_validate(key, x, y, num_classes=len(names))
    # argmin takes the first of equals; reversed, ties go to the larger L2.
    best = len(L2_TRIED) - 1 - int(np.argmin(losses[::-1])) if held_out else len(L2_TRIED) // 2
    model = logistic.fit(x, y, num_classes=len(names), l2=L2_TRIED[best])

    classes = labels.astype(np.int32)
    rest = np.flatnonzero(labels < 0)
    rows = max(1, _BLOCK_ENTRIES // max(len(names), x.shape[1]))
    for start in range(0, len(rest), rows):
        part = rest[start : start + rows]
        block = features(embeddings[part])
        if bad := int((~np.isfinite(block).all(axis=1)).sum()):
            raise InputError(
                f"`embeddings` must be finite, got NaN or infinity in {bad} of rows {part[0]} to {part[-1]}. Check "
                "whether the encoder's training diverged."
            )
        classes[part] = names[np.asarray(logistic.predict(model, block))]
    return FewLabels(classes, len(few), L2_TRIED[best], float(right[best]) / held_out if held_out else None)


@settings.fixed
def draw(key: jax.Array, labels: np.ndarray, *, fraction: float) -> np.ndarray:
    """Keeps a fraction of each class's labels, rounded to the nearest whole number and at least one.

    With the same key, the labels kept at a smaller fraction are a subset of those kept at a larger one.

    Args:
        key: a typed PRNG key.
        labels: int [n], negative where unknown.
        fraction: in (0, 1].

    Returns:
        int32 [n]: the labels kept, -1 elsewhere.

    Raises:
        InputError: the fraction is out of range, or no example is labelled.
    """
    if not 0 < fraction <= 1:
        raise InputError(
            f"`fraction` must be more than 0 and at most 1, got {fraction}. For example, 0.01 keeps one label in a "
            f"hundred."
        )
    labels = np.asarray(labels)
    order = _in_classes(key, labels, np.flatnonzero(labels >= 0))
    if not len(order):
        raise InputError("`labels` must hold at least one label, got none. Give a .csv of them.")
    _, start, size = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, size)
    kept = order[rank < np.repeat(np.maximum(1, np.floor(fraction * size + 0.5)), size)]
    found = np.full(len(labels), -1, np.int32)
    found[kept] = labels[kept]
    return found


def read(file: epath.PathLike, *, ids: np.ndarray, class_names: Sequence[str] | None = None) -> np.ndarray:
    """Reads labels from a .csv file.

    The first line names the columns, including `id` and `label`. Examples may be missing or have an empty label. If all
    labels are names of the data set's classes, they get those classes' numbers; otherwise, if all are whole numbers,
    they are used unchanged; otherwise they are names, numbered in alphabetical order.

    Args:
        file: a path, local or remote.
        ids: str [n], the data set's ids.
        class_names: the data set's class names, if it has any.

    Returns:
        int32 [n], -1 where the file gives no label.

    Raises:
        InputError: the file cannot be read, its ids are not the data set's, or it contradicts itself.
    """
    given = _rows(files.expanded(file))
    place = {str(name): index for index, name in enumerate(ids)}
    unknown = [name for name in given if name not in place]
    if unknown:
        raise InputError(
            f"{file} must label examples of this data set, got {len(unknown)} of {len(given)} ids that are not in it, "
            f"the first {unknown[0]!r}. Write ids such as {str(ids[0])!r}."
        )
    if not given:
        raise InputError(f"{file} must label at least one example, got none. Write lines of id,label.")
    texts = set(given.values())
    if class_names and texts <= set(class_names):
        numbers = {name: index for index, name in enumerate(class_names)}
    elif all(text.isascii() and text.isdigit() and len(text) <= 10 for text in texts):
        numbers = {text: int(text) for text in texts}
        if max(numbers.values()) > np.iinfo(np.int32).max:
            raise InputError(
                f"{file} must hold labels up to 2^31 - 1, got {max(numbers.values())}. Number them from 0."
            )
    else:
        numbers = {text: index for index, text in enumerate(sorted(texts))}
    found = np.full(len(ids), -1, np.int32)
    for name, text in given.items():
        found[place[name]] = numbers[text]
    return found


def _rows(path: epath.Path) -> dict[str, str]:
    """Returns the label of each id in a .csv file."""
    try:
        text = files.whole(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} must be a .csv of id,label in UTF-8, got a file that cannot be read ({files.reason(error)}). "
            "Check it."
        ) from error
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, str] = {}
    try:
        header = [name.strip() for name in next(lines, [])]
        if header.count("id") != 1 or header.count("label") != 1:
            raise InputError(
                f"{path} must name its columns in the first line, id and label among them, got "
                f"{','.join(header)[:80]!r}. Write id,label there."
            )
        columns = header.index("id"), header.index("label")
        for row in lines:
            if not any(row):
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path} must hold {len(header)} values per line, got {len(row)} in line {lines.line_num}. Correct "
                    "it."
                )
            name, label = (row[column].strip() for column in columns)
            if label and found.setdefault(name, label) != label:
                raise InputError(
                    f"{path} must give an example one label, got {found[name]!r} for {name!r} and, in line "
                    f"{lines.line_num}, {label!r}. Remove one."
                )
    except csv.Error as error:
        raise InputError(
            f"{path} must be a .csv of id,label, got a line {lines.line_num} that cannot be read ({error}). Correct it."
        ) from error
    return found


def _moments(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the mean row, and the factor that makes the mean squared distance from it 1."""
    rows = np.asarray(rows, np.float64)
    with np.errstate(all="ignore"):
        centre = rows.mean(axis=0)
        deviation = np.sqrt(np.mean(np.sum((rows - centre) ** 2, axis=1)))
    return centre, 1 / deviation if 0 < deviation < np.inf else 1.0


def _in_classes(key: jax.Array, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns `indices` sorted by label, in a random order within each that does not depend on the other classes."""
    scores = np.asarray(jax.random.bits(key, labels.shape))
    return indices[np.lexsort((scores[indices], labels[indices]))]


def _folds(key: jax.Array, y: np.ndarray) -> np.ndarray:
    """Assigns examples to folds in turn, class by class; int [n], -1 for the only example of a class.

    Consecutive examples of a class are in different folds, so that no fold holds a whole class. Fold sizes differ by at
    most one, so that all fits share two compiled programs.
    """
    fold = np.full(len(y), -1)
    order = _in_classes(key, y, np.flatnonzero(np.bincount(y)[y] > 1))
    fold[order] = np.arange(len(order)) % FOLDS
    return fold


def _cross_validate(
    key: jax.Array, x: jax.Array, y: jax.Array, *, num_classes: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the summed cross-entropy and correct predictions on held-out examples per L2_TRIED, and their number."""
    fold = _folds(key, np.asarray(y))
    losses, right, held_out = np.zeros(len(L2_TRIED)), np.zeros(len(L2_TRIED)), 0
    for number in range(FOLDS if len(y) <= MANY else 1):
        out = fold == number
        if not out.any():
            continue
        inside = x[~out], y[~out]
        outside = x[out], y[out]
        held_out += int(out.sum())
        for i, l2 in enumerate(L2_TRIED):
            model = logistic.fit(*inside, num_classes=num_classes, l2=l2)
            loss, hits = _outcome(model, *outside)
            losses[i] += float(loss)
            right[i] += float(hits)
    return losses, right, held_out


@jax.jit
def _outcome(model: logistic.Logistic, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits = jnp.matmul(x, model.weights, precision=jax.lax.Precision.HIGHEST) + model.bias
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
    return jnp.sum(losses), jnp.sum(jnp.argmax(logits, axis=1) == y)
