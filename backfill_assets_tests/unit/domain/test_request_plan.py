from datetime import date, timedelta
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backfill_assets
from backfill_assets.domain import request_plan
from backfill_assets.domain.days import DayRange, runs_of
from backfill_assets.domain.request_plan import (
    PAGE,
    GroupedCall,
    RangeCall,
    _windows,
    pages_of,
    plan_days,
    plan_files,
    plan_minutes,
    plan_series,
    sessions_a_page,
)
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.sources import POLYGON_FILES
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, sources
from backfill_assets.domain.universe import EarlierTicker, Symbol
from backfill_assets.domain.universe_file import parse_universe

AAPL, BTC = Symbol("AAPL", "AAPL"), Symbol("BTC", "X:BTCUSD")
STOCKS = calendar(Kind.STOCKS, DayRange(date(2024, 1, 2), date(2025, 12, 31)))
CRYPTO = calendar(Kind.CRYPTO, DayRange(date(2024, 1, 1), date(2025, 12, 31)))
DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(400)]

SERIES = st.sampled_from([(STOCKS, MINUTE_1), (STOCKS, DAY_1), (CRYPTO, MINUTE_1), (CRYPTO, DAY_1)])


def pages(spans, capacity):
    return sum(-(-(b + 1 - a) // capacity) for a, b in spans)


def fewest_pages(missing, count, capacity):
    """Of all ways to lay ranges over the sessions, the fewest pages that cover everything missing."""
    best = [0] * (count + 1)
    for i in reversed(range(count)):
        here = [-(-(j + 1 - i) // capacity) + best[j + 1] for j in range(i, count)]
        best[i] = min(here if i in missing else [*here, best[i + 1]])
    return best[0]


def windows(missing, count, capacity):
    return _windows([DAYS[i] for i in missing], DAYS[:count], capacity)


def check(missing, count, capacity):
    spans = windows(sorted(missing), count, capacity)
    covered = {i for a, b in spans for i in range(a, b + 1)}
    assert missing <= covered
    assert all(0 <= a <= b < count for a, b in spans)
    # Joined where they touch: between two ranges lies at least one session that nobody asks for.
    assert all(one[1] + 1 < other[0] for one, other in pairwise(spans))
    # A range begins and ends with something that is missing.
    assert all({a, b} <= missing for a, b in spans)
    assert pages(spans, capacity) == fewest_pages(missing, count, capacity)
    naive = runs_of([DAYS[i] for i in missing], DAYS[:count])
    assert pages(spans, capacity) <= sum(-(-len(run) // capacity) for run in naive)
    assert len(spans) <= len(naive)


@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 5, 9])
def test_every_pattern_of_eight_sessions_takes_the_fewest_pages(capacity):
    for n in range(9):
        for missing in combinations(range(8), n):
            check(set(missing), 8, capacity)


@given(st.sets(st.integers(0, 119)), st.integers(1, 60))
def test_any_pattern_takes_the_fewest_pages(missing, capacity):
    check(missing, 120, capacity)


def test_nothing_missing_needs_nothing():
    assert windows([], 10, 3) == []
    assert plan_series(AAPL, MINUTE_1, [], STOCKS) == []
    assert pages_of([]) == 0


@given(SERIES, st.sets(st.integers(0, 729), max_size=200))
def test_a_plan_covers_all_missing_sessions_and_asks_for_sessions_only(series, offsets):
    trading, timeframe = series
    days = [trading.span.start + timedelta(days=n) for n in offsets]
    missing = {d for d in days if d in trading}
    plan = plan_series(AAPL, timeframe, days, trading)
    requested = [s for r in plan for s in r.sessions]
    assert missing <= set(requested)
    assert set(requested) <= set(trading.sessions)
    assert requested == sorted(set(requested))
    assert all(r.sessions == trading.within(DayRange(r.start, r.end)) for r in plan)
    assert all({r.start, r.end} <= missing for r in plan)
    capacity = sessions_a_page(timeframe, trading)
    assert all(r.pages == -(-len(r.sessions) // capacity) for r in plan)
    naive = sum(-(-len(trading.within(run)) // capacity) for run in runs_of(missing, trading.sessions))
    assert pages_of(plan) <= naive


@pytest.mark.parametrize("timeframe", sources(TIMEFRAMES.values()), ids=str)
@pytest.mark.parametrize("trading", [STOCKS, CRYPTO], ids=["stocks", "crypto"])
def test_a_page_holds_its_sessions_however_many_bars_they_have(trading, timeframe):
    most_bars = trading.hours.minutes if timeframe is MINUTE_1 else 1
    fit = sessions_a_page(timeframe, trading)
    assert fit * most_bars <= PAGE < (fit + 1) * most_bars


def test_the_packaged_universe_takes_50_requests_for_its_newest_30_days():
    path = Path(backfill_assets.__file__).with_name("universe.yaml")
    universe = parse_universe(path.read_text(encoding="utf-8"), "u", date(2025, 12, 31))
    plan = [
        request
        for market in universe.markets
        for trading in [calendar(market.kind, DayRange(market.start, date(2025, 12, 31)))]
        for symbol in market.symbols
        for timeframe in sources(market.timeframes)
        for request in plan_series(symbol, timeframe, trading.sessions[-30:], trading)
    ]
    assert pages_of(plan) == 2 * (20 + 5)


def test_doubled_and_disordered_days_change_nothing():
    missing = [STOCKS.sessions[i] for i in (5, 80, 6, 5)]
    assert plan_series(AAPL, MINUTE_1, missing, STOCKS) == plan_series(AAPL, MINUTE_1, sorted(set(missing)), STOCKS)


def test_closed_days_and_days_outside_the_calendar_are_not_asked_for():
    saturday, new_year, before, after = date(2024, 1, 6), date(2025, 1, 1), date(2023, 12, 29), date(2026, 1, 2)
    assert plan_series(AAPL, MINUTE_1, [saturday, new_year, before, after], STOCKS) == []


def test_answered_sessions_in_between_are_asked_along():
    first, _, third = STOCKS.sessions[:3]
    (request,) = plan_series(AAPL, DAY_1, [first, third], STOCKS)
    assert request.sessions == STOCKS.sessions[:3]
    assert (request.start, request.end) == (first, third)
    assert (request.symbol, request.timeframe, request.pages) == (AAPL, DAY_1, 1)


def test_two_years_of_minutes_are_one_range_of_brimful_pages():
    (request,) = plan_series(AAPL, MINUTE_1, STOCKS.sessions, STOCKS)
    assert request.sessions == STOCKS.sessions
    assert request.pages == pages_of([request]) == -(-len(STOCKS.sessions) // 52)


def test_a_smaller_page_means_more_pages_of_the_same_range(monkeypatch):
    monkeypatch.setattr(request_plan, "PAGE", 2 * STOCKS.hours.minutes)
    (request,) = plan_series(AAPL, MINUTE_1, STOCKS.sessions[:5], STOCKS)
    assert request.pages == 3


def renamed(days):
    """Symbols with changes of their tickers on some of the days."""
    return st.lists(st.sampled_from(days), max_size=2, unique=True).map(
        lambda until: Symbol("A", "A", tuple(EarlierTicker(f"A{n}", day) for n, day in enumerate(sorted(until))))
    )


@given(
    st.sets(st.sampled_from(STOCKS.sessions), max_size=60), renamed(STOCKS.sessions), st.sampled_from([MINUTE_1, DAY_1])
)
def test_no_range_crosses_a_change_of_the_ticker(missing, symbol, timeframe):
    plan = plan_series(symbol, timeframe, missing, STOCKS)
    assert missing <= {day for call in plan for day in call.sessions}
    assert all({symbol.ticker_on(day) for day in call.sessions} == {call.ticker} for call in plan)
    names = [symbol.ticker_on(day) for day in sorted(missing)]
    assert len({call.ticker for call in plan}) == len(set(names))
    if timeframe is DAY_1:
        assert len(plan) == len(set(names))


@st.composite
def missing_days(draw):
    """Up to 5 symbols, each without some of up to 6 days, some with changes of their tickers."""
    days = CRYPTO.sessions[-draw(st.integers(1, 6)) :]
    names = "ABCDE"[: draw(st.integers(1, 5))]
    formerly = draw(renamed(days)).formerly
    return {Symbol(n, n, draw(st.sampled_from([(), formerly]))): draw(st.sets(st.sampled_from(days))) for n in names}


@given(missing_days())
def test_days_take_as_few_requests_as_any_choice_of_ranges_and_grouped_days(missing):
    plan = plan_days(DAY_1, missing, CRYPTO)
    requested = {(symbol, day) for r in plan for symbol in r.symbols for day in r.sessions}
    cells = {(symbol, day) for symbol, days in missing.items() for day in days}
    assert cells <= requested
    rows = sorted({(symbol, symbol.ticker_on(day)) for symbol, day in cells})
    fewest = min(
        len(ranged) + len({day for symbol, day in cells if (symbol, symbol.ticker_on(day)) not in ranged})
        for count in range(len(rows) + 1)
        for ranged in combinations(rows, count)
    )
    assert len(plan) == pages_of(plan) == fewest
    ranges = [call for call in plan if isinstance(call, RangeCall)]
    assert all({call.symbol.ticker_on(day) for day in call.sessions} == {call.ticker} for call in ranges)


def test_the_newest_day_of_twenty_symbols_is_one_request():
    symbols = [Symbol(f"S{n}", f"S{n}") for n in range(20)]
    (request,) = plan_days(DAY_1, dict.fromkeys(symbols, STOCKS.sessions[-1:]), STOCKS)
    assert request == GroupedCall(tuple(symbols), DAY_1, STOCKS.sessions[-1])


NAMED = [Symbol(name, name) for name in "ABCDEF"]
SOME_DAYS = st.sets(st.sampled_from(STOCKS.sessions[:120]), max_size=40)


@given(st.dictionaries(st.sampled_from(NAMED), SOME_DAYS), SOME_DAYS, st.booleans())
def test_minutes_take_no_more_requests_than_ranges_or_files_alone(missing, files, files_first):
    calls = plan_minutes(MINUTE_1, missing, STOCKS, files, files_first=files_first)
    covered = {(symbol, day) for call in calls for symbol in call.symbols for day in call.sessions}
    assert covered >= {(symbol, day) for symbol, days in missing.items() for day in days}
    read = {call.session for call in calls if call.source == POLYGON_FILES}
    assert read <= files
    ranges = plan_minutes(MINUTE_1, missing, STOCKS)
    rest = {symbol: days - files for symbol, days in missing.items()}
    filed = [*plan_files(MINUTE_1, missing, files), *plan_minutes(MINUTE_1, rest, STOCKS)]
    assert pages_of(calls) <= min(pages_of(ranges), pages_of(filed))
    if not files_first and pages_of(calls) == pages_of(ranges):
        assert not read


def test_a_night_of_a_hundred_symbols_is_one_file_and_a_year_of_one_symbol_a_few_ranges():
    night = dict.fromkeys([Symbol(f"S{n}", f"S{n}") for n in range(100)], STOCKS.sessions[-1:])
    assert [call.source for call in plan_minutes(MINUTE_1, night, STOCKS, STOCKS.sessions)] == [POLYGON_FILES]
    year = {AAPL: STOCKS.sessions[:250]}
    calls = plan_minutes(MINUTE_1, year, STOCKS, STOCKS.sessions, files_first=True)
    assert [(type(call), call.pages) for call in calls] == [(RangeCall, 5)]
