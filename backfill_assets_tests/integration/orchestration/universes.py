"""Universes, and runs and backfills in Dagster's instance."""

from datetime import date

from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from backfill_assets_tests.support import market, universe

STOCKS = market("stocks", "AAPL", "MSFT", "NVDA", start=date(2025, 6, 16), timeframes="1d 1w")
CRYPTO = market("crypto", "BTC", start=date(2025, 6, 28), timeframes="1d")

ASSETS = universe(market("stocks", "AAPL", "MSFT", "NVDA"), market("crypto", "BTC", "ETH"))

CHECKS = universe(
    market("stocks", "AAPL", "MSFT", start=date(2025, 6, 16)), market("crypto", "BTC", start=date(2025, 6, 28))
)
"""It starts ten sessions ago, so that a test can fetch all of it quickly."""

SENSORS = universe(STOCKS, CRYPTO)


def range_tags(first, last):
    """Return the tags of a run over a rectangle of partitions."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def create_run(instance, status, tags, **fields):
    """Create a run, by default of the stocks job."""
    job = fields.get("job_name", "stocks_ohlcv_job")
    location = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="backfill_assets.definitions"), "backfill_assets"
    )
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)  # queued runs must have one
    return create_run_for_test(
        instance, **{"job_name": job, "status": status, "tags": tags, "remote_job_origin": origin} | fields
    )


def end_backfills(instance, backfill_id=None, status=BulkActionStatus.COMPLETED_FAILED):
    """Mark one backfill, or all, as ended."""
    for backfill in instance.get_backfills():
        if backfill_id in {None, backfill.backfill_id}:
            instance.update_backfill(backfill.with_status(status))
