"""A run reports that its process is alive, by the database's clock."""

import time

from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.runs import RunKind, RunStart
from backfill_assets.pipelines import audit
from backfill_assets_tests.support import MOMENT, rows

SEEN = "select seen_at, clock_timestamp() - seen_at < interval '1 minute' from backfill_runs"


def test_a_run_reports_that_it_is_alive_until_it_ends(database_url, monkeypatch):
    monkeypatch.setattr(audit, "HEARTBEAT_SECONDS", 0.01)
    start = RunStart("run", RunKind.OHLCV, "stocks", "by hand", MOMENT)
    with BarStore(database_url) as store:
        with audit.recorded_run(store, start, lambda: MOMENT):
            ((first, recent),) = rows(database_url, SEEN)
            assert recent
            while rows(database_url, SEEN)[0][0] == first:
                time.sleep(0.01)
        ended = rows(database_url, SEEN)
        assert rows(database_url, SEEN) == ended
        runs = RunStore.beside(store)
        assert runs.silence("run").total_seconds() < 60
        assert runs.silence("another") is None
