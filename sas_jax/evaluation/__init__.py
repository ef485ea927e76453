"""Evaluation of a trained encoder's frozen features: accuracies and geometry."""

from sas_jax.evaluation.accuracy import Accuracy, accuracy
from sas_jax.evaluation.coarse import coarse_classes
from sas_jax.evaluation.frozen import accuracies, classifier_accuracy, encoder_geometry
from sas_jax.evaluation.geometry import Geometry, geometry
from sas_jax.evaluation.knn import knn
from sas_jax.evaluation.probe import Probe, linear_probe

__all__ = [
    "Accuracy",
    "Geometry",
    "Probe",
    "accuracies",
    "accuracy",
    "classifier_accuracy",
    "coarse_classes",
    "encoder_geometry",
    "geometry",
    "knn",
    "linear_probe",
]
