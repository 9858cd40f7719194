"""A PostgreSQL server of the project's own, for users who name no DATABASE_URL.

server       `EmbeddedPostgres`: start or reuse, ask, stop
cluster      the files in the folder
processes    which process serves a folder, and whether one still does
privileges   running PostgreSQL's programs as a user that PostgreSQL accepts
binaries     where those programs are
"""

from backfill_assets.adapters.embedded_postgres.binaries import psql_command
from backfill_assets.adapters.embedded_postgres.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "psql_command"]
