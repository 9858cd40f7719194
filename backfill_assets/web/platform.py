"""What the server shows, read on request, but at most every few seconds, however many clients there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backfill_assets.adapters.archive.places import place_of
from backfill_assets.adapters.archive.sessions import sessions_in
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.runs import Record, RecordedRun, RunStore, RunTotals
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.deployment.health import PlatformHealth, existing_database, platform_health
from backfill_assets.domain.alert_history import Incident
from backfill_assets.domain.alert_rules import CheckResult, failed_checks
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable
from backfill_assets.domain.selection import Selection
from backfill_assets.domain.sources import FALLBACKS, POLYGON, POLYGON_FILES, SOURCES
from backfill_assets.domain.universe import Universe
from backfill_assets.pipelines.archive import last_published
from backfill_assets.pipelines.backfill_request import market_calendar
from backfill_assets.pipelines.selection import backfill_requests
from backfill_assets.pipelines.status import read_status
from backfill_assets.presentation.status_page import ArchiveState, PlatformState, SourceState, SymbolDetails

if TYPE_CHECKING:
    from backfill_assets.deployment.private_api import Ticking
    from backfill_assets.orchestration.alerts.state import AlertState

_SECONDS = 3.0
_SHARE = 0.1
"""The most of a processor that reading one thing again and again takes."""


class Cached[T]:
    """A value that is read by one thread for all, and again when it is `seconds` old; errors are kept too.

    Reading that takes long is repeated less often.
    """

    def __init__(self, read: Callable[[], T], seconds: float = _SECONDS) -> None:
        self._read, self._seconds, self._lock = read, seconds, threading.Lock()
        self._value: T | BackfillError | None = None
        self._until = 0.0

    def __call__(self) -> T:
        """Return the value, or raise the error of reading it."""
        with self._lock:
            began = time.monotonic()
            if self._value is None or began >= self._until:
                pause = self._seconds
                try:
                    self._value = self._read()
                    pause = max(pause, (time.monotonic() - began) / _SHARE)
                except BackfillError as error:
                    self._value = error
                self._until = time.monotonic() + pause
            value = self._value
        if isinstance(value, BackfillError):
            raise value.with_traceback(None)
        return value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The universe and what is stored of it, at `now` (UTC). `bars` is the number of bars by stored symbol."""

    now: datetime
    universe: Universe
    found: list[Completeness]
    checks: list[CheckResult]
    orphans: list[str]
    bars: Mapping[str, int]

    def selected(self, selection: Selection, settings: Settings) -> Snapshot:
        """Return what a selection has of it. Raises UsageMistake for a name that is not in the universe."""
        requests = backfill_requests(selection, self.universe, self.now, settings.retries)
        wanted = {request.market.name: request.names for request in requests}
        results = [c for r in requests for c in failed_checks(self.checks, r.market, symbols=r.names)]
        found = [
            replace(f, rows=tuple(row for row in f.rows if row.symbol in wanted[f.market]))
            for f in self.found
            if f.market in wanted
        ]
        return replace(self, found=found, checks=results)


class Platform:
    """Reads what is stored, and Dagster's records. Its methods raise BackfillError; threads share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._store: Store | None = None
        self._lock = threading.Lock()
        self.health: Cached[PlatformHealth] = Cached(lambda: platform_health(settings), 1)
        self.snapshot = Cached(lambda: self.read(self._snapshot))
        self.running: Cached[list[Record]] = Cached(lambda: self.read(lambda s: RunStore.beside(s).running()))
        self.totals: Cached[list[RunTotals]] = Cached(lambda: self.read(lambda s: RunStore.beside(s).totals()))
        self.last_runs: Cached[list[RecordedRun]] = Cached(lambda: self.read(lambda s: RunStore.beside(s).last()))
        self.incidents: Cached[list[Incident]] = Cached(lambda: self.read(lambda s: AlertStore.beside(s).open()))
        self.archives: Cached[list[ArchiveState]] = Cached(self._archives, 60)
        self.alerts = Cached(lambda: self.read(self._alerts))
        self.ticking = Cached(lambda: self.read(lambda _: self._ticking()))

    def read[T](self, work: Callable[[Store], T]) -> T:
        """Run the work on the store, which is opened again after the database was away."""
        with self._lock:
            if self._store is None:
                url = existing_database(self.settings)
                schema.require_current(url)
                self._store = Store(url, read_only=True)
            store = self._store
        try:
            return work(store)
        except DatabaseUnavailable:
            with self._lock:
                if self._store is store:
                    self._store = None
            store.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        with self._lock, suppress(BackfillError):
            if self._store is not None:
                self._store.close()
            self._store = None

    def state(self, selection: Selection) -> PlatformState:
        """Return the state for a page; why it cannot be read is in it. Raises UsageMistake for an unknown name."""
        now, settings, sources = datetime.now(UTC), self.settings, list[SourceState]()
        try:
            sources = self.sources(now)
            found, health, incidents, running = self.snapshot(), self.health(), self.incidents(), self.running()
            last_runs = [recorded.run for recorded in self.last_runs()]
        except BackfillError as error:
            return PlatformState(now=now, failure=str(error), sources=sources, ui_url=settings.dagster_ui_url)
        selected, archives, archive_failure = found.selected(selection, settings), list[ArchiveState](), ""
        try:
            archives = self.archives()
        except BackfillError as error:
            archive_failure = str(error)
        return PlatformState(
            now=now,
            daemon="" if health.daemon else health.sentence,
            found=selected.found,
            checks=selected.checks,
            incidents=incidents,
            running=running,
            last_runs=last_runs,
            sources=sources,
            archives=archives,
            archive_failure=archive_failure,
            ui_url=settings.dagster_ui_url,
        )

    def sources(self, now: datetime) -> list[SourceState]:
        """Return the vendor's sources, and the others that a market uses. Raises UniverseMistake."""
        settings, markets = self.settings, self.settings.universe(now.date()).markets
        users = {source: tuple(m.name for m in markets if source in {*m.sources, m.witness}) for source in SOURCES}
        rate, key, files = settings.requests_per_second, settings.api_key, settings.files_access_key_id
        others = [name for name in FALLBACKS if users[name]]
        return [
            SourceState(POLYGON, settings.base_url, rate, key is not None, users[POLYGON]),
            SourceState(POLYGON_FILES, settings.files_url, None, files is not None, users[POLYGON_FILES]),
            *(SourceState(name, *settings.other_source(name), None, users[name]) for name in others),
        ]

    def _archives(self) -> list[ArchiveState]:
        now, settings = datetime.now(UTC), self.settings
        universe = settings.universe(now.date())
        if not universe.archives:
            return []
        place = place_of(settings.archive, settings.data / "archive-parts")
        found = []
        for archive in universe.archives:
            calendar = market_calendar(archive, now.date())
            newest = last_published(calendar, now)
            days = DayRange(archive.start, newest) if newest and newest >= archive.start else None
            for timeframe in archive.timeframes:
                sizes = sessions_in(place, archive.name, timeframe.name, days) if days else {}
                missing = len(set(calendar.within(days)) - set(sizes)) if days else 0
                size, last = sum(sizes.values()), max(sizes, default=None)
                found.append(ArchiveState(archive.name, timeframe.name, len(sizes), missing, last, size))
        return found

    def _snapshot(self, store: Store) -> Snapshot:
        now = datetime.now(UTC)
        universe = self.settings.universe(now.date())
        requests = backfill_requests(
            Selection(), universe, now, self.settings.retries, flat_files=self.settings.has_flat_files
        )
        found, checks, orphans = read_status(store, universe, requests, now)
        return Snapshot(now, universe, found, checks, orphans, SeriesStore.beside(store).bars_by_symbol())

    def _alerts(self, store: Store) -> AlertState:
        from backfill_assets.orchestration.alerts.state import alert_state  # noqa: PLC0415  # Dagster takes seconds to load
        from backfill_assets.orchestration.launch import open_instance  # noqa: PLC0415  # the same

        with open_instance(self.settings) as instance:
            return alert_state(self.settings, store, instance, datetime.now(UTC))

    def _ticking(self) -> dict[str, Ticking]:
        from backfill_assets.deployment.private_api import ticking  # noqa: PLC0415  # Dagster takes seconds to load
        from backfill_assets.orchestration.launch import open_instance  # noqa: PLC0415  # the same

        with open_instance(self.settings) as instance:
            return ticking(instance)


def symbol_details(store: Store, symbol: str) -> SymbolDetails:
    """Return more about a symbol."""
    series = SeriesStore.beside(store)
    return SymbolDetails(series.features_of(symbol), series.restatements_of(symbol))
