"""The record of a run whose database goes away in it."""

from datetime import UTC, datetime

import psycopg
import pytest

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.errors import DatabaseUnavailable
from backfill_assets.domain.runs import RunKind, RunStart
from backfill_assets.pipelines.audit import recorded_run
from backfill_assets_tests.support import rows

AT = datetime(2025, 7, 1, 12, tzinfo=UTC)
START = RunStart("a-run", next(iter(RunKind)), "stocks", "a test", AT)


def failing(store: Store, database_url: str, *, goes: bool) -> None:
    """A run that fails for want of its database, which then takes no connection more, or is back."""
    with recorded_run(store, START, lambda: AT):
        if goes:
            server, _, name = database_url.rpartition("/")
            with psycopg.connect(f"{server}/postgres", autocommit=True) as killer:
                killer.execute(f'alter database "{name}" allow_connections false')
        raise DatabaseUnavailable("It was waited for in vain.")


def test_a_database_that_is_back_is_told_how_the_run_ended(database_url: str) -> None:
    with Store(database_url) as store, pytest.raises(DatabaseUnavailable, match="in vain"):
        failing(store, database_url, goes=False)
    assert rows(database_url, "select status, error from backfill_runs") == [("failed", "It was waited for in vain.")]


def test_a_database_that_is_still_away_is_not_waited_for_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunStore, "finish", lambda *_: pytest.fail("it would wait"))
    with Store(database_url) as store, pytest.raises(DatabaseUnavailable, match="in vain"):
        failing(store, database_url, goes=True)
