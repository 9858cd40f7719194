"""Bring an archive up to date from the vendor's flat files, and examine its files.

A file is due if it is missing, cannot be read, or was made of a file that the vendor has replaced since.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise, zip_longest
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from backfill_assets.adapters.archive.places import Place
from backfill_assets.adapters.archive.sessions import (
    SessionFile,
    describe,
    name_of,
    part_of,
    read_session,
    sessions_in,
    write_session,
)
from backfill_assets.adapters.polygon_files import DayFile, MarketDay, PolygonFiles, read_day, table_bars
from backfill_assets.domain.bars import Int, impossible
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.errors import KeyRefused, VendorError, VendorUnreachable
from backfill_assets.domain.sessions import HOURS, Calendar, day_starts
from backfill_assets.domain.sources import file_due
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe
from backfill_assets.domain.universe import Archive
from backfill_assets.pipelines.progress import SILENT, ExportProgress

if TYPE_CHECKING:
    import pyarrow as pa

GRACE = timedelta(hours=1)
"""After a flat file is due, until it is missed."""

BEFORE = 10
"""Sessions that the size of a file is compared with."""

USUAL_REJECTED = 0.001
"""The largest share of rows that are left out because they cannot be bars, or differ for one time."""

USUAL_ROWS, USUAL_TICKERS = (0.6, 2.0), (0.9, 1.2)
"""The least and the most, in medians of the sessions before. A half day has 0.6 of the least rows."""

CLOSE_PRICES = 0.01
"""Closes that differ by less than a hundredth do not count: that of the day is the auction's."""

NOT_LISTED = "the vendor lists no file"


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a session in one timeframe: its file as it is now, or a problem if it could not be made.

    sha256  of the file, if it was written now
    bytes   of the file
    """

    timeframe: Timeframe
    session: date
    file: SessionFile | None = None
    sha256: str | None = None
    bytes: int = 0
    problem: str | None = None


async def fetch_sessions(
    archive: Archive,
    sessions: Sequence[date],
    timeframes: Iterable[Timeframe],
    vendor: PolygonFiles,
    place: Place,
    progress: ExportProgress = SILENT,
    *,
    full: bool = False,
) -> AsyncGenerator[Settled, None]:
    """Write the files that are due, with `full` all of them, and yield each session as it is settled.

    Stopped at any moment it leaves complete files. The next file is fetched while one is written. Raises KeyRefused and
    VendorUnreachable, with which every other session would fail too, other errors of the list, and ExportError.
    """
    due = list[DayFile]()
    for timeframe in timeframes if sessions else ():
        async for settled in _compared(archive, sessions, timeframe, vendor, place, due, full=full):
            yield settled
    progress.due(len(due))
    following: asyncio.Task[Path] | None = None
    try:
        for file, after in zip_longest(due, due[1:]):
            fetched = following or asyncio.ensure_future(vendor.fetch(file))
            following = None
            try:
                path = await fetched
                following = asyncio.ensure_future(vendor.fetch(after)) if after else None
                settled = await asyncio.to_thread(_stored, archive, file, path, place)
            except (KeyRefused, VendorUnreachable):
                raise
            except VendorError as error:
                settled = Settled(file.timeframe, file.session, problem=str(error))
            name = name_of(archive.name, file.timeframe.name, file.session)
            progress.exported(name, settled.file.rows if settled.file else None)
            yield settled
    finally:
        if following:
            following.cancel()
            for left in await asyncio.gather(following, return_exceptions=True):
                if isinstance(left, Path):
                    left.unlink(missing_ok=True)


async def _compared(
    archive: Archive,
    sessions: Sequence[date],
    timeframe: Timeframe,
    vendor: PolygonFiles,
    place: Place,
    due: list[DayFile],
    *,
    full: bool,
) -> AsyncGenerator[Settled, None]:
    """Add the files that are due to `due`, and yield the sessions that need none or have none."""
    days = DayRange(min(sessions), max(sessions))
    listed = await vendor.listing(archive.kind, timeframe, days)
    names = {day: name_of(archive.name, timeframe.name, day) for day in sessions}
    present = await asyncio.to_thread(sessions_in, place, archive.name, timeframe.name, days)
    known = await asyncio.to_thread(describe, place, [names[day] for day in present if day in names])
    for day in sessions:
        file = known.get(names[day])
        if day in listed and (full or file is None or file.etag != listed[day].etag):
            due.append(listed[day])
        else:
            yield Settled(timeframe, day, file, None, present.get(day, 0), None if file else NOT_LISTED)


def _stored(archive: Archive, file: DayFile, path: Path, place: Place) -> Settled:
    """Decode a fetched file, which is deleted, and write it to the archive."""
    try:
        day = read_day(path, file, HOURS[archive.kind].zone)
    finally:
        path.unlink()
    rejected = sum(map(len, day.rejected.values()))
    made = SessionFile(len(day.table), len(day.rows), rejected, file.key, file.etag, file.modified)
    with part_of(place, file.session) as part:
        digest, size = write_session(part, day.table, made), part.stat().st_size
        place.take(part, name_of(archive.name, file.timeframe.name, file.session))
    return Settled(file.timeframe, file.session, made, digest, size)


def archived_day(archives: Iterable[Archive], place: Place, file: DayFile) -> MarketDay | None:
    """Return a flat file as it is in an archive, None if no archive has this version of it, or without some of its rows.

    Raises ExportError.
    """
    for archive in archives:
        if archive.kind is file.kind and file.timeframe in archive.timeframes:
            name = name_of(archive.name, file.timeframe.name, file.session)
            known = describe(place, [name]).get(name)
            if known and known.etag == file.etag and not known.rejected:
                table = read_session(place, name)
                if table is not None:
                    edges = np.flatnonzero(np.diff(_codes(table), prepend=-1, append=-1)).tolist()
                    rows = {table["ticker"][first].as_py(): (first, last) for first, last in pairwise(edges)}
                    return MarketDay(file, table, rows, {})
    return None


def last_published(calendar: Calendar, now: datetime) -> date | None:
    """Return the newest session whose file ought to be published at `now` (aware), or None."""
    return next((session for session in reversed(calendar.sessions) if file_due(session) + GRACE <= now), None)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The files of an archive in one timeframe, by session: what readable ones say of themselves, and the bytes of all.

    missing  sessions without a readable file
    """

    files: Mapping[date, SessionFile]
    sizes: Mapping[date, int]
    missing: tuple[date, ...]


def coverage(archive: Archive, timeframe: Timeframe, sessions: Sequence[date], place: Place) -> Coverage:
    """Return which of the sessions have a readable file. Raises ExportError."""
    if not sessions:
        return Coverage({}, {}, ())
    sizes = sessions_in(place, archive.name, timeframe.name, DayRange(min(sessions), max(sessions)))
    names = {name_of(archive.name, timeframe.name, day): day for day in sessions if day in sizes}
    files = {names[name]: file for name, file in describe(place, names).items()}
    return Coverage(
        files, {day: sizes[day] for day in names.values()}, tuple(day for day in sessions if day not in files)
    )


def unusual(file: SessionFile, before: Sequence[SessionFile], *, half_day: bool) -> str | None:
    """Say how a file differs in size from its source, or from those of the sessions before, of which five are needed."""
    if file.rejected > USUAL_REJECTED * (file.rows + file.rejected):
        return f"{file.rejected:,} of {file.rows + file.rejected:,} rows are left out"
    if len(before) < BEFORE // 2:
        return None
    for name, (least, most) in (("rows", USUAL_ROWS), ("tickers", USUAL_TICKERS)):
        usual = median(getattr(other, name) for other in before)
        number = getattr(file, name)
        if not usual * least * (0.6 if half_day and name == "rows" else 1) <= number <= usual * most:
            return f"{number:,} {name}, usually {usual:,.0f}"
    return None


def examine(archive: Archive, timeframe: Timeframe, session: date, place: Place) -> str | None:
    """Read a file completely, and say what is wrong with it. Raises ExportError."""
    table = read_session(place, name_of(archive.name, timeframe.name, session))
    if table is None:
        return "the file is missing or damaged"
    ticker, bars = _codes(table), table_bars(table)
    stamp = bars.timestamp
    start, end = (int(ms) for ms in day_starts([session, session + ONE_DAY], HOURS[archive.kind].zone))
    ascending = (ticker[1:] > ticker[:-1]) | ((ticker[1:] == ticker[:-1]) & (stamp[1:] > stamp[:-1]))
    wrong = {
        "of another day": int(np.count_nonzero((stamp < start) | (stamp >= end))),
        "double or out of order": int(np.count_nonzero(~ascending)),
        "that cannot be bars": len(impossible(bars)),
    }
    return ", ".join(f"{number:,} rows {what}" for what, number in wrong.items() if number) or None


def _codes(table: pa.Table) -> Int:
    """Return the number of each row's ticker in alphabetical order."""
    encoded = table["ticker"].unify_dictionaries().combine_chunks().dictionary_encode()
    order = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object)))
    codes: Int = order[encoded.indices.to_numpy()]
    return codes


@dataclass(frozen=True, slots=True)
class Closes:
    """The tickers that are in both files of a session, and those of them whose closes differ: ticker, minutes, day.

    silent  minutes of regular hours in which no ticker has a bar
    """

    compared: int
    silent: int
    differing: Sequence[tuple[str, float, float]]


def compare_closes(archive: Archive, calendar: Calendar, session: date, place: Place) -> Closes | None:
    """Compare the close of each ticker's day with that of its last minute in regular hours, the auction's included.

    None if a file of the session is missing or damaged. Raises ExportError.
    """
    minutes, days = (read_session(place, name_of(archive.name, t.name, session)) for t in (MINUTE_1, DAY_1))
    if minutes is None or days is None:
        return None
    start, end = (int(at.timestamp()) * 1000 for at in calendar.regular_hours(session))
    stamp = minutes["timestamp"].cast("int64").to_numpy() // 1000
    silent = calendar.regular_minutes(session) - len(np.unique(stamp[(stamp >= start) & (stamp < end)]))
    regular = stamp < end + 60_000
    last: dict[Any, float] = dict(
        zip(minutes["ticker"].filter(regular).to_pylist(), minutes["close"].filter(regular).to_pylist(), strict=True)
    )
    pairs = [
        (ticker, last[ticker], close)
        for ticker, close in zip(days["ticker"].to_pylist(), days["close"].to_pylist(), strict=True)
        if ticker in last
    ]
    return Closes(len(pairs), silent, [p for p in pairs if abs(p[1] - p[2]) > CLOSE_PRICES * p[2]])
