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
_BLOCK = 4 * 2**20  # bytes that are decoded at a time by each thread
_PRICES = ("open", "high", "low", "close", "volume")
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
        part = self.table.slice(first, end - first)
        columns = {name: part[name].to_numpy() for name in _PRICES}
        columns["trades"] = part["trades"].fill_null(NO_TRADES).to_numpy()
        return _bars(part["timestamp"].to_numpy().astype(np.int64) // 1000, columns)


def read_day(path: Path, file: DayFile, zone: ZoneInfo) -> MarketDay:
    """Decode a file. `zone` is that of the market, whose midnights are the ends of the session's day.

    Rows that cannot be bars, that are not of that day or do not start with a minute (day), and rows of one ticker and time
    that differ, are left out. Raises MalformedAnswer if it is not complete gzip, not such a table or without any bar, and
    ContradictoryAnswer if no row is of the day.
    """
    names, code, stamp, columns = _columns(path, file)
    start, end = (int(ms) for ms in day_starts([file.session, file.session + ONE_DAY], zone))
    inside = (stamp >= start * _NS) & (stamp < end * _NS)
    if not inside.any():
        raise ContradictoryAnswer(
            f"{file.key}: none of its {len(stamp)} bars is of {file.session}; a time is {stamp[0]}"
        )
    cell, rest = np.divmod(stamp - start * _NS, (60_000 if file.timeframe == MINUTE_1 else end - start) * _NS)
    unit = file.timeframe.base.value
    reasons = impossible(_bars(stamp // _NS, columns))
    for wrong, reason in (
        (rest != 0, f"it does not start with a {unit}"),
        (~inside, "its time is of another day"),
        (code == 0 if names[0] == "" else _NONE, "it has no ticker"),
    ):
        reasons |= dict.fromkeys(np.flatnonzero(wrong).tolist(), reason)

    cell += code.astype(np.int64) * _CELLS
    order = None
    if reasons or not bool(np.all(cell[1:] > cell[:-1])):
        order = np.delete(np.arange(len(cell)), list(reasons))
        order = order[np.argsort(cell[order])]
        again, differ = _doubles(cell[order], [column[order] for column in columns.values()])
        reasons |= dict.fromkeys(order[differ].tolist(), f"its {unit} has bars that differ")
        order = order[~(again | differ)]
        if not len(order):
            raise MalformedAnswer(
                f"{file.key}: none of its {len(cell)} bars can be used: {next(iter(reasons.values()))}"
            )

    rejected = defaultdict[str, list[BadBar]](list)
    for row in sorted(reasons):
        at, between = (int(stamp[row] // _NS), None) if inside[row] else (start, (start, end - 1))
        rejected[names[code[row]]].append(BadBar(at, reasons[row], between))
    if order is not None:
        code, stamp, columns = code[order], stamp[order], {name: column[order] for name, column in columns.items()}
    edges = np.flatnonzero(np.diff(code, prepend=-1, append=-1)).tolist()
    rows = {names[code[first]]: (first, last) for first, last in pairwise(edges)}
    return MarketDay(file, _table(names, code, stamp, columns), rows, {t: tuple(bad) for t, bad in rejected.items()})


def _columns(path: Path, file: DayFile) -> tuple[list[str], Int, Int, dict[str, Any]]:
    """Return the tickers in order, the number of that of each row, and the columns."""
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
    code = np.array([number[name] for name in spelled], np.int32)[tickers.indices.to_numpy()]
    columns = {name: table[name].to_numpy() for name in _PRICES}
    columns["trades"] = table["transactions"].fill_null(NO_TRADES).to_numpy()
    return names, code, table["window_start"].fill_null(-1).to_numpy(), columns


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


def _bars(timestamp: Int, columns: Mapping[str, Any]) -> Bars:
    return Bars(timestamp, **columns, vwap=np.broadcast_to(np.nan, len(timestamp)))


def _doubles(cell: Int, columns: Sequence[Any]) -> tuple[Mask, Mask]:
    """Return which rows have the cell of the row before, and which share theirs with one that differs."""
    again = np.append(False, cell[1:] == cell[:-1])
    pairs = np.flatnonzero(again)
    differ = reduce(np.logical_or, (column[pairs] != column[pairs - 1] for column in columns))
    return again, np.isin(cell, cell[pairs[differ]]) if differ.any() else np.zeros(len(cell), np.bool_)


def _table(names: Sequence[str], code: Int, stamp: Int, columns: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    trades = columns["trades"]
    return pa.table(
        {
            "ticker": pa.DictionaryArray.from_arrays(code, pa.array(names, pa.string())).cast(pa.string()),
            "timestamp": pa.array(stamp // 1000).cast(pa.timestamp("us", "UTC")),
            **{name: columns[name] for name in _PRICES},
            "trades": pa.array(trades, mask=trades == NO_TRADES),
        }
    )
