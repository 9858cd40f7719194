"""Random vendor responses, over HTTP and real tables: a typed error and nothing written, or complete rows."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.domain.errors import BackfillError, VendorError
from backfill_assets.domain.listings import UNKNOWN
from backfill_assets.pipelines.corporate_actions import update_corporate_actions
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
)
from backfill_assets_tests.integration.pipelines.test_ohlcv import backfill_request, filled, snapshot
from backfill_assets_tests.support import KEY, MOMENT, SOAK, market, rows

BOUNDED = settings(max_examples=2000 if SOAK else 20, suppress_health_check=[HealthCheck.function_scoped_fixture])
REQUEST = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-06")
STOCKS = market("stocks", "AAPL", "NVDA")
PATH = "/v2/aggs/ticker/AAPL/range/1/minute/2024-03-04/2024-03-06"
OPENING = 1_709_562_600_000
"""14:30 UTC on 2024-03-04, in ms."""

ODD_NUMBERS = [
    *("0", "-0.0", "-1", "1.5", "1e308", "1e309", "-1e999", "5e-324", "1e18", "9223372036854775807", "9" * 400),
    *("NaN", "Infinity", "-Infinity", "2147483648", "1e12"),
]
ODD = st.sampled_from(
    [
        *ODD_NUMBERS,
        *("null", "true", "[]", "{}", '""', '"1"', '"AAPL"', r'"\u0000"', r'"A\ud800"', '"2024-02-30"', '"0001-01-01"'),
        *('"9999-12-31"', '"NVDA"', "[" * 2000 + "]" * 2000),
    ]
)


def bar(number: int) -> dict[str, str]:
    return {"t": str(OPENING + 60_000 * number), "v": "10", "vw": "1.25", "n": "3"} | dict.fromkeys("ohlc", "1.5")


def event(number: int) -> dict[str, str]:
    day = f'"2024-03-{number + 4:02}"'
    return {
        "ticker": '"AAPL"',
        "id": f'"E{number}"',
        "execution_date": day,
        "ex_dividend_date": day,
        "split_from": "1",
        "split_to": "2",
        "cash_amount": "0.25",
        "currency": '"USD"',
        "frequency": "4",
        "record_date": day,
        "pay_date": day,
        "declaration_date": day,
    }


def mutated(draw, written: dict[str, str]) -> str:
    """Write a JSON object with a few fields replaced, removed or duplicated."""
    fields = list(written.items())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(fields) - 1))
        what = draw(st.sampled_from(["exchange", "exchange", "remove", "double"]))
        name, _old = fields[at]
        if what == "exchange":
            fields[at] = (name, draw(ODD))
        elif what == "double":
            fields.append((name, draw(ODD)))
        elif len(fields) > 1:
            del fields[at]
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"


@st.composite
def answers(draw, row, next_urls) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    results = "[" + ",".join(mutated(draw, row(n)) for n in range(draw(st.integers(0, 3)))) + "]"
    envelope = {"status": '"OK"', "resultsCount": "1", "adjusted": "false", "request_id": '"r"', "results": results}
    following = draw(st.sampled_from(next_urls))
    envelope |= {"next_url": json.dumps(following)} if following else {}
    return (mutated(draw, envelope) if draw(st.integers(0, 2)) == 0 else _as_written(envelope)).encode()


def _as_written(envelope: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in envelope.items()) + "}"


def onward(path: str) -> list[str | None]:
    """Return possible next-page URLs; ELSEWHERE is a server that must not be called."""
    return [
        *(None, None, None, f"ELSEWHERE{path}?cursor=1", f"ELSEWHERE{path}?cursor=2&apiKey=x"),
        *("https://api.polygon.io@ELSEWHERE/", "//ELSEWHERE/v2", "javascript:alert(1)", "\x00", "https://[::1"),
        *(f"ELSEWHERE{path}/../../x", f"ELSEWHERE{path}\r\nX-Other: 1"),
        "ELSEWHERE/v2/aggs/ticker/MSFT/range/1/minute/1/2?cursor=3",
    ]


def assert_key_is_safe(vendor: ScriptedVendor, elsewhere: ScriptedVendor) -> None:
    """Check that the key was sent to the vendor only, in a header."""
    assert elsewhere.requests == []
    for request in vendor.requests:
        assert KEY not in request.target
        assert request.headers["authorization"] == f"Bearer {KEY}"


def is_one_sentence(error: BaseException) -> None:
    assert isinstance(error, BackfillError), repr(error)
    assert type(error) is not BackfillError
    sentence = str(error)
    assert sentence.strip()
    assert "\n" not in sentence
    assert KEY not in sentence


@BOUNDED
@given(bodies=st.lists(answers(bar, onward(PATH)), min_size=1, max_size=3))
def test_bars_are_written_completely_or_not_at_all(bodies: list[bytes], database_url: str) -> None:
    before = snapshot(database_url)
    series = asyncio.run(_fill(database_url, bodies))
    for failed in (s.error for s in series if s.error is not None):
        is_one_sentence(failed)
    if all(s.error is not None for s in series):
        assert snapshot(database_url)["market_data"] == before["market_data"]
    wrong = """select count(*) from market_data where symbol <> 'AAPL' or timestamp < '2024-03-04' or timestamp > '2024-03-07'
      or 'Infinity' in (open, high, low, close, volume) or 'NaN' in (open, high, low, close, volume)"""
    assert rows(database_url, wrong) == [(0,)]
    sums = """select count(*) from session_answers a where a.timeframe = '1m' and bars <> (select count(*) from market_data m
      where m.symbol = a.symbol and m.timeframe = '1m' and (m.timestamp at time zone 'America/New_York')::date = a.session)"""
    assert rows(database_url, sums) == [(0,)]


async def _fill(url: str, bodies: list[bytes]) -> list:
    async with ScriptedVendor(Response(b"{}")) as elsewhere:
        script = [Response(body.replace(b"ELSEWHERE", elsewhere.url.encode())) for body in bodies]
        async with ScriptedVendor(*script) as vendor:
            try:
                return await filled(url, vendor, REQUEST, patient=True, at_once=1, retry=RetryPolicy(attempts=2))
            except BackfillError as error:
                is_one_sentence(error)
                return []
            finally:
                assert_key_is_safe(vendor, elsewhere)


EVENT_PATHS = ("/stocks/v1/splits", "/stocks/v1/dividends")


@BOUNDED
@given(bodies=st.lists(answers(event, [*onward(EVENT_PATHS[0]), *onward(EVENT_PATHS[1])]), min_size=1, max_size=4))
def test_events_are_written_completely_or_not_at_all(bodies: list[bytes], database_url: str) -> None:
    tables = ("corporate_events", "corporate_event_lookups")
    before = [rows(database_url, f"select * from {name} order by 1, 2") for name in tables]  # noqa: S608  # our own names
    error = asyncio.run(_update(database_url, bodies))
    after = [rows(database_url, f"select * from {name} order by 1, 2") for name in tables]  # noqa: S608  # our own names
    if error is not None:
        is_one_sentence(error)
        assert after == before
    assert {symbol for (symbol, *_) in after[0]} <= {"AAPL", "NVDA"}


@pytest.mark.parametrize("field", ["id", "currency"])
async def test_a_character_that_postgresql_rejects_does_not_lose_other_events(field: str, database_url: str) -> None:
    rows_sent = [event(0) | {field: r'"A\u0000"'}, event(1) | {"ticker": '"NVDA"'}]
    body = _as_written({"status": '"OK"', "results": f"[{','.join(map(_as_written, rows_sent))}]"}).encode()
    assert await _update(database_url, [body]) is None
    assert ("NVDA",) in rows(database_url, "select distinct symbol from corporate_events")


@pytest.mark.parametrize("number", ["-1", "9223372036854775807", "1e18", "2147483648", "1e308", "5e-324"])
@pytest.mark.parametrize("field", ["t", "o", "h", "l", "c", "v", "vw", "n"])
async def test_a_number_beyond_all_bars_is_a_typed_error_or_a_bar(field: str, number: str, database_url: str) -> None:
    body = _as_written(
        {"status": '"OK"', "results": f"[{_as_written(bar(0))},{_as_written(bar(1) | {field: number})}]"}
    )
    series = await _fill(database_url, [body.encode()])
    for failed in (s.error for s in series if s.error is not None):
        is_one_sentence(failed)


async def _update(url: str, bodies: list[bytes]) -> BackfillError | None:
    async with ScriptedVendor(Response(b"{}")) as elsewhere:
        script = [Response(body.replace(b"ELSEWHERE", elsewhere.url.encode())) for body in bodies]
        async with ScriptedVendor(*script) as vendor, _client(vendor) as client:
            try:
                with CorporateActionStore(url) as store:
                    await update_corporate_actions(store, client, STOCKS, lambda: MOMENT)
            except BackfillError as error:
                return error
            finally:
                assert_key_is_safe(vendor, elsewhere)
    return None


def _client(vendor: ScriptedVendor) -> Polygon:
    return Polygon(KEY, base_url=vendor.url, limiter=CountingLimiter(), sleep=NoSleep(), retry=RetryPolicy(attempts=2))


def facts(_number: int) -> dict[str, str]:
    return {
        "ticker": '"AAPL"',
        "list_date": '"1980-12-12"',
        "delisted_utc": '"2020-01-01T00:00:00Z"',
        "active": "false",
        "events": '[{"date": "2020-01-01", "ticker_change": {"ticker": "A"}}]',
    }


@st.composite
def details(draw) -> bytes:
    return _as_written({"status": '"OK"', "results": mutated(draw, facts(0))}).encode()


@BOUNDED
@given(bodies=st.lists(details() | answers(facts, [None]), min_size=1, max_size=2))
def test_a_listing_is_days_in_order_or_a_typed_error(bodies: list[bytes]) -> None:
    async def ask() -> None:
        async with ScriptedVendor(*map(Response, bodies)) as vendor, _client(vendor) as client:
            try:
                listing = await client.listing("AAPL") or UNKNOWN
                changes = await client.ticker_changes("AAPL")
            except VendorError as error:
                is_one_sentence(error)
            else:
                assert listing.listed is None or listing.delisted is None or listing.listed <= listing.delisted
                assert list(changes) == sorted(changes)

    asyncio.run(ask())
