"""An archive of 10,000 tickers: a session from its flat file, bytes a bar, memory, and a ticker's year against PostgreSQL.

A session has about 1.5 million made-up minutes: prices walk on cents, and few tickers trade in most minutes. The ways that
are compared take turns in one run; ratios are those of the medians.

Run it with `.venv/bin/python benchmarks/archive.py`; `--sessions 250` makes a year, without the first lines. It starts an
embedded PostgreSQL and writes to a temporary folder.
"""

import argparse
import gzip
import io
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from itertools import batched
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
from common import heading, load, market_tables, middle, seconds
from pyarrow import csv, parquet

from backfill_assets.adapters.archive.places import Folder
from backfill_assets.adapters.archive.sessions import SessionFile, name_of, part_of, scan, write_session
from backfill_assets.adapters.polygon_files import DayFile, MarketDay, read_day
from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.domain.answers import PageCutter
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import HOURS, Kind, calendar
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.domain.universe import Archive
from backfill_assets.pipelines.archive import examine

TICKERS, ROWS, ROUNDS, UNIVERSE = 10_000, 1_500_000, 5, 100
ZONE = HOURS[Kind.STOCKS].zone
NOW = datetime(2025, 1, 2, tzinfo=UTC)
SESSIONS = calendar(Kind.STOCKS, DayRange(date(2024, 1, 2), date(2024, 12, 31))).sessions
NAMES = [f"T{number:04}" for number in range(TICKERS)]


def made(session: date) -> pa.Table:
    """Make the minutes of all tickers in a session, sorted by ticker and time."""
    chance = np.random.default_rng(session.toordinal())
    share = np.minimum(np.random.default_rng(1).pareto(0.6, TICKERS) * 0.027 + 0.001, 0.97)
    traded = chance.random((TICKERS, 960)) < share[:, None]
    code, minute = np.nonzero(traded)
    n = len(code)
    price = np.random.default_rng(2).uniform(2, 400, TICKERS)[code]
    close = np.round(price * np.exp(chance.normal(0, 0.004, n)), 2)
    opened = np.round(np.maximum(close + chance.integers(-3, 4, n) / 100, 0.01), 2)
    high = np.round(np.maximum(opened, close) + chance.integers(0, 6, n) / 100, 2)
    low = np.round(np.maximum(np.minimum(opened, close) - chance.integers(0, 6, n) / 100, 0.01), 2)
    volume = np.floor(chance.lognormal(6, 1.6, n)) + 1
    start = round(datetime.combine(session, datetime.min.time(), ZONE).timestamp() * 1000) + 4 * 3_600_000
    return pa.table(
        {
            "ticker": pa.DictionaryArray.from_arrays(code.astype(np.int32), pa.array(NAMES)).cast(pa.string()),
            "volume": volume.astype(np.int64),
            "open": opened,
            "close": close,
            "high": high,
            "low": low,
            "window_start": (start + minute * 60_000) * 1_000_000,
            "transactions": np.maximum(1, volume // 60).astype(np.int64),
        }
    )


def zipped(table: pa.Table) -> bytes:
    """Return the flat file."""
    text = io.BytesIO()
    csv.write_csv(table, text, csv.WriteOptions(quoting_style="none"))
    return gzip.compress(text.getvalue(), 6)


def of(path: Path, session: date) -> DayFile:
    """Describe a flat file."""
    return DayFile(Kind.STOCKS, MINUTE_1, session, path.name, path.stat().st_size, "etag", NOW)


def archived(path: Path, session: date, place: Folder) -> MarketDay:
    """Write a session of the archive from its flat file, as a run does."""
    day = read_day(path, of(path, session), ZONE)
    with part_of(place, session) as part:
        write_session(part, day.table, SessionFile(len(day.table), len(day.rows), 0, path.name, "etag", NOW))
        place.take(part, name_of("us_stocks", "1m", session))
    return day


def plain(path: Path, target: Path) -> None:
    """Do the same by pyarrow alone: read, sort, write."""
    options = csv.ConvertOptions(strings_can_be_null=False)
    table = csv.read_csv(pa.CompressedInputStream(pa.OSFile(str(path)), "gzip"), convert_options=options)
    table = table.sort_by([("ticker", "ascending"), ("window_start", "ascending")])
    parquet.write_table(table, target, compression="zstd")


def stored(store: BarStore, day: MarketDay, session: date) -> int:
    """Store the session of a universe of 100 symbols from a decoded file, as a run does; return the number of bars."""
    context = WriteContext(ZONE, NOW, source="polygon_files")
    count = 0
    for names in batched(NAMES[:UNIVERSE], 50):
        answers = {name: PageCutter((session,), ZONE).feed(day.bars(name), more=False, bad=[]) for name in names}
        written = store.write_several(MINUTE_1, {name: (answer, context) for name, answer in answers.items()})
        count += sum(each.inserted for each in written.values())
    return count


def copied(url: str, day: MarketDay) -> None:
    """Copy the same rows into a table of the same form, without a check."""
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists raw (like market_data including all)")
        connection.execute("truncate raw")
        columns = 'symbol, timeframe, source, "timestamp", open, high, low, close, volume, trades'
        with connection.cursor() as cursor, cursor.copy(f"copy raw ({columns}) from stdin") as copy:
            for name in NAMES[:UNIVERSE]:
                bars = day.bars(name)
                for row in zip(
                    bars.timestamp.tolist(),
                    *(getattr(bars, c).tolist() for c in ("open", "high", "low", "close", "volume", "trades")),
                    strict=True,
                ):
                    copy.write_row((name, "1m", "x", datetime.fromtimestamp(row[0] / 1000, UTC), *row[1:]))


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the medians and their ratio."""
    return f"{middle(ours):.2f} s against {middle(theirs):.2f} s: {middle(ours) / middle(theirs):.2f}"


def session_of(folder: Path, place: Folder) -> None:
    """Compare a session with pyarrow alone, in time, bytes and memory."""
    session, path = SESSIONS[0], folder / "day.csv.gz"
    path.write_bytes(zipped(made(session)))
    day = archived(path, session, place)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: archived(path, session, place)))
        theirs.append(seconds(lambda: plain(path, folder / "plain.parquet")))
    file = Path(place.url(name_of("us_stocks", "1m", session)))
    rows, size = len(day.table), file.stat().st_size
    print(f"   {rows:,} rows; file to archive, ours and pyarrow alone: {ratio(ours, theirs)}; {load()}")
    print(
        f"   bytes a bar: {size / rows:.1f}, csv.gz {path.stat().st_size / rows:.1f}: {size / path.stat().st_size:.2f}"
    )
    command = [sys.executable, __file__, "--peak"]
    nothing, whole = (
        int(subprocess.run([*command, kind, path], capture_output=True, text=True, check=True).stdout)
        for kind in ("nothing", "session")
    )
    print(f"   peak memory of a session: {(whole - nothing) * 1024 / day.table.nbytes:.1f} x its Arrow table")
    with market_tables() as url, BarStore(url) as store:
        ours, theirs = [], []
        for _ in range(ROUNDS):
            store._transaction(lambda c: c.execute("truncate market_data, session_answers, coverage"))  # noqa: SLF001
            ours.append(seconds(lambda: stored(store, day, session)))
            theirs.append(seconds(lambda: copied(url, day)))
        print(f"   {UNIVERSE} symbols into PostgreSQL, ours and COPY by rows: {ratio(ours, theirs)}")


def peak(kind: str, path: Path) -> None:
    """Print the peak memory of this process in kB; that of `getrusage` may be of the process that started it."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "session":
            archived(path, SESSIONS[0], Folder(Path(folder)))
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def years(folder: Path, place: Folder, count: int) -> None:
    """Archive sessions one after another, and read a ticker of all of them from the archive and from PostgreSQL."""
    path, taken = folder / "day.csv.gz", list[float]()
    with market_tables() as url, BarStore(url) as store:
        for session in SESSIONS[:count]:
            path.write_bytes(zipped(made(session)))
            start = time.perf_counter()
            day = archived(path, session, place)
            taken.append(time.perf_counter() - start)
            stored(store, day, session)
        names = [name_of("us_stocks", "1m", session) for session in SESSIONS[:count]]
        size = sum(Path(place.url(name)).stat().st_size for name in names)
        hours, gigabytes = sum(taken) / count * 252 * 5 / 3600, size / count * 252 * 5 / 1e9
        print(
            f"   {count} sessions: {sum(taken) / count:.2f} s each; 5 years: {hours:.1f} h, {gigabytes:.0f} GB; {load()}"
        )
        busiest = NAMES[int(np.argmax(np.random.default_rng(1).pareto(0.6, TICKERS)[:UNIVERSE]))]
        query = "select * from market_data where symbol = %s and timeframe = '1m' order by timestamp"

        def queried() -> None:
            with psycopg.connect(url) as connection:
                connection.execute(query, [busiest]).fetchall()

        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(seconds(lambda: scan(place, names, [busiest])))
            theirs.append(seconds(queried))
        print(f"   {busiest} of {count} sessions, archive and PostgreSQL: {ratio(ours, theirs)}")
    archive = Archive("us_stocks", Kind.STOCKS, SESSIONS[0], (MINUTE_1,))
    verified = seconds(lambda: examine(archive, MINUTE_1, SESSIONS[0], place))
    print(f"   a file verified in {verified:.2f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--peak", nargs=2)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak[0], Path(arguments.peak[1]))
        return
    heading(f"an archive of {TICKERS:,} tickers")
    with tempfile.TemporaryDirectory() as folder:
        place = Folder(Path(folder) / "archive")
        session_of(Path(folder), place)
        years(Path(folder), place, arguments.sessions)


if __name__ == "__main__":
    main()
