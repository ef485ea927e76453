"""Latent classes: the partition of the examples within which similarity is compared and a budget given."""

import jax
import numpy as np
from etils import epath
from scipy.optimize import linear_sum_assignment

from sas_jax import arrays, files, settings
from sas_jax.errors import InputError
from sas_jax.latent_classes import clip, few_labels, number
from sas_jax.latent_classes.kmeans import KMeans, kmeans

__all__ = ["METHODS", "KMeans", "agreement", "assign", "clip", "few_labels", "from_file", "kmeans", "number"]

METHODS = ("kmeans", "few_labels", "clip_zeroshot", "labels", "file")


@settings.fixed
def assign(
    method: str,
    *,
    embeddings: np.ndarray,
    key: jax.Array | None = None,
    num_classes: int = 0,
    restarts: int = 5,
    iterations: int = 100,
    labels: np.ndarray | None = None,
    file: epath.PathLike = "",
    class_names: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the latent class of every example, by one of METHODS.

    Args:
        method: "kmeans": k-means on the embeddings; the method as meant, for it needs no labels.
            "few_labels": logistic regression on the embeddings of those that have a label, see `few_labels.spread`,
            which also tells how it fared.
            "clip_zeroshot": the class whose name's CLIP embedding is most similar, see `clip.zero_shot`.
            "labels": the data set's labels. For analysis only: what selects with labels is not self-supervised, and
            its results may not stand beside those of methods that are.
            "file": classes made elsewhere.
        embeddings: [n, d] float: a run's own, those of `clip.embed_images`, or others. "labels" and "file" only take n.
        key: a typed PRNG key, for "kmeans" and "few_labels".
        num_classes: for "kmeans", in [1, n].
        restarts: for "kmeans", see `kmeans`.
        iterations: for "kmeans", see `kmeans`.
        labels: int [n]; None where the data set has none. For "labels" at least 0; for "few_labels" below 0 where not
            known, as `few_labels.draw` and `few_labels.read` return them.
        file: for "file", a .npy of ints [n].
        class_names: for "clip_zeroshot", float [c, d] of `clip.embed_names`.

    Returns:
        int32 [n], at least 0.

    Raises:
        InputError: the method is unknown, or what it needs is missing or does not fit.
    """
    if method == "kmeans":
        if key is None:
            raise TypeError('assign("kmeans") needs a key')
        return kmeans(key, embeddings, num_classes=num_classes, restarts=restarts, iterations=iterations).labels
    if method == "clip_zeroshot":
        if class_names is None:
            raise TypeError('assign("clip_zeroshot") needs class_names')
        return clip.zero_shot(embeddings, class_names)
    if method in ("few_labels", "labels"):
        if labels is None:
            raise InputError(
                f"Latent classes by method {method!r} want a labelled data set, and this one has no labels: "
                "use method 'kmeans'."
            )
        if method == "labels":
            return _checked(arrays.array("Labels", labels), len(embeddings), "the data set's labels")
        if key is None:
            raise TypeError('assign("few_labels") needs a key')
        return few_labels.spread(key, embeddings, labels).classes
    if method == "file":
        return from_file(file, n=len(embeddings))
    raise InputError(f"Latent classes want a method of {', '.join(METHODS)} and were given {method!r}: choose one.")


def from_file(file: epath.PathLike, *, n: int) -> np.ndarray:
    """Reads latent classes from a .npy file.

    Args:
        file: a path, local or remote, of an array [n] of whole numbers, at least 0, or of text.
        n: the number of examples.

    Returns:
        int32 [n].

    Raises:
        InputError: the file is missing or unreadable, or its array is not one class for each example.
    """
    if not str(file):
        raise InputError(
            "Latent classes by method 'file' want the path of a .npy file and were given none: "
            "set it, or use method 'kmeans'."
        )
    path = epath.Path(file)
    try:
        classes = files.array(path)
    except FileNotFoundError:
        raise InputError(
            f"Latent classes by method 'file' want a .npy file, and {path} does not exist: "
            "write it with numpy.save, one class number per example."
        ) from None
    except Exception as error:  # a damaged header shows as whatever Python's own parser meets in it
        raise InputError(
            f"Latent classes by method 'file' want a .npy file of one class an example, and {path} cannot be read as "
            f"one ({files.reason(error)}): write it with numpy.save."
        ) from error
    return _checked(classes, n, str(path))


def agreement(classes: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures how well latent classes agree with labels; the names of neither matter.

    Args:
        classes: int [n].
        labels: int [n], below 0 where not known: those examples are left out. At least one is known.

    Returns:
        "accuracy": the share of examples in their label's class under the best one-to-one matching;
        "nmi": mutual information over the mean of the two entropies, 1 where both have one part only;
        "purity": the share of examples that have their class's commonest label.
        All in [0, 1].
    """
    known = labels >= 0
    if len(classes) != len(labels) or not known.any():
        raise InputError(
            f"agreement wants one class and one label per example, one of them known, and was given {len(classes)} "
            f"classes and {len(labels)} labels, {int(known.sum())} known: pass those of the same examples."
        )
    classes, labels = classes[known], labels[known]
    rows, columns = (np.unique(values, return_inverse=True)[1] for values in (classes, labels))
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    table = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)
    joint = table / table.sum()
    first, second = joint.sum(axis=1), joint.sum(axis=0)
    seen = joint > 0
    information = np.sum(joint[seen] * np.log(joint[seen] / np.outer(first, second)[seen]))
    entropies = -np.sum(first * np.log(first)) - np.sum(second * np.log(second))
    matched = joint[linear_sum_assignment(joint, maximize=True)].sum()
    return {
        "accuracy": float(matched),
        "nmi": float(np.clip(2 * information / entropies, 0.0, 1.0)) if entropies > 0 else 1.0,
        "purity": float(joint.max(axis=1).sum()),
    }


def _checked(classes: np.ndarray, n: int, source: str) -> np.ndarray:
    if classes.shape != (n,):
        found = f"{classes.shape[0]}" if classes.ndim == 1 else f"an array of shape {list(classes.shape)}"
        raise InputError(
            f"Latent classes want one class for each of the {n} examples, and {source} holds {found}: "
            "make them for this data set and split, in its order."
        )
    return arrays.classes(f"The latent classes of {source}", classes)[0]
