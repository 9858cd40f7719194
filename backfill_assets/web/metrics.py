"""`/metrics`: what is stored, missing and running, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.adapters.store.runs import RunTotals
from backfill_assets.domain.completeness import Completeness, Counts
from backfill_assets.domain.errors import BackfillError
from backfill_assets.domain.gaps import unexplained
from backfill_assets.presentation.status_page import SourceState
from backfill_assets.web.platform import Platform


class Metrics(Collector):
    """Reads the metrics when they are requested. Without the database, only those that need none."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not read the metrics."""
        return ()

    async def endpoint(self, _request: Request) -> Response:
        """Answer with all metrics."""
        body = await run_in_threadpool(generate_latest, self._registry)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        platform = self._platform
        health = platform.health()
        yield GaugeMetricFamily("backfill_database_up", "Whether the database can be used.", health.database)
        yield GaugeMetricFamily("backfill_daemon_up", "Whether the daemon was seen in the last 40 s.", health.daemon)
        yield _gauge(
            "backfill_source_limit_requests_per_second",
            "The most requests a second to a source of bars.",
            ("source",),
            [((s.source,), s.requests_per_second) for s in _sources(platform) if s.requests_per_second],
        )
        if not health.database:
            return
        with suppress(BackfillError):  # the database went away meanwhile
            found = platform.snapshot()
            yield from _completeness(found.found)
            severities = Counter("error" if check.error else "warning" for check in found.checks)
            yield _gauge(
                "backfill_failed_checks",
                "Asset checks that failed when they were last evaluated.",
                ("severity",),
                [((name,), severities[name]) for name in ("warning", "error")],
            )
            opened = Counter(incident.finding.severity.word for incident in platform.incidents())
            yield _gauge(
                "backfill_alerts_open",
                "Open alerts.",
                ("severity",),
                [((name,), opened[name]) for name in ("warning", "critical")],
            )
            yield _gauge("backfill_runs_running", "Runs that have not ended.", (), [((), len(platform.running()))])
            yield from _runs(platform.totals())
            ticks = sorted(platform.ticking().items())
            yield _gauge(
                "backfill_last_tick_timestamp_seconds",
                "When a schedule or sensor that is on last ticked without an error.",
                ("name", "kind"),
                [
                    ((name, "schedule" if each.crons else "sensor"), each.last_good.timestamp())
                    for name, each in ticks
                    if each.last_good and not each.switched_off
                ],
            )


def _sources(platform: Platform) -> list[SourceState]:
    with suppress(BackfillError):  # the universe file is wrong
        return platform.sources(datetime.now(UTC))
    return []


def _completeness(found: Iterable[Completeness]) -> Iterator[Metric]:
    sessions = GaugeMetricFamily(
        "backfill_sessions", "Finished sessions of all symbols.", labels=("market", "timeframe", "state")
    )
    newest = GaugeMetricFamily(
        "backfill_newest_bar_timestamp_seconds", "Start of the newest bar.", labels=("market", "timeframe")
    )
    gaps = GaugeMetricFamily("backfill_open_gaps", "Gaps that are not explained.", labels=("market", "reason"))
    for market in found:
        for timeframe in market.timeframes:
            series = [each for row in market.rows for each in row.series if each.timeframe == timeframe]
            counts = sum((each.counts for each in series), Counts())
            for state in ("expected", "complete", "fallback", "explained", "partial", "missing"):
                sessions.add_metric((market.market, timeframe, state), getattr(counts, state))
            if last := max((each.last_bar for each in series if each.last_bar), default=None):
                newest.add_metric((market.market, timeframe), last.timestamp())
        reasons = Counter(gap.reason.value for gap in unexplained(market.gaps))
        for reason in ("missing", "partial"):
            gaps.add_metric((market.market, reason), reasons[reason])
    yield from (sessions, newest, gaps)


def _runs(totals: Iterable[RunTotals]) -> Iterator[Metric]:
    ended = [total for total in totals if total.status != "started"]
    by_status, by_kind = ("market", "kind", "status"), ("market", "kind")
    yield _counter("backfill_runs", "Runs that have ended.", by_status, ended, "runs")
    yield _counter("backfill_run_seconds", "Time that runs took.", by_status, ended, "seconds")
    yield _counter("backfill_requests", "Requests of ended runs to sources of bars.", by_kind, ended, "requests")
    yield _counter("backfill_requests_retried", "Requests that were retries.", by_kind, ended, "retried")
    yield _counter("backfill_requests_rate_limited", "Answers with status 429.", by_kind, ended, "rate_limited")
    yield _counter("backfill_rows_written", "Bars and features that ended runs wrote.", by_kind, ended, "rows")


def _counter(name: str, text: str, labels: tuple[str, ...], totals: Iterable[RunTotals], field: str) -> Metric:
    sums = Counter[tuple[str, ...]]()
    for total in totals:
        sums[tuple(getattr(total, label) for label in labels)] += getattr(total, field)
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in sums.items():
        family.add_metric(values, number)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
