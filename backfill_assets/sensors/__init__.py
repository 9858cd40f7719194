"""Sensors: what is looked at every so often, and what is launched then.

What lives here: Dagster's side of it. What does not: the decisions (the pipelines).
"""
