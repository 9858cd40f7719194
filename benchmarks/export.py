"""Export minutes to Parquet: time, bytes a bar against csv.gz, and a scan of one symbol's year against PostgreSQL.

The bars are a random walk on cents, with the vwap to four decimals, 390 minutes a session; tick data of a vendor compresses
alike. The two ways to read take turns in one run; the ratio is that of the medians.

Run it with `.venv/bin/python benchmarks/export.py`; `--symbols 25` is the documented size. It starts an embedded PostgreSQL
in a temporary folder.
"""

import argparse
import gzip
import io
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from common import heading, load, market_tables, middle, seconds
from pyarrow import csv, parquet

from backfill_assets import read_bars
from backfill_assets.adapters.archive.files import Arguments
from backfill_assets.adapters.archive.places import Folder
from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import HOURS, Kind, calendar, count_by_session, day_starts
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.export import Scope, export

ROUNDS = 5
YEAR = DayRange(date(2024, 1, 2), date(2024, 12, 31))
ZONE = HOURS[Kind.STOCKS].zone
NOW = datetime(2025, 1, 2, tzinfo=UTC)


def walk(seed: int) -> Bars:
    """Make a year of regular sessions' minutes."""
    chance = np.random.default_rng(seed)
    starts = day_starts(calendar(Kind.STOCKS, YEAR).sessions, ZONE)
    stamps = (starts[:, None] + 60_000 * np.arange(570, 960)).ravel()
    n = len(stamps)
    closes = chance.uniform(20, 400) * np.exp(np.cumsum(chance.normal(0, 5e-4, n)))
    opens = np.append(closes[0], closes[:-1])
    highs, lows = np.maximum(opens, closes) * (1 + 2e-4), np.minimum(opens, closes) * (1 - 2e-4)
    opens, highs, lows, closes = (np.round(prices, 2) for prices in (opens, highs, lows, closes))
    volume = np.round(chance.lognormal(8, 1, n))
    return Bars(
        stamps,
        opens,
        highs,
        lows,
        closes,
        volume,
        np.round((highs + lows + closes) / 3, 4),
        (volume / 90).astype(np.int64),
    )


def fill(url: str, names: list[str]) -> None:
    """Store a year of each symbol, as a run does."""
    sessions = tuple(calendar(Kind.STOCKS, YEAR).sessions)
    with BarStore(url) as store:
        for seed, name in enumerate(names):
            bars = walk(seed)
            answer = CompleteSessions(sessions, tuple(count_by_session(bars, sessions, ZONE)), bars)
            store.write(name, MINUTE_1, answer, WriteContext(ZONE, NOW))


def main() -> None:
    """Fill the tables, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int, default=5)
    names = [f"S{number:02}" for number in range(parser.parse_args().symbols)]
    with market_tables() as url, tempfile.TemporaryDirectory() as folder, ExportStore(url, read_only=True) as store:
        heading(f"an export of {len(names)} symbols, a year of minutes", url)
        fill(url, names)
        market = Market("stocks", Kind.STOCKS, YEAR.start, tuple(Symbol(n, n) for n in names), (MINUTE_1,))
        scopes = [Scope(market, tuple(names), (MINUTE_1.name,), YEAR)]
        place = Folder(Path(folder, "bars"))
        first = seconds(lambda: export(store, place, scopes, Arguments()))
        nothing = seconds(lambda: export(store, place, scopes, Arguments()))
        files = sorted(Path(folder).rglob("*.parquet"))
        size, rows, zipped = 0, 0, 0
        for file in files:
            table = parquet.read_table(file)
            text = io.BytesIO()
            csv.write_csv(table, text)
            size, rows, zipped = (
                size + file.stat().st_size,
                rows + len(table),
                zipped + len(gzip.compress(text.getvalue(), 6)),
            )
        print(
            f"   {rows:,} bars in {first:.1f} s ({rows / first:,.0f} a second); nothing to do: {nothing:.2f} s; {load()}"
        )
        print(f"   bytes a bar: {size / rows:.1f}, csv.gz {zipped / rows:.1f}: ratio {size / zipped:.2f}")

        def scanned() -> None:
            found = pl.scan_parquet(f"{folder}/bars/**/*.parquet", hive_partitioning=True)
            assert len(found.filter(symbol=names[-1], timeframe="1m", year=2024).collect()) == rows // len(names)

        def queried() -> None:
            bars = read_bars(names[-1], "1m", YEAR.start, YEAR.end, engine="polars", url=url)
            assert len(bars) == rows // len(names)

        scanned()
        taken = [(seconds(scanned), seconds(queried)) for _ in range(ROUNDS)]
        file, server = (middle(times) for times in zip(*taken, strict=True))
        print(
            f"   a symbol's year into polars: files {1000 * file:.1f} ms, PostgreSQL {1000 * server:.0f} ms: "
            f"{server / file:.0f} times as fast"
        )


if __name__ == "__main__":
    main()
