"""Find the gaps of 100 symbols in eight timeframes over five years, with the best and the worst fragmentation.

Measures the subtraction of coverage from the calendar (`lacking`, by EXPLAIN ANALYZE and with fetching rows), and all of
`find_gaps`, with Python and the table of gaps. For comparison: an anti-join of expected sessions with `session_answers`,
one row per day.

Run it with `.venv/bin/python benchmarks/gaps.py`. It starts an embedded PostgreSQL in a temporary folder.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.gaps import SQL, GapStore, multirange
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.retries import USUAL
from backfill_assets.domain.sessions import Calendar, Kind, calendar
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.gaps import Watched, find_gaps

SPAN = DayRange(date(2021, 1, 4), date(2025, 12, 31))
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROUNDS = 9
SYMBOLS = tuple(Symbol(f"S{number:03}", f"S{number:03}") for number in range(100))
MARKET = Market("stocks", Kind.STOCKS, SPAN.start, SYMBOLS, tuple(TIMEFRAMES.values()))

ANSWERS = """
  insert into session_answers (symbol, timeframe, session, bars, answers, answered_at)
  select symbol, timeframe, session, 1, 1, now()
  from unnest(%s::text[]) symbol, unnest(%s::text[]) timeframe, unnest(%s::date[]) session"""

COVERAGE = (
    "insert into coverage select symbol, timeframe, %s from unnest(%s::text[]) symbol, unnest(%s::text[]) timeframe"
)

ROW_A_DAY = """
  select s.symbol, t.timeframe, d.session
  from unnest(%(symbols)s::text[]) s (symbol)
  cross join unnest(%(timeframes)s::text[]) t (timeframe)
  cross join unnest(%(days)s::date[]) d (session)
  where not exists (
    select from session_answers a
    where a.symbol = s.symbol and a.timeframe = t.timeframe and a.session = d.session and a.bars > 0)"""


CASES: dict[str, Callable[[Sequence[date]], Sequence[date]]] = {
    "best: nothing is missing": lambda sessions: sessions,
    "the newest session is missing": lambda sessions: sessions[:-1],
    "one session a month is missing": lambda sessions: [s for n, s in enumerate(sessions) if n % 21 != 20],
    "worst: every other session is missing": lambda sessions: sessions[::2],
}
"""From all sessions those that are stored, of every series."""


def prepare(connection: psycopg.Connection, stored: Sequence[date]) -> None:
    """Fill the tables with these sessions of every series."""
    connection.execute("truncate session_answers, coverage, backfill_gaps")
    names, timeframes = [s.name for s in SYMBOLS], [t.name for t in MARKET.timeframes]
    connection.execute(ANSWERS, [names, timeframes, list(stored)])
    connection.execute(COVERAGE, [multirange(stored), names, timeframes])
    for table in ("session_answers", "coverage", "backfill_gaps"):
        connection.execute(f"vacuum analyze {table}")  # names from the line above


def parameters(trading: Calendar) -> dict[str, Any]:
    """Return the parameters of both statements, without listings."""
    return {
        "symbols": [s.name for s in SYMBOLS],
        "timeframes": [t.name for t in MARKET.timeframes],
        "listed": [None] * len(SYMBOLS),
        "delisted": [None] * len(SYMBOLS),
        "sessions": multirange(trading.sessions),
        "days": list(trading.sessions),
    }


def in_server(connection: psycopg.Connection, statement: str, values: dict[str, Any]) -> float:
    """Return the server's time in milliseconds, without sending rows."""
    row: Any = connection.execute(f"explain (analyze, timing off, format json) {statement}", values).fetchone()
    return float(row[0][0]["Execution Time"])


def milliseconds(work: Callable[[], object]) -> float:
    """Return the duration of the work in milliseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def report(name: str, times: Sequence[float]) -> float:
    """Print and return the median of all times except the first, which warms caches."""
    middle = statistics.median(times[1:])
    print(f"  {name:46} {middle:9.1f} ms")
    return middle


def measure(name: str, connection: psycopg.Connection, store: GapStore, trading: Calendar) -> None:
    """Measure one case, from an empty table of gaps."""
    stored = CASES[name](trading.sessions)
    prepare(connection, stored)
    values = parameters(trading)
    rows = len(connection.execute(SQL["lacking"], values).fetchall())
    missing = (len(trading.sessions) - len(stored)) * len(SYMBOLS) * len(MARKET.timeframes)
    print(f"{name}: {rows:,} ranges, {missing:,} sessions missing")
    ours = report("lacking, in the server", [in_server(connection, SQL["lacking"], values) for _ in range(ROUNDS)])
    naive = report("a row a day, in the server", [in_server(connection, ROW_A_DAY, values) for _ in range(3)])
    print(f"  {'one row per day / lacking':46} {naive / ours:9.1f}")
    fetched = [milliseconds(lambda: connection.execute(SQL["lacking"], values).fetchall()) for _ in range(ROUNDS)]
    report("lacking, rows fetched", fetched)
    watched = Watched(MARKET, trading, {}, USUAL)
    first = milliseconds(lambda: find_gaps(store, watched, NOW))
    print(f"  {'find_gaps, all gaps are new':46} {first:9.1f} ms")
    again = [milliseconds(lambda: find_gaps(store, watched, NOW)) for _ in range(3 if rows > 100_000 else ROUNDS)]
    report("find_gaps again: nothing has changed", again)
    if rows <= 100_000:
        connection.execute("update backfill_gaps set attempts = attempts + 1")
        changed = milliseconds(lambda: find_gaps(store, watched, NOW))
        print(f"  {'find_gaps, every gap has changed':46} {changed:9.1f} ms")
    row: Any = connection.execute("select count(*), sum(sessions) from backfill_gaps where not filled").fetchone()
    assert (row[1] or 0) == missing, "the table says what is missing"


def main() -> None:
    """Print the medians of every case."""
    trading = calendar(Kind.STOCKS, SPAN)
    print(f"{len(SYMBOLS)} symbols x {len(MARKET.timeframes)} timeframes x {len(trading.sessions):,} sessions")
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        url = server.url()
        try:
            schema.upgrade(url)
            with GapStore(url) as store, psycopg.connect(url, autocommit=True) as connection:
                for name in CASES:
                    measure(name, connection, store, trading)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
