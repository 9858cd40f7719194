"""Bars as frames: raw or adjusted, with features, of regular hours, as they were known at an instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.adjustments import SplitRatio, Stretches, weekly_bars
from backfill_assets.domain.bars import Bars, Int, clip
from backfill_assets.domain.derive import bar_starts, merged
from backfill_assets.domain.errors import StoreError, UsageMistake
from backfill_assets.domain.sessions import HOURS, Kind, regular_hours_between
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, WEEK_1, Timeframe
from backfill_assets.reading import selection
from backfill_assets.reading.archive import ArchiveReader
from backfill_assets.reading.connection import Columns, Reader, opened
from backfill_assets.reading.frames import Block, arrow_batch, frame, require_engine
from backfill_assets.reading.selection import Bounds, Names, Series, When

if TYPE_CHECKING:
    import pyarrow as pa

ADJUSTMENTS = ("none", "splits", "all")
SESSIONS = ("all", "regular")
ON_SESSION_GRID = ("1h", "4h")
"""The timeframes whose stored bars do not begin with regular trading."""

PRICES = ("open", "high", "low", "close", "vwap")
BARS = ("timestamp", "open", "high", "low", "close", "volume", "vwap", "trades")
TIMEOUT = 600.0
ROWS = 500_000
FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_BACK_DAYS = 10
"""Of an archive, read before the first features; more if the bars are too few."""


def read_bars(
    symbols: Names,
    timeframe: str,
    start: When = None,
    end: When = None,
    *,
    adjust: str = "none",
    as_of: When = None,
    known_at: When = None,
    session: str = "all",
    tz: str | ZoneInfo = "UTC",
    features: str | Iterable[str] | None = None,
    source: str | None = None,
    archive: str | None = None,
    engine: str = "pandas",
    url: str | None = None,
    timeout: float = TIMEOUT,
) -> Any:
    """Read bars into a frame, sorted by symbol and timestamp.

    Columns: `symbol` (categorical), `timestamp` (start of the bar, aware), `open`, `high`, `low`, `close`, `volume`, `vwap`
    (float64; NaN or null if unknown), `trades` (int64, may be null), then the features. Prices are in the quote currency.

    symbols     a symbol, a list of them, or None for all that are stored
    timeframe   1m, 5m, 15m, 30m, 1h, 4h, 1d or 1w
    start, end  the bars that begin between them. A day ("2024-01-02", `date`) is a day of the symbol's market, New York's
                for stocks and UTC's for crypto, and `end` is included. An instant ("2024-01-02T14:30Z", an aware `datetime`)
                is exact, and `end` is excluded. None is no bound.
    adjust      "none": as traded. "splits": in today's shares. "all": also for cash dividends in US dollars, each of which
                multiplies earlier prices by 1 - cash / the last daily close before its ex-date. Volumes follow splits only.
                Spin-offs are not adjusted for.
    as_of       a day: in its shares, by the splits and dividends up to it. Later bars are as traded.
    known_at    an instant, or a day for its end in New York: bars, splits and dividends as the store knew them then. Derived
                timeframes are derived from the bars of that instant.
    session     "regular": stocks from 09:30 to 16:00 New York, or to the early close. Bars of 1h and 4h are then built from
                the minutes on the session's own grid: 09:30, 10:30 … Bars of 1d and 1w stay as they are.
    tz          the time zone of `timestamp`
    features    "all", or a list of columns of `market_features`: they follow the bars, adjusted like them
    source      only bars of this source: the column `source` of `market_data`. Of bars that are built on reading (`session`,
                `known_at`): only what is built of bars of this source.
    archive     the name of an archive of the universe file: bars are read from its files instead of the store, of symbols of
                the universe or of any other ticker, and coarser timeframes and features are computed. Symbols have to be
                named; `known_at` and `source` do not apply. Sessions without a file are missing, see `backfill archive
                status`. Of stocks, `adjust` and `features` need the splits of the store
    engine      "pandas", "polars" or "arrow"; the last two need the extra `reading`, with which "pandas" is faster too
    url         the database: by default that of the command line, whose embedded server is started if it is not running
    timeout     the most seconds that a statement may take

    Raises NotStored for a symbol, timeframe or feature that the store does not have, UsageMistake for other wrong arguments,
    EmptyStore, DatabaseUnavailable, SchemaBehind, and StoreError, all of them BackfillError from
    `backfill_assets.domain.errors`.
    """
    require_engine(engine)
    query = _query(timeframe, start, end, adjust, as_of, known_at, session, tz, features, source, archive)
    with _opened(query, symbols, url, timeout) as (reader, series, actions):
        names = [s.symbol for s in series]
        return frame(engine, names, _blocks(reader, query, series, ROWS, actions), [*BARS, *query.features], query.tz)


def iterate_bars(
    symbols: Names,
    timeframe: str,
    start: When = None,
    end: When = None,
    *,
    adjust: str = "none",
    as_of: When = None,
    known_at: When = None,
    session: str = "all",
    tz: str | ZoneInfo = "UTC",
    features: str | Iterable[str] | None = None,
    source: str | None = None,
    archive: str | None = None,
    rows: int = ROWS,
    url: str | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[pa.RecordBatch]:
    """Read bars as Arrow record batches of one symbol and at most `rows` rows, in the memory of a few batches.

    Columns, order, arguments and errors are those of `read_bars`; those of the store are raised by the first batch. All
    batches are of one state of the store. It needs the extra `reading`. A process forked since must not use it. The time in
    which batches are not taken counts for `timeout`.
    """
    require_engine("arrow")
    if not isinstance(rows, int) or rows < 1:
        raise UsageMistake(f"rows must be an integer of at least 1, not {rows!r}.")
    query = _query(timeframe, start, end, adjust, as_of, known_at, session, tz, features, source, archive)

    def batches() -> Iterator[pa.RecordBatch]:
        with _opened(query, symbols, url, timeout) as (reader, series, actions):
            names = [s.symbol for s in series]
            for block in _blocks(reader, query, series, rows, actions):
                yield arrow_batch(names, block, query.tz)

    return batches()


@dataclass(frozen=True, slots=True)
class _Query:
    """What is read of each series; `base` is the timeframe that the store needs to have for it."""

    timeframe: Timeframe
    base: Timeframe
    adjust: str
    as_of: date | None
    known_at: datetime | None
    regular: bool
    tz: ZoneInfo
    features: tuple[str, ...]
    source: str | None
    bounds: Bounds
    archive: str | None


@contextmanager
def _opened(
    query: _Query, symbols: Names, url: str | None, timeout: float
) -> Iterator[tuple[Reader | ArchiveReader, list[Series], Reader | None]]:
    """Open the store or an archive; yield what bars are read from, the series, and what corporate actions are read from."""
    if query.archive is None:
        with opened(url, timeout) as reader:
            yield reader, selection.select(reader, symbols, query.base, query.bounds), reader
        return
    found = ArchiveReader.open(query.archive)
    series = found.select(symbols, query.timeframe, query.bounds)
    if found.archive.kind is Kind.CRYPTO or (query.adjust == "none" and not query.features):
        yield found, series, None
        return
    found.require_splits([s.symbol for s in series])
    with opened(url, timeout) as reader:
        yield found, series, reader


def _query(
    timeframe: str,
    start: When,
    end: When,
    adjust: str,
    as_of: When,
    known_at: When,
    session: str,
    tz: str | ZoneInfo,
    features: str | Iterable[str] | None,
    source: str | None,
    archive: str | None,
) -> _Query:
    """Check the arguments that need no store. Raises UsageMistake, NotStored."""
    selection.one_of("adjust", adjust, ADJUSTMENTS)
    selection.one_of("session", session, SESSIONS)
    if source is not None and (not isinstance(source, str) or "\0" in source):
        raise UsageMistake(f"source must be a text, not {source!r}.")
    wanted, columns = selection.timeframe_of(timeframe), selection.feature_columns(features)
    day, instant = selection.day_of("as_of", as_of), selection.instant_of("known_at", known_at)
    if day and adjust == "none":
        raise UsageMistake("as_of is a day whose shares are meant: pass adjust='splits' or adjust='all' with it.")
    on_session_grid = session == "regular" and wanted.name in ON_SESSION_GRID
    base = MINUTE_1 if on_session_grid else wanted.source if instant else wanted
    if columns and instant:
        raise UsageMistake("features are computed from the bars as they are now: read them without known_at.")
    if columns and on_session_grid:
        raise UsageMistake(f"features of {wanted} belong to its stored bars: read them with session='all'.")
    if archive is not None and (instant or source):
        raise UsageMistake("known_at and source are of the store's bars: read an archive without them.")
    bounds, zone = selection.bounds_of(start, end), selection.zone_of(tz)
    return _Query(wanted, base, adjust, day, instant, session == "regular", zone, columns, source, bounds, archive)


def _blocks(
    reader: Reader | ArchiveReader, query: _Query, series: Sequence[Series], rows: int, actions: Reader | None
) -> Iterator[Block]:
    """The rows of each series in turn."""
    stretches = _stretches(actions, query, [s.symbol for s in series])
    for number, one in enumerate(series):
        if isinstance(reader, ArchiveReader) and query.features:
            found = _computed(reader, query, one, _splits(actions, one.symbol))
            if of := stretches.get(one.symbol):
                found = (_adjusted(block, of, query.timeframe, one.symbol) for block in found)
        else:
            found = _of_series(reader, query, one, stretches.get(one.symbol), rows)
        for block in found:
            if _has_rows(block):
                yield number, block


def _splits(reader: Reader | None, symbol: str) -> list[SplitRatio]:
    if reader is None:
        return []
    values = {"symbols": [symbol], "start": None, "end": None, "withdrawn": False}
    rows = reader.rows("corporate_actions", **values)
    return [SplitRatio(day, before, after) for _, kind, day, before, after, *_ in rows if kind == "split"]


def _computed(reader: ArchiveReader, query: _Query, series: Series, splits: Sequence[SplitRatio]) -> Iterator[Columns]:
    """The bars of a series in the units of their days, with features that are computed of them and of those before."""
    from backfill_assets.domain.features import COLUMNS, compute_range
    from backfill_assets.domain.features.compute import look_back

    timeframe, zone = query.timeframe, series.hours.zone
    raw = replace(query, adjust="none", regular=False, features=())
    after = timedelta(days=7) if timeframe == WEEK_1 else timedelta()  # the days of the last week
    needed, before, bars = look_back(timeframe), timedelta(days=LOOK_BACK_DAYS), Bars.empty()
    while True:
        start = max(series.start - before, FIRST_DAY) if needed else FIRST_DAY
        of_days = replace(raw, timeframe=DAY_1) if timeframe == WEEK_1 else raw
        blocks = _of_series(reader, of_days, replace(series, start=start, end=series.end + after), None, ROWS)
        bars = Bars.concat(Bars.empty(), *map(_bars, blocks))
        if timeframe == WEEK_1:
            bars = weekly_bars(bars, splits, zone)
        first = int(np.searchsorted(bars.timestamp, round(series.start.timestamp() * 1000)))
        if not needed or first >= needed or start == FIRST_DAY:
            break
        before *= 4
    last = int(np.searchsorted(bars.timestamp, round(series.end.timestamp() * 1000)))
    if first == last:
        return
    values = compute_range(bars.take(slice(last)), timeframe, zone, splits, first)
    at = [column.name for column in COLUMNS]
    block = _columns(bars.take(slice(first, last)))
    block |= {name: values[:, at.index(name)] for name in query.features}
    yield _in_regular_hours(block) if _is_cut(query, series) else block


def _stretches(reader: Reader | None, query: _Query, symbols: Sequence[str]) -> Mapping[str, Stretches]:
    if query.adjust == "none" or reader is None:
        return {}
    found: dict[str, list[Any]] = {}
    for symbol, *row in reader.rows(
        "stretches", symbols=symbols, as_of=query.as_of, known_at=query.known_at, dividends=query.adjust == "all"
    ):
        found.setdefault(symbol, []).append(row)
    kinds: tuple[type, ...] = (np.int64, np.float64, np.float64, np.bool_)
    return {
        symbol: Stretches(
            *(np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True))
        )
        for symbol, rows in found.items()
    }


def _is_cut(query: _Query, series: Series) -> bool:
    return query.regular and series.hours == HOURS[Kind.STOCKS] and query.timeframe.seconds < DAY_1.seconds


def _of_series(
    reader: Reader | ArchiveReader, query: _Query, series: Series, stretches: Stretches | None, rows: int
) -> Iterator[Columns]:
    """The rows of one series, ascending."""
    timeframe, zone = query.timeframe, series.hours.zone
    is_cut, is_derived = _is_cut(query, series), query.known_at or query.archive
    on_session_grid = is_cut and timeframe.name in ON_SESSION_GRID
    base = MINUTE_1 if on_session_grid else timeframe.source if is_derived else timeframe
    statement = "bars_known" if query.known_at else "bars_with_features" if query.features else "bars"
    # The last derived bar is made of bars that begin after it.
    end = series.end if base == timeframe else series.end + timedelta(seconds=timeframe.seconds)
    values: dict[str, Any] = {
        "symbol": series.symbol,
        "start": series.start,
        "source": query.source,
        "known_at": query.known_at,
    }
    found: Iterator[Columns] = reader.blocks(statement, query.features, rows, timeframe=base.name, end=end, **values)
    if is_cut:
        found = map(_in_regular_hours, found)
    if stretches is not None:
        found = (_adjusted(block, stretches, base, series.symbol) for block in found)
    if base != timeframe:
        return _derived(found, series, lambda stamps: _starts(stamps, timeframe, zone, on_session_grid=on_session_grid))
    if stretches is not None and timeframe == WEEK_1:
        last = series.end + timedelta(seconds=WEEK_1.seconds)
        days = reader.blocks("bars", (), rows, timeframe=DAY_1.name, end=last, **(values | {"source": None}))
        adjusted = (_adjusted(block, stretches, DAY_1, series.symbol) for block in days)
        return _with_prices(found, _derived(adjusted, series, lambda stamps: bar_starts(stamps, WEEK_1, zone)))
    return found


def _in_regular_hours(block: Columns) -> Columns:
    opens, closes = _regular_hours(block["timestamp"] // 1000)
    at = np.searchsorted(opens, block["timestamp"], side="right") - 1
    inside = block["timestamp"] < np.append(closes, 0)[at]
    return {name: column[inside] for name, column in block.items()}


def _regular_hours(milliseconds: Int) -> tuple[Int, Int]:
    """The beginnings and ends, in microseconds, of regular trading around ascending instants."""
    first, last = (datetime.fromtimestamp(int(milliseconds[row]) / 1000, UTC).date() for row in (0, -1))
    opens, closes = regular_hours_between(first, last)
    return opens * 1000, closes * 1000


def _starts(milliseconds: Int, timeframe: Timeframe, zone: ZoneInfo, *, on_session_grid: bool) -> Int:
    if not on_session_grid:
        return bar_starts(milliseconds, timeframe, zone)
    opens = _regular_hours(milliseconds)[0] // 1000
    begin = opens[np.searchsorted(opens, milliseconds, side="right") - 1]
    return milliseconds - (milliseconds - begin) % (timeframe.seconds * 1000)


def _adjusted(block: Columns, stretches: Stretches, timeframe: Timeframe, symbol: str) -> Columns:
    """In the units of the stretches' day. A weekly bar, and its features, are in the units of its last day."""
    lag = 6 * 86_400_000_000 if timeframe == WEEK_1 else 0
    try:
        price, shares = stretches.factors(block["timestamp"] + lag)
    except ValueError:
        raise StoreError(
            f"{symbol} has a dividend without a daily close in the week before it, or of more than that: fetch the 1d "
            "bars of these days, or adjust for splits only: adjust='splits', `--adjust splits`."
        ) from None
    scaled = {name: column * price for name, column in block.items() if name in PRICES}
    scaled["volume"] = block["volume"] / shares
    if len(block) > len(BARS):
        from backfill_assets.domain.features import COLUMNS, Scaling

        for column in COLUMNS:
            if column.name in block and column.scaling is not Scaling.NONE:
                values = block[column.name]
                scaled[column.name] = values * price if column.scaling is Scaling.PRICE else values / shares
    return block | scaled


def _derived(blocks: Iterable[Columns], series: Series, starts: Callable[[Int], Int]) -> Iterator[Columns]:
    """Derive the bars of a series that begin within its bounds. `starts` returns the bar of each row, in milliseconds."""
    first, last = (round(at.timestamp() * 1000) for at in (series.start, series.end))
    rest = Bars.empty()
    for block in filter(_has_rows, blocks):
        rest = Bars.concat(rest, _bars(block))
        stamps = starts(rest.timestamp)
        # The last bar may go on in the next block.
        complete = int(np.searchsorted(stamps, stamps[-1]))
        if complete:
            yield _columns(clip(merged(rest.take(slice(complete)), stamps[:complete]), first, last))
            rest = rest.take(slice(complete, None))
    if len(rest):
        yield _columns(clip(merged(rest, starts(rest.timestamp)), first, last))


def _with_prices(blocks: Iterable[Columns], exact: Iterable[Columns]) -> Iterator[Columns]:
    """Replace the bars of rows by those that begin at the same instants, where there are any."""
    parts = [_columns(Bars.empty()), *exact]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in BARS}
    for block in blocks:
        at = np.searchsorted(columns["timestamp"], block["timestamp"])
        same = np.append(columns["timestamp"], 0)[at] == block["timestamp"]
        yield block | {name: np.where(same, np.append(columns[name], 0)[at], block[name]) for name in BARS}


def _has_rows(block: Columns) -> bool:
    return len(block["timestamp"]) > 0


def _bars(block: Columns) -> Bars:
    return Bars(block["timestamp"] // 1000, *(block[name] for name in BARS[1:]))


def _columns(bars: Bars) -> Columns:
    return {name: getattr(bars, name) for name in BARS} | {"timestamp": bars.timestamp * 1000}
