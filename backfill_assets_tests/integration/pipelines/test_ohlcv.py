"""Bars are fetched from a simulated vendor over HTTP, within the rate limit, into real tables; only waiting is skipped."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta

import pytest

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store.bars import BarStore, Written
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import KeyRefused, NotEntitled, VendorUnavailable
from backfill_assets.domain.request_plan import pages_of
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh, plan, recorded
from backfill_assets.pipelines.ohlcv import SeriesFailed, SettledSeries, fetch_missing, series_failure
from backfill_assets.pipelines.progress import SILENT
from backfill_assets.simulator import Fault, Hole, Restatement
from backfill_assets_tests.integration.adapters.scripted_vendor import NoSleep
from backfill_assets_tests.integration.pipelines.harness import fetched
from backfill_assets_tests.support import KEY, MOMENT, assert_same_bars, market, rows, stored_bars, trading_calendar

TABLES = {
    "market_data": "select symbol, timeframe, timestamp, open, high, low, close, volume, vwap, trades, source, xmin::text",
    "session_answers": "select symbol, timeframe, session, bars, first_bar, last_bar, answers, failures, refused, partial",
    "coverage": "select symbol, timeframe, filled::text",
}


def backfill_request(kind, names, start, end, *, timeframes="1m 1d", now=MOMENT, **options):
    of = market(kind, *names.split(), timeframes=timeframes)
    calendar = trading_calendar(kind)
    sessions = calendar.within(DayRange(date.fromisoformat(start), date.fromisoformat(end)))
    return BackfillRequest(of, calendar, dict.fromkeys(of.symbols, sessions), of.timeframes, now, **options)


async def filled(url, vendor, what, *, key=KEY, patient=False, progress=None, at_once=3, **options):
    """Fetch a request; `patient` makes every wait of the client and the limiter take no time."""
    waiting = {"sleep": NoSleep()} if patient else {}
    with BarStore(url) as store:
        async with (
            RateLimiter(url, per_second=500, **waiting) as limiter,
            Polygon(
                key, base_url=vendor.url, limiter=limiter, sleep=NoSleep(), random=lambda: 0.5, **options
            ) as client,
        ):
            return await fetched(what, store, client, lambda: what.now, progress=progress or SILENT, at_once=at_once)


def snapshot(url):
    return {name: rows(url, f"{query} from {name} order by 1, 2, 3") for name, query in TABLES.items()}


def sessions_of(what):
    return list(next(iter(what.wanted.values())))


def requested(vendor):
    """Return ticker, first and last day of every request."""
    return [(p[4], p[8], p[9]) for p in (r.path.split("/") for r in vendor.requests)]


class Recorder:
    """Records the progress of a fetch."""

    def __init__(self):
        self.events = []

    def planned(self, of, calls):
        self.events.append(("planned", of.name, len(calls)))

    def answered(self, call, sessions, written):
        self.events.append(("answered", call.label, sessions, written.inserted))

    def ended(self, call, error):
        self.events.append(("ended", call.label, error is not None))


def truth(vendor, symbol, timeframe, start, end):
    ask = vendor.market.minute_bars if timeframe == "1m" else vendor.market.daily_bars
    return ask(symbol.ticker, date.fromisoformat(start), date.fromisoformat(end), adjusted=False)


@pytest.mark.parametrize(
    ("kind", "name", "start", "end"),
    [
        pytest.param("stocks", "AAPL", "2024-03-06", "2024-03-13", id="clocks go forward"),
        pytest.param("stocks", "AAPL", "2024-10-31", "2024-11-06", id="clocks go back"),
        pytest.param("stocks", "AAPL", "2024-07-02", "2024-07-08", id="half day and Independence Day"),
        pytest.param("stocks", "AAPL", "2024-11-27", "2024-12-02", id="Thanksgiving and the half day after"),
        pytest.param("stocks", "NVDA", "2024-06-06", "2024-06-12", id="a split of ten for one"),
        pytest.param("stocks", "BRK.B", "2024-01-02", "2024-01-05", id="a dot in the name"),
        pytest.param("crypto", "BTC", "2024-03-09", "2024-03-11", id="crypto, around the clock"),
        pytest.param("crypto", "BTC", "2024-02-28", "2024-03-01", id="crypto over a leap day"),
    ],
)
async def test_the_tables_hold_what_was_traded(database_url, vendor, kind, name, start, end):
    what = backfill_request(kind, name, start, end)
    series = await filled(database_url, vendor, what)
    (symbol,) = what.wanted
    for one in series:
        expected = truth(vendor, symbol, one.timeframe.name, start, end)
        assert len(expected)
        assert_same_bars(stored_bars(database_url, name, one.timeframe.name), expected)
        assert one.written == Written(inserted=len(expected))
        assert (one.missing, one.error, one.dropped) == ([], None, 0)
    days = sessions_of(what)
    answered = rows(
        database_url, "select timeframe, array_agg(session order by session) from session_answers group by 1"
    )
    assert dict(answered) == {"1m": days, "1d": days}
    assert rows(database_url, "select distinct symbol, source from market_data") == [(name, "polygon")]
    assert len(vendor.requests) == 2


async def test_prices_before_a_split_are_not_adjusted(database_url, vendor):
    await filled(database_url, vendor, backfill_request("stocks", "NVDA", "2024-06-07", "2024-06-10", timeframes="1d"))
    before, after = stored_bars(database_url, "NVDA", "1d").close
    assert 5 < before / after < 20


async def test_answers_record_count_first_and_last_bar_of_each_session(database_url, vendor):
    what = backfill_request("stocks", "AAPL", "2024-07-02", "2024-07-05")
    (series, _) = await filled(database_url, vendor, what)
    counted = rows(
        database_url,
        """select (timestamp at time zone 'America/New_York')::date, count(*)::int, min(timestamp), max(timestamp)
           from market_data where timeframe = '1m' group by 1 order by 1""",
    )
    assert [(a.session, a.bars, a.first, a.last) for a in series.answers.values()] == counted
    assert [c[0] for c in counted] == sessions_of(what)


async def test_a_range_longer_than_a_page_takes_the_planned_number_of_pages(database_url, vendor):
    what = backfill_request("crypto", "BTC", "2024-03-01", "2024-04-10", timeframes="1m")  # 41 days of 1440 minutes
    planned = pages_of(plan(what, {}))
    await filled(database_url, vendor, what)
    expected = truth(vendor, next(iter(what.wanted)), "1m", "2024-03-01", "2024-04-10")
    assert len(expected) > 50_000
    assert_same_bars(stored_bars(database_url, "BTC", "1m"), expected)
    assert len(vendor.requests) == planned == 2
    assert {r.query["adjusted"] for r in vendor.requests} == {"false"}
    assert rows(database_url, "select filled::text from coverage") == [("{[2024-03-01,2024-04-11)}",)]
    assert rows(database_url, "select count(*), sum(bars) from session_answers") == [(41, len(expected))]


async def test_pages_before_a_failed_one_are_kept_and_only_the_rest_is_requested(database_url, vendor):
    what = backfill_request("crypto", "BTC", "2024-02-01", "2024-04-12", timeframes="1m")
    vendor.change(faults=(Fault(kind="status", nth=3),))
    (series,) = await filled(database_url, vendor, what, retry=RetryPolicy(attempts=1))
    assert isinstance(series.error, VendorUnavailable)
    answered = sum(a.answers > 0 for a in series.answers.values())
    assert 60 < answered < 72
    assert series.missing == sessions_of(what)[answered:]
    vendor.reset()
    (series,) = await filled(database_url, vendor, what)
    assert (series.error, series.missing) == (None, [])
    assert requested(vendor) == [("X:BTCUSD", str(sessions_of(what)[answered]), "2024-04-12")]
    assert_same_bars(
        stored_bars(database_url, "BTC", "1m"), truth(vendor, series.symbol, "1m", "2024-02-01", "2024-04-12")
    )


async def test_a_second_fetch_sends_nothing_and_writes_nothing(database_url, vendor):
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-04", "2024-03-08")
    await filled(database_url, vendor, what)
    before, sent = snapshot(database_url), len(vendor.requests)
    assert sent == 4
    series = await filled(database_url, vendor, what)
    assert snapshot(database_url) == before
    assert len(vendor.requests) == sent
    assert all(not s.missing and s.written == Written() for s in series)


async def test_a_longer_range_requests_only_the_new_sessions(database_url, vendor):
    await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-06", timeframes="1d"))
    vendor.reset()
    await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08", timeframes="1d"))
    assert requested(vendor) == [("AAPL", "2024-03-07", "2024-03-08")]
    assert rows(database_url, "select filled::text from coverage") == [("{[2024-03-04,2024-03-09)}",)]


async def test_a_request_without_sessions_sends_nothing(database_url, vendor):
    what = backfill_request("stocks", "AAPL", "2024-03-09", "2024-03-10")
    assert what.days is None
    series = await filled(database_url, vendor, what)
    assert [s.missing for s in series] == [[], []]
    assert vendor.requests == []


async def test_a_hole_stays_missing_and_is_retried_until_it_is_confirmed(database_url, vendor):
    day = date(2024, 3, 6)
    vendor.change(holes=(Hole(ticker="AAPL", first=day, last=day, base="minute"),))
    what = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08")
    sent = []
    for _ in range(7):
        minutes, daily = await filled(database_url, vendor, what)
        assert (minutes.missing, daily.missing) == ([day], [])
        sent.append(len(vendor.requests))
        what = replace(what, now=what.now + timedelta(days=1))
    assert sent == [2, 3, 4, 5, 6, 6, 6]
    assert set(requested(vendor)[2:]) == {("AAPL", str(day), str(day))}
    assert rows(database_url, "select session, answers from session_answers where bars = 0") == [(day, 5)]
    covered = rows(database_url, "select timeframe, filled @> %s from coverage order by 1", day)
    assert covered == [("1d", True), ("1m", False)]


async def test_a_day_that_the_vendor_gets_late_is_fetched_once_available(database_url, vendor):
    day = date(2024, 3, 6)
    vendor.change(holes=(Hole(ticker="AAPL", first=day, last=day, heal_after_requests=2),))
    what = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08", timeframes="1m")
    found = []
    for passed in (0, 3, 10):  # minutes: the pauses are two and four long
        later = replace(what, now=what.now + timedelta(minutes=passed))
        found.append((await filled(database_url, vendor, later))[0].missing)
    assert found == [[day], [day], []]
    assert_same_bars(
        stored_bars(database_url, "AAPL", "1m"), truth(vendor, what.market.symbols[0], "1m", "2024-03-04", "2024-03-08")
    )


async def test_a_series_that_fails_permanently_does_not_stop_the_others(database_url, vendor):
    vendor.change(faults=(Fault(kind="status", status=500, ticker="MSFT"),))
    what = backfill_request("stocks", "AAPL MSFT NVDA", "2024-03-04", "2024-03-08")
    series = await filled(database_url, vendor, what)
    failed = [s for s in series if s.error]
    assert [(s.symbol.name, s.timeframe.name) for s in failed] == [("MSFT", "1m"), ("MSFT", "1d")]
    assert all(s.missing == sessions_of(what) for s in failed)
    assert all(not s.missing for s in series if s not in failed)
    query = "select symbol, max(bars) > 0, sum(answers), sum(failures) from session_answers group by 1 order by 1"
    assert rows(database_url, query) == [("AAPL", True, 10, 0), ("MSFT", False, 0, 10), ("NVDA", True, 10, 0)]
    assert len(vendor.requests) == 4 + 2 * RetryPolicy().attempts
    with pytest.raises(
        SeriesFailed, match=r"^2 of 6 series .* MSFT 1m: Polygon gave no usable answer.* MSFT 1d: "
    ) as raised:
        raise series_failure(what, series)
    assert KEY not in str(raised.value)


def test_of_many_failures_five_are_named():
    what = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08")
    (symbol,) = what.wanted
    series = [SettledSeries(symbol, MINUTE_1, (), {}, error=VendorUnavailable("down")) for _ in range(7)]
    with pytest.raises(SeriesFailed, match=r"^7 of 7 .*(AAPL 1m: down; ){5}and 2 more$"):
        raise series_failure(what, series)
    assert series_failure(what, []) is None


async def test_a_refused_key_takes_one_request_and_writes_nothing(database_url, vendor):
    vendor.change(api_keys=("another",))
    with pytest.raises(KeyRefused, match="POLYGON_API_KEY") as raised:
        await filled(
            database_url, vendor, backfill_request("stocks", "AAPL MSFT NVDA TSLA", "2024-03-04", "2024-03-08")
        )
    assert len(vendor.requests) == 1
    assert snapshot(database_url) == {name: [] for name in TABLES}
    assert KEY not in str(raised.value)


async def test_without_a_key_nothing_is_sent(database_url, vendor):
    with pytest.raises(KeyRefused, match="POLYGON_API_KEY is not set"):
        await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08"), key=None)
    assert vendor.requests == []


async def test_a_symbol_that_the_plan_does_not_include_fails_alone(database_url, vendor):
    vendor.change(forbidden=("MSFT",))
    what = backfill_request("stocks", "AAPL MSFT NVDA", "2024-03-04", "2024-03-08", timeframes="1d")
    series = await filled(database_url, vendor, what, at_once=1)
    assert [(s.symbol.name, type(s.error)) for s in series if s.error] == [("MSFT", NotEntitled)]
    query = "select symbol, max(bars) > 0, bool_or(refused) from session_answers group by 1 order by 1"
    assert rows(database_url, query) == [("AAPL", True, False), ("MSFT", False, False), ("NVDA", True, False)]
    assert len(vendor.requests) == 3, "a refusal is not tried again"
    await filled(database_url, vendor, what)
    assert rows(database_url, query) == [("AAPL", True, False), ("MSFT", False, True), ("NVDA", True, False)]


async def test_all_sessions_of_an_unknown_symbol_are_missing(database_url, vendor):
    what = backfill_request("stocks", "AAPL ZZZZ", "2024-03-04", "2024-03-05", timeframes="1d")
    series = {s.symbol.name: s for s in await filled(database_url, vendor, what)}
    assert (series["AAPL"].missing, series["ZZZZ"].missing) == ([], sessions_of(what))


@pytest.mark.parametrize("delayed", [False, True])
async def test_faulty_responses_do_not_change_what_is_finally_stored(database_url, vendor, delayed):
    spoilt = ("status", "error_in_200", "cut_body", "html", "reset", "malformed_json", "miscount")
    harmless = ("duplicates", "disorder", "out_of_range")
    faults = [Fault(kind=kind, nth=2 * i + 1, status=502) for i, kind in enumerate(spoilt)]
    faults += [Fault(kind=kind, nth=2 * i + 2) for i, kind in enumerate(harmless)]
    vendor.change(faults=tuple(faults), delayed=delayed)
    what = backfill_request("stocks", "AAPL MSFT NVDA TSLA", "2024-03-07", "2024-03-12")
    series = await filled(database_url, vendor, what, patient=True)
    assert [r.fault for r in vendor.requests if r.fault in spoilt] == list(spoilt)
    assert {r.fault for r in vendor.requests} >= set(harmless)
    assert len(vendor.requests) == 8 + len(spoilt)
    assert sum(s.dropped for s in series) == 2 * Fault(kind="out_of_range").count
    for one in series:
        assert (one.error, one.missing) == (None, [])
        assert_same_bars(
            stored_bars(database_url, one.symbol.name, one.timeframe.name),
            truth(vendor, one.symbol, one.timeframe.name, "2024-03-07", "2024-03-12"),
        )


async def test_a_vendor_that_says_too_fast_is_waited_for(database_url, vendor):
    vendor.change(faults=(Fault(kind="status", status=429, nth=2, retry_after=7),))
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-04", "2024-03-05")
    series = await filled(database_url, vendor, what, patient=True)
    assert all(not s.missing for s in series)
    assert len(vendor.requests) == 5
    assert rows(database_url, "select gen, next_at > now() + interval '5 s' from rate_limit") == [(1, True)]


@pytest.mark.parametrize("broken", [1, 2, 3, 4])
async def test_a_fill_that_broke_off_goes_on_where_it_was(database_url, vendor, broken):
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-07", "2024-03-12")
    vendor.change(faults=(Fault(kind="reset", nth=broken),))
    first = await filled(database_url, vendor, what, at_once=1, retry=RetryPolicy(attempts=1))
    assert sum(s.error is not None for s in first) == 1
    second = await filled(database_url, vendor, what)
    assert len(vendor.requests) == 5
    assert all(s.error is None and not s.missing for s in second)
    for one in second:
        expected = truth(vendor, one.symbol, one.timeframe.name, "2024-03-07", "2024-03-12")
        assert_same_bars(stored_bars(database_url, one.symbol.name, one.timeframe.name), expected)


async def test_a_refresh_asks_again_and_writes_only_what_changed(database_url, vendor):
    day = date(2024, 3, 6)
    what = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08")
    await filled(database_url, vendor, what)
    before = snapshot(database_url)
    vendor.change(restatements=(Restatement(ticker="AAPL", day=day, factor=1.01),))
    await filled(database_url, vendor, what)
    assert len(vendor.requests) == 2
    refreshed = await filled(
        database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08", refresh=Refresh.EVERYTHING)
    )
    assert len(vendor.requests) == 4
    for one in refreshed:
        expected = truth(vendor, one.symbol, one.timeframe.name, "2024-03-04", "2024-03-08")
        assert_same_bars(stored_bars(database_url, "AAPL", one.timeframe.name), expected)
        bars = one.answers[day].bars
        assert one.written == Written(0, bars, len(expected) - bars)
    after = snapshot(database_url)
    touched = {
        row[2].astimezone(trading_calendar().hours.zone).date()
        for row in set(after["market_data"]) - set(before["market_data"])
    }
    assert touched == {day}
    assert {k: after[k] for k in ("session_answers", "coverage")} == {
        k: before[k] for k in ("session_answers", "coverage")
    }


async def test_a_refresh_that_is_answered_with_nothing_takes_nothing_back(database_url, vendor):
    await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08"))
    before = snapshot(database_url)
    vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 4), last=date(2024, 3, 8)),))
    series = await filled(
        database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08", refresh=Refresh.EVERYTHING)
    )
    assert snapshot(database_url) == before
    assert all(not s.missing for s in series)


async def test_two_fills_of_the_same_at_once_give_the_same_tables(database_url, vendor):
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-07", "2024-03-12")
    both = await asyncio.gather(*(filled(database_url, vendor, what) for _ in range(2)))
    assert all(not s.missing and s.error is None for series in both for s in series)
    for one in both[0]:
        expected = truth(vendor, one.symbol, one.timeframe.name, "2024-03-07", "2024-03-12")
        assert_same_bars(stored_bars(database_url, one.symbol.name, one.timeframe.name), expected)
        alike = [s for series in both for s in series if (s.symbol, s.timeframe) == (one.symbol, one.timeframe)]
        inserted = sum(s.written.inserted for s in alike)
        assert inserted == len(expected)


async def test_progress_reports_the_plan_each_page_and_the_end_of_each_call(database_url, vendor):
    progress = Recorder()
    vendor.change(faults=(Fault(kind="status", ticker="MSFT"),))
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-04", "2024-03-08", timeframes="1d")
    await filled(database_url, vendor, what, progress=progress)
    assert progress.events[0] == ("planned", "stocks", 2)
    by_symbol = {name: [e for e in progress.events[1:] if e[1] == name] for name in ("AAPL", "MSFT")}
    assert by_symbol == {
        "AAPL": [("answered", "AAPL", 5, 5), ("ended", "AAPL", False)],
        "MSFT": [("ended", "MSFT", True)],
    }


@asynccontextmanager
async def settling(url, vendor, what, **options):
    async with (
        RateLimiter(url, per_second=500) as limiter,
        Polygon(KEY, base_url=vendor.url, limiter=limiter) as client,
    ):
        with BarStore(url) as store:
            fetch = fetch_missing(what, store, client, clock=lambda: what.now, **options)
            async with aclosing(fetch) as settled:
                yield settled


async def test_a_series_is_settled_after_the_last_of_its_calls(database_url, vendor):
    between = backfill_request("stocks", "AAPL", "2024-01-02", "2024-06-28", timeframes="1m")
    await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-01-03", "2024-06-27", timeframes="1m"))
    progress = Recorder()
    async with settling(database_url, vendor, between, progress=progress) as settled:
        series = await anext(settled)
        planned = progress.events[0][2]
        assert planned > 1
        assert len([e for e in progress.events if e[0] == "ended"]) == planned
        assert (series.symbol.name, series.timeframe, series.missing) == ("AAPL", MINUTE_1, [])
        assert len(series.before) == len(series.wanted) - 2


async def test_a_series_settles_while_others_are_fetched_and_those_that_need_no_call_settle_first(database_url, vendor):
    await filled(database_url, vendor, backfill_request("stocks", "NVDA", "2024-03-04", "2024-03-08"))
    progress = Recorder()
    what = backfill_request("stocks", "AAPL MSFT NVDA", "2024-03-04", "2024-03-08")
    found = []
    async with settling(database_url, vendor, what, at_once=1, progress=progress) as settled:
        async for series in settled:
            stored_now = {a.session: a.bars for a in series.answers.values()}
            query = "select session, bars from session_answers where symbol = %s and timeframe = %s"
            assert stored_now == dict(rows(database_url, query, series.symbol.name, series.timeframe.name))
            found.append((series.symbol.name, series.timeframe.name, sum(e[0] == "ended" for e in progress.events)))
    assert [f[:2] for f in found[:2]] == [("NVDA", "1m"), ("NVDA", "1d")]
    assert sorted(f[:2] for f in found) == sorted((s, t) for s in ("AAPL", "MSFT", "NVDA") for t in ("1m", "1d"))
    assert found[2][2] < 4, "the first series did not wait for the last call"


async def test_grouped_days_settle_with_the_last_day(database_url, vendor):
    names = "AAPL MSFT NVDA"
    what = backfill_request("stocks", names, "2024-03-04", "2024-03-05", timeframes="1d")
    progress = Recorder()
    async with settling(database_url, vendor, what, progress=progress) as settled:
        first = await anext(settled)
        assert progress.events[0] == ("planned", "stocks", 2)
        assert len([e for e in progress.events if e[0] == "ended"]) == 2
        rest = [series.symbol.name async for series in settled]
    assert sorted([first.symbol.name, *rest]) == names.split()


async def test_recorded_answers_are_read_once_if_nothing_is_missing(database_url, vendor, monkeypatch):
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-04", "2024-03-08")
    await filled(database_url, vendor, what)
    read, answers = [], BarStore.answers
    monkeypatch.setattr(
        BarStore, "answers", lambda store, *arguments: read.append(arguments) or answers(store, *arguments)
    )
    assert [s.missing for s in await filled(database_url, vendor, what)] == [[]] * 4
    assert len(read) == 1


async def test_a_closed_fetch_leaves_no_task_and_sends_nothing_more(database_url, vendor):
    what = backfill_request("stocks", "AAPL MSFT NVDA", "2024-03-04", "2024-03-08", timeframes="1m")
    async with settling(database_url, vendor, what, at_once=1) as settled:
        await anext(settled)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert others
    assert all(task.done() for task in others)
    sent = len(vendor.requests)
    await asyncio.sleep(0.05)
    assert len(vendor.requests) == sent < 4


async def test_a_cancelled_fetch_cancels_its_calls(database_url, vendor):
    vendor.change(faults=(Fault(kind="slow", seconds=30),))
    what = backfill_request("stocks", "AAPL MSFT", "2024-03-04", "2024-03-08", timeframes="1m")
    running = asyncio.create_task(filled(database_url, vendor, what))
    while not vendor.requests:  # noqa: ASYNC110  # the simulator's thread has no event for it
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert snapshot(database_url) == {name: [] for name in TABLES}


async def test_symbols_are_fetched_one_at_a_time_if_so_configured(database_url, vendor):
    progress = Recorder()
    what = backfill_request("stocks", "AAPL MSFT NVDA", "2024-03-04", "2024-03-08")
    await filled(database_url, vendor, what, progress=progress, at_once=1)
    assert [e[1] for e in progress.events if e[0] == "ended"] == ["AAPL", "AAPL", "MSFT", "MSFT", "NVDA", "NVDA"]


def test_a_request_without_sessions_has_no_recorded_answers(database_url):
    with BarStore(database_url) as store:
        assert recorded(store, backfill_request("stocks", "AAPL", "2024-03-09", "2024-03-10")) == {}


async def test_days_before_the_plans_history_do_not_prevent_fetching_newer_ones(database_url, vendor):
    await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-01-02", "2024-03-08", timeframes="1m"))
    vendor.change(history_edge=date(2024, 1, 2))
    old_and_new = backfill_request("stocks", "AAPL", "2023-12-01", "2024-03-15", timeframes="1m")
    (series,) = await filled(database_url, vendor, old_and_new)
    assert series.error is None
    refused = [s for s in series.wanted if s in series.answers and series.answers[s].refused]
    assert refused == [s for s in series.wanted if s < date(2024, 1, 2)]
    fetched = {s for s in series.wanted if s in series.answers and series.answers[s].bars}
    assert date(2024, 3, 15) in fetched


async def test_a_plan_that_includes_nothing_ends_the_run_at_the_third_symbol(database_url, vendor):
    vendor.change(history_edge=date(2025, 1, 1))
    with pytest.raises(NotEntitled):
        await filled(
            database_url, vendor, backfill_request("stocks", "AAPL MSFT NVDA", "2024-03-04", "2024-03-08"), at_once=1
        )
    assert [r.path.split("/")[4] for r in vendor.requests] == ["AAPL", "AAPL", "MSFT", "MSFT", "NVDA"]
