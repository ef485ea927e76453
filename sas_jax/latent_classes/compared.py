"""Agreement of latent classes with labels."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from sas_jax.errors import InputError


def agreement(classes: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures how well latent classes agree with labels, regardless of how either is numbered.

    Args:
        classes: int [n].
        labels: int [n], negative where unknown: those examples are left out. At least one is known.

    Returns:
        "accuracy": the share of examples in their label's class under the best one-to-one matching;
        "nmi": mutual information divided by the mean of the two entropies, 1 if both have only one class;
        "purity": the share of examples that have the most common label of their class.
        All in [0, 1].

    Raises:
        InputError: the lengths differ, or no label is known.
    """
    known = labels >= 0
    if len(classes) != len(labels) or not known.any():
        raise InputError(
            f"`labels` must have the length of `classes` and at least one known label, got {len(classes)} classes and "
            f"{len(labels)} labels, {int(known.sum())} known. Give arrays of the same examples."
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
