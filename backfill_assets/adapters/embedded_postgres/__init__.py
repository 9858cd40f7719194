"""An embedded PostgreSQL server, used if DATABASE_URL is not set.

server       `EmbeddedPostgres`: start, reuse and stop a server
cluster      the files in the folder
processes    find the process that serves a folder
privileges   run PostgreSQL's programs as a user that PostgreSQL accepts
binaries     find those programs
"""

from backfill_assets.adapters.embedded_postgres.binaries import find_psql
from backfill_assets.adapters.embedded_postgres.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "find_psql"]
