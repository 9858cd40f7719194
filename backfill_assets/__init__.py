"""backfill_assets: a complete, checked OHLCV store in PostgreSQL, kept by Dagster."""

__version__ = "0.1.0"
