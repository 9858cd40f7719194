"""`backfill archive`: files of every ticker of a market, from the vendor's flat files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime

from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.archive.places import Place, place_of
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    FAILED,
    counted,
    output_console,
    plain_table,
    print_errors,
    print_json,
    progress_console,
)
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.text import suggestion
from backfill_assets.domain.universe import Archive, Universe
from backfill_assets.pipelines.archive import Coverage, coverage, examine, last_published
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import market_calendar


@dataclass(frozen=True, slots=True)
class Chosen:
    """An archive, and the sessions that are chosen of it, whose flat files are due."""

    archive: Archive
    calendar: Calendar
    sessions: tuple[date, ...]


def chosen(
    names: Sequence[str] | None, start: date | None, end: date | None
) -> tuple[Settings, Universe, list[Chosen]]:
    """Return the archives of these names, all if None, with the sessions between two days. Raises UsageMistake."""
    settings, now = Settings.read(), datetime.now(UTC)
    universe = settings.universe(now.date())
    known = [archive.name for archive in universe.archives]
    if not known:
        raise UsageMistake("The universe file has no `archives:`; see docs/howto/archive.md.")
    for name in names or ():
        if name not in known:
            raise UsageMistake(f"There is no archive {name!r}; {suggestion(name, known)}")
    if start and end and end < start:
        raise UsageMistake(f"--end {end} is before --start {start}.")
    if start and start > now.date():
        raise UsageMistake(f"--start {start} is in the future.")
    found = []
    for archive in universe.archives:
        if names is None or archive.name in names:
            calendar = market_calendar(archive, now.date())
            newest = last_published(calendar, now)
            last = min(end, newest) if end and newest else newest
            first = max(start or archive.start, archive.start)
            sessions = calendar.within(DayRange(first, last)) if last and first <= last else ()
            found.append(Chosen(archive, calendar, sessions))
    return settings, universe, found


def open_place(settings: Settings) -> Place:
    """Return the place of the archives. Raises UsageMistake."""
    return place_of(settings.archive, settings.data / "archive-parts")


def status_command(chosen: Sequence[Chosen], place: Place, *, as_json: bool) -> int:
    """Show which sessions have a file, and return the exit code."""
    numbers = ("sessions", "missing", "rows", "left out", "MB")
    table = plain_table("archive", "timeframe", *numbers, "newest", right=numbers)
    found, documents = list[Coverage](), list[object]()
    for each in chosen:
        for timeframe in each.archive.timeframes:
            of = coverage(each.archive, timeframe, each.sessions, place)
            found.append(of)
            rows, size = sum(f.rows for f in of.files.values()), sum(of.sizes.values())
            newest = max(of.files, default=None)
            rejected = sum(f.rejected for f in of.files.values())
            shown = [f"{number:,}" for number in (len(of.files), len(of.missing), rows, rejected)]
            table.add_row(each.archive.name, timeframe.name, *shown, f"{size / 1e6:,.1f}", str(newest or "none"))
            documents.append(
                {
                    "archive": each.archive.name,
                    "timeframe": timeframe.name,
                    "sessions": len(of.files),
                    "missing": [day.isoformat() for day in of.missing],
                    "rows": rows,
                    "rejected": rejected,
                    "bytes": size,
                    "newest": newest and newest.isoformat(),
                }
            )
    missing = sum(len(of.missing) for of in found)
    code = DAYS_MISSING if missing else COMPLETE
    if as_json:
        print_json({"exit_code": code, "place": str(place), "archives": documents})
        return code
    console = output_console()
    console.print(table)
    console.print(f"In {place}.", markup=False, soft_wrap=True)
    if missing:
        console.print(
            f"{counted(missing, 'file')} missing. To fetch {'it' if missing == 1 else 'them'}:\n  backfill archive fetch",
            markup=False,
        )
    return code


def fetch_command(
    settings: Settings, universe: Universe, chosen: Sequence[Chosen], *, full: bool, quiet: bool, as_json: bool
) -> int:
    """Write the missing and replaced files, or all, by a Dagster run for each archive, and return the exit code."""
    from backfill_assets.cli.export import FileBars  # noqa: PLC0415  # they load Dagster
    from backfill_assets.cli.progress import watched  # noqa: PLC0415
    from backfill_assets.deployment.runs import RANGE_END_TAG, RANGE_START_TAG  # noqa: PLC0415
    from backfill_assets.orchestration.build import build_definitions  # noqa: PLC0415
    from backfill_assets.orchestration.keys import archive_key  # noqa: PLC0415
    from backfill_assets.orchestration.launch import open_for_runs, run_job  # noqa: PLC0415
    from backfill_assets.pipelines.progress import SILENT  # noqa: PLC0415

    if settings.files_access_key_id is None:
        raise UsageMistake("POLYGON_FILES_ACCESS_KEY_ID is not set: archives are made of flat files.")
    place, failures = open_place(settings), list[tuple[Archive, Outcome]]()
    with ExitStack() as stack:
        console = Console(quiet=True) if quiet else stack.enter_context(progress_console())
        progress = SILENT if console.quiet else stack.enter_context(FileBars(console))
        store = stack.enter_context(BarStore(database.ready(settings)))
        instance = stack.enter_context(open_for_runs(settings, store))
        defs = build_definitions(universe=universe, resources=watched(files=progress))
        for each in (one for one in chosen if one.sessions):
            outcome = run_job(
                instance,
                defs.resolve_job_def(f"{each.archive.name}_archive_job"),
                settings,
                assets=frozenset(archive_key(each.archive, t) for t in each.archive.timeframes),
                tags={
                    RANGE_START_TAG: each.sessions[0].isoformat(),
                    RANGE_END_TAG: each.sessions[-1].isoformat(),
                },
                ops={f"{each.archive.name}_archive": {"config": {"full": full}}},
            )
            failures.append((each.archive, outcome))
    code = status_command(chosen, place, as_json=as_json)
    print_errors(failures)
    return code if all(outcome.succeeded for _, outcome in failures) else FAILED


def verify_command(chosen: Sequence[Chosen], place: Place, *, quiet: bool) -> int:
    """Read files completely, print what is wrong with them, and return the exit code."""
    files = wrong = 0
    for each in chosen:
        for timeframe in each.archive.timeframes:
            for session in coverage(each.archive, timeframe, each.sessions, place).sizes:
                files += 1
                if problem := examine(each.archive, timeframe, session, place):
                    wrong += 1
                    sys.stdout.write(f"{each.archive.name} {timeframe} {session}: {problem}\n")
    if not quiet:
        sys.stdout.write(f"{counted(files, 'file')} read, {wrong:,} wrong.\n")
    return DAYS_MISSING if wrong else COMPLETE
