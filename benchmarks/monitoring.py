"""The monitoring queries of docs/OPERATIONS.md over ten million bars, compared with `group by`.

The queries are read from the page. They are compared with `group by` under PostgreSQL's default settings, with
`random_page_cost = 1.1`, and with more parallel workers, all after VACUUM, which allows index-only scans.

Run it with `.venv/bin/python benchmarks/monitoring.py`; `--bars 10000000` is the documented size. It starts an embedded
PostgreSQL.
"""

import argparse
import re
from typing import Any

import psycopg
from common import PROJECT, heading, load, market_tables, middle, milliseconds

ROUNDS = 7
SYMBOLS = 25
SHARES = {"1m": 0.72, "5m": 0.145, "15m": 0.05, "30m": 0.028, "1h": 0.018, "4h": 0.03, "1d": 0.007, "1w": 0.002}
"""Roughly as a market's bars are spread over its timeframes."""

FILL = """
  insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source)
  select %(symbol)s, %(timeframe)s, '2020-01-01Z'::timestamptz + n * interval '1 minute', 1, 1, 1, 1, n, 1, n, 'polygon'
  from generate_series(1, %(bars)s) n"""

NEWEST = "SELECT symbol, timeframe, MAX(timestamp) FROM market_data GROUP BY symbol, timeframe"
COUNTS = "SELECT symbol, COUNT(*) FROM market_data GROUP BY symbol"
SETTINGS = {
    "": {},
    ", random_page_cost 1.1": {"random_page_cost": "1.1"},
    ", 4 workers": {"random_page_cost": "1.1", "max_parallel_workers_per_gather": "4", "parallel_tuple_cost": "0"},
}


def documented() -> dict[str, str]:
    """Return the page's queries by heading."""
    page = (PROJECT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    section = page.partition("## Monitoring queries\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"### ([^\n]+)\n.*?```sql\n(.*?)```", section, re.DOTALL))


def fill(connection: psycopg.Connection, bars: int) -> int:
    """Insert a number of bars of every symbol and timeframe; return the total."""
    for number in range(SYMBOLS):
        for timeframe, share in SHARES.items():
            values = {"symbol": f"S{number:02}", "timeframe": timeframe, "bars": round(bars * share / SYMBOLS)}
            connection.execute(FILL, values)
    connection.execute("vacuum analyze market_data")
    connection.execute("analyze market_data_counts")
    connection.execute("checkpoint")
    row: Any = connection.execute("select count(*) from market_data").fetchone()
    return int(row[0])


def timed(connection: psycopg.Connection, query: str, settings: dict[str, str]) -> tuple[float, list[Any]]:
    """Return the median in milliseconds after one warm-up, and the rows."""
    for name, value in settings.items():
        connection.execute("select set_config(%s, %s, false)", [name, value])
    found = sorted(connection.execute(query).fetchall())
    times = [milliseconds(lambda: connection.execute(query).fetchall()) for _ in range(ROUNDS)]
    connection.execute("reset all")
    return middle(times), found


def main() -> None:
    """Fill the table, run the queries, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=1_000_000)
    with market_tables() as url, psycopg.connect(url, autocommit=True) as connection:
        bars = fill(connection, parser.parse_args().bars)
        heading(f"monitoring queries, {bars:,} bars of {SYMBOLS} symbols x {len(SHARES)} timeframes", url)
        gaps, newest, counts = documented().values()
        taken, _ = timed(connection, gaps, {})
        print(f"{'gaps, by the page':36} {taken:8.1f} ms")
        for name, page, plain in (("newest", newest, NEWEST), ("counts", counts, COUNTS)):
            ours, right = timed(connection, page, {})
            print(f"{name + ', by the page':36} {ours:8.1f} ms")
            for how, settings in SETTINGS.items():
                taken, found = timed(connection, plain, settings)
                assert found == right, "both texts have one answer"
                print(f"{name + ', by group by' + how:36} {taken:8.1f} ms: {taken / ours:,.0f} x as long")
        print(f"{ROUNDS} rounds; {load()}", flush=True)


if __name__ == "__main__":
    main()
