"""Which examples to keep: similarity, objectives, greedy, rankings, budgets and the random baselines."""
