"""The truth about arms: typed results.json, intervals, paired differences, and the tables that show them.

`collect` puts results.json together and `schema` reads it; `arms` puts seeds together, `differences` compares arms, and
`tables` shows both as text, Markdown and HTML. `selectors` is the one table of selectors' looks, order and roles.
"""
