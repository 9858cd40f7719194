"""Features, gaps and corporate actions as frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

from backfill_assets.domain.errors import UsageMistake
from backfill_assets.reading import selection
from backfill_assets.reading.bars import BARS, ROWS, TIMEOUT, read_bars
from backfill_assets.reading.connection import has_arrow, opened
from backfill_assets.reading.frames import frame, polars, require_engine
from backfill_assets.reading.selection import Names, When


def read_features(
    symbols: Names,
    timeframe: str,
    start: When = None,
    end: When = None,
    *,
    features: str | Iterable[str] = "all",
    tz: str | ZoneInfo = "UTC",
    archive: str | None = None,
    engine: str = "pandas",
    url: str | None = None,
    timeout: float = TIMEOUT,
) -> Any:
    """Read features into a frame, sorted by symbol and timestamp.

    Columns: `symbol`, `timestamp`, and the columns of `market_features` (float64; NaN or null if undefined), each row in the
    units of its own day. `read_bars` reads them beside their bars, and adjusted. Arguments and errors are those of
    `read_bars`.
    """
    if archive is not None:
        options: dict[str, Any] = {"features": features, "tz": tz, "archive": archive, "engine": engine}
        return _without_bars(read_bars(symbols, timeframe, start, end, **options, url=url, timeout=timeout), engine)
    require_engine(engine)
    wanted, columns, zone = (
        selection.timeframe_of(timeframe),
        selection.feature_columns(features),
        selection.zone_of(tz),
    )
    if not columns:
        raise UsageMistake("features must be 'all', a name or a list of names.")
    bounds = selection.bounds_of(start, end)
    with opened(url, timeout) as reader:
        series = selection.select(reader, symbols, wanted, bounds)
        blocks = (
            (number, block)
            for number, one in enumerate(series)
            for block in reader.blocks(
                "features", columns, ROWS, symbol=one.symbol, timeframe=wanted.name, start=one.start, end=one.end
            )
        )
        return frame(engine, [one.symbol for one in series], blocks, ["timestamp", *columns], zone)


def _without_bars(found: Any, engine: str) -> Any:
    """Return a frame without the columns of bars."""
    names = [name for name in BARS if name != "timestamp"]
    return found.drop(columns=names) if engine == "pandas" else found.drop(names)


def read_gaps(
    symbols: Names = None,
    timeframes: Names = None,
    *,
    engine: str = "pandas",
    url: str | None = None,
    timeout: float = TIMEOUT,
) -> Any:
    """Read the open gaps: ranges of expected sessions that are not complete, as the last run or check recorded them.

    Columns: `symbol`, `timeframe`, `first_session` and `last_session` (days, both included), `sessions` (how many),
    `reason` and `detail`, `explained` (another request is useless), `attempts`, `next_attempt_at` (UTC; null if there is
    none), `first_seen` (UTC). Sorted by symbol, timeframe and day. None is all symbols, or all timeframes. Errors are
    those of `read_bars`.
    """
    wanted = selection.names_of("timeframes", timeframes)
    for name in wanted or ():
        selection.timeframe_of(name)
    return _table("gaps", symbols, engine, url, timeout, timeframes=wanted)


def read_corporate_actions(
    symbols: Names = None,
    start: When = None,
    end: When = None,
    *,
    withdrawn: bool = False,
    engine: str = "pandas",
    url: str | None = None,
    timeout: float = TIMEOUT,
) -> Any:
    """Read splits and cash dividends, by ex-dates from `start` to `end`, both included.

    Columns: `symbol`, `kind` ("split" or "dividend"), `ex_date`, `ratio_from` and `ratio_to` (old shares and what they
    become), `cash_amount` (a share of that day) and `currency`, `declared`, `record_date`, `pay_date`, `frequency` (payments
    a year), `first_seen` and `withdrawn_at` (UTC). Sorted by symbol and ex-date. `withdrawn`: also those that the vendor no
    longer lists, which have no effect. None is all symbols. Errors are those of `read_bars`.
    """
    first, last = selection.day_of("start", start), selection.day_of("end", end)
    if first and last and last < first:
        raise UsageMistake(f"end {last} is before start {first}.")
    return _table("corporate_actions", symbols, engine, url, timeout, start=first, end=last, withdrawn=withdrawn)


def _table(statement: str, symbols: Names, engine: str, url: str | None, timeout: float, **values: object) -> Any:
    """Read a small table."""
    require_engine(engine)
    wanted = selection.names_of("symbols", symbols)
    with opened(url, timeout) as reader:
        known = [symbol for (symbol,) in reader.rows("symbols")]
        selection.require_known(wanted, known)
        if not has_arrow():
            return reader.frame(statement, symbols=wanted, **values)
        table = reader.table(statement, symbols=wanted, **values)
    if engine == "polars":
        return polars(table)
    return table if engine == "arrow" else table.to_pandas()
