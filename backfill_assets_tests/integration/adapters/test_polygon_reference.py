from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.polygon.wire_reference import decode_details, decode_dividends, decode_splits
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    NotFound,
    RateLimited,
    VendorUnavailable,
)
from backfill_assets.domain.listings import UNKNOWN, Listing, TickerChange
from backfill_assets.simulator import Dividend, Fault, Rename, Scenario, Simulator, Split
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    KEY,
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
    ok,
)
from backfill_assets_tests.support import NASTY, NASTY_SHOWN, PROJECT

RECORDED = PROJECT.parent / "shared" / "truth" / "polygon" / "test_rest" / "mocks" / "v3" / "reference"
recorded_only = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded answers of the vendor are not on this machine"
)

JAN_1 = date(2024, 1, 1)
SPLITS = tuple(
    Split(ticker=ticker, execution_date=day, split_from=old, split_to=new)
    for ticker, day, old, new in [
        ("NVDA", date(2021, 7, 20), 1, 4),
        ("NVDA", date(2024, 6, 10), 1, 10),
        ("AAPL", date(2024, 6, 10), 1, 1.05),
        ("GE", date(2024, 2, 1), 8, 1),
        ("XOM", date(2024, 12, 30), 1, 2),
        ("TSLA", date(2025, 8, 25), 1, 3),  # announced: it is after the simulated now
    ]
)
SINCE_2024 = [
    ("GE", date(2024, 2, 1), 8, 1),
    ("AAPL", date(2024, 6, 10), 1, 1.05),
    ("NVDA", date(2024, 6, 10), 1, 10),
    ("XOM", date(2024, 12, 30), 1, 2),
    ("TSLA", date(2025, 8, 25), 1, 3),
]
NEW, OLD = "/stocks/v1/splits", "/v3/reference/splits"


def polygon(vendor, key=KEY, **more):
    return Polygon(key, base_url=vendor.url, limiter=CountingLimiter(), sleep=NoSleep(), random=lambda: 0.0, **more)


@pytest.fixture(scope="module")
def server():
    with Simulator(Scenario(splits=SPLITS), now=lambda: datetime(2025, 7, 1, tzinfo=UTC)) as running:
        yield running


@pytest.fixture
def vendor(server):
    server.reset()
    yield server
    assert not any(request.url_key for request in server.requests)
    assert all(request.header_key for request in server.requests)


def facts(splits):
    return [(s.symbol, s.ex_date, s.ratio_from, s.ratio_to) for s in splits.rows]


def paths(vendor):
    return [request.path for request in vendor.requests]


# --- listing dates ----------------------------------------------------------------------------------------------------


async def test_a_ticker_that_is_traded_has_a_first_day_only(vendor):
    async with polygon(vendor) as client:
        assert await client.listing("AAPL") == Listing(date(1980, 12, 12), None)
    assert paths(vendor) == ["/v3/reference/tickers/AAPL"]


@pytest.mark.parametrize(
    ("details", "listed", "requests"),
    [("inactive", date(2015, 7, 7), 2), ("dated", date(2015, 7, 7), 1), ("missing", None, 2)],
)
async def test_a_delisted_ticker_has_a_last_day(vendor, details, listed, requests):
    vendor.change(delisted={"PYPL": date(2024, 5, 3)}, listed={"PYPL": date(2015, 7, 7)}, delisted_details=details)
    async with polygon(vendor) as client:
        assert await client.listing("PYPL") == Listing(listed, date(2024, 5, 3))
    assert len(vendor.requests) == requests
    assert [r.query for r in vendor.requests[1:]] == [
        {"ticker": "PYPL", "active": "false", "limit": "1000"} for _ in range(requests - 1)
    ]


@pytest.mark.parametrize("ticker", ["NOPE", "aapl", "X:BTCUSDUSD"])
async def test_an_unknown_ticker_has_no_listing(vendor, ticker):
    async with polygon(vendor) as client:
        assert await client.listing(ticker) is None
        assert await client.ticker_changes(ticker) == ()
    assert [r.status for r in vendor.requests] == [404, 200, 404]


async def test_a_delisted_ticker_without_a_day_is_known():
    script = (Response({"status": "NOT_FOUND", "message": "Ticker not found."}, 404), ok({"ticker": "OLD"}))
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == UNKNOWN


async def test_ticker_changes_are_those_of_the_present_company(vendor):
    vendor.change(renames=(Rename(ticker="META", earlier="FB", day=date(2022, 6, 9)),))
    async with polygon(vendor) as client:
        first = TickerChange(date(2012, 5, 18), "FB")
        assert await client.ticker_changes("META") == (first, TickerChange(date(2022, 6, 9), "META"))
        assert await client.ticker_changes("FB") == ()
    assert vendor.requests[0].query == {"types": "ticker_change"}


async def test_unusable_ticker_changes_are_left_out():
    events = [
        {"type": "ticker_change", "date": "soon", "ticker_change": {"ticker": "A"}},
        {"type": "ticker_change", "date": "2020-05-05"},
        {"type": "ticker_change", "date": None, "ticker_change": {"ticker": "A"}},
        {"type": "ticker_change", "date": "2020-05-05", "ticker_change": {"ticker": "A"}},
    ]
    bodies = ({"results": {"name": "A", "events": events}}, {"results": {"name": "A"}}, {})
    script = [Response({"status": "OK"} | body) for body in bodies]
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        assert await client.ticker_changes("A") == (TickerChange(date(2020, 5, 5), "A"),)
        assert await client.ticker_changes("A") == await client.ticker_changes("A") == ()


async def test_a_reused_ticker_that_is_traded_has_no_last_day(vendor):
    vendor.change(formerly={"PYPL": (date(2003, 5, 2), date(2009, 1, 5))})
    async with polygon(vendor) as client:
        assert await client.listing("PYPL") == Listing(date(2015, 7, 6), None)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("details", ["inactive", "missing"])
async def test_a_delisted_reused_ticker_has_its_latest_last_day(vendor, details):
    vendor.change(
        delisted={"PYPL": date(2024, 5, 3)},
        formerly={"PYPL": (date(2003, 5, 2), date(2009, 1, 5))},
        delisted_details=details,
    )
    async with polygon(vendor) as client:
        assert (await client.listing("PYPL")).delisted == date(2024, 5, 3)
    assert len(vendor.requests) == 2


async def test_a_coin_is_traded_without_a_first_day(vendor):
    async with polygon(vendor) as client:
        assert await client.listing("X:BTCUSD") == UNKNOWN
    assert paths(vendor) == ["/v3/reference/tickers/X:BTCUSD"]


def page_of(**results):
    return Response({"status": "OK", "results": {"ticker": "OLD"} | results})


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2020-05-05T00:00:00Z", date(2020, 5, 5)),
        ("2020-05-05T04:00:00Z", date(2020, 5, 5)),  # midnight in New York, in summer
        ("2020-01-06T05:00:00Z", date(2020, 1, 6)),
        ("2020-05-05T00:00:00.12345678Z", date(2020, 5, 5)),
        ("2020-05-05T00:00:00-04:00", date(2020, 5, 5)),
        ("2020-05-04T22:00:00-04:00", date(2020, 5, 5)),
        ("2020-05-05", date(2020, 5, 5)),
    ],
)
async def test_delisted_utc_names_a_day(text, day):
    async with ScriptedVendor(page_of(active=False, delisted_utc=text)) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == Listing(None, day)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("text", ["", "yesterday", "0001-01-01T00:00:00+14:00", None])
async def test_an_unreadable_last_day_is_searched_in_the_list_and_then_unknown(text):
    gone = ok({"ticker": "OLD", "active": False, "delisted_utc": text})
    script = (page_of(active=False, delisted_utc=text, list_date="2001-02-03"), gone)
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == Listing(date(2001, 2, 3), None)
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("text", ["", "soon", None])
async def test_an_unreadable_first_day_is_unknown(text):
    async with ScriptedVendor(page_of(active=True, list_date=text)) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == UNKNOWN


async def test_a_ticker_without_an_active_flag_has_the_given_last_day():
    script = (page_of(delisted_utc="2020-05-05T00:00:00Z"), page_of())
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == Listing(None, date(2020, 5, 5))
        assert await client.listing("OLD") == UNKNOWN
    assert len(vendor.requests) == 2


async def test_an_active_ticker_has_no_last_day_even_if_one_is_given():
    page = page_of(active=True, list_date="2015-07-06", delisted_utc="2009-01-05T05:00:00Z")
    async with ScriptedVendor(page) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == Listing(date(2015, 7, 6), None)


async def test_a_last_day_before_the_first_is_ignored():
    script = (
        page_of(active=False, list_date="2015-07-06"),
        ok({"ticker": "OLD", "delisted_utc": "2009-01-05T05:00:00Z"}),
    )
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == UNKNOWN


async def test_other_tickers_in_the_list_are_ignored():
    script = (page_of(active=False), ok({"ticker": "OLDER", "delisted_utc": "2009-01-05T05:00:00Z"}))
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        assert await client.listing("OLD") == UNKNOWN


async def test_details_without_results_are_malformed():
    async with ScriptedVendor(Response({"status": "OK", "request_id": "r"})) as vendor, polygon(vendor) as client:
        with pytest.raises(MalformedAnswer):
            await client.listing("OLD")


async def test_a_missing_list_of_tickers_is_an_error():
    missing = Response({"status": "NOT_FOUND", "message": "Ticker not found."}, 404)
    async with ScriptedVendor(missing) as vendor, polygon(vendor) as client:
        with pytest.raises(NotFound, match="/v3/reference/tickers"):
            await client.listing("OLD")
    assert len(vendor.requests) == 2


async def test_a_page_that_is_not_found_does_not_make_a_ticker_unknown():
    async with ScriptedVendor(Response(b"404 page not found", 404)) as vendor, polygon(vendor) as client:
        with pytest.raises(VendorUnavailable, match="HTTP 404: the answer is not Polygon's: a proxy"):
            await client.listing("OLD")


async def test_details_of_another_ticker_are_a_contradiction():
    async with ScriptedVendor(page_of(ticker="META", active=True)) as vendor, polygon(vendor) as client:
        with pytest.raises(ContradictoryAnswer, match="it is about 'META', not OLD"):
            await client.listing("OLD")


@pytest.mark.parametrize(("ticker", "segment"), [("BRK.B", "BRK.B"), ("A/B?c#d e%", "A%2FB%3Fc%23d%20e%25")])
async def test_a_ticker_is_one_segment_of_the_path(ticker, segment):
    async with ScriptedVendor(page_of(ticker=ticker, active=True)) as vendor, polygon(vendor) as client:
        await client.listing(ticker)
    assert [request.target for request in vendor.requests] == [f"/v3/reference/tickers/{segment}"]


@pytest.mark.parametrize("ticker", ["", ".", ".."])
async def test_an_invalid_ticker_is_not_sent(ticker):
    async with ScriptedVendor(page_of()) as vendor, polygon(vendor) as client:
        with pytest.raises(BadRequest):
            await client.listing(ticker)
    assert vendor.requests == []


# --- splits and dividends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_paths", [True, False])
async def test_splits_since_a_day_include_announced_ones(vendor, new_paths):
    vendor.change(corporate_actions_v1=new_paths)
    async with polygon(vendor) as client:
        splits = await client.splits(JAN_1)
    assert facts(splits) == SINCE_2024
    assert splits.dropped == ()
    assert all(split.vendor_id and split.vendor_id.startswith("E") for split in splits.rows)


@pytest.mark.parametrize("new_paths", [True, False])
async def test_both_days_are_inclusive(vendor, new_paths):
    vendor.change(corporate_actions_v1=new_paths)
    async with polygon(vendor) as client:
        assert facts(await client.splits(date(2024, 2, 1), date(2024, 6, 10))) == SINCE_2024[:3]
        assert facts(await client.splits(date(2024, 2, 2), date(2024, 6, 9))) == []


async def test_reversed_days_are_not_sent(vendor):
    async with polygon(vendor) as client:
        with pytest.raises(BadRequest, match="must not be after"):
            await client.splits(JAN_1, date(2023, 12, 31))
    assert vendor.requests == []


async def test_the_parameters_of_a_request(vendor):
    async with polygon(vendor) as client:
        await client.splits(JAN_1)
        await client.dividends(JAN_1, date(2024, 2, 1))
    assert [(r.path, r.query) for r in vendor.requests] == [
        (NEW, {"execution_date.gte": "2024-01-01", "sort": "execution_date.asc", "limit": "5000"}),
        (
            "/stocks/v1/dividends",
            {
                "ex_dividend_date.gte": "2024-01-01",
                "ex_dividend_date.lte": "2024-02-01",
                "sort": "ex_dividend_date.asc",
                "limit": "5000",
            },
        ),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("new_paths", [True, False])
async def test_every_page_is_followed(vendor, size, new_paths):
    vendor.change(reference_page=size, corporate_actions_v1=new_paths, next_url_base="http://evil.invalid:1")
    async with polygon(vendor) as client:
        assert facts(await client.splits(JAN_1)) == SINCE_2024
    requests = [r for r in vendor.requests if r.status != 404]
    assert len(requests) == -(-len(SINCE_2024) // size)
    assert {(r.path, r.query["limit"]) for r in requests} == {(NEW, "5000") if new_paths else (OLD, "1000")}


def paid(ticker, ex_date, cash, **more):
    return CorporateAction(ticker, ActionKind.DIVIDEND, ex_date, cash_amount=cash, **more)


DIVIDEND = Dividend(
    ticker="AAPL",
    ex_dividend_date=date(2024, 5, 10),
    cash_amount=0.25,
    declaration_date=date(2024, 5, 2),
    record_date=date(2024, 5, 13),
    pay_date=date(2024, 5, 16),
)


@pytest.mark.parametrize("new_paths", [True, False])
async def test_dividends_of_all_stocks(vendor, new_paths):
    bare = Dividend(ticker="MSFT", ex_dividend_date=date(2024, 2, 14), cash_amount=0.75, frequency=0)
    vendor.change(dividends=(DIVIDEND, bare), corporate_actions_v1=new_paths, reference_page=1)
    async with polygon(vendor) as client:
        found = await client.dividends(JAN_1, date(2024, 12, 31))
    assert [replace(row, vendor_id=None) for row in found.rows] == [
        paid("MSFT", date(2024, 2, 14), 0.75, currency="USD", frequency=0),
        paid(
            "AAPL",
            date(2024, 5, 10),
            0.25,
            currency="USD",
            declared=date(2024, 5, 2),
            record_date=date(2024, 5, 13),
            pay_date=date(2024, 5, 16),
            frequency=4,
        ),
    ]
    assert all(row.vendor_id for row in found.rows)


async def test_without_the_new_paths_the_deprecated_ones_are_used_from_then_on(vendor):
    vendor.change(corporate_actions_v1=False)
    async with polygon(vendor) as client:
        for _ in range(3):
            assert facts(await client.splits(JAN_1)) == SINCE_2024
        assert (await client.dividends(JAN_1)).rows == []
    found = [r for r in vendor.requests if r.status != 404]
    assert [r.path for r in found] == [OLD, OLD, OLD, "/v3/reference/dividends"]
    assert [r.path for r in vendor.requests].count(NEW) == RetryPolicy().attempts
    assert found[0].query == {
        "execution_date.gte": "2024-01-01",
        "sort": "execution_date",
        "order": "asc",
        "limit": "1000",
    }


async def test_a_server_with_neither_path_is_an_error(vendor):
    vendor.change(corporate_actions_v1=False, faults=(Fault(kind="status", status=404, path=OLD),))
    async with polygon(vendor) as client:
        with pytest.raises(NotFound, match=OLD):
            await client.splits(JAN_1)


async def test_a_missing_later_page_is_an_error_and_does_not_select_the_deprecated_path(vendor):
    vendor.change(reference_page=1, faults=(Fault(kind="status", status=404, path=NEW, nth=2),))
    async with polygon(vendor) as client:
        with pytest.raises(NotFound):
            await client.splits(JAN_1)
        assert facts(await client.splits(JAN_1)) == SINCE_2024
    assert set(paths(vendor)) == {NEW}


# --- faults -----------------------------------------------------------------------------------------------------------

PASSING = [
    Fault(kind="status", status=429, nth=1),
    Fault(kind="status", status=503, nth=1),
    Fault(kind="error_in_200", nth=1),
    Fault(kind="cut_body", nth=1),
    Fault(kind="malformed_json", nth=1),
    Fault(kind="html", status=502, nth=1),
    Fault(kind="reset", nth=1),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind}-{fault.status}")
async def test_each_retry_takes_a_permit(vendor, fault):
    vendor.change(faults=(fault,))
    async with polygon(vendor) as client:
        assert facts(await client.splits(JAN_1)) == SINCE_2024
        vendor.change(faults=(fault,))
        assert await client.listing("AAPL") == Listing(date(1980, 12, 12), None)
    assert (client.traffic.requests, client.traffic.retries) == (4, 2)
    assert client._transport._limiter.permits == 4
    assert len(client._transport._limiter.pushed) == (2 if fault.status == 429 else 0)


async def test_only_the_failed_page_is_retried(vendor):
    vendor.change(reference_page=2, faults=(Fault(kind="cut_body", nth=2),))
    async with polygon(vendor) as client:
        assert facts(await client.splits(JAN_1)) == SINCE_2024
    assert client.traffic.requests == 4


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="status", status=429), RateLimited),
        (Fault(kind="status", status=500), VendorUnavailable),
        (Fault(kind="error_in_200"), VendorUnavailable),
        (Fault(kind="cut_body"), VendorUnavailable),
        (Fault(kind="malformed_json"), MalformedAnswer),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_a_permanent_failure_is_a_typed_error(vendor, fault, error):
    vendor.change(faults=(fault,))
    async with polygon(vendor) as client:
        for ask in (client.splits(JAN_1), client.dividends(JAN_1), client.listing("AAPL")):
            with pytest.raises(error) as raised:
                await ask
            assert KEY not in str(raised.value)
    assert client.traffic.requests == 18


async def test_a_refused_key_is_one_request(vendor):
    vendor.change(api_keys=("another-key",))
    async with polygon(vendor) as client:
        for ask in (client.listing("AAPL"), client.splits(JAN_1), client.dividends(JAN_1)):
            with pytest.raises(KeyRefused):
                await ask
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("path", ["/v3/reference/tickers", NEW, "/stocks/v1/dividends"])
async def test_a_plan_without_reference_data_is_one_request(vendor, path):
    vendor.change(faults=(Fault(kind="status", status=403, path=path),))
    async with polygon(vendor) as client:
        ask = {NEW: client.splits, "/stocks/v1/dividends": client.dividends}.get(path)
        with pytest.raises(NotEntitled):
            await (ask(JAN_1) if ask else client.listing("AAPL"))
    assert len(vendor.requests) == 1


async def test_without_a_key_nothing_is_sent(vendor):
    async with polygon(vendor, key=None) as client:
        for ask in (client.listing("AAPL"), client.splits(JAN_1), client.dividends(JAN_1)):
            with pytest.raises(KeyRefused, match="POLYGON_API_KEY is not set: "):
                await ask
    assert vendor.requests == []


# --- what a vendor may send -------------------------------------------------------------------------------------------


def split(ticker="A", day="2024-01-02", old=1, new=2, **more):
    return {"ticker": ticker, "execution_date": day, "split_from": old, "split_to": new} | more


def following(cursor, host="https://api.polygon.io", path=NEW):
    return f"{host}{path}?cursor={cursor}"


async def splits_of(*script, since=JAN_1, until=None):
    async with ScriptedVendor(*script) as vendor, polygon(vendor) as client:
        return await client.splits(since, until), vendor


@pytest.mark.parametrize("host", ["https://api.polygon.io:443", "https://api.massive.com", "http://evil.invalid:1", ""])
async def test_every_page_is_requested_from_the_base_url_with_the_key_in_the_header(host):
    found, vendor = await splits_of(
        ok(split("A"), next_url=following("AQ8E%3D%3D", host) + "&apiKey=leaked&limit=5"), ok(split("B"))
    )
    assert [row.symbol for row in found.rows] == ["A", "B"]
    assert [(request.path, request.query) for request in vendor.requests[1:]] == [
        (NEW, {"cursor": "AQ8E==", "limit": "5000"})
    ]
    assert {request.headers["authorization"] for request in vendor.requests} == {f"Bearer {KEY}"}
    assert {request.headers["host"] for request in vendor.requests} == {f"127.0.0.1:{vendor.port}"}


@pytest.mark.parametrize(
    "pages",
    [
        [ok(split(f"A{i}"), next_url=following("same")) for i in range(9)],
        [ok(split(f"A{i}"), next_url=following(c)) for i, c in enumerate("abab")],
        [ok(split("A"), next_url=following(i)) for i in range(40)],
        [ok(next_url=following(i)) for i in range(40)],
        [ok(split(new=0), next_url=following(i)) for i in range(40)],
    ],
    ids=["the same", "in a circle", "the same rows", "never any rows", "never a row that can be used"],
)
async def test_pages_that_do_not_advance_are_an_error(pages):
    async with ScriptedVendor(*pages) as vendor, polygon(vendor) as client:
        with pytest.raises(MalformedAnswer, match="do not advance"):
            await client.splits(JAN_1)
    assert len(vendor.requests) <= 11


@pytest.mark.parametrize(
    "next_url",
    [
        following("a", path="/stocks/v1/dividends"),
        following("a", path="/stocks/v1/splitsandmore"),
        following("a", path=NEW + "/../dividends"),
        following("a", path=OLD),
        "?cursor=a",
        "https://[bad/v2",
    ],
)
async def test_a_next_url_of_another_list_is_not_requested(next_url):
    async with ScriptedVendor(ok(split(), next_url=next_url)) as vendor, polygon(vendor) as client:
        with pytest.raises(MalformedAnswer, match="next_url"):
            await client.splits(JAN_1)
    assert len(vendor.requests) == 1


async def test_identical_rows_are_one_action_and_others_are_not():
    found, _ = await splits_of(
        ok(split(id="E1"), split(id="E2"), next_url=following("a")),
        ok(split(id="E2"), split(day="2024-01-09", id="E3")),
    )
    assert [(row.ex_date.day, row.vendor_id) for row in found.rows] == [(2, "E1"), (2, "E2"), (9, "E3")]


async def test_rows_outside_the_requested_days_are_omitted():
    days = ["2023-12-31", "2024-01-01", "2024-01-31", "2024-02-01"]
    found, _ = await splits_of(ok(*(split(day=day) for day in days)), until=date(2024, 1, 31))
    assert [f"{row.ex_date}" for row in found.rows] == days[1:3]


@pytest.mark.parametrize(
    ("row", "ticker"),
    [
        (split("BAD", new=0), "BAD"),
        (split("BAD", old=-1), "BAD"),
        (split("BAD", new=None), "BAD"),
        (split("BAD", new="2"), "BAD"),
        ({"ticker": "BAD", "execution_date": "2024-01-02", "split_to": 2}, "BAD"),
        (split("BAD", day="soon"), "BAD"),
        (split("BAD", day="2024-02-30"), "BAD"),
        (split("BAD", day=None), "BAD"),
        (split(""), ""),
        (split(7), ""),
        (None, ""),
        ([1, 2], ""),
    ],
)
async def test_an_unusable_row_does_not_affect_others(row, ticker):
    found, vendor = await splits_of(ok(split("A"), row, split("B")))
    assert [row.symbol for row in found.rows] == ["A", "B"]
    assert found.dropped == (ticker,)
    assert len(vendor.requests) == 1


def test_an_infinite_ratio_is_unusable():
    body = b'{"status":"OK","results":[{"ticker":"A","execution_date":"2024-01-02","split_from":1,"split_to":1e999}]}'
    assert decode_splits(body).dropped == ("A",)


@pytest.mark.parametrize("count", [1, 9])
async def test_a_few_unusable_rows_are_named(count):
    found, _ = await splits_of(ok(*(split(f"BAD{i}", new=0) for i in range(count))))
    assert (found.rows, len(found.dropped)) == ([], count)


async def test_a_page_of_unusable_rows_is_malformed():
    rows = [{"ticker": "A", "execution_date": "2024-01-02", "ratio": 2}] * 10
    async with ScriptedVendor(ok(*rows)) as vendor, polygon(vendor) as client:
        with pytest.raises(MalformedAnswer, match=r"none of its 10 rows can be used.*split_from"):
            await client.splits(JAN_1)


@pytest.mark.parametrize("results", [{}, {"results": None}, {"results": []}])
async def test_days_without_rows_are_empty(results):
    found, _ = await splits_of(Response({"status": "OK", "request_id": "r"} | results))
    assert (found.rows, found.dropped) == ([], ())


@pytest.mark.parametrize("body", [{"results": []}, {"status": "OK", "results": {}}, {"status": "OK", "results": "x"}])
async def test_another_format_is_malformed(body):
    async with ScriptedVendor(Response(body)) as vendor, polygon(vendor) as client:
        with pytest.raises(MalformedAnswer):
            await client.splits(JAN_1)


def dividend(**more):
    return {"ticker": "A", "ex_dividend_date": "2024-01-02", "cash_amount": 0.5} | more


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (dividend(), {}),
        (dividend(currency="CAD", frequency=12.0, id="E1"), {"currency": "CAD", "frequency": 12, "vendor_id": "E1"}),
        (dividend(frequency=None, currency=None, pay_date=None, id=None), {}),
        (dividend(frequency=2.5, pay_date="", record_date="soon", declaration_date="0000-00-00"), {}),
        (dividend(cash_amount=0), {"cash_amount": 0.0}),
        *((dividend(currency=text), {}) for text in (NASTY, "usd", "USDT", "U$D", "USD\n", "")),
        (dividend(id=NASTY), {"vendor_id": NASTY_SHOWN}),
        (dividend(id="\x00"), {}),
    ],
)
async def test_a_dividends_fields(row, expected):
    async with ScriptedVendor(ok(row)) as vendor, polygon(vendor) as client:
        found = await client.dividends(JAN_1)
    assert found.rows == [replace(paid("A", date(2024, 1, 2), 0.5), **expected)]


@pytest.mark.parametrize("amount", [-0.5, None, "0.5"])
async def test_a_dividend_without_an_amount_is_named_and_omitted(amount):
    async with ScriptedVendor(ok(dividend(cash_amount=amount))) as vendor, polygon(vendor) as client:
        found = await client.dividends(JAN_1)
    assert (found.rows, found.dropped) == ([], ("A",))


# --- recorded answers -------------------------------------------------------------------------------------------------


@recorded_only
def test_recorded_splits():
    page = decode_splits((RECORDED / "splits.json").read_bytes())
    assert (len(page.rows), page.dropped, page.next_url) == (10, (), None)
    assert page.rows[0] == CorporateAction("GOOGL", ActionKind.SPLIT, date(2022, 7, 18), 1, 20)
    assert [row.ex_date.day for row in page.rows if row.symbol == "SHOP"] == [29, 22]  # put off, and listed under both


@recorded_only
def test_recorded_dividends():
    page = decode_dividends((RECORDED / "dividends.json").read_bytes())
    assert (len(page.rows), page.dropped) == (10, ())
    assert page.rows[0] == paid(
        "CSSEN",
        date(2025, 6, 12),
        0.59375,
        declared=date(2020, 9, 9),
        record_date=date(2025, 6, 15),
        pay_date=date(2025, 6, 30),
        frequency=4,
    )


@recorded_only
def test_recorded_details():
    details = decode_details((RECORDED / "tickers" / "AAPL.json").read_bytes(), ticker="AAPL")
    assert (details.listed, details.delisted, details.active) == (date(1980, 12, 12), None, True)
