"""Decoding of bars.

Field names are those of https://polygon.io/docs/rest/stocks/aggregates/custom-bars: t is milliseconds since the epoch, UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from backfill_assets.adapters.polygon import failures
from backfill_assets.domain.bars import NO_TRADES, BadBar, Bars, impossible
from backfill_assets.domain.errors import ContradictoryAnswer, MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_NAN = float("nan")
_ABSENT = -(2**63)  # in the integer column while decoding, where a vendor's -1 must not look like a missing number
_EVER = -(2**62), 2**62  # ms; bounds of a time that is not known
_ALL_BAD = 10  # rows; a page of so many, all of them unusable, has another format
_NAMES = {
    "timestamp": "t",
    "open": "o",
    "high": "h",
    "low": "l",
    "close": "c",
    "volume": "v",
    "vwap": "vw",
    "trades": "n",
    "ticker": "T",
}
_OPTIONAL = frozenset({"vwap", "trades"})


@dataclass(frozen=True, slots=True)
class Page:
    """A page of bars as the vendor sent it: order, range and duplicates are not checked.

    bad       the rows that cannot be bars; one whose time cannot be read is between the rows before and after it
    next_url  the vendor's URL of the next page, without the key; None on the last page
    status    OK, or DELAYED if the plan's data arrive 15 minutes late
    adjusted  whether the vendor reports prices as adjusted for splits; None if it does not report it
    ticker    whose bars these are; None if the vendor does not report it
    """

    bars: Bars
    next_url: str | None
    status: str
    adjusted: bool | None = None
    ticker: str | None = None
    bad: tuple[BadBar, ...] = ()

    @property
    def more(self) -> bool:
        """Whether another page follows."""
        return self.next_url is not None


@dataclass(frozen=True, slots=True)
class GroupedDay:
    """The daily bars of all tickers on a date: `tickers[i]` is the ticker of row i of `bars`, each once.

    bad        why the row of a ticker was left out; a ticker with several rows may be in `tickers` too
    nameless   how many rows have no readable ticker
    """

    tickers: list[str]
    bars: Bars
    status: str = "OK"
    adjusted: bool | None = None
    bad: Mapping[str, str] = field(default_factory=dict)
    nameless: int = 0


# The quick types fit nearly every response. The lenient ones also accept what is seen occasionally: integers written as
# 1.6e12 or 5.0, and null instead of a missing field. They take twice as long, so they are tried second. If they do not fit
# either, rows are decoded one by one, and those that cannot be bars are left out.


class _Bar(msgspec.Struct, gc=False, rename=_NAMES):
    timestamp: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float = _NAN
    trades: int = _ABSENT


class _LenientBar(msgspec.Struct, gc=False, rename=_NAMES):
    timestamp: int | float
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None
    trades: int | float | None = None


class _TickerBar(_Bar, gc=False, kw_only=True, rename=_NAMES):
    ticker: str


class _LenientTickerBar(_LenientBar, gc=False, kw_only=True, rename=_NAMES):
    ticker: str


_NULL = msgspec.Raw(b"null")


class _Fields(msgspec.Struct, rename=_NAMES):
    """A row whose fields are not decoded, so that one that cannot be read does not hide the others."""

    timestamp: msgspec.Raw = _NULL
    open: msgspec.Raw = _NULL
    high: msgspec.Raw = _NULL
    low: msgspec.Raw = _NULL
    close: msgspec.Raw = _NULL
    volume: msgspec.Raw = _NULL
    vwap: msgspec.Raw = _NULL
    trades: msgspec.Raw = _NULL
    ticker: msgspec.Raw = _NULL


class _Answer[B: (_Bar, _LenientBar, _TickerBar, _LenientTickerBar, msgspec.Raw)](failures.Body):
    results: list[B] | None = None  # absent when there are none
    results_count: float | None = msgspec.field(default=None, name="resultsCount")
    next_url: str | None = None
    adjusted: bool | None = None
    ticker: str | None = None


_PAGE = msgspec.json.Decoder(_Answer[_Bar]).decode
_LENIENT_PAGE = msgspec.json.Decoder(_Answer[_LenientBar]).decode
_GROUPED = msgspec.json.Decoder(_Answer[_TickerBar]).decode
_LENIENT_GROUPED = msgspec.json.Decoder(_Answer[_LenientTickerBar]).decode
_ROWS = msgspec.json.Decoder(_Answer[msgspec.Raw]).decode
_ROW = msgspec.json.Decoder(_LenientBar).decode
_TICKER_ROW = msgspec.json.Decoder(_LenientTickerBar).decode
_FIELDS = msgspec.json.Decoder(_Fields).decode
_NUMBER = msgspec.json.Decoder(int | float).decode
_TEXT = msgspec.json.Decoder(str).decode

# Python's json writes the first, and a client that cuts a text within a character the second; JSON has neither.
_NOT_JSON = re.compile(rb"(?<=[:,\[\s])-?(?:NaN|Infinity)(?=[,\]}\s])")
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class _BadRow:
    timestamp: int | None
    ticker: str | None
    reason: str


def neighbours(times: Sequence[int | None], first: int, last: int) -> list[tuple[int, int]]:
    """Return for each time the nearest known ones before and after it; `first` and `last` where there is none."""

    def latest(times: Iterable[int | None], known: int) -> Iterator[int]:
        for time in times:
            yield known
            known = known if time is None else time

    return list(zip(latest(times, first), reversed(list(latest(reversed(times), last))), strict=True))


def decode_page(body: bytes) -> Page:
    """Decode a page of /v2/aggs/ticker/….

    Raises MalformedAnswer for another format or if ten or more rows are all unusable, ContradictoryAnswer for another number
    of rows than it counts, else as `failures.opened`.
    """
    answer, all_rows, bars = _read(body, _PAGE, _LENIENT_PAGE, _ROW)
    bad, rows = list[BadBar](), all_rows
    if len(bars) < len(all_rows):
        between = neighbours([row.timestamp for row in all_rows], *_EVER)
        for row, (before, after) in zip(all_rows, between, strict=True):
            if isinstance(row, _BadRow):
                known = row.timestamp
                bad.append(BadBar(before, row.reason, (before, after)) if known is None else BadBar(known, row.reason))
        rows = [row for row in all_rows if not isinstance(row, _BadRow)]
    reasons = impossible(bars)
    bad += [BadBar(int(bars.timestamp[i]), reason) for i, reason in reasons.items()]
    _refuse_if_all_bad(len(rows) - len(reasons), [b.reason for b in bad])
    good = bars.take(np.delete(np.arange(len(bars)), list(reasons))) if reasons else bars
    return Page(good, answer.next_url or None, answer.status, answer.adjusted, answer.ticker, tuple(bad))


def decode_grouped(body: bytes) -> GroupedDay:
    """Decode a day of /v2/aggs/grouped/…; raises as `decode_page`. Rows of one ticker that differ are left out."""
    answer, all_rows, bars = _read(body, _GROUPED, _LENIENT_GROUPED, _TICKER_ROW)
    bad_rows = [row for row in all_rows if isinstance(row, _BadRow)] if len(bars) < len(all_rows) else []
    rows = [row for row in all_rows if not isinstance(row, _BadRow)] if bad_rows else all_rows
    bad = {row.ticker: row.reason for row in bad_rows if row.ticker is not None}
    unusable = impossible(bars)
    bad |= {rows[i].ticker: reason for i, reason in unusable.items()}
    row_of: dict[str, int] = {}
    for i, row in enumerate(rows):
        first = row_of.setdefault(row.ticker, i)
        if first != i and msgspec.structs.astuple(row) != msgspec.structs.astuple(rows[first]):
            bad[row.ticker] = "the day has two bars of the ticker that differ"
            unusable |= {first: "", i: ""}
    _refuse_if_all_bad(len(rows) - len(unusable), [*bad.values(), *(r.reason for r in bad_rows if r.ticker is None)])
    kept = {ticker: i for ticker, i in row_of.items() if i not in unusable}
    nameless = sum(row.ticker is None for row in bad_rows)
    good = bars.take(np.fromiter(kept.values(), np.int64, len(kept)))
    return GroupedDay(list(kept), good, answer.status, answer.adjusted, bad, nameless)


def _refuse_if_all_bad(good: int, reasons: Sequence[str]) -> None:
    if not good and len(reasons) >= _ALL_BAD:
        raise MalformedAnswer(f"none of its {len(reasons)} rows can be used: {reasons[-1]}")


def _read(
    body: bytes, quick: Callable[[bytes], Any], lenient: Callable[[bytes], Any], single: Callable[[msgspec.Raw], Any]
) -> tuple[_Answer[Any], Sequence[Any], Bars]:
    """Return the answer, its rows, those that cannot be decoded as `_BadRow`, and the bars of the others."""
    answer: _Answer[Any]
    try:
        answer = failures.opened(body, quick, lenient)
        _refuse_miscount(answer)
        rows = answer.results or []
        return answer, rows, _bars(rows)
    except (MalformedAnswer, ValueError, OverflowError):
        answer = failures.opened(body, _ROWS, _repaired)
    _refuse_miscount(answer)
    rows = []
    for raw in answer.results or []:
        try:
            row = _whole(single(raw))
            _refuse_damaged(getattr(row, "ticker", ""))
        except (*failures.UNREADABLE, ValueError, OverflowError):
            row = _bad_row(raw)
        rows.append(row)
    return answer, rows, _bars([row for row in rows if not isinstance(row, _BadRow)])


def _repaired(body: bytes) -> _Answer[msgspec.Raw]:
    return _ROWS(_HALF_CHARACTER.sub(rb"\\ufffd", _NOT_JSON.sub(b"null", body)))


def _refuse_damaged(ticker: str) -> str:
    if "\ufffd" in ticker:
        raise ValueError(ticker)
    return ticker


def _refuse_miscount(answer: _Answer[Any]) -> None:
    rows = len(answer.results or [])
    if answer.results_count is not None and answer.results_count != rows:
        raise ContradictoryAnswer(f"it counts {answer.results_count:g} results and holds {rows or 'none'}")


def _bad_row(raw: msgspec.Raw) -> _BadRow:
    try:
        fields = _FIELDS(raw)
    except failures.UNREADABLE:
        return _BadRow(None, None, "the row is not an object")
    wrong = list[str]()
    timestamp: int | None = None
    for name in _NAMES:
        value = getattr(fields, name)
        if name == "ticker" or (name in _OPTIONAL and bytes(value) == b"null"):
            continue
        try:
            number = _NUMBER(value)
            if name in {"timestamp", "trades"}:
                number = _integer(number)
        except (*failures.UNREADABLE, ValueError, OverflowError):
            wrong.append(name)
        else:
            timestamp = number if name == "timestamp" else timestamp
    try:
        ticker = _refuse_damaged(_TEXT(fields.ticker))
    except (*failures.UNREADABLE, ValueError):
        ticker = None
    return _BadRow(timestamp, ticker, f"{wrong[0]} is not a usable number" if wrong else "the ticker cannot be read")


def _bars(rows: Sequence[Any]) -> Bars:
    """Return the rows as bars. Raises ValueError for a broken integer, OverflowError for one beyond 64 bits."""
    if rows and isinstance(rows[0], _LenientBar):
        for row in rows:
            _whole(row)
    trades = _column(rows, "trades", np.int64)
    vwap = _column(rows, "vwap", np.float64)
    absent = trades == _ABSENT
    trades[trades == NO_TRADES] -= 1  # a negative number of trades, and not a missing one
    trades[absent] = NO_TRADES
    vwap[(vwap < 0) | np.isinf(vwap)] = _NAN
    return Bars(
        timestamp=_column(rows, "timestamp", np.int64),
        open=_column(rows, "open", np.float64),
        high=_column(rows, "high", np.float64),
        low=_column(rows, "low", np.float64),
        close=_column(rows, "close", np.float64),
        volume=_column(rows, "volume", np.float64),
        vwap=vwap,
        trades=trades,
    )


def _whole(row: Any) -> Any:
    """Write the integers of a lenient row as such; raises as `_integer`."""
    row.timestamp = _integer(row.timestamp)
    row.trades = _ABSENT if row.trades is None else _integer(row.trades)
    row.vwap = _NAN if row.vwap is None else row.vwap
    return row


def _column[N: np.generic](rows: Sequence[Any], name: str, dtype: type[N]) -> np.ndarray[Any, np.dtype[N]]:
    return np.fromiter(map(attrgetter(name), rows), dtype, len(rows))


def _integer(number: float) -> int:
    """Return an integer. Raises ValueError if it is not one, OverflowError if it is beyond 64 bits."""
    if number != int(number) or not -(2**63) <= number < 2**63:
        raise ValueError(f"{number!r} is not an integer of 64 bits")
    return int(number)
