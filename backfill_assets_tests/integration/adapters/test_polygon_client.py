import itertools
from datetime import date

import pytest

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.domain.errors import BadRequest, ContradictoryAnswer, KeyRefused, MalformedAnswer, NotEntitled
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
MIDNIGHT = 1_704_171_600_000
"""Of 2 January 2024 in New York, in ms."""
OURS = {"adjusted": "false", "sort": "asc", "limit": "50000"}


def polygon(vendor, key=KEY, prefix="", **more):
    return Polygon(
        key, base_url=vendor.url + prefix, limiter=CountingLimiter(), sleep=NoSleep(), random=lambda: 0.0, **more
    )


def following(cursor, host="https://api.polygon.io", path=RANGE):
    return f"{host}{path}?cursor={cursor}"


def minute(number, **more):
    return bar(MIDNIGHT + 60_000 * number, **more)


def minutes(page):
    """Return the numbers of the page's minutes."""
    return [(t - MIDNIGHT) / 60_000 for t in page.bars.timestamp.tolist()]


async def collect(client, ticker="AAPL", timeframe=MINUTE_1, start=JAN_2, end=JAN_5):
    async with client:
        return [page async for page in client.pages(ticker, timeframe, start, end)]


async def test_one_page():
    async with ScriptedVendor(ok(minute(2), minute(1), minute(1), status="DELAYED", adjusted=False)) as vendor:
        pages = await collect(polygon(vendor))
    assert [minutes(page) for page in pages] == [[2, 1, 1]]  # as sent: order and doubles are not its business
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
        ok(minute(1), next_url=following("one", host, path) + "&apiKey=leaked&adjusted=true"),
        ok(minute(2), next_url=following("two%3D%26", host, path.replace("2024-01-02", "1704200000000")) + "&limit=5"),
        ok(minute(3)),
    )
    async with ScriptedVendor(*script) as vendor:
        pages = await collect(polygon(vendor, prefix=prefix))
    assert [minutes(page) for page in pages] == [[1], [2], [3]]
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
        [ok(minute(1), next_url=f"https://api.polygon.io{RANGE}?limit=9")],
        [ok(minute(i), next_url=following("same")) for i in range(1, 9)],
        [ok(minute(i), next_url=following(c)) for i, c in enumerate("abab", start=1)],
        [ok(minute(5), next_url=following("a")), ok(minute(5), next_url=following("b"))],
        [ok(minute(5), next_url=following("a")), ok(minute(3), minute(4), next_url=following("b"))],
        [ok(next_url=following(i)) for i in range(40)],
    ],
    ids=["the first again", "the same", "in a circle", "the same bars", "backwards", "never any bars"],
)
async def test_pages_that_do_not_advance_are_an_error(pages):
    async with ScriptedVendor(*pages) as vendor:
        with pytest.raises(MalformedAnswer, match=r"do not advance|leads back"):
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
    async with ScriptedVendor(ok(minute(1), next_url=next_url)) as vendor:
        with pytest.raises(MalformedAnswer, match="next_url"):
            await collect(polygon(vendor))
    assert len(vendor.requests) == 1


async def test_a_few_empty_pages_do_not_end_a_range():
    script = [*(ok(next_url=following(i)) for i in range(4)), ok(minute(7))]
    async with ScriptedVendor(*script) as vendor:
        pages = await collect(polygon(vendor))
    assert [len(page.bars) for page in pages] == [0, 0, 0, 0, 1]


async def test_a_last_page_may_repeat_bars():
    async with ScriptedVendor(ok(minute(1), minute(2), next_url=following("a")), ok(minute(2))) as vendor:
        assert len(await collect(polygon(vendor))) == 2


async def test_pages_before_a_failure_are_yielded_once_a_second_one_shows_that_they_lead_forward():
    refused = Response({"status": "NOT_AUTHORIZED", "message": "Your plan"}, 403)
    for script, yielded in (
        ((ok(minute(1), next_url=following("a")), refused), []),
        ((ok(minute(1), next_url=following("a")), ok(minute(2), next_url=following("b")), refused), [[1], [2]]),
    ):
        async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
            pages = client.pages("AAPL", MINUTE_1, JAN_2, JAN_5)
            assert [minutes(await anext(pages)) for _ in yielded] == yielded
            with pytest.raises(NotEntitled):
                await anext(pages)


@pytest.mark.parametrize(
    ("ticker", "target"),
    [("X:BTCUSD", "X:BTCUSD"), ("BRK.B", "BRK.B"), ("A/B?c#d e%", "A%2FB%3Fc%23d%20e%25"), ("ÜX", "%C3%9CX")],
)
async def test_a_ticker_is_one_segment_of_the_path(ticker, target):
    path = f"/v2/aggs/ticker/{target}/range/1/minute/2024-01-02/2024-01-05"
    async with ScriptedVendor(ok(minute(720), next_url=following("a", path=path)), ok(minute(721))) as vendor:
        await collect(polygon(vendor), ticker)
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
    async with ScriptedVendor(ok(minute(1), adjusted=True)) as vendor:
        with pytest.raises(MalformedAnswer, match="split-adjusted"):
            await collect(polygon(vendor))
        assert len(await collect(polygon(vendor), "X:BTCUSD")) == 1


DAY = 1440
CONTRADICTIONS = {
    "another ticker": (ok(minute(1), ticker="META"), "it is about 'META', not AAPL"),
    "another ticker without bars": (ok(ticker="META"), "it is about 'META', not AAPL"),
    "fewer bars than it counts": (ok(minute(1), resultsCount=2), "counts 2 results and holds 1"),
    "more bars than it counts": (ok(minute(1), minute(2), resultsCount=0), "counts 0 results and holds 2"),
    "seconds": (ok(*({**minute(i), "t": MIDNIGHT // 1000 + 60 * i} for i in range(3))), "none of its 3 bars is of"),
    "microseconds": (ok({**minute(1), "t": MIDNIGHT * 1000}), "none of its 1 bars is of"),
    "other days": (ok(minute(-DAY), minute(-1), minute(4 * DAY)), "none of its 3 bars is of"),
    "off the grid": (ok(minute(0.5), minute(1.5)), "none of its 2 bars can be used"),
    "another bar of the minute": (ok(minute(1), minute(1, c=1.75)), "its minute has bars that differ"),
}


@pytest.mark.parametrize(("answer", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
async def test_an_answer_that_contradicts_itself_or_the_request_is_retried_and_then_an_error(answer, reason):
    async with ScriptedVendor(answer, ok(minute(1), ticker="aapl")) as vendor:
        assert [minutes(page) for page in await collect(polygon(vendor))] == [[1]]
    async with ScriptedVendor(answer) as vendor:
        with pytest.raises(ContradictoryAnswer) as caught:
            await collect(polygon(vendor))
    assert reason in str(caught.value)
    assert len(vendor.requests) == RetryPolicy().attempts


async def test_rows_at_impossible_times_are_left_out_of_a_page():
    rows = [
        minute(0),
        minute(1),
        minute(1, c=1.75),
        minute(2.5),
        {**minute(3), "t": 7},
        minute(4),
        minute(4),
        minute(-5),
    ]
    async with ScriptedVendor(ok({**minute(0), "t": MIDNIGHT // 1000}, *rows)) as vendor:
        (page,) = await collect(polygon(vendor))
    assert minutes(page) == [
        0,
        4,
        4,
        -5,
    ]  # repeated bars, and those just outside the range, are the pipeline's business
    assert [((bad.timestamp - MIDNIGHT) / 60_000, bad.reason) for bad in page.bad] == [
        (0, "its time is far from the requested days"),
        (1, "its minute has bars that differ"),
        (1, "its minute has bars that differ"),
        (1, "it does not start with a minute"),
        (1, "its time is far from the requested days"),
    ]
    between = [[(t - MIDNIGHT) / 60_000 for t in bad.between] for bad in page.bad if bad.between]
    assert between == [[0, 0], [1, 4], [1, 4]]


async def test_a_row_of_an_unknown_time_may_be_anywhere_on_a_page_that_is_not_in_order():
    lost = [{**minute(9), "t": 7}, {**minute(9), "t": None}, {"t": 5}]
    async with ScriptedVendor(ok(minute(2 * DAY), *lost, minute(1))) as vendor:
        (page,) = await collect(polygon(vendor))
    assert {bad.between for bad in page.bad} == {(MIDNIGHT, MIDNIGHT + 4 * DAY * 60_000 - 1)}


async def test_of_two_different_bars_in_a_day_neither_is_used():
    """The clocks go forward on 10 March: the second midnight is 23 hours after the first."""
    sunday = 1_710_046_800_000
    days = [bar(sunday + 3_600_000 * hours) for hours in (0, 23, 23 + 9.5, 47)]
    async with ScriptedVendor(ok(*days)) as vendor:
        (page,) = await collect(polygon(vendor), timeframe=DAY_1, start=date(2024, 3, 10), end=date(2024, 3, 12))
    assert [(t - sunday) / 3_600_000 for t in page.bars.timestamp.tolist()] == [0, 47]
    assert {bad.reason for bad in page.bad} == {"its day has bars that differ"}


NEWEST_FIRST = [[3 * DAY + 1, 3 * DAY], [2 * DAY, DAY], [0]]


@pytest.mark.parametrize("within", [list, sorted], ids=["descending pages", "ascending pages"])
@pytest.mark.parametrize("number", [2, 3])
async def test_pages_that_lead_back_are_an_error_before_anything_is_yielded(within, number):
    script = [ok(*map(minute, within(page)), next_url=following(i)) for i, page in enumerate(NEWEST_FIRST[:number])]
    script[-1].body.pop("next_url")
    async with ScriptedVendor(*script, script[-1]) as vendor, polygon(vendor) as client:
        pages = client.pages("AAPL", MINUTE_1, JAN_2, JAN_5)
        with pytest.raises(ContradictoryAnswer, match="leads back"):
            await anext(pages)


async def test_a_page_that_overlaps_the_one_before_it_is_an_error():
    """One of two bars of a minute would replace the other, whichever is right."""
    script = ok(minute(0), minute(2), next_url=following(1)), ok(minute(1, c=1.75), minute(3))
    async with ScriptedVendor(*script) as vendor:
        with pytest.raises(ContradictoryAnswer, match="leads back to bars before the end of the page before it"):
            await collect(polygon(vendor))


async def test_one_page_with_the_newest_bar_first_is_yielded():
    async with ScriptedVendor(ok(minute(DAY), minute(1), minute(0))) as vendor:
        (page,) = await collect(polygon(vendor))
    assert minutes(page) == [DAY, 1, 0]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("stocks", "/v2/aggs/grouped/locale/us/market/stocks/2024-01-02"),
        ("crypto", "/v2/aggs/grouped/locale/global/market/crypto/2024-01-02"),
    ],
)
async def test_grouped_daily(kind, path):
    rows = [minute(960, T="A"), minute(960, T="B", c=1.75), minute(960 - DAY, T="C")]
    async with ScriptedVendor(ok(*rows, adjusted=False)) as vendor:
        async with polygon(vendor) as client:
            day = await client.grouped_daily(kind, JAN_2)
        assert [(request.path, request.query) for request in vendor.requests] == [(path, {"adjusted": "false"})]
    assert day.tickers == ["A", "B"]
    assert day.bars.close.tolist() == [1.5, 1.75]
    assert day.bad == {"C": "its time is of another day"}


@pytest.mark.parametrize("days", [-1, 1, 365])
async def test_a_grouped_day_of_another_day_is_a_contradiction(days):
    async with ScriptedVendor(ok(minute(960 + days * DAY, T="A"))) as vendor, polygon(vendor) as client:
        with pytest.raises(ContradictoryAnswer, match="none of its 1 bars is of 2024-01-02"):
            await client.grouped_daily("stocks", JAN_2)


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
    script = [Response(ok(minute(1440 * (i + 1))).body, seconds=0.01) for i in range(2)]
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        streams = [client.pages("AAPL", MINUTE_1, JAN_2, JAN_5), client.pages("AAPL", DAY_1, JAN_2, JAN_5)]
        pages = [[page async for page in stream] for stream in streams]
    assert strictly_increasing([int(page.bars.timestamp[0]) for page in itertools.chain(*pages)])
    assert {request.path.split("/")[7] for request in vendor.requests} == {"minute", "day"}
