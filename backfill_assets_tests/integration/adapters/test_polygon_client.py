import itertools
from datetime import date

import pytest

from backfill_assets.adapters.polygon import Polygon
from backfill_assets.domain.errors import BadRequest, KeyRefused, MalformedAnswer, NotEntitled
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    KEY,
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
    bar,
    ok,
    strictly_increasing,
)

JAN_2, JAN_5 = date(2024, 1, 2), date(2024, 1, 5)
RANGE = "/v2/aggs/ticker/AAPL/range/1/minute/2024-01-02/2024-01-05"
OURS = {"adjusted": "false", "sort": "asc", "limit": "50000"}


def polygon(vendor, key=KEY, prefix="", **more):
    return Polygon(
        key, base_url=vendor.url + prefix, limiter=CountingLimiter(), sleep=NoSleep(), random=lambda: 0.0, **more
    )


def following(cursor, host="https://api.polygon.io", path=RANGE):
    return f"{host}{path}?cursor={cursor}"


async def collect(client, ticker="AAPL", timeframe=MINUTE_1, start=JAN_2, end=JAN_5):
    async with client:
        return [page async for page in client.pages(ticker, timeframe, start, end)]


async def test_one_page():
    async with ScriptedVendor(ok(bar(2), bar(1), bar(1), status="DELAYED", adjusted=False)) as vendor:
        pages = await collect(polygon(vendor))
    assert [page.bars.timestamp.tolist() for page in pages] == [
        [2, 1, 1]
    ]  # as sent: order and doubles are not its business
    assert [page.more for page in pages] == [False]
    assert [(request.path, request.query) for request in vendor.requests] == [(RANGE, OURS)]


async def test_an_empty_range_is_one_empty_page():
    async with ScriptedVendor(ok()) as vendor:
        pages = await collect(polygon(vendor))
    assert [len(page.bars) for page in pages] == [0]


@pytest.mark.parametrize("prefix", ["", "/gateway/polygon"])
@pytest.mark.parametrize("host", ["https://api.polygon.io", "https://api.massive.com", "http://evil.invalid:1", ""])
@pytest.mark.parametrize("prefixed", [False, True])
async def test_every_page_is_requested_from_the_base_url_with_all_parameters(prefix, host, prefixed):
    path = prefix + RANGE if prefixed else RANGE
    script = (
        ok(bar(1), next_url=following("one", host, path) + "&apiKey=leaked&adjusted=true"),
        ok(bar(2), next_url=following("two%3D%26", host, path.replace("2024-01-02", "1704200000000")) + "&limit=5"),
        ok(bar(3)),
    )
    async with ScriptedVendor(*script) as vendor:
        pages = await collect(polygon(vendor, prefix=prefix))
    assert [page.bars.timestamp.tolist() for page in pages] == [[1], [2], [3]]
    assert [page.more for page in pages] == [True, True, False]
    assert [request.path for request in vendor.requests] == [
        prefix + RANGE,
        prefix + RANGE,
        prefix + RANGE.replace("2024-01-02", "1704200000000"),
    ]
    assert [request.query for request in vendor.requests] == [
        OURS,
        OURS | {"cursor": "one"},
        OURS | {"cursor": "two=&"},
    ]
    assert {request.headers["authorization"] for request in vendor.requests} == {f"Bearer {KEY}"}
    assert {request.headers["host"] for request in vendor.requests} == {f"127.0.0.1:{vendor.port}"}


@pytest.mark.parametrize(
    "pages",
    [
        [ok(bar(1), next_url=f"https://api.polygon.io{RANGE}?limit=9")],
        [ok(bar(i), next_url=following("same")) for i in range(1, 9)],
        [ok(bar(i), next_url=following(c)) for i, c in enumerate("abab", start=1)],
        [ok(bar(5), next_url=following("a")), ok(bar(5), next_url=following("b"))],
        [ok(bar(5), next_url=following("a")), ok(bar(3), bar(4), next_url=following("b"))],
        [ok(next_url=following(i)) for i in range(40)],
    ],
    ids=["the first again", "the same", "in a circle", "the same bars", "backwards", "never any bars"],
)
async def test_pages_that_do_not_advance_are_an_error(pages):
    async with ScriptedVendor(*pages) as vendor:
        with pytest.raises(MalformedAnswer, match="do not advance"):
            await collect(polygon(vendor))
    assert len(vendor.requests) <= 11


@pytest.mark.parametrize(
    "next_url",
    [
        following("a", path=RANGE.replace("AAPL", "MSFT")),
        following("a", path=RANGE.replace("minute", "day")),
        following("a", path="/v2/aggs/ticker/AAPL/range/1/minute/../../../../MSFT/range/1/minute/1/2"),
        following("a", host="https://api.polygon.io//evil.invalid"),
        "?cursor=a",
        "https://[bad/v2",
        "javascript:alert(1)",
    ],
)
async def test_a_next_url_of_another_list_is_not_requested(next_url):
    async with ScriptedVendor(ok(bar(1), next_url=next_url)) as vendor:
        with pytest.raises(MalformedAnswer, match="next_url"):
            await collect(polygon(vendor))
    assert len(vendor.requests) == 1


async def test_a_few_empty_pages_do_not_end_a_range():
    script = [*(ok(next_url=following(i)) for i in range(4)), ok(bar(7))]
    async with ScriptedVendor(*script) as vendor:
        pages = await collect(polygon(vendor))
    assert [len(page.bars) for page in pages] == [0, 0, 0, 0, 1]


async def test_a_last_page_may_repeat_bars():
    async with ScriptedVendor(ok(bar(1), bar(2), next_url=following("a")), ok(bar(2))) as vendor:
        assert len(await collect(polygon(vendor))) == 2


async def test_pages_before_a_failure_are_yielded():
    script = (ok(bar(1), next_url=following("a")), Response({"status": "NOT_AUTHORIZED", "message": "Your plan"}, 403))
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        pages = client.pages("AAPL", MINUTE_1, JAN_2, JAN_5)
        first = await anext(pages)
        with pytest.raises(NotEntitled):
            await anext(pages)
    assert first.bars.timestamp.tolist() == [1]
    assert client.traffic.requests == 2


@pytest.mark.parametrize(
    ("ticker", "target"),
    [("X:BTCUSD", "X:BTCUSD"), ("BRK.B", "BRK.B"), ("A/B?c#d e%", "A%2FB%3Fc%23d%20e%25"), ("ÜX", "%C3%9CX")],
)
async def test_a_ticker_is_one_segment_of_the_path(ticker, target):
    path = f"/v2/aggs/ticker/{target}/range/1/day/2024-01-02/2024-01-05"
    async with ScriptedVendor(ok(bar(1), next_url=following("a", path=path)), ok(bar(2))) as vendor:
        await collect(polygon(vendor), ticker, DAY_1)
    assert [request.path for request in vendor.requests] == [path, path]


@pytest.mark.parametrize("ticker", ["", ".", ".."])
async def test_an_invalid_ticker_is_not_sent(ticker):
    async with ScriptedVendor(ok()) as vendor:
        with pytest.raises(BadRequest):
            await collect(polygon(vendor), ticker)
    assert vendor.requests == []


async def test_a_reversed_range_is_not_sent():
    async with ScriptedVendor(ok()) as vendor:
        with pytest.raises(BadRequest, match="must not be after"):
            await collect(polygon(vendor), start=JAN_5, end=JAN_2)
    assert vendor.requests == []


async def test_adjusted_prices_of_a_stock_are_rejected():
    async with ScriptedVendor(ok(bar(1), adjusted=True)) as vendor:
        with pytest.raises(MalformedAnswer, match="split-adjusted"):
            await collect(polygon(vendor))
        assert len(await collect(polygon(vendor), "X:BTCUSD")) == 1


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("stocks", "/v2/aggs/grouped/locale/us/market/stocks/2024-01-02"),
        ("crypto", "/v2/aggs/grouped/locale/global/market/crypto/2024-01-02"),
    ],
)
async def test_grouped_daily(kind, path):
    async with ScriptedVendor(ok(bar(1, T="A"), bar(1, T="B", c=9.0), adjusted=False)) as vendor:
        async with polygon(vendor) as client:
            day = await client.grouped_daily(kind, JAN_2)
        assert [(request.path, request.query) for request in vendor.requests] == [(path, {"adjusted": "false"})]
    assert day.tickers == ["A", "B"]
    assert day.bars.close.tolist() == [1.5, 9.0]


async def test_a_closed_day_is_an_empty_grouped_day():
    async with ScriptedVendor(ok()) as vendor, polygon(vendor) as client:
        day = await client.grouped_daily("stocks", JAN_2)
    assert (day.tickers, len(day.bars)) == ([], 0)


@pytest.mark.parametrize("key", [None, ""])
async def test_without_a_key_nothing_is_sent(key):
    async with ScriptedVendor(ok()) as vendor, polygon(vendor, key) as client:
        with pytest.raises(KeyRefused, match="POLYGON_API_KEY is not set: "):
            await client.grouped_daily("stocks", JAN_2)
        with pytest.raises(KeyRefused, match="POLYGON_API_KEY is not set: "):
            await collect(client)
    assert vendor.requests == []


async def test_two_series_at_once_do_not_mix():
    script = [Response(ok(bar(i)).body, seconds=0.01) for i in range(6)]
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        streams = [client.pages("AAPL", MINUTE_1, JAN_2, JAN_5), client.pages("AAPL", DAY_1, JAN_2, JAN_5)]
        pages = [[page async for page in stream] for stream in streams]
    assert strictly_increasing([int(page.bars.timestamp[0]) for page in itertools.chain(*pages)])
    assert {request.path.split("/")[7] for request in vendor.requests} == {"minute", "day"}
