"""The ways that `former.py` compares with this project: the baseline algorithm, and the vendor's client.

Usage: `former_way.py former|official VENDOR_URL DATABASE_URL FIRST LAST SYMBOL …`. The official client
(`polygon-api-client`) must be on PYTHONPATH.
"""

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg

TIMEFRAMES = {
    "1m": (1, "minute"),
    "5m": (5, "minute"),
    "15m": (15, "minute"),
    "30m": (30, "minute"),
    "1h": (1, "hour"),
    "4h": (4, "hour"),
    "1d": (1, "day"),
    "1w": (1, "week"),
}
KEY = "a-key-for-benchmarks"
SECONDS_A_REQUEST = 1 / 2.5
AT_ONCE = 3
STAGGER_SECONDS = 5
PAUSE_SECONDS = 15

TABLE = """create table market_data (
  symbol text, timeframe text, "timestamp" timestamptz, open float8, high float8, low float8, close float8, volume float8,
  vwap float8, trades bigint, primary key (symbol, timeframe, "timestamp"))"""
UPSERT = """insert into market_data values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
  on conflict (symbol, timeframe, "timestamp") do update set open = excluded.open, high = excluded.high, low = excluded.low,
  close = excluded.close, volume = excluded.volume, vwap = excluded.vwap, trades = excluded.trades"""


def rows(symbol: str, timeframe: str, bars: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Convert the vendor's bars to rows of the table."""
    return [
        (
            symbol,
            timeframe,
            datetime.fromtimestamp(b["t"] / 1000, UTC),
            *(b[k] for k in "ohlcv"),
            b.get("vw"),
            b.get("n"),
        )
        for b in bars
    ]


class Limiter:
    """A shared limit of one request per interval."""

    def __init__(self) -> None:
        self._next = time.monotonic()

    def pause(self) -> float:
        """Reserve the next request; return the seconds to wait."""
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + SECONDS_A_REQUEST
        return turn - now


async def former(vendor: str, database: str, first: str, last: str, symbols: list[str]) -> None:
    """Request every timeframe separately; three symbols at a time, started 5 s apart; 15 s of pause after each group."""
    turns = Limiter()
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=60) as http,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as connection,
    ):
        await connection.execute(TABLE)

        async def fill(symbol: str, delay: float) -> None:
            await asyncio.sleep(delay)
            for timeframe, (multiplier, span) in TIMEFRAMES.items():
                url: str | None = (
                    f"{vendor}/v2/aggs/ticker/{symbol}/range/{multiplier}/{span}/{first}/{last}"
                    "?adjusted=false&sort=asc&limit=50000"
                )
                while url:
                    await asyncio.sleep(turns.pause())
                    answer = (await http.get(url)).raise_for_status().json()
                    async with connection.cursor() as cursor:
                        await cursor.executemany(UPSERT, rows(symbol, timeframe, answer.get("results") or ()))
                    url = answer.get("next_url")

        for begin in range(0, len(symbols), AT_ONCE):
            group = symbols[begin : begin + AT_ONCE]
            await asyncio.gather(*(fill(symbol, n * STAGGER_SECONDS) for n, symbol in enumerate(group)))
            if begin + AT_ONCE < len(symbols):
                await asyncio.sleep(PAUSE_SECONDS)


def official(vendor: str, database: str, first: str, last: str, symbols: list[str]) -> None:
    """Loop over `list_aggs`, as in the client's examples, within the limit."""
    from polygon import RESTClient  # noqa: PLC0415  # installed for this way only

    client, turns = RESTClient(api_key=KEY, base=vendor), Limiter()
    with psycopg.connect(database, autocommit=True) as connection, connection.cursor() as cursor:
        connection.execute(TABLE)
        for symbol in symbols:
            for timeframe, (multiplier, span) in TIMEFRAMES.items():
                time.sleep(turns.pause())
                found = client.list_aggs(symbol, multiplier, span, first, last, adjusted=False, limit=50000)
                bars = [
                    {"t": a.timestamp, "o": a.open, "h": a.high, "l": a.low, "c": a.close, "v": a.volume}
                    | {"vw": a.vwap, "n": a.transactions}
                    for a in found
                ]
                cursor.executemany(UPSERT, rows(symbol, timeframe, bars))


if __name__ == "__main__":
    way, *arguments = sys.argv[1:]
    where, into, since, until, *names = arguments
    if way == "former":
        asyncio.run(former(where, into, since, until, names))
    else:
        official(where, into, since, until, names)
