"""Read minutes into Arrow, polars and pandas, and how much memory the iterator takes, against what else there is.

The variants of a table take turns in one run; rates are in bars per second, the ratio is that of the medians. The bars are
made up: 960 minutes a session, with 34 features each.

Run it with `.venv/bin/python benchmarks/reading.py`; `--symbols 25 --days 252` is the documented size. It starts an embedded
PostgreSQL in a temporary folder.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import pandas as pd
import psycopg
from adbc_driver_postgresql import dbapi
from common import heading, load, market_tables, middle

from backfill_assets import iterate_bars, read_bars
from backfill_assets.domain.features import COLUMNS

ROUNDS = 3
BARS = """
  insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source)
  select %(symbol)s, '1m', d + m * interval '1 minute', 100 + random(), 102 + random(), 98 + random(), 100 + random(),
    (1e5 * random())::int, case when random() > 0.01 then 100 + random() end, (100 * random())::int, 'polygon'
  from (select '2024-01-02 09:00Z'::timestamptz + interval '1 day' * (n / 5 * 7 + n %% 5) as d
    from generate_series(0, %(days)s - 1) n) days, generate_series(0, 959) m order by 3"""
FEATURES = f"""
  insert into market_features (symbol, timeframe, "timestamp", {", ".join(c.name for c in COLUMNS)})
  select symbol, timeframe, "timestamp", {", ".join(["random()"] * len(COLUMNS))} from market_data
  where symbol = %(symbol)s order by "timestamp" """  # noqa: S608  # constants
RAW = """
  select symbol, "timestamp", open, high, low, close, volume, vwap, trades from market_data
  where symbol = any(%(symbols)s) and timeframe = '1m' order by symbol, "timestamp" """
VIEW = """select * from market_data_v2 where symbol = any(%(symbols)s) and timeframe = '1m' order by symbol, "timestamp" """
MEMORY = """
import sys
from pathlib import Path
from backfill_assets import iterate_bars
symbols = sys.argv[2].split(",")
for chosen in (symbols[:1], symbols):
    rows = sum(batch.num_rows for batch in iterate_bars(chosen, "1m", features="all", url=sys.argv[1]))
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print(rows, int(peak) // 1024)
"""


def by_psycopg(url: str, query: str, symbols: list[str]) -> pd.DataFrame:
    """Read rows as Python objects."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query, {"symbols": symbols})
        names = [column.name for column in cursor.description or ()]
        return pd.DataFrame(cursor.fetchall(), columns=names)


def by_adbc(url: str, symbols: list[str]) -> object:
    """Read rows as Arrow, by the driver alone."""
    with psycopg.connect(url) as connection:
        query = psycopg.ClientCursor(connection).mogrify(RAW, {"symbols": symbols})
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_arrow_table()


def compare(title: str, bars: int, variants: Mapping[str, Callable[[], object]]) -> None:
    """Measure variants alternately, print their rates and the ratio of each to the first one; also of Python's own work."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    worked: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, work in variants.items():
            begin, begun = time.perf_counter(), time.process_time()
            work()
            taken[name].append(time.perf_counter() - begin)
            worked[name].append(time.process_time() - begun)
    reference, own = (middle(next(iter(times.values()))) for times in (taken, worked))
    print(f"{title}, {bars:,} bars")
    for name, times in taken.items():
        rate, ratio, share = bars / middle(times) / 1e6, reference / middle(times), own / middle(worked[name])
        print(f"  {name:38} {rate:6.2f} M bars/s  {ratio:6.2f} x  {share:6.2f} x of Python's time")
    print(f"  {load()}", flush=True)


def main() -> None:
    """Fill the tables, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int, default=3)
    parser.add_argument("--days", type=int, default=60)
    options = parser.parse_args()
    names = [f"S{number:03}" for number in range(options.symbols)]
    with market_tables() as url:
        heading("Reading", url)
        with psycopg.connect(url, autocommit=True) as connection:
            for symbol in names:
                connection.execute(BARS, {"symbol": symbol, "days": options.days})
                connection.execute(FEATURES, {"symbol": symbol})
            connection.execute("vacuum analyze market_data, market_features")
        series = options.days * 960
        arrow = {
            "ADBC": lambda: by_adbc(url, names),
            "read_bars, arrow": lambda: read_bars(names, "1m", engine="arrow", url=url),
            "iterate_bars": lambda: sum(batch.num_rows for batch in iterate_bars(names, "1m", url=url)),
        }
        compare("To Arrow", series * len(names), arrow)
        one, some = names[:1], names[:4]
        frames: dict[str, Callable[[], object]] = {"psycopg fetchall, pandas": lambda: by_psycopg(url, RAW, some)}
        for engine in ("polars", "pandas"):
            frames[f"read_bars, {engine}"] = lambda engine=engine: read_bars(some, "1m", engine=engine, url=url)
        for session, adjust in (("all", "all"), ("regular", "none")):
            frames[f"read_bars, {session} hours, adjust {adjust}"] = lambda s=session, a=adjust: read_bars(
                some, "1m", session=s, adjust=a, url=url
            )
        compare("To a frame", series * len(some), frames)
        wide: dict[str, Callable[[], object]] = {"market_data_v2, pandas": lambda: by_psycopg(url, VIEW, one)}
        for engine in ("pandas", "polars"):
            wide[f"read_bars, {engine}"] = lambda engine=engine: read_bars(
                one, "1m", features="all", engine=engine, url=url
            )
        compare("With all features", series, wide)
        memory = [sys.executable, "-c", MEMORY, url, ",".join(names)]
        done = subprocess.run(memory, capture_output=True, text=True, check=True).stdout.split("\n")
        print("Peak memory of iterate_bars with all features")
        for rows, size in (line.split() for line in done if line):
            print(f"  {int(rows):,} rows: {size} MB")


if __name__ == "__main__":
    main()
