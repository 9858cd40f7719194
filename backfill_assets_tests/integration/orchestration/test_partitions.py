from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.errors import UniverseMistake
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.timeframes import DAY_1
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.domain.universe_file import parse_universe
from backfill_assets.orchestration.partitions import DATE, SYMBOL, cells, market_partitions, partition_key, session_days
from backfill_assets.pipelines.backfill_request import market_calendar

NEW_YORK = ZoneInfo("America/New_York")
SPAN = DayRange(date(2024, 1, 1), date(2026, 12, 31))
CALENDARS = {kind: calendar(kind, SPAN) for kind in Kind}
SYMBOLS = tuple(Symbol(name, name) for name in ("MSFT", "AAPL", "BRK.B", "BF-B", "007", "ON"))
MARKETS = {kind: Market(kind, kind, SPAN.start, SYMBOLS, (DAY_1,)) for kind in Kind}
STOCKS, CRYPTO = MARKETS[Kind.STOCKS], MARKETS[Kind.CRYPTO]
DAYS_OF_2024 = CALENDARS[Kind.STOCKS].within(DayRange(SPAN.start, date(2024, 12, 31)))


def keys(market, now):
    return session_days(market, CALENDARS[market.kind]).get_partition_keys(current_time=now)


def finished(market, now):
    trading = CALENDARS[market.kind]
    newest = trading.last_finished(now)
    return [] if newest is None else [s.isoformat() for s in trading.within(DayRange(SPAN.start, newest))]


@pytest.mark.parametrize("kind", Kind)
def test_three_years_of_partitions_are_three_years_of_sessions(kind):
    market = MARKETS[kind]
    now = datetime(2027, 1, 1, tzinfo=CALENDARS[kind].hours.zone)
    assert keys(market, now) == [s.isoformat() for s in CALENDARS[kind].sessions] == finished(market, now)


CLOCK_CHANGES = [date(2024, 3, 10), date(2024, 11, 3), date(2025, 3, 9), date(2025, 11, 2), date(2026, 3, 8)]


@pytest.mark.parametrize("sunday", CLOCK_CHANGES)
@pytest.mark.parametrize("kind", Kind)
def test_partitions_at_midnight_around_clock_changes_are_the_finished_sessions(kind, sunday):
    market, zone = MARKETS[kind], CALENDARS[kind].hours.zone
    for day in DayRange(sunday - 3 * ONE_DAY, sunday + 4 * ONE_DAY):
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        assert keys(market, midnight) == finished(market, midnight)


@given(st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis puts the zone on
@settings(max_examples=25)
def test_finished_sessions_have_partitions_and_at_most_one_other_has(now):
    for market in MARKETS.values():
        listed, ended = keys(market, now), finished(market, now)
        assert listed[: len(ended)] == ended
        assert listed[len(ended) :] in ([], [now.date().isoformat()], [(now.date() - ONE_DAY).isoformat()])


def test_a_stock_session_has_its_partition_once_it_has_finished():
    for evening in (datetime(2025, 6, 6, 20, 15, tzinfo=NEW_YORK), datetime(2025, 1, 10, 20, 15, tzinfo=NEW_YORK)):
        today = evening.date().isoformat()
        assert finished(STOCKS, evening)[-1] == today
        assert keys(STOCKS, evening)[-1] == today
        assert today not in keys(STOCKS, evening.replace(hour=18))


@pytest.mark.parametrize("kind", Kind)
def test_an_extra_closure_is_not_a_partition(kind):
    extra = (date(2024, 3, 6), date(2025, 12, 24), date(2026, 11, 2))
    market = replace(MARKETS[kind], closures=extra)
    trading = market_calendar(market, date(2025, 6, 2))
    now = datetime(2027, 1, 1, tzinfo=trading.hours.zone)
    found = session_days(market, trading).get_partition_keys(current_time=now)
    assert found == [s.isoformat() for s in trading.sessions]
    assert set(keys(MARKETS[kind], now)) - set(found) == {d.isoformat() for d in extra}


def test_crypto_may_be_closed_on_a_weekend_day():
    saturday = date(2024, 3, 9)
    for kind, has_sunday in ((Kind.STOCKS, False), (Kind.CRYPTO, True)):
        market = replace(MARKETS[kind], closures=(saturday,))
        trading = calendar(kind, SPAN, frozenset(market.closures))
        found = session_days(market, trading).get_partition_keys(current_time=datetime(2024, 4, 1, tzinfo=UTC))
        assert saturday.isoformat() not in found
        assert ("2024-03-10" in found) is has_sunday


@pytest.mark.parametrize("kind", Kind)
def test_a_market_that_starts_on_an_extra_closure_begins_with_its_next_session(kind):
    market = replace(MARKETS[kind], start=date(2025, 6, 2), closures=(date(2025, 6, 2),))
    definition = session_days(market, market_calendar(market, market.start))
    assert definition.get_partition_keys(current_time=datetime(2025, 6, 2, 12, tzinfo=UTC)) == []
    assert definition.get_first_partition_key() == "2025-06-03"


def test_weekends_are_not_partitions_even_without_holidays():
    span = DayRange(date(2024, 3, 4), date(2024, 3, 8))
    definition = session_days(replace(STOCKS, start=span.start), calendar(Kind.STOCKS, span))
    found = definition.get_partition_keys(current_time=datetime(2024, 3, 12, tzinfo=UTC))
    assert found == [s.isoformat() for s in DayRange(span.start, date(2024, 3, 11)) if s.weekday() < 5]


def test_a_market_without_closed_days_has_every_day_as_a_partition():
    assert session_days(CRYPTO, CALENDARS[Kind.CRYPTO]).exclusions is None


@pytest.mark.parametrize("start", [date(2024, 3, 9), date(2024, 7, 4), date(2025, 1, 9)])
def test_a_market_that_starts_on_a_closed_day_begins_with_its_next_session(start):
    market = Market("stocks", Kind.STOCKS, start, SYMBOLS, (DAY_1,))
    trading = calendar(Kind.STOCKS, DayRange(start, SPAN.end))
    found = session_days(market, trading).get_partition_keys(current_time=datetime(2026, 1, 1, tzinfo=NEW_YORK))
    assert found[0] == trading.sessions[0].isoformat()


@pytest.mark.parametrize("kind", Kind)
def test_a_partitions_window_is_its_day_in_utc(kind):
    definition = session_days(MARKETS[kind], CALENDARS[kind])
    for key in ("2025-03-10", "2025-11-03", "2024-12-31"):
        start = datetime.fromisoformat(key).replace(tzinfo=UTC)
        assert definition.start_time_for_partition_key(key) == start


def test_a_markets_partitions_are_days_by_symbols_in_the_universes_order():
    definition = market_partitions(STOCKS, CALENDARS[Kind.STOCKS])
    assert definition.partition_dimension_names == [DATE, SYMBOL]
    assert definition.get_partitions_def_for_dimension(SYMBOL).get_partition_keys() == [s.name for s in SYMBOLS]
    days = definition.get_partitions_def_for_dimension(DATE)
    assert days == session_days(STOCKS, CALENDARS[Kind.STOCKS])


@given(st.lists(st.tuples(*[st.sampled_from(DAYS_OF_2024), st.sampled_from(SYMBOLS)] * 2), min_size=1, max_size=5))
def test_keys_of_a_range_are_dagsters_also_when_repeated(corners):
    ours = market_partitions(STOCKS, CALENDARS[Kind.STOCKS])
    plain = dg.MultiPartitionsDefinition({d.name: d.partitions_def for d in ours.partitions_defs})
    assert ours == plain
    for first, one, last, other in [*corners, corners[-1]]:
        days, symbols = sorted([first, last]), sorted([one, other], key=SYMBOLS.index)
        span = dg.PartitionKeyRange(*(partition_key(day, symbol) for day, symbol in zip(days, symbols, strict=True)))
        assert ours.get_partition_keys_in_range(span) == plain.get_partition_keys_in_range(span)


def test_a_partition_key_is_date_and_symbol():
    key = partition_key(date(2025, 6, 6), Symbol("BRK.B", "BRK.B"))
    assert key == "2025-06-06|BRK.B"
    assert key.keys_by_dimension == {DATE: "2025-06-06", SYMBOL: "BRK.B"}


def test_dagster_lists_the_same_partition_keys():
    definition = market_partitions(CRYPTO, CALENDARS[Kind.CRYPTO])
    now = datetime(2024, 1, 4, tzinfo=UTC)
    days = [SPAN.start + timedelta(days=n) for n in range(3)]
    expected = {partition_key(d, s) for d in days for s in SYMBOLS}
    assert set(definition.get_partition_keys(current_time=now)) == expected


CELLS = st.sets(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(CALENDARS[Kind.STOCKS].sessions)), max_size=40)


@given(CELLS, st.randoms())
def test_cells_come_back_from_their_keys_in_any_order(wanted, random):
    made = [str(partition_key(session, symbol)) for symbol, session in wanted]
    random.shuffle(made)
    found = cells(made, STOCKS)
    assert {(symbol, session) for symbol, sessions in found.items() for session in sessions} == wanted
    assert list(found) == [s for s in SYMBOLS if s in found]
    assert all(sessions == tuple(sorted(set(sessions))) for sessions in found.values())


@pytest.mark.parametrize("other", ["2025-06-06|ON", "2025-06-06|GONE"])
def test_repeated_keys_and_symbols_outside_the_universe_are_left_out(other):
    assert cells([other, "2025-06-06|ON"], STOCKS) == {Symbol("ON", "ON"): (date(2025, 6, 6),)}


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,20}", fullmatch=True))
@example("A...B")
def test_every_valid_symbol_can_be_a_partition(name):
    try:
        text = f"markets: {{stocks: {{start: 2024-01-02, symbols: ['{name}']}}}}"
        (market,) = parse_universe(text, "u", SPAN.end).markets
    except UniverseMistake:
        return
    market_partitions(market, CALENDARS[Kind.STOCKS])
    assert cells([partition_key(date(2024, 1, 2), market.symbols[0])], market) == {
        market.symbols[0]: (date(2024, 1, 2),)
    }
