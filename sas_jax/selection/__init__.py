"""Subset selection: similarities, objectives, greedy maximisation, rankings, budgets and baselines."""
