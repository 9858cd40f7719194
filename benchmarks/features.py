"""Features from stored bars to committed rows, compared with a raw COPY of the same rows and a pandas loop.

Run it with `.venv/bin/python benchmarks/features.py`; `--symbols 25 --months 24` is a complete universe. It starts an
embedded PostgreSQL in a temporary folder and fills it from the simulator. Rates are medians of `--rounds`, each of which
measures all variants.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import sqlalchemy

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.postgres import sqlalchemy_url
from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.features import FeatureStore
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.features import compute
from backfill_assets.domain.sessions import HOURS, Kind, calendar, count_by_session
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, made_from
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.features import Computed, FeatureRequest, compute_features
from backfill_assets.simulator import Simulator

# fmt: off
NAMES = (
    "AAPL", "MSFT", "NVDA", "SPY", "AMZN", "GOOGL", "META", "TSLA", "AVGO", "JPM", "LLY", "V", "XOM", "UNH", "JNJ", "WMT",
    "QQQ", "IWM", "DIA", "COST", "HD", "PG", "MA", "ABBV", "KO",
)
# fmt: on
FIRST = date(2024, 1, 2)
ZONE = HOURS[Kind.STOCKS].zone
MONTH = 21
"""Sessions."""

INCREMENTS = 5
"""Days that are added one by one."""

SAMPLE_DAYS = 5
"""Days of one symbol's minutes for the pandas loop: a few thousand rows, since more would take minutes."""


@dataclass(frozen=True)
class Bench:
    """A database with the bars of some symbols and sessions. `later` are the next sessions, not stored yet."""

    url: str
    market: Market
    stored: tuple[date, ...]
    later: tuple[date, ...]
    at_once: int

    def request(self, sessions: Sequence[date]) -> FeatureRequest:
        """The features of all series over some sessions."""
        return FeatureRequest(self.market, dict.fromkeys(self.market.symbols, tuple(sessions)), self.market.timeframes)

    def filled(self, sessions: Sequence[date], at_once: int | None = None) -> tuple[list[Computed], float]:
        """Compute what is stale in some sessions; return the results by series, and the seconds."""
        with FeatureStore(self.url, connections=8) as store:
            begun = time.perf_counter()
            done = asyncio.run(compute_features(self.request(sessions), store, at_once=at_once or self.at_once)).done
            return done, time.perf_counter() - begun

    def forget(self) -> None:
        """Delete all features, mark everything as stale, and finish background writes."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("truncate market_features, feature_marks")
            connection.execute(
                "insert into feature_marks (symbol, timeframe, stale) select symbol, timeframe, '(,)' from coverage"
            )
            connection.execute("checkpoint")


def store_bars(bench: Bench, simulator: Simulator, sessions: Sequence[date]) -> None:
    """Store the bars of some sessions of every symbol, with derived ones."""
    with BarStore(bench.url) as store:
        for symbol in bench.market.symbols:
            for timeframe, bars_of in ((MINUTE_1, simulator.market.minute_bars), (DAY_1, simulator.market.daily_bars)):
                page = bars_of(symbol.ticker, sessions[0], sessions[-1])
                bars = Bars(page.t, page.open, page.high, page.low, page.close, page.volume, page.vwap, page.trades)
                answer = CompleteSessions(tuple(sessions), tuple(count_by_session(bars, sessions, ZONE)), bars)
                derived = made_from(timeframe, bench.market.timeframes)
                terms = WriteContext(ZONE, datetime.now(UTC), derived=derived, finished=(*bench.stored, *bench.later))
                store.write(symbol.name, timeframe, answer, terms)


@contextmanager
def bench_of(symbols: int, months: int, at_once: int) -> Iterator[tuple[Bench, Simulator]]:
    """Run a server with the bars of a number of symbols and months."""
    last = FIRST + timedelta(days=round(months * 365.25 / 12))
    sessions = calendar(Kind.STOCKS, DayRange(FIRST, last + timedelta(days=3 * INCREMENTS))).sessions
    stored = tuple(session for session in sessions if session <= last)
    names = tuple(Symbol(name, name) for name in NAMES[:symbols])
    market = Market("stocks", Kind.STOCKS, FIRST, names, tuple(TIMEFRAMES.values()))
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        try:
            bench = Bench(server.url(), market, stored, sessions[len(stored) :][:INCREMENTS], at_once)
            schema.upgrade(bench.url)
            simulator = Simulator()
            for start in range(0, len(stored), MONTH):
                store_bars(bench, simulator, stored[start : start + MONTH])
            with psycopg.connect(bench.url, autocommit=True) as connection:
                connection.execute("vacuum analyze market_data")
            yield bench, simulator
        finally:
            server.stop()


def raw_copy(bench: Bench, file: Path) -> float:
    """Copy feature rows from a file into an empty table of the same kind; return the seconds."""
    with psycopg.connect(bench.url, autocommit=True) as connection:
        connection.execute("create table raw_features (like market_features including all)")
        connection.execute("checkpoint")
        with file.open("rb") as rows, connection.cursor() as cursor:
            start = time.perf_counter()
            with cursor.copy("copy raw_features from stdin (format binary)") as copy:
                while block := rows.read(1 << 20):
                    copy.write(block)
            taken = time.perf_counter() - start
        connection.execute("drop table raw_features")
    return taken


def saved_rows(bench: Bench, file: Path) -> None:
    """Save the feature rows to a file by COPY."""
    with psycopg.connect(bench.url) as connection, file.open("wb") as rows, connection.cursor() as cursor:
        everything = "copy (select * from market_features order by 1, 2, 3) to stdout (format binary)"
        with cursor.copy(everything) as copy:
            for block in copy:
                rows.write(block)


def pandas_loop(bench: Bench, sessions: Sequence[date]) -> tuple[int, float]:
    """Process one symbol's minutes by read_sql, pandas-ta and to_sql; return rows and seconds."""
    import pandas_ta as ta  # noqa: PLC0415  # already imported by `compute`

    query = sqlalchemy.text(
        'select "timestamp", open, high, low, close, volume from market_data '
        'where symbol = :symbol and timeframe = :timeframe and "timestamp" >= :start and "timestamp" < :end order by 1'
    )
    first, end = (
        datetime(d.year, d.month, d.day, tzinfo=ZONE) for d in (sessions[0], sessions[-1] + timedelta(days=1))
    )
    engine = sqlalchemy.create_engine(sqlalchemy_url(bench.url))
    try:
        start = time.perf_counter()
        values = {"symbol": bench.market.symbols[0].name, "timeframe": "1m", "start": first, "end": end}
        bars = pd.read_sql(query, engine, params=values, index_col="timestamp")
        high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas-ta
            parts = [
                ta.log_return(close), ta.percent_return(close), ta.true_range(high, low, close), ta.atr(high, low, close),
                ta.natr(high, low, close), ta.rsi(close), ta.macd(close), ta.bbands(close, length=20), ta.sma(close, 20),
                ta.sma(close, 50), ta.ema(close, 12), ta.ema(close, 26), ta.ema(close, 50), ta.adx(high, low, close),
                ta.stoch(high, low, close), ta.willr(high, low, close), ta.mfi(high, low, close, volume),
                ta.cci(high, low, close, 20), ta.cmf(high, low, close, volume), ta.roc(close),
                ta.vwap(high, low, close, volume), ta.obv(close, volume), ta.zscore(volume, 20),
                ta.stdev(ta.log_return(close), 20), ta.stdev(ta.log_return(close), 60),
            ]  # fmt: skip
        features = pd.concat(parts, axis=1)
        features = features.loc[:, ~features.columns.duplicated()].assign(**values)
        features.to_sql("pandas_features", engine, if_exists="replace")
        return len(features), time.perf_counter() - start
    finally:
        engine.dispose()


def peak_memory(bench: Bench, sessions: Sequence[date]) -> float:
    """Return the peak memory of computing some sessions in megabytes."""
    bench.forget()
    tracemalloc.start()
    try:
        bench.filled(sessions)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def compare(bench: Bench, rounds: int, file: Path) -> None:
    """Print the medians of a complete computation, and their ratios."""
    compute(Bars(*[np.arange(1, 100, dtype=np.float64)] * 8), ZONE)  # pandas-ta is imported and compiled once
    ours: list[float] = []
    raw: list[float] = []
    plain: list[float] = []
    rows = 0
    for _ in range(rounds):
        bench.forget()
        done, seconds = bench.filled(bench.stored)
        rows = sum(c.rows for c in done)
        ours.append(seconds)
        if not file.exists():
            saved_rows(bench, file)
        raw.append(raw_copy(bench, file))
        sample, seconds = pandas_loop(bench, bench.stored[:SAMPLE_DAYS])
        plain.append(seconds / sample * rows)
    market = bench.market
    print(
        f"{rows:,} rows: {len(market.symbols)} symbols, {len(market.timeframes)} timeframes, {len(bench.stored)} sessions"
    )
    for name, times in ((f"this, {bench.at_once} at once", ours), ("raw COPY", raw), ("pandas (sample)", plain)):
        middle = statistics.median(times)
        print(f"{name:18} {middle:8.2f} s  {rows / middle:10,.0f} rows/s")
    print(f"this / raw COPY    {statistics.median(a / b for a, b in zip(ours, raw, strict=True)):8.2f}  of its time")
    print(f"pandas / this      {statistics.median(a / b for a, b in zip(plain, ours, strict=True)):8.1f}  times faster")


def add_days(bench: Bench, simulator: Simulator) -> None:
    """Print the time for one more day."""
    times = []
    for session in bench.later:
        store_bars(bench, simulator, [session])
        done, seconds = bench.filled([session], at_once=1)
        times.append(seconds * 1000 / len(done))
    print(f"one more day       {statistics.median(times):8.1f}  ms per series, sequentially")


def main() -> None:
    """Fill a database and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=4, choices=range(1, len(NAMES) + 1), metavar="N")
    parser.add_argument("--months", type=int, default=6)
    parser.add_argument("--at-once", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, bench_of(options.symbols, options.months, options.at_once) as made:
        bench, simulator = made
        compare(bench, options.rounds, Path(folder) / "rows")
        add_days(bench, simulator)
        few, all_of_them = (peak_memory(bench, sessions) for sessions in (bench.stored[:MONTH], bench.stored))
        print(f"peak memory        {few:8.1f}  MB for {MONTH} sessions, {all_of_them:.1f} MB for {len(bench.stored)}")


if __name__ == "__main__":
    main()
