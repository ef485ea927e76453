"""Trains encoders on a subset of images: losses, methods, the training step, the loop and checkpoints."""

from sas_jax.training.loop import FitResult, check_batch, fit, load_trained
from sas_jax.training.methods import BYOL, COLLAPSED, DEFAULT, METHODS, MoCo, SimCLR, SimSiam, Supervised
from sas_jax.training.step import Trainer, TrainState

__all__ = [
    "BYOL",
    "COLLAPSED",
    "DEFAULT",
    "METHODS",
    "FitResult",
    "MoCo",
    "SimCLR",
    "SimSiam",
    "Supervised",
    "TrainState",
    "Trainer",
    "check_batch",
    "fit",
    "load_trained",
]
