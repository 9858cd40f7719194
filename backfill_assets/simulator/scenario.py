"""Scenarios: what the simulated vendor does, as data in Python and in JSON.

Dates are `YYYY-MM-DD` in the market's zone, times are ISO 8601 with an offset. Unknown fields are errors.
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
    "impossible",
    "junk",
    "other_ticker",
    "miscount",
    "seconds",
    "off_grid",
    "twice_a_day",
    "newest_first",
    "too_many_in_200",
]


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class Split(_Plain, frozen=True, kw_only=True):
    """A split that raw prices show from `execution_date` on: `split_from` shares become `split_to`.

    happened   False for a record that is listed but does not affect prices: a duplicate, or a postponed split
    """

    ticker: str
    execution_date: date
    split_from: float = 1
    split_to: float
    happened: bool = True


class Dividend(_Plain, frozen=True, kw_only=True):
    """A cash dividend. It appears in the reference endpoints only: `adjusted` bars are adjusted for splits."""

    ticker: str
    ex_dividend_date: date
    cash_amount: float
    declaration_date: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    frequency: int = 4
    currency: str = "USD"


class Hole(_Plain, frozen=True, kw_only=True):
    """Trading days `first` to `last` (both included) of a ticker that are not served.

    base       which bars are missing: those built from minutes, those built from days, or all
    start, end times `HH:MM` in the market's zone that limit a hole in minutes; the full day by default
    heal_after_requests  number of requests for bars that see the hole; later ones do not
    heal_at    when the hole closes, by the simulator's clock
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
    """Raw prices of one day multiplied by `factor`, from `at` on; immediately if it is None."""

    ticker: str
    day: date
    factor: float
    at: datetime | None = None


class Rename(_Plain, frozen=True, kw_only=True):
    """A company whose ticker was `earlier` before `day`, and is `ticker` from then on.

    other_until  last day on which another company was traded as `ticker`, at a twentieth of the price; None if none was
    """

    ticker: str
    earlier: str
    day: date
    other_until: date | None = None


class RateLimit(_Plain, frozen=True, kw_only=True):
    """At most `requests` responses in any `seconds`, then 429, with Retry-After (seconds) only if given."""

    requests: int
    seconds: float = 60.0
    retry_after: float | None = None


class Fault(_Plain, frozen=True, kw_only=True):
    """A fault, and which of the matching requests it hits.

    path        part of the path; "" matches all. `ticker` matches the ticker of a bar or reference request
    nth, every  the n-th matching request (from 1), or every k-th; all by default
    probability, seed  chance for each of those, repeatable
    times       maximum number of hits
    status      of kinds `status` and `html`; `retry_after` adds the header (seconds)
    text        of kinds `status` and `error_in_200`: the text of the error, instead of the vendor's own
    seconds     of kind `slow`: the delay of the response
    count       of kinds that change, add or move bars: how many (at each end for out_of_range); of miscount: how many results
                too many are counted
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
    text: str | None = None


FileFaultKind = Literal[
    "late",
    "refused",
    "truncated",
    "empty",
    "garbage",
    "bomb",
    "no_rows",
    "columns",
    "missing_close",
    "missing_minutes",
    "doubles",
    "fractional",
    "impossible",
    "text",
    "no_ticker",
    "off_grid",
    "other_day",
    "restated",
]


class FileFault(_Plain, frozen=True, kw_only=True):
    """A fault of flat files, until they are replaced by correct ones. Transfers break by `Fault`, path `/flatfiles`.

    market, base, day  which files; all by default
    until   when the file is published (kind late), or replaced: it then has another ETag; never if it is None
    ticker, count  of kinds that change rows: the first so many, of one ticker or of all
    """

    kind: FileFaultKind
    market: Literal["stocks", "crypto"] | None = None
    base: Literal["minute", "day"] | None = None
    day: date | None = None
    until: datetime | None = None
    ticker: str | None = None
    count: int = 1_000_000


class OtherVendors(_Plain, frozen=True, kw_only=True):
    """The behaviour of Yahoo and Binance.US, which have the same market.

    lacks      days of which they have nothing
    bad_prints  days with a high that nobody else has
    unknown    tickers that Yahoo does not know
    splits     by ticker, the splits that Yahoo lists in place of those that happened: new shares of each by day
    nulls      the row from which on Yahoo sends rows of nulls, one in 97; none if it is 0
    running    whether Yahoo sends the bar that has not ended
    pairs      those that Binance.US lists
    limit      requests a minute that it names
    """

    lacks: tuple[date, ...] = ()
    bad_prints: tuple[date, ...] = ()
    unknown: tuple[str, ...] = ()
    splits: dict[str, dict[date, float]] = {}
    nulls: int = 5
    running: bool = True
    pairs: tuple[str, ...] = ("BTCUSD", "ETHUSD", "BTCUSDT")
    limit: int = 1200


class Scenario(_Plain, frozen=True, kw_only=True):
    """The behaviour of the vendor. `Scenario()` has no faults and an unlimited plan.

    known          the tickers that exist; those outside the built-in table are thinly traded
    api_keys       accepted keys; if empty, any non-empty key
    history_edge   first date that the plan includes
    today_forbidden  the plan refuses ranges that reach today, as the free one does
    forbidden      tickers or markets (`stocks`, `crypto`) that the plan does not include
    delayed        responses have status DELAYED instead of OK
    listed, delisted   first and last day of trading by ticker, instead of the built-in ones
    list_dates     by ticker, a first day in its details that is not the first day of trading
    renames        companies that changed their ticker
    formerly       by ticker, last days of trading of earlier companies; only in the list of tickers
    delisted_details   details of a delisted ticker: inactive, inactive with the day, or 404
    reference_page maximum rows of a page of the reference endpoints, regardless of `limit`
    corporate_actions_v1  whether `/stocks/v1/…` exists, or only the older paths
    file_keys      accepted access key ids of flat files; if empty, any
    file_faults    faults of flat files
    files_forbidden  markets whose flat files the plan does not include
    archive_tickers  how many made-up stocks are in flat files only
    other_vendors  what Yahoo and Binance.US do
    next_url_base  scheme and host of `next_url`; by default those of the request
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
    list_dates: dict[str, date] = {}
    renames: tuple[Rename, ...] = ()
    formerly: dict[str, tuple[date, ...]] = {}
    delisted_details: Literal["inactive", "dated", "missing"] = "inactive"
    reference_page: int | None = None
    # NVDA, ten for one: nvidianews.nvidia.com, 2024-05-22
    splits: tuple[Split, ...] = (Split(ticker="NVDA", execution_date=date(2024, 6, 10), split_to=10),)
    dividends: tuple[Dividend, ...] = ()
    corporate_actions_v1: bool = True
    file_keys: tuple[str, ...] = ()
    file_faults: tuple[FileFault, ...] = ()
    files_forbidden: tuple[Literal["stocks", "crypto"], ...] = ()
    archive_tickers: int = 300
    other_vendors: OtherVendors = OtherVendors()
    next_url_base: str | None = None


def read(text: bytes | str) -> Scenario:
    """Decode a scenario from JSON. Raises `msgspec.ValidationError` with the field, or `msgspec.DecodeError`."""
    return msgspec.json.decode(text, type=Scenario)


def write(scenario: Scenario) -> bytes:
    """Encode a scenario as JSON, without default values."""
    return msgspec.json.encode(scenario)
