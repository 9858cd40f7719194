"""The progress bar of a run: one line for the whole, and where bars are fetched one for each symbol."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import dagster as dg
from pydantic import PrivateAttr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from backfill_assets.adapters.store.bars import Written
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.request_plan import ApiCall, cells
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.orchestration.resources import Watcher
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.progress import FeatureProgress as FeatureListener
from backfill_assets.pipelines.progress import Progress as Listener
from backfill_assets.pipelines.progress import Silent


class ProgressBars:
    """Listens to a pipeline and draws. A context manager; it may be told of several markets, one after the other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn = console.is_terminal
        self._bars = _progress(console, "sessions")
        self._whole: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._left: dict[str, int] = {}
        self._inserted: dict[ApiCall, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def planned(self, market: Market, calls: Sequence[ApiCall]) -> None:
        """A market's work begins: one bar for the whole of it."""
        self._whole = self._bars.add_task(market.name, total=sum(cells(r) for r in calls))
        self._left = {}
        for call in calls:
            self._left[call.label] = self._left.get(call.label, 0) + cells(call)

    def answered(self, call: ApiCall, sessions: int, written: Written) -> None:
        """A page is stored."""
        name = call.label
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(f"  {name}", total=self._left[name])
        self._bars.advance(self._tasks[name], sessions)
        if self._whole is not None:
            self._bars.advance(self._whole, sessions)
        self._inserted[call] = self._inserted.get(call, 0) + written.inserted

    def ended(self, call: ApiCall, error: Exception | None) -> None:
        """A call is through: its symbol's line goes when nothing of it is left."""
        name = call.label
        self._left[name] -= cells(call)
        if not self._drawn:
            told = str(error) if error else f"{self._inserted.get(call, 0):,} bars"
            span = str(DayRange(call.start, call.end))
            self._console.print(f"{name} {call.timeframe}: {span}: {told}", markup=False, soft_wrap=True)
        if self._left[name] <= 0 and name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))

    def settled(self, symbol: Symbol, source: Timeframe) -> None:
        """Nothing is drawn of it."""


class FeatureBars:
    """The same for a run over features: one line, a step for each series. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn = console.is_terminal
        self._bars = _progress(console, "series")
        self._whole: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def planned(self, request: BackfillRequest) -> None:
        """A market's work begins."""
        self._whole = self._bars.add_task(request.market.name, total=len(request.wanted) * len(request.timeframes))

    def computed(self, symbol: Symbol, timeframe: Timeframe, rows: int) -> None:
        """A series is up to date."""
        if self._whole is not None:
            self._bars.advance(self._whole)
        if rows and not self._drawn:
            self._console.print(f"{symbol} {timeframe}: {rows:,} rows", markup=False, soft_wrap=True)


def _progress(console: Console, things: str) -> Progress:
    """Nothing is drawn where nobody watches."""
    return Progress(
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(things),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class WatchedBy(Watcher):
    """The resource that makes a run of this process tell listeners of ours."""

    _listener: Listener = PrivateAttr()
    _features: FeatureListener = PrivateAttr()

    @classmethod
    def of(cls, listener: Listener, features: FeatureListener) -> WatchedBy:
        """A watcher for two listeners."""
        watcher = cls()
        watcher._listener, watcher._features = listener, features
        return watcher

    def progress(self) -> Listener:
        """The listener to a run over bars."""
        return self._listener

    def feature_progress(self) -> FeatureListener:
        """The listener to a run over features."""
        return self._features


def watched(
    listener: Listener | None = None, *, features: FeatureListener | None = None
) -> dict[str, dg.ResourceDefinition]:
    """Resource overrides for `build_definitions` by which the listeners are told."""
    watcher = WatchedBy.of(listener or Silent(), features or Silent())
    return {"watcher": dg.ResourceDefinition.hardcoded_resource(watcher)}
