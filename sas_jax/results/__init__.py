"""The results of a run: typed results.json, intervals, paired differences, and the tables that show them.

`collect` assembles results.json and `schema` reads it. `arms` pools seeds, `differences` compares arms, and `tables`
shows both as text, Markdown and HTML. `selectors` defines the styles, display order and roles of all selectors.
"""
