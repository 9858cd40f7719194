"""Closing the records of runs that ended without recording it."""

from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.runs import close_records
from backfill_assets.domain.runs import RunKind, RunStart, RunStatus
from backfill_assets_tests.integration.orchestration.alerts.alerting import ended_run
from backfill_assets_tests.support import MOMENT

BEGUN, ENDED = MOMENT - timedelta(minutes=2), MOMENT
KILLED = ("", "The process of this run died; what it stored is kept.")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def runs(database_url):
    with RunStore(database_url) as store:
        yield store


def begin(runs, run_id, *markets):
    for market in markets or ("stocks",):
        runs.start(RunStart(run_id, RunKind.OHLCV, market, "by hand", BEGUN))


def recorded(runs, run_id):
    return [(r.run["status"], r.run["finished_at"], r.run["error"]) for r in runs.read(run_id=run_id)]


def test_a_killed_run_is_recorded_as_failed_with_time_and_reason(instance, runs):
    run_id = ended_run(instance, "stocks_ohlcv_job", BEGUN, ENDED, KILLED, step_error=False)
    begin(runs, run_id, "stocks", "crypto")
    assert close_records(instance, runs) == 2
    assert recorded(runs, run_id) == [("failed", ENDED, KILLED[1])] * 2
    assert close_records(instance, runs) == 0


def test_a_successful_run_that_did_not_record_its_end_is_recorded_without_an_error(instance, runs):
    run_id = ended_run(instance, "stocks_ohlcv_job", BEGUN, ENDED)
    begin(runs, run_id)
    assert close_records(instance, runs) == 1
    assert recorded(runs, run_id) == [("succeeded", ENDED, None)]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, None])
def test_runs_in_progress_or_unknown_to_dagster_are_left_alone(instance, runs, status):
    run_id = create_run_for_test(instance, job_name="stocks_ohlcv_job", status=status).run_id if status else "elsewhere"
    begin(runs, run_id)
    assert close_records(instance, runs) == 0
    assert recorded(runs, run_id) == [("started", None, None)]


def test_what_a_run_recorded_itself_is_kept(instance, runs):
    run_id = ended_run(instance, "stocks_ohlcv_job", BEGUN, ENDED, ("SeriesFailed", "1 of 3 series failed"))
    begin(runs, run_id)
    before = MOMENT - timedelta(seconds=1)
    stored = runs.abandon(run_id, before, RunStatus.CANCELED, None)
    assert stored == 1
    assert close_records(instance, runs) == 0
    assert recorded(runs, run_id) == [("canceled", before, None)]
