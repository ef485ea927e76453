"""Benchmarks: each is a script that writes json, which `plot.py` draws and puts into docs/tables.md.

Run from a checkout: python -m benchmarks.selection --help
"""
