"""What several test folders share. What does not live here: fixtures that one folder uses."""

from backfill_assets_tests.postgres import database_url, postgres_server, postgres_template

__all__ = ["database_url", "postgres_server", "postgres_template"]
