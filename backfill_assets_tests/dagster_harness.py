"""Dagster runs, checks and sensor ticks of a small universe, over the simulated vendor and the test's database."""

from datetime import datetime
from functools import lru_cache

import dagster as dg
import pytest

from backfill_assets.deployment.environment import BATCH_SIZE
from backfill_assets.deployment.storage import PLANNED_SUBSETS
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets_tests.snapshots import copy_of
from backfill_assets_tests.support import KEY, MOMENT, rows

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


class FixedClock(Clock):
    """A clock that always returns the same time."""

    at: str = MOMENT.isoformat()

    def now(self):
        return datetime.fromisoformat(self.at)


def definitions_with(resources, universe, now=MOMENT):
    """Build the definitions of a universe at a time, with these resources instead of the usual ones."""
    clock = FixedClock(at=now.isoformat())
    return build_definitions(universe=universe, today=now.date(), resources={"clock": clock, **resources})


@lru_cache(maxsize=64)  # each takes a tenth of a second
def definitions(universe, now=MOMENT):
    """Build the definitions of a universe at a time."""
    return definitions_with({}, universe, now)


class DagsterHarness:
    """The definitions of a small universe and an ephemeral instance; methods run and query them."""

    def __init__(self, instance, vendor, database_url, universe, snapshots):
        self.instance, self.vendor, self.database_url, self.universe = instance, vendor, database_url, universe
        self._snapshots = snapshots
        self.defs = self.definitions(MOMENT)
        self.cursor = None

    def start_from(self, state, make):
        """Start from the state that `make` leads to. Only the first test calls it; the others send the vendor nothing."""
        self._snapshots.restore_or_make(
            (self.universe, state), self.database_url, make, sqlite_databases(self.instance)
        )

    def definitions(self, now):
        return definitions(self.universe, now)

    def run(self, first, last=None, *, of="stocks", family="ohlcv", only=None, now=MOMENT, **config):
        """Run a market's job over one partition, or over a rectangle; `family` may be features, `only` selects timeframes."""
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
        """Run a market's asset checks."""
        job = self._at(now).resolve_job_def(f"{of}_{family}_checks")
        return job.execute_in_process(instance=self.instance, run_config={"loggers": QUIET}, raise_on_error=False)

    def materialize(self, *path, now=MOMENT):
        """Materialize an unpartitioned asset."""
        job = self._at(now).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(path)],
            run_config={"loggers": QUIET},
            raise_on_error=False,
        )

    def tick(self, now=MOMENT, **cursor):
        """Tick the repair sensor at `now`, with its last cursor or the given one; return the skip message."""
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
    """Return the root cause of the failure of a run's only step."""
    (event,) = [e for e in result.all_events if e.is_step_failure]
    error = event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    return error


def sqlite_databases(instance):
    """Return the databases of an ephemeral instance."""
    storages = (instance.run_storage, instance.event_log_storage)
    return [storage._held_conn.connection.driver_connection for storage in storages]


@pytest.fixture(scope="session")
def ephemeral_instance():
    """One instance for the session, and copies of its empty databases: to create an instance takes a tenth of a second."""
    with dg.DagsterInstance.ephemeral() as shared:
        empty = [copy_of(database) for database in sqlite_databases(shared)]
        yield shared, empty
        for database in empty:
            database.close()


@pytest.fixture
def blank_instance(ephemeral_instance):
    """An ephemeral instance without records."""
    shared, empty = ephemeral_instance
    for database, used in zip(empty, sqlite_databases(shared), strict=True):
        database.backup(used)
    return shared


@pytest.fixture
def harness(vendor, database_url, monkeypatch, tmp_path, small_universe, snapshots, blank_instance):
    """A harness over the fixture `small_universe`, which each folder defines."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POLYGON_BASE_URL", vendor.url)
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setenv("POLYGON_REQUESTS_PER_SECOND", "500")
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    # As everywhere: this instance is not of dagster.yaml, and nothing else sets them.
    monkeypatch.setenv(BATCH_SIZE, "1000")
    monkeypatch.setenv(PLANNED_SUBSETS, "1")
    for name in ("DAGSTER_HOME", "BACKFILL_RETRY_FIRST_PAUSE", "BACKFILL_RETRY_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    return DagsterHarness(blank_instance, vendor, database_url, small_universe, snapshots)
