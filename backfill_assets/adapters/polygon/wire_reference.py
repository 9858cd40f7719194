"""Decoding of reference data: listing dates, ticker changes, splits, dividends.

Field names are those of massive.com/docs/rest/stocks/tickers and …/corporate-actions. The new paths (`/stocks/v1/…`) and the
deprecated ones (`/v3/reference/…`) share the fields that are read here; `id` and `currency` may be missing in the latter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from backfill_assets.adapters.polygon import failures
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction
from backfill_assets.domain.errors import MalformedAnswer
from backfill_assets.domain.listings import TickerChange
from backfill_assets.domain.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable

_CURRENCY = re.compile(r"[A-Z]{3}")  # ISO 4217
_ALL_BAD = 10  # rows; a page of so many, all of them unusable, has another format


@dataclass(frozen=True, slots=True)
class ActionRecords:
    """Corporate actions of all tickers, and the rows that cannot be used.

    rows     with the ticker as `symbol`; ascending by `ex_date`, then by ticker, without duplicates
    dropped  the tickers of rows whose ticker, day, ratio or amount is missing or invalid (such as a ratio of zero), "" if the
             ticker cannot be read either: one bad row must not cost the others
    """

    rows: list[CorporateAction]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionPage:
    """A page as the vendor sent it: order, range and duplicates are not checked. `dropped` as in `ActionRecords`."""

    rows: list[CorporateAction]
    dropped: tuple[str, ...]
    next_url: str | None


@dataclass(frozen=True, slots=True)
class TickerDetails:
    """First and last day of trading of a ticker, None if missing or unreadable."""

    listed: date | None
    delisted: date | None
    active: bool


class _Facts(msgspec.Struct):
    ticker: str | None = None
    list_date: str | None = None
    delisted_utc: str | None = None
    active: bool | None = None


class _Details(failures.Body, kw_only=True):
    results: _Facts


class _Tickers(failures.Body):
    results: list[_Facts] | None = None  # absent if there are none


class _NewTicker(msgspec.Struct):
    ticker: str


class _Event(msgspec.Struct):
    date: str | None = None
    ticker_change: _NewTicker | None = None


class _Events(msgspec.Struct):
    events: list[_Event] | None = None


class _EventAnswer(failures.Body):
    results: _Events | None = None


class _ActionList(failures.Body):
    results: list[msgspec.Raw] | None = None  # absent if there are none; rows are decoded one by one
    next_url: str | None = None


type _Name = Annotated[str, msgspec.Meta(min_length=1)]


class _SplitRow(msgspec.Struct):
    ticker: _Name
    execution_date: date
    split_from: float
    split_to: float
    id: str | None = None

    def action(self) -> CorporateAction:
        return CorporateAction(
            self.ticker,
            ActionKind.SPLIT,
            self.execution_date,
            ratio_from=self.split_from,
            ratio_to=self.split_to,
            vendor_id=plain_text(self.id or "") or None,
        )


class _DividendRow(msgspec.Struct):
    ticker: _Name
    ex_dividend_date: date
    cash_amount: float
    currency: str | None = None
    declaration_date: str | None = None
    record_date: str | None = None
    pay_date: str | None = None
    frequency: float | None = None
    id: str | None = None

    def action(self) -> CorporateAction:
        return CorporateAction(
            self.ticker,
            ActionKind.DIVIDEND,
            self.ex_dividend_date,
            cash_amount=self.cash_amount,
            currency=self.currency if _CURRENCY.fullmatch(self.currency or "") else None,
            declared=_day(self.declaration_date),
            record_date=_day(self.record_date),
            pay_date=_day(self.pay_date),
            frequency=int(self.frequency) if self.frequency is not None and self.frequency.is_integer() else None,
            vendor_id=plain_text(self.id or "") or None,
        )


class _Named(msgspec.Struct):
    ticker: Any = None


_DETAILS = msgspec.json.Decoder(_Details).decode
_TICKERS = msgspec.json.Decoder(_Tickers).decode
_EVENTS = msgspec.json.Decoder(_EventAnswer).decode
_ACTIONS = msgspec.json.Decoder(_ActionList).decode
_SPLIT = msgspec.json.Decoder(_SplitRow).decode
_DIVIDEND = msgspec.json.Decoder(_DividendRow).decode
_NAMED = msgspec.json.Decoder(_Named).decode


def decode_details(body: bytes, *, ticker: str) -> TickerDetails:
    """Decode /v3/reference/tickers/{ticker}.

    Raises as `failures.opened`, MalformedAnswer without `results`, ContradictoryAnswer for those of another ticker.
    """
    facts = failures.opened(body, _DETAILS).results
    failures.refuse_other_ticker(facts.ticker, ticker)
    delisted = _utc_day(facts.delisted_utc)
    return TickerDetails(_day(facts.list_date), delisted, delisted is None if facts.active is None else facts.active)


def decode_delistings(body: bytes) -> list[tuple[str | None, date | None]]:
    """Decode /v3/reference/tickers with `active=false`: tickers and last days of trading. Raises as `failures.opened`."""
    return [(facts.ticker, _utc_day(facts.delisted_utc)) for facts in failures.opened(body, _TICKERS).results or []]


def decode_ticker_changes(body: bytes) -> tuple[TickerChange, ...]:
    """Decode /vX/reference/tickers/{ticker}/events, ascending by day. Raises as `failures.opened`."""
    answer = failures.opened(body, _EVENTS).results
    events = answer.events or [] if answer else []
    dated = ((_day(event.date), event.ticker_change) for event in events)
    return tuple(sorted(TickerChange(day, change.ticker) for day, change in dated if day and change))


def decode_splits(body: bytes) -> ActionPage:
    """Decode a page of splits. Raises as `failures.opened`, MalformedAnswer if ten or more rows are all unusable."""
    return _page(body, _SPLIT)


def decode_dividends(body: bytes) -> ActionPage:
    """Decode a page of dividends; raises as `decode_splits`. Unreadable days other than the ex-date count as missing."""
    return _page(body, _DIVIDEND)


def _page(body: bytes, read: Callable[[msgspec.Raw], _SplitRow | _DividendRow]) -> ActionPage:
    answer = failures.opened(body, _ACTIONS)
    rows, dropped = list[CorporateAction](), list[str]()
    reason = ""
    for raw in answer.results or []:
        try:
            rows.append(read(raw).action())
        except (
            *failures.UNREADABLE,
            ValueError,  # the domain's, for impossible values
        ) as error:
            dropped.append(_ticker(raw))
            reason = str(error)
    if not rows and len(dropped) >= _ALL_BAD:
        raise MalformedAnswer(f"none of its {len(dropped)} rows can be used; the last one: {reason}")
    return ActionPage(rows, tuple(dropped), answer.next_url or None)


def _ticker(raw: msgspec.Raw) -> str:
    try:
        ticker = _NAMED(raw).ticker
    except failures.UNREADABLE:
        return ""
    return ticker if isinstance(ticker, str) else ""


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _utc_day(text: str | None) -> date | None:
    """Return the day of `delisted_utc`: midnight in UTC, in older records midnight in New York (04:00Z or 05:00Z).

    The UTC day is right for both; New York's would be the day before for the first.
    """
    try:
        moment = datetime.fromisoformat(text or "")
        return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError):
        return None
