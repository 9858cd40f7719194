"""Decoding of flat files: https://massive.com/docs/flat-files/stocks/minute-aggregates.

Columns are found by their names in the header: `close` stands before `high`. There is no vwap. `window_start` is the start of
the bar in nanoseconds since the epoch, UTC. A ticker may be the text NA.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from backfill_assets.adapters.polygon_files.client import DayFile
from backfill_assets.domain.bars import NO_TRADES, BadBar, Bars, Int, impossible
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.errors import ContradictoryAnswer, MalformedAnswer
from backfill_assets.domain.sessions import Kind, day_starts
from backfill_assets.domain.text import plain_text
from backfill_assets.domain.timeframes import MINUTE_1

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BYTES = 384 * 2**20  # decoded; a day of all US stocks' minutes has 150 MB
_BLOCK = 4 * 2**20  # bytes that are decoded at a time
_PRICES = ("open", "high", "low", "close", "volume")
_VALUES = (*_PRICES, "trades")
_OURS = {"transactions": "trades", "window_start": "stamp"}  # integers: -1 where there is none
_NS = 1_000_000  # in a millisecond
_CELLS = 2048  # more than the minutes of a day of 25 hours
_NONE = np.zeros(0, np.bool_)

type Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class MarketDay:
    """The bars of all tickers in a file.

    table     ticker (as in the REST API), timestamp (start of the bar, microseconds UTC), open, high, low, close, volume, and
              trades (null where not given), sorted by ticker and timestamp
    rows      by ticker, in order, its first row in the table and the one after its last
    rejected  by ticker, the rows that were left out; "" has those without a ticker
    """

    file: DayFile
    table: pa.Table
    rows: Mapping[str, tuple[int, int]]
    rejected: Mapping[str, tuple[BadBar, ...]]

    def bars(self, ticker: str) -> Bars:
        """Return the bars of a ticker; none if it was not traded."""
        first, end = self.rows.get(ticker, (0, 0))
        return table_bars(self.table.slice(first, end - first))


def read_day(path: Path, file: DayFile, zone: ZoneInfo) -> MarketDay:
    """Decode a file. `zone` is that of the market, whose midnights are the ends of the session's day.

    Rows that cannot be bars, that are not of that day or do not start with a minute (day), and rows of one ticker and time
    that differ, are left out. Raises MalformedAnswer if it is not complete gzip, not such a table or without any bar, and
    ContradictoryAnswer if no row is of the day.
    """
    names, columns = _columns(path, file)
    stamp, code = columns["stamp"], columns["code"]
    start, end = (int(ms) for ms in day_starts([file.session, file.session + ONE_DAY], zone))
    inside = (stamp >= start * _NS) & (stamp < end * _NS)
    if not inside.any():
        raise ContradictoryAnswer(
            f"{file.key}: none of its {len(stamp)} bars is of {file.session}; a time is {stamp[0]}"
        )
    step = (60_000 if file.timeframe == MINUTE_1 else end - start) * _NS
    unit, cell = file.timeframe.base.value, stamp - start * _NS
    reasons = impossible(_bars(columns))
    for wrong, reason in (
        (cell % step != 0, f"it does not start with a {unit}"),
        (~inside, "its time is of another day"),
        (code == 0 if not names[0] else _NONE, "it has no ticker"),
    ):
        reasons |= dict.fromkeys(np.flatnonzero(wrong).tolist(), reason)
    rejected = defaultdict[str, list[BadBar]](list)
    for row in sorted(reasons):
        at, between = (int(stamp[row] // _NS), None) if inside[row] else (start, (start, end - 1))
        rejected[names[code[row]]].append(BadBar(at, reasons[row], between))

    cell //= step
    cell += code.astype(np.int64) * _CELLS
    del stamp, code
    if reasons or not bool(np.all(cell[1:] > cell[:-1])):
        rows = np.delete(np.arange(len(cell)), list(reasons))
        rows = rows[np.argsort(cell[rows])]
        cell = _take(columns, rows, cell)
        again, differ = _doubles(cell, [columns[name] for name in _VALUES])
        for row in np.flatnonzero(differ).tolist():
            bad = BadBar(int(columns["stamp"][row] // _NS), f"its {unit} has bars that differ")
            rejected[names[columns["code"][row]]].append(bad)
        if again.any():
            _take(columns, np.flatnonzero(~(again | differ)), cell)
        if not len(columns["code"]):
            reason = next(bad.reason for bars in rejected.values() for bad in bars)
            raise MalformedAnswer(f"{file.key}: none of its {len(inside)} bars can be used: {reason}")

    edges = np.flatnonzero(np.diff(columns["code"], prepend=-1, append=-1)).tolist()
    spans = {names[columns["code"][first]]: (first, last) for first, last in pairwise(edges)}
    return MarketDay(file, _table(names, columns), spans, {t: tuple(bad) for t, bad in rejected.items()})


def _columns(path: Path, file: DayFile) -> tuple[list[str], dict[str, Any]]:
    """Return the tickers in order, and the columns; `code` is the number of a row's ticker, `stamp` its start in ns."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    types = {"ticker": pa.dictionary(pa.int32(), pa.string()), "window_start": pa.int64(), "transactions": pa.int64()}
    types |= dict.fromkeys(_PRICES, pa.float64())
    convert = csv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=False)
    try:
        with pa.OSFile(str(path)) as raw:
            source = _Bounded(pa.CompressedInputStream(raw, "gzip"))
            table = csv.read_csv(source, csv.ReadOptions(block_size=_BLOCK), convert_options=convert)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise MalformedAnswer(f"{file.key} is not a complete table of bars: {plain_text(str(error))[:200]}") from None
    if not len(table):
        raise MalformedAnswer(f"{file.key} has no bars")
    tickers = table["ticker"].unify_dictionaries().combine_chunks()
    spelled = [name.replace("-", "") if file.kind is Kind.CRYPTO else name for name in tickers.dictionary.to_pylist()]
    names = sorted(set(spelled))
    number = {name: i for i, name in enumerate(names)}
    columns = {"code": np.array([number[name] for name in spelled], np.int32)[tickers.indices.to_numpy()]}
    for name in types.keys() - {"ticker"}:
        parts = table[name]
        table = table.drop_columns([name])
        columns[_OURS.get(name, name)] = (
            parts.fill_null(-1) if name in _OURS and parts.null_count else parts
        ).to_numpy()
        del parts
        pa.default_memory_pool().release_unused()  # or what was read stays in memory, beside its copy
    return names, columns


def table_bars(table: pa.Table) -> Bars:
    """Return the rows of a table like that of a `MarketDay` as bars."""
    columns = {name: table[name].to_numpy() for name in _PRICES}
    columns["trades"] = table["trades"].fill_null(NO_TRADES).to_numpy()
    columns["stamp"] = table["timestamp"].to_numpy().astype(np.int64) // 1000
    return _bars(columns)


class _Bounded:
    """A stream that fails once more bytes were decoded than any file has."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream, self._left = stream, _MOST_BYTES

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found: bytes = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise OSError(f"it has more than {_MOST_BYTES // 2**20} MB")
        return found


def _bars(columns: Mapping[str, Any]) -> Bars:
    """Return columns as bars, with times as they are."""
    stamp = columns["stamp"]
    return Bars(stamp, **{name: columns[name] for name in _VALUES}, vwap=np.broadcast_to(np.nan, len(stamp)))


def _take(columns: dict[str, Any], rows: Int, cell: Int) -> Int:
    """Replace each column by its `rows`, one after the other, and return these of `cell`."""
    for name in columns:
        columns[name] = columns[name][rows]
    return cell[rows]


def _doubles(cell: Int, columns: Sequence[Any]) -> tuple[Mask, Mask]:
    """Return which rows have the cell of the row before, and which share theirs with one that differs."""
    again = np.append(False, cell[1:] == cell[:-1])
    pairs = np.flatnonzero(again)
    differ = reduce(np.logical_or, (column[pairs] != column[pairs - 1] for column in columns))
    return again, np.isin(cell, cell[pairs[differ]]) if differ.any() else np.zeros(len(cell), np.bool_)


def _table(names: Sequence[str], columns: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    trades = columns["trades"]
    return pa.table(
        {
            "ticker": pa.DictionaryArray.from_arrays(columns["code"], pa.array(names, pa.string())).cast(pa.string()),
            "timestamp": pa.array(columns["stamp"] // 1000).cast(pa.timestamp("us", "UTC")),
            **{name: columns[name] for name in _PRICES},
            "trades": pa.array(trades, mask=trades == NO_TRADES) if (trades == NO_TRADES).any() else trades,
        }
    )
