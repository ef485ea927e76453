"""Reports of runs as HTML files that can be read and forwarded without the run."""

from sas_jax.report.build import html

__all__ = ["html"]
