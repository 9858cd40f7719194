"""Read a year of one symbol's minutes raw and adjusted, with no, one and three splits.

The three queries sum the same columns: of the table, of the view, and with a call of `split_factor` for every bar. The
table of splits also has 100 other symbols.

Run it with `.venv/bin/python benchmarks/adjusted.py`. It starts an embedded PostgreSQL in a temporary folder.
"""

import tempfile
import time
from pathlib import Path

import psycopg

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.store import schema

ROUNDS = 7
SPLITS = {"NONE": [], "ONE": ["2024-06-10"], "THREE": ["2024-03-11", "2024-06-10", "2024-09-09"]}

BARS = """
  insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source)
  select %s, '1m', d + m * interval '1 minute', 100, 101, 99, 100.5, 1000, 100.2, 10, 'polygon'
  from generate_series('2024-01-02 09:00Z'::timestamptz, '2024-12-31 09:00Z', '1 day') d, generate_series(0, 959) m
  where extract(isodow from d) < 6"""

SPLIT = """
  insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, first_seen, changed_at)
  values (%s, 'split', %s, 1, 2, now(), now())"""

OTHERS = """
  insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, first_seen, changed_at)
  select 'S' || s, 'split', date '2020-01-01' + n * 100, 1, 2, now(), now()
  from generate_series(1, 100) s, generate_series(1, 5) n"""

RAW = """
  select sum(open), sum(high), sum(low), sum(close), sum(volume), sum(vwap), count(*) from market_data
  where symbol = %s and timeframe = '1m'"""

ADJUSTED = RAW.replace("market_data", "market_data_adjusted")

CALLED = """
  select sum(open * f), sum(high * f), sum(low * f), sum(close * f), sum(volume / f), sum(vwap * f), count(*)
  from market_data,
    lateral split_factor(symbol, ("timestamp" at time zone 'America/New_York')::date, current_date) f
  where symbol = %s and timeframe = '1m'"""


def best(connection: psycopg.Connection, query: str, symbol: str) -> float:
    """Return the time of the fastest round in milliseconds."""
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        connection.execute(query, [symbol]).fetchall()
        taken.append(1000 * (time.perf_counter() - begin))
    return min(taken)


def main() -> None:
    """Fill the tables, measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder))
        url = server.url()
        schema.upgrade(url)
        with psycopg.connect(url, autocommit=True) as connection:
            for symbol, days in SPLITS.items():
                connection.execute(BARS, [symbol])
                for day in days:
                    connection.execute(SPLIT, [symbol, day])
            connection.execute(OTHERS)
            connection.execute("vacuum analyze")
            for symbol, days in SPLITS.items():
                ((*_, bars),) = connection.execute(RAW, [symbol]).fetchall()
                raw, adjusted, called = (best(connection, query, symbol) for query in (RAW, ADJUSTED, CALLED))
                print(f"{bars:,} bars, splits: {len(days)}")
                print(f"  raw {raw:.0f} ms, adjusted {adjusted:.0f} ms, by one call per bar {called:.0f} ms")
        server.stop()


if __name__ == "__main__":
    main()
