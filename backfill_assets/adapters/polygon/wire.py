"""Decoding of bars.

Field names are those of https://polygon.io/docs/rest/stocks/aggregates/custom-bars: t is milliseconds since the epoch, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from backfill_assets.adapters.polygon import failures
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.errors import MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAN = float("nan")
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


@dataclass(frozen=True, slots=True)
class Page:
    """A page of bars as the vendor sent it: order, range and duplicates are not checked.

    next_url  the vendor's URL of the next page, without the key; None on the last page
    status    OK, or DELAYED if the plan's data arrive 15 minutes late
    adjusted  whether the vendor reports prices as adjusted for splits; None if it does not report it
    """

    bars: Bars
    next_url: str | None
    status: str
    adjusted: bool | None = None

    @property
    def more(self) -> bool:
        """Whether another page follows."""
        return self.next_url is not None


@dataclass(frozen=True, slots=True)
class GroupedDay:
    """The daily bars of all tickers on a date: `tickers[i]` is the ticker of row i of `bars`, each once."""

    tickers: list[str]
    bars: Bars
    status: str = "OK"
    adjusted: bool | None = None


# The quick types fit nearly every response. The lenient ones also accept what is seen occasionally: integers written as
# 1.6e12 or 5.0, and null instead of a missing field. They take twice as long, so they are tried second.


class _Bar(msgspec.Struct, gc=False, rename=_NAMES):
    timestamp: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float = _NAN
    trades: int = NO_TRADES


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


class _Answer[B: (_Bar, _LenientBar, _TickerBar, _LenientTickerBar)](msgspec.Struct):
    status: str
    results: list[B] | None = None  # absent when there are none
    results_count: float | None = msgspec.field(default=None, name="resultsCount")
    next_url: str | None = None
    adjusted: bool | None = None


_PAGE = msgspec.json.Decoder(_Answer[_Bar]).decode
_LENIENT_PAGE = msgspec.json.Decoder(_Answer[_LenientBar]).decode
_GROUPED = msgspec.json.Decoder(_Answer[_TickerBar]).decode
_LENIENT_GROUPED = msgspec.json.Decoder(_Answer[_LenientTickerBar]).decode


def decode_page(body: bytes) -> Page:
    """Decode a page of /v2/aggs/ticker/…. Raises MalformedAnswer for another format, else as `failures.opened`."""
    answer = _read(body, _PAGE, _LENIENT_PAGE)
    return Page(_bars(answer.results or []), answer.next_url or None, answer.status, answer.adjusted)


def decode_grouped(body: bytes) -> GroupedDay:
    """Decode a day of /v2/aggs/grouped/…; of repeated tickers the last bar is used. Raises as `decode_page`."""
    answer = _read(body, _GROUPED, _LENIENT_GROUPED)
    last = {bar.ticker: bar for bar in answer.results or []}
    return GroupedDay(list(last), _bars(list(last.values())), answer.status, answer.adjusted)


def _read(body: bytes, quick: Callable[[bytes], Any], lenient: Callable[[bytes], Any]) -> _Answer[Any]:
    answer: _Answer[Any] = failures.opened(body, quick, lenient)
    if answer.results_count and not answer.results:
        raise MalformedAnswer(f"it counts {answer.results_count:g} results and holds none")
    return answer


def _bars(rows: Sequence[Any]) -> Bars:
    if rows and isinstance(rows[0], _LenientBar):
        for row in rows:
            row.timestamp = _integer(row.timestamp)
            row.trades = NO_TRADES if row.trades is None else _integer(row.trades)
            row.vwap = _NAN if row.vwap is None else row.vwap
    try:
        return Bars(
            timestamp=_column(rows, "timestamp", np.int64),
            open=_column(rows, "open", np.float64),
            high=_column(rows, "high", np.float64),
            low=_column(rows, "low", np.float64),
            close=_column(rows, "close", np.float64),
            volume=_column(rows, "volume", np.float64),
            vwap=_column(rows, "vwap", np.float64),
            trades=_column(rows, "trades", np.int64),
        )
    except OverflowError:
        raise MalformedAnswer("a time or a number of trades is beyond 64 bits") from None


def _column[N: np.generic](rows: Sequence[Any], name: str, dtype: type[N]) -> np.ndarray[Any, np.dtype[N]]:
    return np.fromiter(map(attrgetter(name), rows), dtype, len(rows))


def _integer(number: float) -> int:
    if number != int(number):
        raise MalformedAnswer(f"{number!r} is not an integer")
    return int(number)
