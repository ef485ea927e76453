"""From images and a subset to trained parameters: losses, methods, the step, the loop, checkpoints."""

from sas_jax.training.loop import FitResult, check_batch, fit
from sas_jax.training.methods import SimCLR, Supervised
from sas_jax.training.step import Trainer, TrainState

__all__ = ["FitResult", "SimCLR", "Supervised", "TrainState", "Trainer", "check_batch", "fit"]
