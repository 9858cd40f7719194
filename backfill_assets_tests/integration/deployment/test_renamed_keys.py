"""Migration 0010: the history that an installation has under the old asset keys is found under the new ones."""

from datetime import UTC, datetime

import dagster as dg
import psycopg
import pytest
from alembic import command
from psycopg.types.json import Jsonb

from backfill_assets.deployment.private_api import launch_backfill, log_materializations, unfinished_backfills
from backfill_assets_tests.dagster_harness import QUIET
from backfill_assets_tests.integration.adapters.store.conftest import empty_database
from backfill_assets_tests.integration.adapters.store.test_schema import migrate
from backfill_assets_tests.integration.deployment.test_private_api import home, instance
from backfill_assets_tests.support import rows

# The event log of Dagster 1.13 uses it if a check was not planned.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")

__all__ = ["empty_database", "home", "instance"]

OLD = [dg.AssetKey(["stocks", "ohlcv", "1m"]), dg.AssetKey(["stocks", "features", "15m"])]
NEW = [dg.AssetKey(["stocks", "ohlcv_1m"]), dg.AssetKey(["stocks", "features_15m"])]
LISTINGS, FOREIGN = dg.AssetKey(["stocks", "listings"]), dg.AssetKey(["other", "ohlcv", "2m"])
DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
TEXTS = {
    "event_logs": "event || coalesce(asset_key, '')",
    "asset_keys": "asset_key || coalesce(last_materialization, '')",
    "asset_check_executions": "asset_key || coalesce(evaluation_event, '')",
    "asset_event_tags": "asset_key || key",
    "runs": "run_body",
    "bulk_actions": "body",
}


def definitions(keys):
    """Two partitioned assets with a check each, and two without partitions, one of which depends on them."""

    @dg.multi_asset(
        name="stocks_ohlcv",
        specs=[dg.AssetSpec(key, skippable=True) for key in keys],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("valid", asset=key) for key in keys],
    )
    def bars(context: dg.AssetExecutionContext):
        for key in keys:
            found = [dg.AssetMaterialization(key, partition=p) for p in context.partition_keys[::2]]
            log_materializations(context, found)
            yield dg.AssetCheckResult(asset_key=key, check_name="valid", passed=False, description=str(key.path))

    @dg.asset(key=LISTINGS, deps=keys)
    def listings():
        pass

    @dg.asset(key=FOREIGN)
    def foreign():
        pass

    return dg.Definitions(assets=[bars, listings, foreign], executor=dg.in_process_executor)


def run(opened, keys, selection, **options):
    job = definitions(keys).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=opened, asset_selection=selection, run_config={"loggers": QUIET}, **options
    ).run_id


def history(opened, keys):
    """Return what Dagster shows under these keys."""
    checks = [dg.AssetCheckKey(key, "valid") for key in keys]
    summaries = opened.event_log_storage.get_asset_check_summary_records(checks)
    repository = definitions(keys).get_repository_def()
    return {
        "partitions": [sorted(opened.get_materialized_partitions(key)) for key in keys],
        "latest": [opened.get_latest_materialization_event(key).asset_materialization.partition for key in keys],
        "status": [opened.get_status_by_partition(key, ["2024-01-03", "2024-01-04"], DAYS) for key in keys],
        "checks": [summaries[check].last_check_execution_record.run_id for check in checks],
        "runs": [len(opened.get_runs(dg.RunsFilter())), [sorted(r.asset_selection or ()) for r in opened.get_runs()]],
        "backfills": [b.partitions for b in unfinished_backfills(opened, repository)],
        "others": [opened.get_latest_materialization_event(key).run_id for key in (LISTINGS, FOREIGN)],
    }


def under(keys, shown):
    """Replace the keys of a history."""
    names = {str(old): new for old, new in zip(OLD + NEW, keys + keys, strict=True)}
    runs, selections = shown["runs"]
    return shown | {
        "runs": [runs, [sorted(names.get(str(key), key) for key in selected) for selected in selections]],
        "backfills": [{names[str(key)]: parts for key, parts in b.items()} for b in shown["backfills"]],
    }


def stored(url):
    """Return every text that contains a key."""
    return {
        table: rows(url, f"select {text} from dagster.{table} order by id")  # noqa: S608  # constants
        for table, text in TEXTS.items()
    }


@pytest.fixture
def filled(instance, dagster_database_url):
    """Tables at revision 0009, with records under the old keys."""
    migrate(dagster_database_url, command.downgrade, "0009")
    tags = {
        "dagster/asset_partition_range_start": "2024-01-03",
        "dagster/asset_partition_range_end": "2024-01-12",
    }
    run(instance, OLD, OLD, tags=tags)
    run(instance, OLD, [LISTINGS])
    run(instance, OLD, [FOREIGN])
    repository = definitions(OLD).get_repository_def()
    at = datetime(2025, 7, 1, tzinfo=UTC)
    launch_backfill(instance, repository, OLD, [("2024-01-20", "2024-01-21")], title="t", tags={}, at=at)
    return instance


def test_history_is_kept_under_the_new_keys_and_back(filled, dagster_database_url):
    before = history(filled, OLD)
    texts = stored(dagster_database_url)
    assert [len(found) for found in before["partitions"]] == [5, 5]
    migrate(dagster_database_url, command.upgrade, "0010")
    assert history(filled, NEW) == under(NEW, before)
    assert filled.get_materialized_partitions(OLD[0]) == set()
    for table, text in TEXTS.items():
        query = rf"""select count(*) from dagster.{table}
                     where {text} ~ '(ohlcv|features)(", "|/|__)(1m|15m)' and {text} !~ '2m'"""  # noqa: S608  # constants
        assert rows(dagster_database_url, query) == [(0,)], table
    migrate(dagster_database_url, command.downgrade, "0009")
    assert history(filled, OLD) == before
    assert stored(dagster_database_url) == texts


def test_a_new_key_that_is_already_in_use_keeps_the_old_history(filled, dagster_database_url):
    before = history(filled, OLD)
    filled.report_runless_asset_event(dg.AssetMaterialization(NEW[0], partition="2024-01-30"))
    migrate(dagster_database_url, command.upgrade, "0010")
    assert filled.get_materialized_partitions(NEW[0]) == {*before["partitions"][0], "2024-01-30"}


def test_open_alerts_are_renamed(empty_database):
    migrate(empty_database, command.upgrade, "0009")
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            """insert into alerts (incident, severity, sentence, details, place, reminds, opened_at)
               values ('check:stocks/ohlcv/1d:bars_are_valid', 'critical', 'stocks/ohlcv/1d: bad.', %s, %s, true, now())""",
            [Jsonb([["asset"], ["stocks/features/1w"]]), Jsonb({"asset": "stocks/ohlcv/1d"})],
        )
    query = "select incident, sentence, details, place from alerts"
    before = rows(empty_database, query)
    migrate(empty_database, command.upgrade, "head")
    assert rows(empty_database, query) == [
        (
            "check:stocks/ohlcv_1d:bars_are_valid",
            "stocks/ohlcv_1d: bad.",
            [["asset"], ["stocks/features_1w"]],
            {"asset": "stocks/ohlcv_1d"},
        )
    ]
    migrate(empty_database, command.downgrade, "0009")
    assert rows(empty_database, query) == before
