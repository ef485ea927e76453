"""Loads images, labels and ids from named data sets and paths."""

from sas_jax.data.dataset import Dataset, Split
from sas_jax.data.folder import read_folder
from sas_jax.data.sources import load

__all__ = ["Dataset", "Split", "load", "read_folder"]
