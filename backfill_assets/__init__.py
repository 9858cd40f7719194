"""backfill_assets: a complete, checked OHLCV store in PostgreSQL, kept by Dagster.

What lives here: the package's version. What does not: anything that runs at import.
"""

__version__ = "0.1.0"
