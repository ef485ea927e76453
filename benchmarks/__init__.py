"""Benchmarks: scripts that write json, which `plot.py` draws and turns into the tables of docs/tables.md.

Run from a checkout: python -m benchmarks.selection --help
"""
