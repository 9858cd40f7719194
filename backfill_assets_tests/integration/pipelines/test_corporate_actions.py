"""Updating splits and dividends over real HTTP and tables: what is requested, trusted and left alone."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, Lookup
from backfill_assets.domain.errors import VendorError
from backfill_assets.domain.universe import EarlierTicker, Symbol
from backfill_assets.pipelines.corporate_actions import first_day, update_corporate_actions
from backfill_assets.simulator import Dividend, Fault, Split
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
)
from backfill_assets_tests.integration.pipelines.harness import Clock
from backfill_assets_tests.support import KEY, MOMENT, market, rows

STOCKS = market("stocks", "AAPL", "NVDA")
NVDA, LATE = date(2024, 6, 10), date(2025, 6, 20)
# A response is trusted only if it lists other tickers too.
OTHERS = (
    Split(ticker="GE", execution_date=LATE, split_from=8, split_to=1),
    Dividend(ticker="KO", ex_dividend_date=LATE, cash_amount=0.5),
)
TEN_FOR_ONE = Split(ticker="NVDA", execution_date=NVDA, split_to=10)
QUARTER = Dividend(ticker="AAPL", ex_dividend_date=date(2024, 5, 10), cash_amount=0.25, pay_date=date(2024, 5, 16))


def lists(vendor, *events, **more):
    """Make the vendor list these events, besides those of other tickers."""
    every = (*events, *OTHERS)
    vendor.change(
        splits=tuple(e for e in every if isinstance(e, Split)),
        dividends=tuple(e for e in every if isinstance(e, Dividend)),
        **more,
    )


class Keeper:
    def __init__(self, store, client, clock, kept):
        self.store, self.client, self.clock, self.market = store, client, clock, kept

    async def update(self, **terms):
        return await update_corporate_actions(self.store, self.client, self.market, self.clock, **terms)

    def stored(self):
        """Return symbol, kind, day, size, and whether it is applied, of everything stored for the market."""
        stored = self.store.read([s.name for s in self.market.symbols])
        return [(*s.action.key[:2], f"{s.action.ex_date}", s.action.size, s.withdrawn_at is None) for s in stored]

    def of(self, kept):
        return Keeper(self.store, self.client, self.clock, kept)


@asynccontextmanager
async def keeping(url, database_url, kept=STOCKS, key=KEY):
    client = Polygon(
        key,
        base_url=url,
        limiter=CountingLimiter(),
        sleep=NoSleep(),
        random=lambda: 0.0,
        retry=RetryPolicy(attempts=2),
    )
    async with client:
        with CorporateActionStore(database_url) as store:
            yield Keeper(store, client, Clock(MOMENT), kept)


@pytest.fixture
async def keeper(vendor, database_url):
    lists(vendor, QUARTER, TEN_FOR_ONE)
    async with keeping(vendor.url, database_url) as opened:
        yield opened


def counts(update):
    c = update.changes
    return len(c.new), len(c.changed), len(c.returned), len(c.withdrawn)


def requested_since(vendor):
    """Return the first day of each request for a first page."""
    return [v for r in vendor.requests for k, v in r.query.items() if k.endswith(".gte")]


def everything(url):
    """Return every table that an update writes, with the rows' versions."""
    tables = ("corporate_events", "corporate_event_lookups", "feature_marks")
    return [sorted(rows(url, f"select xmin::text, ctid::text, t::text from {t} t")) for t in tables]  # noqa: S608  # constants


def marks(url):
    return rows(url, "select symbol, timeframe, lower(stale) from feature_marks order by 1, 2, 3")


NEW = [
    ("AAPL", "dividend", "2024-05-10", 0.25, True),
    ("NVDA", "split", "2024-06-10", 10.0, True),
]


async def test_the_first_update_requests_everything_since_the_markets_first_day(keeper, vendor):
    update = await keeper.update()
    assert (update.since, counts(update), update.dropped, update.warnings) == (STOCKS.start, (2, 0, 0, 0), 0, ())
    assert keeper.stored() == NEW
    assert [r.path for r in vendor.requests] == ["/stocks/v1/splits", "/stocks/v1/dividends"]
    assert requested_since(vendor) == ["2024-01-02"] * 2


async def test_later_updates_request_the_last_weeks_only_and_change_nothing(keeper, vendor, database_url):
    await keeper.update()
    with psycopg.connect(database_url) as connection:
        connection.execute("insert into coverage values ('NVDA', '1d', '{[2024-01-02,2024-01-03]}')")
    before = everything(database_url)[0]
    keeper.clock.advance(days=1)
    update = await keeper.update()
    assert (update.since, counts(update)) == (date(2025, 5, 17), (0, 0, 0, 0))
    assert requested_since(vendor)[2:] == ["2025-05-17"] * 2
    assert everything(database_url)[0] == before
    assert marks(database_url) == []
    assert keeper.store.lookups(["AAPL"]) == {"AAPL": Lookup("AAPL", STOCKS.start, MOMENT + timedelta(days=1))}
    await keeper.update(overlap=timedelta(days=10))
    await keeper.update(everything=True)
    assert requested_since(vendor)[4:] == ["2025-06-22"] * 2 + ["2024-01-02"] * 2


async def test_a_new_symbol_makes_everything_be_requested_again(keeper, vendor):
    await keeper.update()
    lists(vendor, QUARTER, TEN_FOR_ONE, Split(ticker="TSLA", execution_date=date(2024, 8, 5), split_to=3))
    larger = keeper.of(market("stocks", "AAPL", "NVDA", "TSLA"))
    update = await larger.update()
    assert (update.since, counts(update)) == (STOCKS.start, (1, 0, 0, 0))
    assert larger.stored() == [*NEW, ("TSLA", "split", "2024-08-05", 3.0, True)]


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({}, date(2025, 5, 17)),
        ({"start": date(2023, 1, 3)}, date(2023, 1, 3)),  # the market reaches further back now
        ({"start": date(2025, 6, 2)}, date(2025, 6, 2)),
        ({"symbols": (Symbol("AAPL", "AAPL"), Symbol("NVDA", "NVD"))}, date(2024, 1, 2)),  # another ticker
        ({"symbols": (Symbol("AAPL", "AAPL"),)}, date(2025, 6, 16)),
    ],
)
def test_the_first_day_is_that_of_the_symbol_with_the_oldest_look_up(changed, first):
    known = {
        "AAPL": Lookup("AAPL", STOCKS.start, datetime(2025, 8, 1, 2, tzinfo=UTC)),  # 31 July in New York
        "NVDA": Lookup("NVDA", STOCKS.start, datetime(2025, 7, 1, 12, tzinfo=UTC)),
    }
    assert first_day(replace(STOCKS, **changed), known) == first


async def test_a_doubled_record_is_stored_once(keeper, vendor):
    lists(vendor, TEN_FOR_ONE, TEN_FOR_ONE, replace_split(split_from=2, split_to=20))
    assert counts(await keeper.update()) == (1, 0, 0, 0)
    assert counts(await keeper.update()) == (0, 0, 0, 0)
    assert keeper.stored() == NEW[1:]


def replace_split(**changed):
    facts = {"ticker": "NVDA", "execution_date": NVDA, "split_to": 10}
    return Split(**(facts | changed))


async def test_a_postponed_split_applies_on_its_new_day_only_and_both_days_are_marked(keeper, vendor, database_url):
    keeper.clock.now = datetime(2024, 6, 1, 12, tzinfo=UTC)
    await keeper.update()
    with psycopg.connect(database_url) as connection:
        connection.execute("insert into coverage values ('NVDA', '1m', '{[2024-01-02,2024-01-03]}')")
    lists(vendor, QUARTER, replace_split(execution_date=date(2024, 12, 2)))
    keeper.clock.advance(days=1)
    assert counts(await keeper.update()) == (1, 0, 0, 1)
    assert keeper.stored()[1:] == [
        ("NVDA", "split", "2024-06-10", 10.0, False),
        ("NVDA", "split", "2024-12-02", 10.0, True),
    ]
    assert marks(database_url) == [
        ("NVDA", "1m", datetime(2024, 6, 10, 4, tzinfo=UTC)),
        ("NVDA", "1m", datetime(2024, 12, 2, 5, tzinfo=UTC)),
    ]


async def test_an_event_that_is_withdrawn_and_listed_again_is_applied_again(keeper, vendor):
    await keeper.update()
    lists(vendor)
    assert counts(await keeper.update(everything=True)) == (0, 0, 0, 2)
    assert [applied for *_, applied in keeper.stored()] == [False, False]
    lists(vendor, QUARTER, TEN_FOR_ONE)
    assert counts(await keeper.update(everything=True)) == (0, 0, 2, 0)
    assert keeper.stored() == NEW


async def test_symbols_of_another_market_are_left_alone(keeper, vendor):
    await keeper.update()
    other = keeper.of(market("stocks", "GE"))
    assert counts(await other.update()) == (1, 0, 0, 0)
    lists(vendor)
    await other.update(everything=True)
    assert keeper.stored() == NEW


async def test_a_symbol_is_stored_under_its_own_name(keeper):
    named = keeper.of(replace(STOCKS, symbols=(Symbol("NVIDIA", "NVDA"), Symbol("HALF", "NVDA"))))
    await named.update()
    assert named.stored() == [(n, "split", "2024-06-10", 10.0, True) for n in ("HALF", "NVIDIA")]


async def test_actions_of_an_earlier_ticker_are_those_of_its_days(keeper, vendor):
    change = date(2024, 6, 10)
    events = [
        Dividend(ticker=ticker, ex_dividend_date=day, cash_amount=amount)
        for ticker, day, amount in (
            ("FB", date(2024, 6, 7), 0.1),
            ("FB", change, 0.2),  # of another company
            ("META", date(2024, 6, 7), 0.3),  # of another company
            ("META", change, 0.4),
        )
    ]
    lists(vendor, *events)
    before = keeper.of(replace(STOCKS, symbols=(Symbol("META", "META"),)))
    await before.update()
    assert [size for *_, size, applied in before.stored() if applied] == [0.3, 0.4]
    meta = Symbol("META", "META", (EarlierTicker("FB", change - timedelta(days=1)),))
    stated = keeper.of(replace(STOCKS, symbols=(meta,)))
    assert (await stated.update()).since == STOCKS.start
    assert [size for *_, size, applied in stated.stored() if applied] == [0.1, 0.4]


async def test_the_vendors_older_paths_give_the_same_result(keeper, vendor):
    await keeper.update()
    lists(vendor, QUARTER, TEN_FOR_ONE, corporate_actions_v1=False)
    assert counts(await keeper.update(everything=True)) == (0, 0, 0, 0)
    assert [r.path for r in vendor.requests[2:] if r.status == 200] == [
        "/v3/reference/splits",
        "/v3/reference/dividends",
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", path="/splits"),
        Fault(kind="status", path="/dividends"),
        Fault(kind="status", path="/dividends", nth=2, status=403),
        Fault(kind="malformed_json", path="/dividends"),
        Fault(kind="cut_body", path="/splits"),
        Fault(kind="error_in_200", path="/dividends"),
    ],
)
async def test_a_failed_update_changes_nothing(keeper, vendor, database_url, fault):
    """The response would withdraw and add events; its last page fails."""
    await keeper.update()
    before = everything(database_url)
    keeper.clock.advance(days=1)
    more = [Dividend(ticker="AAPL", ex_dividend_date=date(2025, 6, 1 + d), cash_amount=0.1) for d in range(5)]
    lists(vendor, *more, reference_page=2, faults=(fault,))
    with pytest.raises(VendorError):
        await keeper.update(everything=True)
    assert everything(database_url) == before
    vendor.change(faults=())
    assert counts(await keeper.update(everything=True)) == (5, 0, 0, 2)


async def test_an_empty_response_for_all_tickers_is_not_trusted(keeper, vendor):
    await keeper.update()
    vendor.change(splits=(), dividends=(OTHERS[1],))
    keeper.clock.advance(days=1)
    update = await keeper.update(everything=True)
    assert counts(update) == (0, 0, 0, 1)
    assert update.warnings == (
        "Polygon lists no split of any ticker since 2024-01-02, which is implausible; none is marked as withdrawn.",
    )
    assert [applied for *_, applied in keeper.stored()] == [False, True]
    assert keeper.store.lookups(["NVDA"])["NVDA"].checked_at == MOMENT  # so that the same days are requested again


# --- Rows that cannot be used


def row(ticker, day="2024-06-10", **more):
    return {"ticker": ticker, "execution_date": day, "split_from": 1, "split_to": 10} | more


def answer(*found):
    return Response({"status": "OK", "results": list(found)})


PAID = answer({"ticker": "KO", "ex_dividend_date": "2024-06-10", "cash_amount": 0.5})


async def stored_after(database_url, *bad):
    """Store splits of AAPL and NVDA, then update from a response that has bad rows instead."""
    script = (answer(row("AAPL"), row("NVDA")), PAID, answer(row("GE"), *bad), PAID)
    async with ScriptedVendor(*script) as vendor, keeping(vendor.url, database_url) as keeper:
        await keeper.update()
        keeper.clock.advance(days=1)
        update = await keeper.update(everything=True)
        lookups = keeper.store.lookups(["AAPL", "NVDA"])
        looked_up = sorted(name for name, lookup in lookups.items() if lookup.checked_at > MOMENT)
        return update, [applied for *_, applied in keeper.stored()], looked_up


@pytest.mark.parametrize("bad", [row("NVDA", split_to=0), row("NVDA", "soon"), row("NVDA", split_to=1e30)])
async def test_a_symbol_with_an_unusable_row_has_nothing_withdrawn_and_is_requested_again(database_url, bad):
    update, acts, looked_up = await stored_after(database_url, bad)
    assert (acts, looked_up) == ([False, True], ["AAPL"])
    assert update.dropped == 1
    assert update.warnings == ("Some splits of NVDA cannot be read; none is marked as withdrawn.",)


async def test_a_row_without_a_ticker_withdraws_nothing_of_any_symbol(database_url):
    update, acts, looked_up = await stored_after(database_url, row(None), row(7))
    assert (acts, looked_up, update.dropped) == ([True, True], ["AAPL", "NVDA"], 2)
    assert update.warnings == ("The tickers of 2 of Polygon's splits cannot be read; none is marked as withdrawn.",)


async def test_a_bad_row_of_another_ticker_has_no_effect(database_url):
    update, acts, looked_up = await stored_after(database_url, row("XYZ", split_to=0))
    assert (acts, looked_up, update.dropped, update.warnings) == ([False, False], ["AAPL", "NVDA"], 1, ())
