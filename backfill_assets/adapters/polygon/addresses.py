"""Where answers are asked for, and where a list of pages leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from backfill_assets.domain.errors import BadRequest, MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from backfill_assets.domain.timeframes import Timeframe

type Address = tuple[str, dict[str, str]]
"""A quoted path that starts with a slash, and the parameters."""

EVERY_PAGE = {"adjusted": "false", "sort": "asc", "limit": "50000"}
"""Sent with every page: `next_url` does not carry them, and the vendor's defaults are adjusted prices and 5000 bars."""

_GROUPED_PATHS = {
    "stocks": "/v2/aggs/grouped/locale/us/market/stocks",
    "crypto": "/v2/aggs/grouped/locale/global/market/crypto",
}

_EMPTY_PAGES = 10  # in a row; a vendor that only ever promises more would keep us for ever


def segment(ticker: str) -> str:
    """A ticker as one segment of a path. BadRequest for what is none."""
    if ticker in {"", ".", ".."}:
        raise BadRequest(f"{ticker!r} is not a ticker")
    return quote(ticker, safe=":")


def bars_address(ticker: str, timeframe: Timeframe, start: date, end: date) -> Address:
    """Where the first page of a ticker's bars is, both dates included. BadRequest for what is no ticker, or no range."""
    if start > end:
        raise BadRequest(f"Bars of {ticker} were asked for from {start} to {end}: the start must not follow the end")
    return f"{series_path(ticker, timeframe)}{start}/{end}", EVERY_PAGE


def series_path(ticker: str, timeframe: Timeframe) -> str:
    """What the paths of all pages of a ticker's bars begin with."""
    return f"/v2/aggs/ticker/{segment(ticker)}/range/{timeframe.multiplier}/{timeframe.timespan}/"


def grouped_address(kind: Literal["stocks", "crypto"], day: date) -> Address:
    """Where every ticker's daily bar of a date is."""
    return f"{_GROUPED_PATHS[kind]}/{day}", {"adjusted": "false"}


def following(next_url: str, *, base_url: str, within: str, sent_again: Mapping[str, str]) -> Address:
    """The address of the page that `next_url` names, with the parameters `sent_again` over its own.

    Host and key of `next_url` are dropped: the key goes to `base_url` only. `within` is the path that the page has to be of:
    the beginning of its path where it ends with a slash, else all of it. MalformedAnswer where it is of something else.
    """
    try:
        url = urlsplit(next_url)
        own = urlsplit(base_url).path
    except ValueError as error:
        raise MalformedAnswer(f"Polygon's next page has an address that cannot be read: {error}") from error
    path = url.path.removeprefix(own) if own and url.path.startswith(own + "/") else url.path
    plain, wanted = unquote(path), unquote(within)
    if ".." in path or not (plain.startswith(wanted) if wanted.endswith("/") else plain == wanted):
        raise MalformedAnswer(f"Polygon's next page belongs to something else than {wanted}: {path}")
    query = {name: value for name, value in parse_qsl(url.query) if name.lower() != "apikey"}
    return quote(path, safe="/:%"), query | dict(sent_again)


class Trail:
    """The pages of one list so far: no address twice, no page that only repeats, and not page after page with nothing."""

    def __init__(self, first: Address) -> None:
        self._seen = {_mark(first)}
        self._empty = 0

    def step(self, onward: Address, *, news: bool | None) -> None:
        """Before `onward` is asked for: MalformedAnswer where that leads nowhere.

        news  what the page before brought: something new, nothing new (False), or nothing at all (None)
        """
        self._empty = self._empty + 1 if news is None else 0
        if _mark(onward) in self._seen or news is False or self._empty > _EMPTY_PAGES:
            raise MalformedAnswer(f"Polygon's pages do not lead forward: stopped before asking for {onward[0]} again")
        self._seen.add(_mark(onward))


def _mark(address: Address) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What equal addresses have in common, however they are spelled; to be used as a key."""
    path, params = address
    return unquote(path), tuple(sorted(params.items()))
