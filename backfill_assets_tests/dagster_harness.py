"""Dagster runs, checks and sensor ticks of a small universe, over the simulated vendor and a database of the test's own."""

from datetime import datetime
from functools import lru_cache

import dagster as dg
import pytest

from backfill_assets.deployment.storage import EVENT_SETTINGS
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets_tests.surroundings import KEY, MOMENT, rows

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


class FixedClock(Clock):
    """A clock that stands still."""

    at: str = MOMENT.isoformat()

    def now(self):
        return datetime.fromisoformat(self.at)


def definitions_with(resources, universe, now=MOMENT):
    """The definitions of a universe at an instant, with other resources than usual."""
    clock = FixedClock(at=now.isoformat())
    return build_definitions(universe=universe, today=now.date(), resources={"clock": clock, **resources})


@lru_cache(maxsize=64)  # they never change, and a tenth of a second each adds up
def definitions(universe, now=MOMENT):
    """The definitions of a universe at an instant."""
    return definitions_with({}, universe, now)


class DagsterHarness:
    """The definitions of a small universe, an instance of its own, and what the tests ask of both."""

    def __init__(self, instance, vendor, database_url, universe, snapshots):
        self.instance, self.vendor, self.database_url, self.universe = instance, vendor, database_url, universe
        self._beginnings = snapshots
        self.defs = self.definitions(MOMENT)
        self.cursor = None

    def begin(self, state, make):
        """Be as after `make`, which is done for the first test that begins there; the vendor hears nothing of the others."""
        memories = [
            storage._held_conn.connection.driver_connection
            for storage in (self.instance.run_storage, self.instance.event_log_storage)
        ]
        self._beginnings.at((self.universe, state), self.database_url, make, memories)

    def definitions(self, now):
        return definitions(self.universe, now)

    def run(self, first, last=None, *, of="stocks", family="ohlcv", only=None, now=MOMENT, **config):
        """Run a market's job over one partition or a rectangle of them; `family` may be features, `only` names timeframes."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        return (
            self._at(now)
            .resolve_job_def(f"{of}_{family}_job")
            .execute_in_process(
                instance=self.instance,
                asset_selection=None if only is None else [dg.AssetKey([of, f"{family}_{t}"]) for t in only],
                run_config={"ops": {f"{of}_{family}": {"config": config}}, "loggers": QUIET},
                raise_on_error=False,
                **({"tags": tags} if last else {"partition_key": first}),
            )
        )

    def check(self, of="stocks", now=MOMENT, family="ohlcv"):
        """Run a market's checks by themselves."""
        job = self._at(now).resolve_job_def(f"{of}_{family}_checks")
        return job.execute_in_process(instance=self.instance, run_config={"loggers": QUIET}, raise_on_error=False)

    def materialize(self, *path, now=MOMENT):
        """Run an asset without partitions."""
        job = self._at(now).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(path)],
            run_config={"loggers": QUIET},
            raise_on_error=False,
        )

    def tick(self, now=MOMENT, **cursor):
        """Let the repair sensor look at `now`, with the cursor that it left, or another one."""
        self.cursor = cursor.get("cursor", self.cursor)
        defs = self._at(now)
        with dg.build_sensor_context(
            instance=self.instance,
            repository_def=defs.get_repository_def(),
            cursor=self.cursor,
            resources={"clock": FixedClock(at=now.isoformat()), "store": MarketStore()},
        ) as context:
            data = defs.resolve_sensor_def("gap_repair").evaluate_tick(context)
        assert not data.run_requests
        self.cursor = data.cursor
        return data.skip_message

    def materialized(self, timeframe, of="stocks", family="ohlcv"):
        return self.instance.get_materialized_partitions(dg.AssetKey([of, f"{family}_{timeframe}"]))

    def metadata(self, timeframe, partition, of="stocks", family="ohlcv"):
        """The newest materialization's metadata, as plain values."""
        key = dg.AssetKey([of, f"{family}_{timeframe}"])
        found = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
        )
        values = found.records[0].asset_materialization.metadata
        return {name: entry.value for name, entry in values.items() if "/" not in name}

    def rows(self, query, *values):
        return rows(self.database_url, query, *values)

    def _at(self, now):
        return self.defs if now == MOMENT else self.definitions(now)


def failure(result):
    """The innermost error of a run's only step."""
    (event,) = [e for e in result.all_events if e.is_step_failure]
    error = event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    return error


@pytest.fixture
def platform(vendor, database_url, monkeypatch, tmp_path, universe_kept, snapshots):
    """A platform over the universe of the fixture `universe_kept`, which each folder has its own of."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POLYGON_BASE_URL", vendor.url)
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setenv("POLYGON_REQUESTS_PER_SECOND", "500")
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    for name, value in EVENT_SETTINGS.items():
        monkeypatch.setenv(name, value)  # as everywhere: the instance of a test is not ours, and would not set them
    for name in ("DAGSTER_HOME", "BACKFILL_RETRY_FIRST_PAUSE", "BACKFILL_RETRY_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterHarness(instance, vendor, database_url, universe_kept, snapshots)
