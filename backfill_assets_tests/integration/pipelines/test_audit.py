"""The record of a run: that it is alive, and how it ended although its database was unavailable."""

import time
from datetime import UTC, datetime

import psycopg
import pytest

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.errors import DatabaseUnavailable
from backfill_assets.domain.runs import RunKind, RunStart
from backfill_assets.pipelines import audit
from backfill_assets.pipelines.audit import recorded_run
from backfill_assets_tests.support import rows

AT = datetime(2025, 7, 1, 12, tzinfo=UTC)
START = RunStart("a-run", next(iter(RunKind)), "stocks", "a test", AT)


def failing(store: Store, database_url: str, *, goes: bool) -> None:
    """Fail a run for lack of its database, which then `goes` or is available again."""
    with recorded_run(store, START, lambda: AT):
        if goes:
            server, _, name = database_url.rpartition("/")
            with psycopg.connect(f"{server}/postgres", autocommit=True) as killer:
                killer.execute(f'alter database "{name}" allow_connections false')
        raise DatabaseUnavailable("The database did not come back.")


def test_the_end_is_recorded_if_the_database_is_available_again(database_url: str) -> None:
    with Store(database_url) as store, pytest.raises(DatabaseUnavailable, match="did not come back"):
        failing(store, database_url, goes=False)
    assert rows(database_url, "select status, error from backfill_runs") == [
        ("failed", "The database did not come back.")
    ]


def test_the_end_is_not_recorded_while_the_database_is_unavailable(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunStore, "finish", lambda *_: pytest.fail("it would wait"))
    with Store(database_url) as store, pytest.raises(DatabaseUnavailable, match="did not come back"):
        failing(store, database_url, goes=True)


SEEN = "select seen_at, clock_timestamp() - seen_at < interval '1 minute' from backfill_runs"


def test_a_run_reports_that_it_is_alive(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "HEARTBEAT_SECONDS", 0.01)
    with Store(database_url) as store:
        with recorded_run(store, START, lambda: AT):
            ((first, recent),) = rows(database_url, SEEN)
            assert recent
            while rows(database_url, SEEN)[0][0] == first:
                time.sleep(0.01)
        runs = RunStore.beside(store)
        silence = runs.silence("a-run")
        assert silence is not None
        assert silence.total_seconds() < 60
        assert runs.silence("another") is None
