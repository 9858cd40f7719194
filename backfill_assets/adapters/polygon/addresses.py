"""Paths and parameters of requests, and of the pages that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from backfill_assets.domain.errors import BadRequest, MalformedAnswer
from backfill_assets.domain.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from backfill_assets.domain.timeframes import Timeframe

type Address = tuple[str, dict[str, str]]
"""A quoted path that starts with a slash, and the query parameters."""

EVERY_PAGE = {"adjusted": "false", "sort": "asc", "limit": "50000"}
"""Sent with every page: `next_url` does not carry them, and the vendor's defaults are adjusted prices and 5000 bars."""

_GROUPED_PATHS = {
    "stocks": "/v2/aggs/grouped/locale/us/market/stocks",
    "crypto": "/v2/aggs/grouped/locale/global/market/crypto",
}

_EMPTY_PAGES = 10  # in a row, after which a vendor that only promises more pages is not believed


def segment(ticker: str) -> str:
    """Return a ticker as one segment of a path. Raises BadRequest if it is not a ticker."""
    if ticker in {"", ".", ".."}:
        raise BadRequest(f"{ticker!r} is not a ticker")
    return quote(ticker, safe=":")


def bars_address(ticker: str, timeframe: Timeframe, start: date, end: date) -> Address:
    """Return the address of the first page of a ticker's bars, both dates included. Raises BadRequest."""
    if start > end:
        raise BadRequest(
            f"The bars of {ticker} were requested from {start} to {end}: the start must not be after the end"
        )
    return f"{series_path(ticker, timeframe)}{start}/{end}", EVERY_PAGE


def series_path(ticker: str, timeframe: Timeframe) -> str:
    """Return the prefix of the paths of all pages of a ticker's bars."""
    return f"/v2/aggs/ticker/{segment(ticker)}/range/{timeframe.multiplier}/{timeframe.timespan}/"


def grouped_address(kind: Literal["stocks", "crypto"], day: date) -> Address:
    """Return the address of the daily bars of all tickers on a date."""
    return f"{_GROUPED_PATHS[kind]}/{day}", {"adjusted": "false"}


def following(next_url: str, *, base_url: str, within: str, sent_again: Mapping[str, str]) -> Address:
    """Return the address of the page that `next_url` names; the parameters `sent_again` override its own.

    Host and key of `next_url` are dropped: the key is only sent to `base_url`. `within` is the path that the page must have,
    or the prefix of it if it ends with a slash. Raises MalformedAnswer for another path.
    """
    try:
        url = urlsplit(next_url)
        own = urlsplit(base_url).path
    except ValueError as error:
        raise MalformedAnswer(f"Polygon's next_url cannot be parsed: {plain_text(str(error))}") from error
    path = url.path.removeprefix(own) if own and url.path.startswith(own + "/") else url.path
    plain, wanted = unquote(path), unquote(within)
    if ".." in path or not (plain.startswith(wanted) if wanted.endswith("/") else plain == wanted):
        raise MalformedAnswer(f"Polygon's next_url is not a page of {wanted}: {plain_text(path)}")
    query = {name: value for name, value in parse_qsl(url.query) if name.lower() != "apikey"}
    return quote(path, safe="/:%"), query | dict(sent_again)


class Trail:
    """The pages of a list so far. Detects repeated addresses, repeated pages and endless empty pages."""

    def __init__(self, first: Address) -> None:
        self._seen = {_mark(first)}
        self._empty = 0

    def step(self, onward: Address, *, news: bool | None) -> None:
        """Check `onward` before it is requested. Raises MalformedAnswer if the list does not advance.

        news  whether the previous page had new rows; None if it had no rows
        """
        self._empty = self._empty + 1 if news is None else 0
        if _mark(onward) in self._seen or news is False or self._empty > _EMPTY_PAGES:
            raise MalformedAnswer(f"Polygon's pages do not advance: stopped before requesting {onward[0]} again")
        self._seen.add(_mark(onward))


def _mark(address: Address) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return a key that is the same for all spellings of an address."""
    path, params = address
    return unquote(path), tuple(sorted(params.items()))
