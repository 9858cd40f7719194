"""The market tables: one module a table family, its SQL beside it.

What lives here: reading and writing rows, and the migrations that make the tables. What does not: Dagster's own tables
(they stand in a schema of their own), and deciding what to fetch.
"""
