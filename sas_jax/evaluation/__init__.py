"""Evaluation: how good a trained encoder's frozen features are."""

from sas_jax.evaluation.accuracy import Accuracy, accuracy
from sas_jax.evaluation.frozen import accuracies
from sas_jax.evaluation.knn import knn
from sas_jax.evaluation.probe import linear_probe

__all__ = ["Accuracy", "accuracies", "accuracy", "knn", "linear_probe"]
