"""Contracts with Dagster that alerting relies on, on a real instance of the project's dagster.yaml.

An upgrade of Dagster that changes one of these makes a test here fail.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import TickStatus
from dagster._daemon.types import DaemonHeartbeat

from backfill_assets.deployment.private_api import daemon_seen, last_due, ticking
from backfill_assets.deployment.runs import run_failure
from backfill_assets_tests.dagster_harness import QUIET
from backfill_assets_tests.integration.deployment.test_private_api import home, instance
from backfill_assets_tests.integration.orchestration.alerts.alerting import Ticks, ended_run

__all__ = ["home", "instance"]

NOON = datetime(2025, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dg.asset
def failing():
    raise RuntimeError("failed") from ValueError("because")


JOB = dg.Definitions(assets=[failing], executor=dg.in_process_executor).resolve_implicit_global_asset_job_def()


# --- Ticks


def test_ticking_returns_the_last_good_tick_by_name(instance):
    ticks = Ticks(instance)
    ticks.on("looks", NOON)
    ticks.on("nightly", NOON, cron="0 2 * * *")
    assert ticking(instance)["looks"].last_good is None
    ticks.tick("looks", NOON + MINUTE)
    ticks.tick("looks", NOON + 2 * MINUTE, "It broke.")
    ticks.tick("looks", NOON + 3 * MINUTE, status=TickStatus.STARTED)
    ticks.tick("nightly", NOON + MINUTE, "It broke.")
    ticks.tick("nightly", NOON + 2 * MINUTE, status=TickStatus.SUCCESS)
    ticks.off("nightly")
    known = ticking(instance)
    assert set(known) == {"looks", "nightly"}
    looks, nightly = known["looks"], known["nightly"]
    assert (looks.switched_off, looks.started, looks.last_good) == (False, NOON, NOON + MINUTE)
    assert looks.last_error == "It broke."
    assert (nightly.switched_off, nightly.started, nightly.last_good) == (True, NOON, NOON + 2 * MINUTE)
    assert nightly.last_error == ""


def test_an_instance_without_schedule_storage_has_no_ticks():
    with dg.DagsterInstance.ephemeral() as bare:
        assert ticking(bare) == {}


@pytest.mark.parametrize(
    ("cron", "zone", "due"),
    [
        ("0 2 * * *", None, datetime(2025, 7, 1, 2, tzinfo=UTC)),
        ("0 2 * * *", "America/New_York", datetime(2025, 7, 1, 6, tzinfo=UTC)),
        ("0 12 * * *", "UTC", NOON),
        (["0 2 * * *", "30 * * * *"], "UTC", datetime(2025, 7, 1, 11, 30, tzinfo=UTC)),
        ("0 5 * * 0", "UTC", datetime(2025, 6, 29, 5, tzinfo=UTC)),
    ],
)
def test_last_due_is_when_a_schedule_should_have_ticked(cron, zone, due):
    schedule = dg.ScheduleDefinition(name="s", job=JOB, cron_schedule=cron, execution_timezone=zone)
    assert last_due(schedule, NOON) == due


def test_daemon_seen_is_the_older_heartbeat_of_sensors_and_schedules(instance):
    assert daemon_seen(instance) is None
    instance.add_daemon_heartbeat(DaemonHeartbeat(NOON.timestamp(), "SENSOR", "d", []))
    assert daemon_seen(instance) is None
    instance.add_daemon_heartbeat(DaemonHeartbeat((NOON - MINUTE).timestamp(), "SCHEDULER", "d", []))
    instance.add_daemon_heartbeat(DaemonHeartbeat((NOON - 9 * MINUTE).timestamp(), "BACKFILL", "d", []))
    assert daemon_seen(instance) == NOON - MINUTE
    assert {"SENSOR", "SCHEDULER"} <= set(instance.get_required_daemon_types())


# --- Failures


def test_run_failure_is_the_innermost_cause(instance):
    result = JOB.execute_in_process(instance=instance, run_config={"loggers": QUIET}, raise_on_error=False)
    failed = run_failure(instance, result.run_id)
    assert (failed.kind, failed.sentence) == ("ValueError", "because")


def test_run_failure_without_an_error_is_the_reported_message(instance):
    killed = ended_run(instance, "j", NOON, NOON, ("", "Its process died."), step_error=False)
    assert run_failure(instance, killed).sentence == "Its process died."
    (record,) = instance.get_runs(dg.RunsFilter(run_ids=[killed]))
    instance.report_run_failed(record, "Reported twice.")
    assert run_failure(instance, killed).kind == ""
