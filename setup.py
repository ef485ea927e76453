"""Installs configs/, which is beside the package, as a part of it; setup.cfg cannot express this."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sas_jax*"]), "sas_jax.configs"],
    package_dir={"sas_jax.configs": "configs"},
)
