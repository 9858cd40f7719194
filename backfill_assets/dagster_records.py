"""What a tick, or a command, fails with where the database is away.

What lives here: one sentence in the place of what Dagster's storage raises. What does not: what the market tables raise,
which is such a sentence already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from backfill_assets.adapters.postgres import records_unavailable


@contextmanager
def records_needed() -> Iterator[None]:
    """Around a command, or as a decorator of a sensor's body: raises DatabaseUnavailable where the records cannot be reached.

    The next tick connects anew, so nothing has to be restarted once the database is back.
    """
    try:
        yield
    except (DagsterPostgresException, DBAPIError) as error:
        raise records_unavailable(error) from None
