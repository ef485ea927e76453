"""What setup.cfg cannot say: configs/, which lies beside the package, is in the package once that is installed."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sas_jax*"]), "sas_jax.configs"],
    package_dir={"sas_jax.configs": "configs"},
)
