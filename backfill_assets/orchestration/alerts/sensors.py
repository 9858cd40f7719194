"""The two sensors that send alerts. Each also watches that the other one ticks.

They alert on the current state, not on events: a lost cursor neither repeats nor loses an alert.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import json
from collections.abc import Collection, Container, Iterable
from datetime import datetime
from urllib.parse import unquote, urlsplit

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.private_api import records_needed, ticking
from backfill_assets.deployment.runs import close_records, key_refusal
from backfill_assets.domain.alert_rules import (
    COVERAGE_CHECKS,
    GAP_CHECK,
    MARKET_CHECKS,
    CheckObservation,
    CheckResult,
    GapObservation,
    Observation,
    check_incident,
    heartbeat_incident,
)
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.alerts.ended_runs import newest_change, observe_runs, watched_jobs
from backfill_assets.orchestration.alerts.heartbeats import SILENT_AFTER, Watch, automation_names, observe_heartbeats
from backfill_assets.orchestration.keys import family_of, ohlcv_key
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.alerts import AlertSettings, deliver, settle, summary

CHECK_ALERTS, RUN_ALERTS = "check_alerts", "run_alerts"
EVERY_SECONDS = 30

NO_CHANNELS = "ALERT_URLS is not set: alerts are not sent."

_SHORTEST_SECRET = 4
"""Shorter secrets are not masked: they would mask parts of ordinary words."""


def check_alerts_sensor(universe: Universe) -> dg.SensorDefinition:
    """Define the sensor that alerts on gaps, failed checks, and sensors and schedules that do not tick. On by default.

    Dagster has no sensor for checks, and a failed check leaves its run successful.
    """

    @dg.sensor(
        name=CHECK_ALERTS,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends alerts on gaps, failed checks, and sensors and schedules that do not tick to the channels of "
        "ALERT_URLS: when they begin, get worse, last for a day, and end.",
    )
    @records_needed()
    def check_alerts(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor needs its repository")
        watch, _ = _read(context.cursor, clock.now())
        checks = {key for key in repository.asset_graph.asset_check_keys if key.name != GAP_CHECK}
        names = automation_names(repository) - {CHECK_ALERTS}
        watched = {
            *(f"gap:{market.name}" for market in universe.markets),
            *(check_incident(_subject(key), key.name) for key in checks),
            *(heartbeat_incident(name) for name in (*names, CHECK_ALERTS)),
        }
        with AlertStore(store.url()) as alerts:
            runs = RunStore.beside(alerts)
            held = key_refusal(context.instance, runs) is not None or _repair_begins(runs, watch)
            results = [r for r in alerts.check_results() if not (held and r.check in COVERAGE_CHECKS)]
            observations: list[Observation] = [
                *([] if held else _observe_gaps(alerts, universe, clock.now())),
                *_observe_checks(results, checks),
                *observe_heartbeats(ticking(context.instance), repository, names, watch),
            ]
            report = _notify(alerts, clock, observations, ("gap:", "check:", "heartbeat:"), watched)
        return dg.SensorResult(skip_reason=report, cursor=_cursor(watch, None))

    return check_alerts


def run_alerts_sensor(universe: Universe) -> dg.SensorDefinition:
    """Define the sensor that alerts on failed runs, however they were started. On by default.

    Dagster's run failure sensor starts from the newest failure when its cursor is lost, and does not know which failures a
    later run has resolved.
    """

    @dg.sensor(
        name=RUN_ALERTS,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends alerts on a refused key, crashed runs, features that were not computed, and markets whose "
        "backfill failed on three consecutive days to the channels of ALERT_URLS: when they begin, get worse, last for a "
        "day, and end.",
    )
    @records_needed()
    def run_alerts(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor needs its repository")
        watch, examined = _read(context.cursor, clock.now())
        newest = newest_change(context.instance)
        observations: list[Observation] = [
            *observe_heartbeats(ticking(context.instance), repository, [CHECK_ALERTS], watch)
        ]
        watched = {f"run:{job}" for job in watched_jobs(repository)}
        watched |= {f"backfill:{market.name}" for market in universe.markets}
        with AlertStore(store.url()) as alerts:
            runs = RunStore.beside(alerts)
            close_records(context.instance, runs)
            if newest != examined:
                refusal = key_refusal(context.instance, runs)
                observations += observe_runs(context.instance, universe, refusal, clock.now())
            report = _notify(alerts, clock, observations, ("run:", "backfill:"), watched)
        return dg.SensorResult(skip_reason=report, cursor=_cursor(watch, newest))

    return run_alerts


def _repair_begins(runs: RunStore, watch: Watch) -> bool:
    """Whether the daemon has just started, and no run has ever sent requests: whether the key is accepted is not known."""
    return watch.last - watch.since < SILENT_AFTER and not runs.newest_requests()


def _observe_gaps(store: AlertStore, universe: Universe, now: datetime) -> list[GapObservation]:
    gaps = store.open_gaps(s.name for m in universe.markets for s in m.symbols)
    observations = []
    for market in universe.markets:
        series = {(s.name, t.name) for s in market.symbols for t in market.timeframes}
        of_market = tuple(g for g in gaps if (g.symbol, g.timeframe) in series)
        assets = {t.name: ohlcv_key(market, t).to_user_string() for t in market.timeframes}
        observations.append(GapObservation(market.name, of_market, assets, now))
    return observations


def _observe_checks(results: Iterable[CheckResult], checks: Iterable[dg.AssetCheckKey]) -> list[CheckObservation]:
    """Group the results of these checks by incident."""
    keys = {(key.asset_key.to_user_string(), key.name): key for key in checks}
    grouped: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        if key := keys.get((result.asset, result.check)):
            grouped.setdefault((_subject(key), key.name), []).append(result)
    return [CheckObservation(subject, tuple(group)) for (subject, _), group in grouped.items()]


def _subject(check: dg.AssetCheckKey) -> str:
    """Return what names a check's incident: `stocks/ohlcv_1m`, or `stocks/ohlcv` if the check is about the market."""
    if check.name in MARKET_CHECKS:
        return "/".join(family_of(check.asset_key))
    return check.asset_key.to_user_string()


def _notify(
    store: AlertStore,
    clock: Clock,
    observations: Collection[Observation],
    kinds: tuple[str, ...],
    watched: Container[str],
) -> str:
    """Write what changed, send the messages that are due, and summarize the open alerts.

    Incidents of these kinds (prefixes) that are not in `watched` are closed.
    """
    from backfill_assets.adapters.notify import channel_names, channels  # noqa: PLC0415  # loads apprise

    settings = Settings.read()
    alert_settings = AlertSettings(
        tuple(channel_names(settings.alert_urls)), settings.alert_repeat, settings.dagster_ui_url, _secrets(settings)
    )
    settle(
        store,
        observations,
        alert_settings,
        clock.now(),
        lambda incident: incident.startswith(kinds) and incident not in watched,
    )
    sent = deliver(store, channels(settings.alert_urls), clock.now)
    report = summary(store.open(), store.waiting(), sent)
    return report if settings.alert_urls else f"{NO_CHANNELS} {report}"


def _secrets(settings: Settings) -> tuple[str, ...]:
    """Return the texts that no alert may contain, the longest first, as one may contain another."""
    found = {settings.api_key, settings.database_url, *settings.alert_urls}
    for url in (settings.database_url, *settings.alert_urls):
        if password := urlsplit(url).password if url else None:
            found |= {password, unquote(password)}
    return tuple(sorted((text for text in found if text and len(text) >= _SHORTEST_SECRET), key=len, reverse=True))


def _read(cursor: str | None, now: datetime) -> tuple[Watch, datetime | None]:
    """Return the watch as of `now`, and the newest change of a run that was examined; an unreadable cursor is ignored."""
    try:
        stored = json.loads(cursor or "")
        watch = Watch(datetime.fromisoformat(stored["since"]), datetime.fromisoformat(stored["last"]))
        examined = datetime.fromisoformat(stored["changed"]) if stored.get("changed") else None
    except (ValueError, KeyError, TypeError):
        watch, examined = None, None
    return Watch.after(watch, now), examined


def _cursor(watch: Watch, examined: datetime | None) -> str:
    instants = {"since": watch.since, "last": watch.last, "changed": examined}
    return json.dumps({name: at.isoformat() for name, at in instants.items() if at})
