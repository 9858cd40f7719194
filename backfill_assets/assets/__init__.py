"""The assets, one factory a family: markets and timeframes are data.

What lives here: what Dagster is told of tables, and bodies that read a context, call a pipeline and report. What does not:
the work itself.
"""
