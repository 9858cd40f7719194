"""The vendor's flat files: whole-market bars, a gzipped CSV a day, published about 11:00 New York of the next day.

They have the bars of the REST answers, without vwap and without holes, and those of made-up tickers that only the files have.
A file's size is fixed before it is made, since lists name it: empty gzip members fill what the bars leave.
"""

from __future__ import annotations

import gzip
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import cache, lru_cache

import numpy as np

from backfill_assets.simulator.columns import Columns, gather
from backfill_assets.simulator.market import Base, Market, aware
from backfill_assets.simulator.noise import bits, normals, seed, uniforms
from backfill_assets.simulator.scenario import FileFault, Scenario
from backfill_assets.simulator.sessions import DAY_MS, MINUTE_MS, NEW_YORK, Days, market_of, to_date, trading_days
from backfill_assets.simulator.sessions import Market as MarketName

BUCKET = "flatfiles"
_MARKETS: tuple[MarketName, ...] = ("stocks", "crypto")
_FOLDERS: dict[MarketName, str] = {"stocks": "us_stocks_sip", "crypto": "global_crypto"}
_BASES: tuple[Base, ...] = ("day", "minute")
_PUBLISHED = time(11)
_ROW = 30  # bytes of a row at the most, compressed
_THIN = 60  # minutes of a made-up ticker at the most


@dataclass(frozen=True, slots=True)
class File:
    """A published file. `faults` are those that apply to it now, `version` changes whenever its content does."""

    key: str
    market: MarketName
    base: Base
    day: int
    size: int
    etag: str
    modified: datetime
    faults: tuple[FileFault, ...]


class FlatFiles:
    """The files of a scenario, as of the market's clock."""

    def __init__(self, scenario: Scenario, market: Market, now: Callable[[], datetime]) -> None:
        self._scenario, self._market, self._now = scenario, market, now
        self._known = {name: sorted(t for t in market.traded if market_of(t) == name) for name in _MARKETS}
        self._invented = invented_tickers(scenario.archive_tickers)
        self.content = lru_cache(maxsize=16)(self._content)

    def find(self, prefix: str) -> Iterator[File]:
        """Yield the published files whose keys start with `prefix`, in order."""
        keys = _keys()
        for i in range(bisect_left(keys, prefix, key=lambda key: key[0]), len(keys)):
            if not keys[i][0].startswith(prefix):
                return
            if file := self._file(*keys[i]):
                yield file

    def allows(self, prefix: str) -> bool:
        """Return whether the plan includes the files below a prefix."""
        return not any(prefix.startswith(_FOLDERS[market]) for market in self._scenario.files_forbidden)

    def _file(self, key: str, market: MarketName, base: Base, day: int) -> File | None:
        now, on = self._now(), to_date(day)
        faults = tuple(
            f
            for f in self._scenario.file_faults
            if f.market in (None, market) and f.base in (None, base) and f.day in (None, on)
        )
        published = datetime.combine(on + timedelta(days=1), _PUBLISHED, NEW_YORK).astimezone(UTC)
        restated = [r.at for r in self._scenario.restatements if r.day == on and market_of(r.ticker) == market]
        changes = [aware(at) for at in (*restated, *(f.until for f in faults)) if at is not None]
        open_faults = tuple(f for f in faults if f.until is None or now < aware(f.until))
        if now < published or any(f.kind == "late" for f in open_faults):
            return None
        modified = max([published, *(at for at in changes if at <= now)])
        etag = hashlib.md5(f"{key} {modified} {open_faults}".encode(), usedforsecurity=False).hexdigest()
        size = self._size(market, base, {f.kind for f in open_faults})
        return File(key, market, base, day, size, f'"{etag}-1"', modified, open_faults)

    def _size(self, market: MarketName, base: Base, kinds: set[str]) -> int:
        if kinds & _ODD.keys():
            return len(_ODD[min(kinds & _ODD.keys())]())
        span = trading_days(market).span if base == "minute" else 1
        rows = span * len(self._known[market]) + (min(span, _THIN) * len(self._invented) if market == "stocks" else 0)
        return 4096 + rows * _ROW - ("truncated" in kinds) * 40

    def _content(self, file: File) -> bytes:
        kinds = {f.kind for f in file.faults}
        if kinds & _ODD.keys():
            return _ODD[min(kinds & _ODD.keys())]()
        rows = sorted(self._rows(file), key=lambda row: row[0])
        for fault in file.faults:
            rows = _damaged(rows, fault, file)
        order = range(len(_HEADER) - 1, -1, -1) if "columns" in kinds else range(len(_HEADER))
        text = "".join(f"{','.join([row[i] for i in order])}\n" for row in (_HEADER, *rows))
        packed = gzip.compress(text.encode(), 1, mtime=0)
        return (_padding(self._size(file.market, file.base, set()) - len(packed)) + packed)[: file.size]

    def _rows(self, file: File) -> Iterator[Row]:
        market, day = self._market, file.day
        for ticker in self._known[file.market]:
            if file.base == "day":
                bars = market.served(ticker, market.daily(ticker, day, day), DAY_MS, adjusted=False)
            else:
                bars = market.minute_bars(ticker, to_date(day), to_date(day))
            yield from _written(ticker, bars)
        if file.market == "stocks":
            for ticker in self._invented:
                bars = _thin_bars(ticker, day)
                if file.base == "day":
                    midnight = trading_days("stocks").between(day, day).start
                    bars = replace(gather(bars, bars.day), t=midnight[: len(bars)])
                yield from _written(ticker, bars)


@cache
def _keys() -> list[tuple[str, MarketName, Base, int]]:
    """Return the keys of all sessions' files, in order, with what they are about."""
    return sorted(
        (f"{folder}/{base}_aggs_v1/{to_date(day):%Y/%m/%Y-%m-%d}.csv.gz", market, base, day)
        for market, folder in _FOLDERS.items()
        for base in _BASES
        for day in trading_days(market).day.tolist()
    )


def invented_tickers(count: int) -> list[str]:
    """Return tickers that only the files have: NA, a trap for who reads CSV, and others of four letters."""
    numbers = (7919 * i % 26**3 for i in range(count))  # each once, in no order
    return ["NA", *(f"Z{chr(65 + n // 676)}{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}" for n in numbers)][:count]


def _thin_bars(ticker: str, day: int) -> Columns:
    """Return some minutes of the regular session of a made-up ticker."""
    days = trading_days("stocks").between(day, day)
    clock = np.arange(int(days.opens[0]), int(days.closes[0]))
    luck, up, down, size = uniforms(bits(seed("thin", ticker), day * 1440 + clock))
    rows = np.flatnonzero(luck < 0.02 + seed("share", ticker) % 100 / 800)[:_THIN]
    level = 2 + seed("price", ticker) % 10_000 / 100 * np.exp(0.02 * normals(bits(seed("level", ticker), days.day)))
    path = level * np.exp(0.001 * np.cumsum(normals(bits(seed("step", ticker), day * 1440 + clock))))
    opened, closed = (np.round(path * (1 + 0.002 * (part - 0.5)), 2)[rows] for part in (luck, size))
    volume = np.ceil(500 * size[rows]) + 1
    return Columns(
        np.full(len(rows), day),
        days.start[0] + clock[rows] * MINUTE_MS,
        opened,
        np.round(np.maximum(opened, closed) * (1 + 0.001 * up[rows]), 2),
        np.round(np.minimum(opened, closed) * (1 - 0.001 * down[rows]), 2),
        closed,
        volume,
        np.full(len(rows), np.nan),
        (1 + volume // 100).astype(np.int64),
    )


type Row = list[str]

_HEADER = ["ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"]
_TICKER, _VOLUME, _OPEN, _CLOSE, _HIGH, _LOW, _START = range(7)


def _written(ticker: str, bars: Columns) -> Iterator[Row]:
    """Yield the rows of a ticker: `X:BTCUSD` is written `X:BTC-USD`, a missing number of trades is empty."""
    spelled = f"{ticker[:-3]}-{ticker[-3:]}" if ticker.startswith("X:") else ticker
    columns = (bars.volume, bars.open, bars.close, bars.high, bars.low, bars.t, bars.trades)
    for volume, o, c, h, low, t, trades in zip(*(column.tolist() for column in columns), strict=True):
        amount = f"{volume:.0f}" if volume == int(volume) else repr(volume)
        yield [spelled, amount, *map(repr, (o, c, h, low)), f"{t}000000", f"{trades}" if trades >= 0 else ""]


def _damaged(rows: list[Row], fault: FileFault, file: File) -> list[Row]:
    """Return the rows with a fault, in the first `count` rows of its ticker, or of all."""
    if fault.kind == "no_rows":
        return []
    if fault.kind in _GAPS:
        first, last = _GAPS[fault.kind](trading_days(file.market).between(file.day, file.day))
        return [row for row in rows if not (_concerns(fault, row) and first <= int(row[_START]) // 1_000_000 < last)]
    change = _ROWS.get(fault.kind)
    if change is None:
        return rows
    found, left = list[Row](), fault.count
    for row in rows:
        hit = left > 0 and _concerns(fault, row)
        left -= hit
        found += change(row, left) if hit else [row]
    return found


def _concerns(fault: FileFault, row: Row) -> bool:
    return fault.ticker in (None, row[_TICKER], row[_TICKER].replace("-", ""))


def _moved(row: Row, milliseconds: int) -> Row:
    return _with(row, _START, str(int(row[_START]) + milliseconds * 1_000_000))


def _with(row: Row, place: int, value: str) -> Row:
    return [*row[:place], value, *row[place + 1 :]]


def _clock(days: Days, first: int, minutes: int) -> tuple[int, int]:
    start = int(days.start[0]) + first * MINUTE_MS
    return start, start + minutes * MINUTE_MS


_IMPOSSIBLE = ((_LOW, "0"), (_HIGH, "0.00001"), (_CLOSE, ""), (_VOLUME, "-1"), (_OPEN, "inf"), (_START, ""))
_GAPS: dict[str, Callable[[Days], tuple[int, int]]] = {
    "missing_close": lambda days: _clock(days, int(days.closes[0]), 1),  # the minute of the closing auction
    "missing_minutes": lambda days: _clock(days, 11 * 60, 60),
}
_ROWS: dict[str, Callable[[Row, int], list[Row]]] = {
    "doubles": lambda row, i: [row, _with(row, _VOLUME, f"{1 + float(row[_VOLUME])!r}") if i % 2 else row],
    "fractional": lambda row, _: [_with(row, _VOLUME, f"{float(row[_VOLUME]) + 0.25!r}")],
    "impossible": lambda row, i: [_with(row, *_IMPOSSIBLE[i % len(_IMPOSSIBLE)])],
    "text": lambda row, _: [_with(row, _CLOSE, "unknown")],
    "no_ticker": lambda row, _: [_with(row, _TICKER, "")],
    "off_grid": lambda row, _: [_moved(row, 30_000)],
    "other_day": lambda row, _: [_moved(row, DAY_MS)],
    "restated": lambda row, _: [_with(row, _CLOSE, row[_HIGH])],
}


def _padding(length: int) -> bytes:
    """Return empty gzip members of `length` bytes in all: none, or at least 23."""
    assert length > 22  # noqa: S101 - the sizes above leave so much
    members = bytearray()
    while length:
        size = length if length <= 65_536 else 65_000
        extra = size - 22
        members += b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + extra.to_bytes(2, "little") + bytes(extra) + b"\x03" + bytes(9)
        length -= size
    return bytes(members)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    """Return two megabytes that become two gigabytes of rows."""
    row = b"BOMB,1.%s,1,1,1,1,1,1\n" % bytes(b"0" * 1000)
    head, rows = b",".join(name.encode() for name in _HEADER) + b"\n", row * (2**25 // len(row))
    return gzip.compress(head, mtime=0) + 64 * gzip.compress(rows, 9, mtime=0)


_ODD: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "garbage": lambda: bits(seed("garbage"), np.arange(512)).tobytes(),
    "bomb": _bomb,
}
