"""Progress bars of a run: one line for the run, and one for each symbol that is being fetched."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from pydantic import PrivateAttr
from rich.console import Console
from rich.progress import TaskID

from backfill_assets.adapters.store.bars import Written
from backfill_assets.cli.display import ProgressDisplay
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import VendorUnreachable
from backfill_assets.domain.request_plan import ApiCall, cells
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.orchestration.resources import Watcher
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.progress import SILENT, ExportProgress, FeatureProgress, Progress


class ProgressBars(ProgressDisplay):
    """The progress of runs over bars, one market after another."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "sessions")
        self._tasks: dict[str, TaskID] = {}
        self._left: dict[str, int] = {}
        self._inserted: dict[ApiCall, int] = {}

    def planned(self, market: Market, calls: Sequence[ApiCall]) -> None:
        """Add the line of the run."""
        self._run = self._display.add_task(market.name, total=sum(map(cells, calls)))
        self._left = {}
        for call in calls:
            self._left[call.label] = self._left.get(call.label, 0) + cells(call)

    def answered(self, call: ApiCall, sessions: int, written: Written) -> None:
        """Advance the lines of the run and of the call."""
        name = call.label
        if name not in self._tasks:
            self._tasks[name] = self._display.add_task(f"  {name}", total=self._left[name])
        self._display.advance(self._tasks[name], sessions)
        self._advance(sessions)
        self._inserted[call] = self._inserted.get(call, 0) + written.inserted

    def ended(self, call: ApiCall, error: Exception | None) -> None:
        """Remove the call's line when nothing is left of it."""
        name = call.label
        self._left[name] -= cells(call)
        result = str(error) if error else f"{self._inserted.get(call, 0):,} bars"
        if not isinstance(error, VendorUnreachable):  # `waiting` has said it, and the end of the run says it
            self._print(f"{name} {call.timeframe}: {DayRange(call.start, call.end)}: {result}")
        if self._left[name] <= 0 and name in self._tasks:
            self._display.remove_task(self._tasks.pop(name))


class FeatureBars(ProgressDisplay):
    """The progress of runs over features: one line, a step for each series."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "series")

    def planned(self, request: BackfillRequest) -> None:
        """Add the line of the run."""
        self._run = self._display.add_task(request.market.name, total=len(request.wanted) * len(request.timeframes))

    def computed(self, symbol: Symbol, timeframe: Timeframe, rows: int) -> None:
        """Advance the line."""
        self._advance(1)
        if rows:
            self._print(f"{symbol} {timeframe}: {rows:,} rows")


class ProgressWatcher(Watcher):
    """The resource that connects a run of this process to its progress display."""

    _progress: Progress = PrivateAttr(default=SILENT)
    _features: FeatureProgress = PrivateAttr(default=SILENT)
    _files: ExportProgress = PrivateAttr(default=SILENT)

    def progress(self) -> Progress:
        """Return the progress of a run over bars."""
        return self._progress

    def feature_progress(self) -> FeatureProgress:
        """Return the progress of a run over features."""
        return self._features

    def file_progress(self) -> ExportProgress:
        """Return the progress of a run over an archive."""
        return self._files


def watched(
    progress: Progress = SILENT, *, features: FeatureProgress = SILENT, files: ExportProgress = SILENT
) -> dict[str, dg.ResourceDefinition]:
    """Return resource overrides for `build_definitions` with which runs report their progress."""
    watcher = ProgressWatcher()
    watcher._progress, watcher._features, watcher._files = progress, features, files  # noqa: SLF001  # pydantic takes no private values
    return {"watcher": dg.ResourceDefinition.hardcoded_resource(watcher)}
