"""Asset checks: what is expected of the tables, and how bad it is where they are not so.

What lives here: check specs, and results from what was found. What does not: looking (the pipelines).
"""
