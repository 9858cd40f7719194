"""The checks of archives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date

import dagster as dg

from backfill_assets.adapters.archive.places import Place
from backfill_assets.domain.sessions import Calendar, Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe
from backfill_assets.domain.universe import Archive
from backfill_assets.orchestration.check_results import ERROR, WARN, CheckOutcome, Table
from backfill_assets.orchestration.keys import archive_key
from backfill_assets.pipelines.archive import BEFORE, USUAL_REJECTED, compare_closes, coverage, examine, unusual

SIZES, VALID, CLOSES, HERE = "sizes_are_usual", "bars_are_valid", "closes_agree", "latest_session_is_here"

MOST_CLOSES = 0.05
"""The largest share of tickers whose closes may differ: thin tickers have no minute at the close."""

_FULL_DAY = 390
"""Minutes of regular trading of stocks, from 09:30 to 16:00."""

_DESCRIPTIONS = {
    HERE: "The newest session whose flat file is due has a file.",
    SIZES: f"Rows and tickers of a session are about as many as in the {BEFORE} sessions before, and at most "
    f"{USUAL_REJECTED:.1%} of the rows of the vendor's file are left out.",
    VALID: "Files that the run has written, and those of its last sessions, can be read, and their rows are bars of that "
    "day, each once, in order.",
    CLOSES: f"Closes of days are those of the last regular minute, but for {MOST_CLOSES:.0%} of the tickers, and each minute "
    "of regular hours has a bar of any ticker. Examines the same sessions.",
}


def archive_check_specs(archive: Archive) -> list[dg.AssetCheckSpec]:
    """Return the checks of all timeframes of an archive."""
    return [
        dg.AssetCheckSpec(name, asset=archive_key(archive, timeframe), description=_DESCRIPTIONS[name])
        for timeframe in archive.timeframes
        for name in (HERE, SIZES, VALID, *([CLOSES] if _has_closes(archive, timeframe) else []))
    ]


def _has_closes(archive: Archive, timeframe: Timeframe) -> bool:
    return archive.kind is Kind.STOCKS and timeframe == DAY_1 and MINUTE_1 in archive.timeframes


def outcomes(
    archive: Archive,
    calendar: Calendar,
    place: Place,
    sessions: Sequence[date],
    timeframes: Mapping[dg.AssetKey, Timeframe],
    selected: Collection[dg.AssetCheckKey],
    newest: date | None,
) -> dict[dg.AssetCheckKey, CheckOutcome]:
    """Evaluate the selected checks over the files of sessions. Raises ExportError."""
    found = {}
    for key in selected:
        timeframe = timeframes[key.asset_key]
        if key.name == HERE:
            found[key] = _here(archive, timeframe, place, newest)
        elif key.name == SIZES:
            found[key] = _sizes(archive, calendar, timeframe, place, sessions)
        elif key.name == VALID:
            found[key] = _outcome(archive, VALID, list(_invalid(archive, timeframe, place, sessions)))
        else:
            found[key] = _outcome(archive, CLOSES, list(_differing_closes(archive, calendar, place, sessions)), WARN)
    return found


def _here(archive: Archive, timeframe: Timeframe, place: Place, newest: date | None) -> CheckOutcome:
    if newest is None:
        return CheckOutcome(passed=True, sentence="No flat file is published yet.")
    missing = coverage(archive, timeframe, [newest], place).missing
    return CheckOutcome(
        not missing,
        f"{newest} has no file." if missing else f"{newest} has its file.",
        WARN,
        {"session": newest.isoformat()},
        repair="backfill archive fetch" if missing else None,
    )


def _sizes(
    archive: Archive, calendar: Calendar, timeframe: Timeframe, place: Place, sessions: Sequence[date]
) -> CheckOutcome:
    problems = []
    if sessions:
        at = calendar.sessions.index(min(sessions))
        days = calendar.sessions[max(0, at - BEFORE) : calendar.sessions.index(max(sessions)) + 1]
        files = coverage(archive, timeframe, days, place).files
        for session in sessions:
            if session in files:
                before = [files[day] for day in days if day < session and day in files][-BEFORE:]
                half_day = archive.kind is Kind.STOCKS and calendar.regular_minutes(session) < _FULL_DAY
                if problem := unusual(files[session], before, half_day=half_day):
                    problems.append((session.isoformat(), problem))
    return _outcome(archive, SIZES, problems, WARN)


def _invalid(
    archive: Archive, timeframe: Timeframe, place: Place, sessions: Sequence[date]
) -> Iterator[tuple[str, str]]:
    for session in coverage(archive, timeframe, sessions, place).sizes:
        if problem := examine(archive, timeframe, session, place):
            yield session.isoformat(), problem


def _differing_closes(
    archive: Archive, calendar: Calendar, place: Place, sessions: Sequence[date]
) -> Iterator[tuple[str, str]]:
    for session in sessions:
        found = compare_closes(archive, calendar, session, place)
        if found and found.silent:
            yield session.isoformat(), f"no ticker has a bar in {found.silent} minutes of regular hours"
        if found and len(found.differing) > MOST_CLOSES * found.compared:
            ticker, minute, day = found.differing[0]
            counts = f"{len(found.differing):,} of {found.compared:,} closes differ"
            yield session.isoformat(), f"{counts}, such as {ticker}: {day:g}, its last minute {minute:g}"


def _outcome(
    archive: Archive, name: str, problems: Sequence[tuple[str, str]], severity: dg.AssetCheckSeverity = ERROR
) -> CheckOutcome:
    fine = {
        SIZES: "No session has an unusual number of rows or tickers.",
        VALID: "All rows are bars of their day.",
        CLOSES: "Closes of days are those of the minutes.",
    }[name]
    columns = (dg.TableColumn("session", "string"), dg.TableColumn("finding", "string"))
    return CheckOutcome(
        not problems,
        f"{'; '.join(f'{session}: {finding}' for session, finding in problems[:3])}." if problems else fine,
        severity,
        {"sessions": len(problems)},
        Table("sessions", columns, list(problems)) if problems else None,
        f"backfill archive fetch --full --archives {archive.name} --start {problems[0][0]} --end {problems[-1][0]}"
        if problems
        else None,
    )
