"""Dagster runs of a small universe over the simulated vendor and a database of the test's own. What does not live here:
what a run is expected to leave."""

from contextlib import ExitStack
from datetime import datetime

import dagster as dg
import pytest

from backfill_assets.resources import Clock
from backfill_assets.wiring import build_definitions
from backfill_assets_tests.surroundings import KEY, MOMENT, market, rows, universe, vendor, vendor_server

__all__ = ["vendor", "vendor_server"]

UNIVERSE = universe(market("stocks", "AAPL", "MSFT", "NVDA"), market("crypto", "BTC", "ETH"))


class FixedClock(Clock):
    """A clock that stands still."""

    at: str = MOMENT.isoformat()

    def now(self):
        return datetime.fromisoformat(self.at)


class Platform:
    """The definitions of the small universe, an instance of its own, and what the tests ask of both."""

    def __init__(self, instance, vendor, database_url):
        self.instance, self.vendor, self.database_url = instance, vendor, database_url
        self.defs = self.definitions(MOMENT)

    @staticmethod
    def definitions(now):
        return build_definitions(
            universe=UNIVERSE, today=MOMENT.date(), resources={"clock": FixedClock(at=now.isoformat())}
        )

    def run(self, first, last=None, *, of="stocks", only=None, now=MOMENT, **config):
        """Run a market's job over one partition or a rectangle of them; `only` names timeframes."""
        defs = self.defs if now == MOMENT else self.definitions(now)
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        return defs.resolve_job_def(f"{of}_ohlcv_job").execute_in_process(
            instance=self.instance,
            asset_selection=None if only is None else [dg.AssetKey([of, "ohlcv", t]) for t in only],
            run_config={"ops": {f"{of}_ohlcv": {"config": config}}},
            raise_on_error=False,
            **({"tags": tags} if last else {"partition_key": first}),
        )

    def materialized(self, timeframe, of="stocks"):
        return self.instance.get_materialized_partitions(dg.AssetKey([of, "ohlcv", timeframe]))

    def metadata(self, timeframe, partition, of="stocks"):
        """The newest materialization's metadata, as plain values."""
        key = dg.AssetKey([of, "ohlcv", timeframe])
        found = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
        )
        values = found.records[0].asset_materialization.metadata
        return {name: entry.value for name, entry in values.items() if "/" not in name}

    def rows(self, query, *values):
        return rows(self.database_url, query, *values)


@pytest.fixture
def platform(vendor, database_url, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POLYGON_BASE_URL", vendor.url)
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setenv("POLYGON_REQUESTS_PER_SECOND", "500")
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.ephemeral())
        yield Platform(instance, vendor, database_url)
