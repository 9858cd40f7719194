"""`backfill export`: write the stored bars to files of a folder or of S3, and keep these up to date."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.archive.files import FORMATS, Arguments, parse_name
from backfill_assets.adapters.archive.places import Place, place_of
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.cli.display import ProgressDisplay
from backfill_assets.cli.options import Names, Options
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    counted,
    output_console,
    plain_table,
    print_json,
    progress_console,
    show_causes,
)
from backfill_assets.cli.selection import select
from backfill_assets.domain.errors import BackfillError, UsageMistake
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.export import Exported, Scope, export
from backfill_assets.pipelines.progress import SILENT, ExportProgress
from backfill_assets.pipelines.status import requested_gaps
from backfill_assets.reading.bars import ADJUSTMENTS
from backfill_assets.reading.selection import feature_columns


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Where the files are and how they are made. `every`: seconds between two looks for changes, None for one only."""

    where: str
    adjust: str | None
    features: Names | None
    format: str | None
    full: bool
    every: float | None


class FileBars(ProgressDisplay):
    """The progress of an export: one line, a step for each file that is due."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "files")

    def due(self, files: int) -> None:
        """Add the line."""
        if self._run is not None:
            self._display.remove_task(self._run)
        self._run = self._display.add_task("export", total=files) if files else None

    def exported(self, name: str, rows: int | None) -> None:
        """Advance the line."""
        self._advance(1)
        self._print(f"{name}: {'not made' if rows is None else counted(rows, 'row')}")


def export_command(options: Options, how: ExportOptions, *, as_json: bool) -> int:
    """Run `backfill export` and return its exit code."""
    arguments = _arguments(options, how)
    settings, _, requests = select(options)
    place = place_of(how.where, settings.data / "export")
    with ExitStack() as stack:
        console = Console(quiet=True) if options.quiet else stack.enter_context(progress_console())
        progress = SILENT if console.quiet else stack.enter_context(FileBars(console))
        store = stack.enter_context(ExportStore(database.ready(settings), connections=2, read_only=True))
        done = export(store, place, _scopes(requests), arguments, progress, full=how.full)
        gaps = unexplained([gap for request in requests for gap in _gaps(store, request)])
        _show(place, done, gaps, as_json=as_json)
        if how.every is not None:
            _follow(options, how.every, store, place, arguments, progress, as_json=as_json)
    return DAYS_MISSING if gaps else COMPLETE


def _follow(
    options: Options,
    every: float,
    store: ExportStore,
    place: Place,
    arguments: Arguments | None,
    progress: ExportProgress,
    *,
    as_json: bool,
) -> None:
    """Export what changes until Ctrl-C. What may pass, such as an unreachable server, is printed and tried again."""
    with suppress(KeyboardInterrupt):
        while True:
            sys.stdout.flush()
            time.sleep(every)
            try:
                _, _, requests = select(options)
                done = export(store, place, _scopes(requests), arguments, progress)
            except UsageMistake:
                raise
            except BackfillError as error:
                sys.stderr.write(f"backfill: {error}\n")
            else:
                if done.written or done.removed:
                    _show(place, done, (), as_json=as_json)


def _arguments(options: Options, how: ExportOptions) -> Arguments | None:
    """Return how files are made, None if no option says so: as those that are there."""
    for option, value, allowed in (("--adjust", how.adjust, ADJUSTMENTS), ("--format", how.format, FORMATS)):
        if value is not None and value not in allowed:
            raise UsageMistake(f"{option} must be one of {', '.join(allowed)}, not {value!r}.")
    if not (how.adjust or how.features or how.format or options.symbols):
        return None
    features = feature_columns("all" if how.features == ("all",) else how.features)
    symbols = tuple(sorted(options.symbols)) if options.symbols else None
    return Arguments(how.adjust or "none", features, how.format or "parquet", symbols)


def _scopes(requests: Sequence[BackfillRequest]) -> list[Scope]:
    return [Scope(r.market, tuple(r.names), tuple(t.name for t in r.timeframes), r.days) for r in requests if r.days]


def _gaps(store: ExportStore, request: BackfillRequest) -> list[Gap]:
    """Return the gaps within the requested days."""
    found = requested_gaps(store, request) if request.days else []
    return [replace(gap, days=days) for gap in found if (days := request.days and gap.days.intersect(request.days))]


def _show(place: Place, done: Exported, gaps: Sequence[Gap], *, as_json: bool) -> None:
    rows, size = (sum(getattr(p, name) for p in done.partitions.values()) for name in ("rows", "bytes"))
    if as_json:
        print_json(
            {
                "exit_code": DAYS_MISSING if gaps else COMPLETE,
                "place": str(place),
                "files": len(done.partitions),
                "rows": rows,
                "bytes": size,
                "written": done.written,
                "unchanged": done.unchanged,
                "removed": done.removed,
            }
        )
        return
    console = output_console()
    numbers = ["files", "written", "removed", "rows", "MB"]
    table = plain_table("market", "timeframe", *numbers, right=numbers)
    series: dict[tuple[str, str], list[str]] = {}
    for name in [*done.partitions, *done.removed]:
        if found := parse_name(name):
            series.setdefault(found[:2], []).append(name)
    order = list(TIMEFRAMES)
    for key, names in sorted(series.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        kept = [done.partitions[name] for name in names if name in done.partitions]
        counts = [len(kept), *(len({*names} & {*some}) for some in (done.written, done.removed))]
        megabytes = f"{sum(p.bytes for p in kept) / 1e6:.1f}"
        table.add_row(*key, *map(str, counts), f"{sum(p.rows for p in kept):,}", megabytes)
    console.print(table)
    console.print(f"{place}: {counted(len(done.written), 'file')} written.", markup=False, soft_wrap=True)
    show_causes(console, gaps, lambda cause: f"{cause.reason}[/]: {cause.description}")
