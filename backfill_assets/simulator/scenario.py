"""What is wrong or special with the simulated vendor: plain data, the same in Python and in JSON.

Dates are `YYYY-MM-DD` in the market's own zone, moments are ISO 8601 with an offset. An unknown field is an error that names
it, so that a misspelt scenario cannot pass for a healthy vendor.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

import msgspec

from backfill_assets.simulator.universe import DEFAULT_KNOWN

FaultKind = Literal[
    "status",
    "error_in_200",
    "cut_body",
    "html",
    "reset",
    "slow",
    "duplicates",
    "disorder",
    "out_of_range",
    "empty",
    "malformed_json",
    "nulls",
]


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class Split(_Plain, frozen=True, kw_only=True):
    """A split that raw prices show from `execution_date` on: `split_from` shares become `split_to`.

    happened   False for a record that is listed and that prices know nothing of: one entered twice, or put off
    """

    ticker: str
    execution_date: date
    split_from: float = 1
    split_to: float
    happened: bool = True


class Dividend(_Plain, frozen=True, kw_only=True):
    """A cash dividend; listed by the reference endpoints only, since `adjusted` means splits."""

    ticker: str
    ex_dividend_date: date
    cash_amount: float
    declaration_date: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    frequency: int = 4


class Hole(_Plain, frozen=True, kw_only=True):
    """Trading days `first` to `last` (both included) of a ticker that are not served.

    base       which bars are gone: those built on minutes, those built on days, or all of them
    start, end clock times `HH:MM` in the market's zone that narrow a hole in minutes; the whole day by default
    heal_after_requests  so many bar requests that touch the hole still see it, the next one does not
    heal_at    the hole is closed from that moment of the simulator's clock on
    """

    ticker: str
    first: date
    last: date
    base: Literal["minute", "day", "all"] = "all"
    start: str = "00:00"
    end: str = "24:00"
    heal_after_requests: int | None = None
    heal_at: datetime | None = None


class Restatement(_Plain, frozen=True, kw_only=True):
    """Raw prices of one day multiplied by `factor`, from the moment `at` on; at once if it is left out."""

    ticker: str
    day: date
    factor: float
    at: datetime | None = None


class RateLimit(_Plain, frozen=True, kw_only=True):
    """At most `requests` answers in any `seconds`; what exceeds it gets 429, with Retry-After only if given (seconds)."""

    requests: int
    seconds: float = 60.0
    retry_after: float | None = None


class Fault(_Plain, frozen=True, kw_only=True):
    """One thing that goes wrong with the requests it matches, and with which of them.

    path        part of the path; "" matches all. `ticker` matches the ticker of a bar or reference request
    nth, every  the n-th matching request (from 1), or every k-th; all if neither is given
    probability, seed  each request of those by chance, repeatably
    times       how often at most
    status      of kinds `status` and `html`; `retry_after` adds the header (seconds)
    seconds     of kind `slow`: the wait before an otherwise good answer
    count       of kinds duplicates, disorder, out_of_range and nulls: how many bars are hit (at each end for out_of_range)
    """

    kind: FaultKind
    path: str = ""
    ticker: str | None = None
    nth: int | None = None
    every: int | None = None
    probability: float | None = None
    seed: int = 0
    times: int | None = None
    status: int = 503
    retry_after: float | None = None
    seconds: float = 1.0
    count: int = 3


class Scenario(_Plain, frozen=True, kw_only=True):
    """Everything that can be chosen about the vendor; `Scenario()` is a healthy one with an unlimited plan.

    known          the tickers that exist; names outside the built-in table get a thinly traded profile of their own
    api_keys       keys that are accepted; any non-empty one if there are none
    history_edge   first date that the plan includes
    today_forbidden  the plan refuses ranges that reach today, as the free one does
    forbidden      tickers or markets (`stocks`, `crypto`) that the plan does not include
    delayed        answers say DELAYED where they would say OK
    listed, delisted   first and last day of trading by ticker, over the built-in ones
    formerly       by ticker, last days of trading of companies that had it before; only the list of tickers knows them
    delisted_details   what the page of a delisted ticker says: that it is inactive, the day too, or 404
    reference_page the most rows that a page of the reference lists has, whatever `limit` asks for
    corporate_actions_v1  whether `/stocks/v1/…` exists; off, only the older paths do
    next_url_base  scheme and host that `next_url` names; by default those of the request
    """

    known: tuple[str, ...] = DEFAULT_KNOWN
    api_keys: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    history_edge: date | None = None
    today_forbidden: bool = False
    forbidden: tuple[str, ...] = ()
    delayed: bool = False
    faults: tuple[Fault, ...] = ()
    holes: tuple[Hole, ...] = ()
    restatements: tuple[Restatement, ...] = ()
    listed: dict[str, date] = {}
    delisted: dict[str, date] = {}
    formerly: dict[str, tuple[date, ...]] = {}
    delisted_details: Literal["inactive", "dated", "missing"] = "inactive"
    reference_page: int | None = None
    # the vendor's own record: NVDA, ten for one, nvidianews.nvidia.com of 2024-05-22
    splits: tuple[Split, ...] = (Split(ticker="NVDA", execution_date=date(2024, 6, 10), split_to=10),)
    dividends: tuple[Dividend, ...] = ()
    corporate_actions_v1: bool = True
    next_url_base: str | None = None


def read(text: bytes | str) -> Scenario:
    """A scenario from JSON. Raises `msgspec.ValidationError` that names the field, `msgspec.DecodeError` for broken JSON."""
    return msgspec.json.decode(text, type=Scenario)


def write(scenario: Scenario) -> bytes:
    """JSON of a scenario, without the fields that have their defaults."""
    return msgspec.json.encode(scenario)
