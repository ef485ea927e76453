"""Encoders and projection heads, as Flax Linen modules."""

from sas_jax.models import convolution
from sas_jax.models.heads import LinearClassifier, ProjectionHead
from sas_jax.models.resnet import DEPTHS, STEMS, ResNet

__all__ = ["DEPTHS", "STEMS", "LinearClassifier", "ProjectionHead", "ResNet", "convolution"]
