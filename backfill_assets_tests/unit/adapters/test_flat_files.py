"""Flat files are decoded as row by row, whatever the order of rows and columns."""

import gzip
import math
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.polygon_files import DayFile, read_day
from backfill_assets.domain.errors import ContradictoryAnswer, MalformedAnswer
from backfill_assets.domain.sessions import HOURS, Kind, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1
from backfill_assets_tests.support import SOAK

COLUMNS = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
NS = 1_000_000
MINUTE = 60_000
TICKERS = {
    Kind.STOCKS: ["NA", "A", "AA", "NULL", "NaN", "BRK.B", "TRUE", "1", "é", ""],
    Kind.CRYPTO: ["X:BTC-USD", "X:BTCUSD", "X:1INCH-USD", "X:ETH-BTC"],
}


def a_file(kind, timeframe, day):
    return DayFile(kind, timeframe, day, f"files/{day}.csv.gz", 1, '"1"', datetime(2024, 12, 1, tzinfo=UTC))


def bounds(file):
    start, end = day_starts([file.session, date.fromordinal(file.session.toordinal() + 1)], HOURS[file.kind].zone)
    return int(start), int(end)


def decoded(file, rows, columns=COLUMNS):
    lines = [",".join(columns), *(",".join(str(row[name]) for name in columns) for row in rows), ""]
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.csv.gz")
        path.write_bytes(gzip.compress("\n".join(lines).encode(), 1))
        return read_day(path, file, HOURS[file.kind].zone)


prices = st.sampled_from([1.0, 2.5, 1e-8, 123456.78, 0.1 + 0.2])


@st.composite
def days(draw):
    """A file and its rows, most of them bars."""
    kind = draw(st.sampled_from(Kind))
    timeframe = draw(st.sampled_from([MINUTE_1, DAY_1]))
    # The days on which New York's clocks change have 23 and 25 hours.
    day = draw(st.sampled_from([date(2024, 3, 8), date(2024, 3, 10), date(2024, 11, 3)]))
    file = a_file(kind, timeframe, day)
    start, end = bounds(file)
    step = MINUTE if timeframe == MINUTE_1 else end - start
    usual = st.integers(0, min((end - start) // step - 1, draw(st.sampled_from([3, 2000])))).map(
        lambda n: start + n * step
    )
    odd = st.sampled_from([start - MINUTE, end, start + 1, end - 1, start + 30_000])
    row = st.fixed_dictionaries(
        {
            "ticker": st.sampled_from(TICKERS[kind]),
            "volume": st.sampled_from([0, 1, 2.5, 1e9]) | st.sampled_from([-1, "", "nan", "inf"]),
            "open": prices,
            "close": prices | st.sampled_from(["", "nan", 0, -1]),
            "window_start": (usual | usual | usual | odd).map(lambda ms: ms * NS),
            "transactions": st.sampled_from([0, 1, 7, ""]),
            "up": st.sampled_from([1, 1, 1.5, 0.5]),
            "down": st.sampled_from([1, 1, 0.5, 1.5]),
        }
    )
    return file, draw(st.lists(row, min_size=1, max_size=40)), draw(st.permutations(COLUMNS))


def number(value):
    return math.nan if value == "" else float(value)


@given(days())
@settings(max_examples=2000 if SOAK else 150)
def test_a_file_is_what_its_rows_say(made):
    file, rows, columns = made
    start, end = bounds(file)
    step = MINUTE if file.timeframe == MINUTE_1 else end - start
    good, bad = defaultdict(lambda: defaultdict(set)), defaultdict(int)
    for row in rows:
        o, c, volume, at = *(number(row[name]) for name in ("open", "close", "volume")), row["window_start"] // NS
        row["high"] = h = max(o, number(row["close"] or 1)) * row.pop("up")
        row["low"] = low = min(o, number(row["close"] or 1)) * row.pop("down")
        ticker = row["ticker"].replace("-", "") if file.kind is Kind.CRYPTO else row["ticker"]
        fine = all(map(math.isfinite, (o, h, low, c, volume))) and 0 < low <= min(o, c) <= max(o, c) <= h
        fine = fine and volume >= 0 and start <= at < end and (at - start) % step == 0 and ticker != ""
        if fine:
            good[ticker][at].add((o, h, low, c, volume, int(row["transactions"] if row["transactions"] != "" else -1)))
        else:
            bad[ticker] += 1
    expected = {t: {at: bars.pop() for at, bars in bars.items() if len(bars) == 1} for t, bars in good.items()}
    expected = {t: bars for t, bars in expected.items() if bars}
    try:
        found = decoded(file, rows, columns)
    except ContradictoryAnswer:
        assert not any(start <= row["window_start"] // NS < end for row in rows)
        return
    except MalformedAnswer:
        assert not expected
        return
    assert list(found.rows) == sorted(expected)
    for ticker, bars in expected.items():
        b = found.bars(ticker)
        assert b.timestamp.tolist() == sorted(bars)
        columns = (b.open, b.high, b.low, b.close, b.volume, b.trades)
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == [bars[at] for at in sorted(bars)]
        assert np.isnan(b.vwap).all()
    differ = {t for t, bars in good.items() if len(bars) > len(expected.get(t, ()))}
    assert found.rejected.keys() == {t for t, n in bad.items() if n} | differ
    for bar in (bar for bars in found.rejected.values() for bar in bars):
        first, last = bar.between or (bar.timestamp, bar.timestamp)
        assert start <= first <= last < end
    table = found.table.to_pydict()
    order = list(zip(table["ticker"], table["timestamp"], strict=True))
    assert order == sorted(set(order))


ROW = {"ticker": "A", "volume": 1, "open": 1, "close": 1, "high": 1, "low": 1, "transactions": 1}
FILE = a_file(Kind.STOCKS, DAY_1, date(2024, 3, 8))
GOOD = ROW | {"window_start": bounds(FILE)[0] * NS}


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_file_without_a_column_is_malformed(missing):
    with pytest.raises(MalformedAnswer, match=missing):
        decoded(FILE, [GOOD], tuple(name for name in COLUMNS if name != missing))


def test_further_columns_do_no_harm():
    found = decoded(FILE, [GOOD | {"vwap": "x", "otc": ""}], ("otc", *COLUMNS, "vwap"))
    assert found.bars("A").close.tolist() == [1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ticker,volume",
        gzip.compress(b""),
        gzip.compress(b"\xff\xfe\x00"),
        gzip.compress(",".join(COLUMNS).encode() + b"\nA,1,1,1\n"),  # a row that is cut
        gzip.compress((",".join(COLUMNS) + "\n" + ",".join(["\ud800", *"1111111"])).encode(errors="surrogatepass")),
        gzip.compress(b"x" * 10_000_000),  # a line without end
    ],
    ids=["empty", "plain text", "no bytes", "no text", "a cut row", "a surrogate", "an endless line"],
)
def test_what_is_no_table_is_malformed(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(MalformedAnswer, match="2024-03-08"):
        read_day(tmp_path / "x", FILE, HOURS[FILE.kind].zone)


def test_every_byte_that_is_missing_at_the_end_is_noticed(tmp_path):
    lines = [
        ",".join(COLUMNS),
        *(",".join(str((GOOD | {"ticker": f"T{n}"})[name]) for name in COLUMNS) for n in range(50)),
    ]
    whole = gzip.compress("\n".join(lines).encode())
    for length in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(MalformedAnswer):
            read_day(tmp_path / "x", FILE, HOURS[FILE.kind].zone)
