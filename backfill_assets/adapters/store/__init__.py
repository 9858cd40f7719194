"""The market tables: one module a table family, its SQL beside it."""
