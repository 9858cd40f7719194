"""Ticks of the alert sensors through Dagster's API, and the runs and ticks that they read."""

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import DagsterEvent, DagsterEventType, JobFailureData
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from backfill_assets.orchestration.resources import MarketStore
from backfill_assets_tests.dagster_harness import FixedClock
from backfill_assets_tests.support import MOMENT


class Sensor:
    """An alert sensor and its cursor."""

    def __init__(self, name, instance, definitions):
        self.name, self.instance, self.definitions = name, instance, definitions
        self.cursor = None

    def tick(self, now=MOMENT, **cursor):
        """Tick at `now`, with rebuilt definitions as after a restart; return its skip message. `cursor=None`: without one."""
        defs = self.definitions(now)
        with dg.build_sensor_context(
            instance=self.instance,
            repository_def=defs.get_repository_def(),
            cursor=cursor.get("cursor", self.cursor),
            resources={"clock": FixedClock(at=now.isoformat()), "store": MarketStore()},
        ) as context:
            data = defs.resolve_sensor_def(self.name).evaluate_tick(context)
        assert not data.run_requests
        self.cursor = data.cursor
        return data.skip_message


def ended_run(instance, job, started, ended, error=None, *, step_error=True, **fields):
    """Create a run that started and ended at these times; it failed with `error` (type, message) if given.

    Without `step_error` the failure has no error, as when its process was killed.
    """
    run = create_run_for_test(instance, job_name=job, status=dg.DagsterRunStatus.NOT_STARTED, **fields)

    def report(kind, at, message="", data=None):
        event = DagsterEvent(event_type_value=kind.value, job_name=job, message=message, event_specific_data=data)
        instance.report_dagster_event(event, run.run_id, timestamp=at.timestamp())

    report(DagsterEventType.RUN_START, started)
    if error is None:
        report(DagsterEventType.RUN_SUCCESS, ended)
    else:
        cause = SerializableErrorInfo(f"pkg.{error[0]}: {error[1]}\n", [], error[0]) if step_error else None
        report(DagsterEventType.RUN_FAILURE, ended, error[1], JobFailureData(cause))
    return run.run_id


class Ticks:
    """Creates states and ticks of sensors and schedules, as the daemon does."""

    def __init__(self, instance):
        self.instance = instance
        location = InProcessCodeLocationOrigin(
            LoadableTargetOrigin(module_name="backfill_assets.definitions"), "backfill_assets"
        )
        self.repository = RemoteRepositoryOrigin(location, "__repository__")

    def on(self, name, started, *, cron=None):
        """Turn a sensor on, or a schedule if `cron` is given."""
        data = (
            ScheduleInstigatorData(cron, started.timestamp())
            if cron
            else SensorInstigatorData(min_interval=30, last_sensor_start_timestamp=started.timestamp())
        )
        kind = InstigatorType.SCHEDULE if cron else InstigatorType.SENSOR
        state = InstigatorState(
            self.repository.get_instigator_origin(name), kind, InstigatorStatus.DECLARED_IN_CODE, data
        )
        self.instance.add_instigator_state(state)

    def off(self, name):
        (state,) = [s for s in self.instance.all_instigator_state() if s.instigator_name == name]
        self.instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))

    def tick(self, name, at, error=None, *, status=None):
        """Record a tick that was skipped, or that failed with a message."""
        (state,) = [s for s in self.instance.all_instigator_state() if s.instigator_name == name]
        self.instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name=name,
                instigator_type=state.instigator_type,
                status=status or (TickStatus.FAILURE if error else TickStatus.SKIPPED),
                timestamp=at.timestamp(),
                selector_id=state.selector_id,
                run_ids=[] if status is TickStatus.SUCCESS else None,
                error=SerializableErrorInfo(
                    "SensorExecutionError: …\n", [], "S", SerializableErrorInfo(f"M: {error}\n", [], "M")
                )
                if error
                else None,
            )
        )
