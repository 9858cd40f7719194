import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from threading import Event

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.gaps import GapStore, multirange
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.answers import CompleteSessions, SessionAnswer
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.gap_history import Change, OpenGap, reconcile
from backfill_assets.domain.gaps import Gap, GapFinder, Reason
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.retries import USUAL, Retries
from backfill_assets.domain.sessions import HOURS, Kind, calendar, count_by_session, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1
from backfill_assets_tests.support import MOMENT, rows

STORE = GapStore

NEW_YORK = HOURS[Kind.STOCKS].zone
TRADING = calendar(Kind.STOCKS, DayRange(date(2024, 2, 12), date(2024, 3, 22)))  # closed on Monday, 19 February
MON, TUE, WED, THU, FRI = (date(2024, 3, d) for d in range(4, 9))
HOUR = timedelta(hours=1)
FIVE = TIMEFRAMES["5m"]

fresh = (f"S{i}" for i in itertools.count())
against_a_database = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def look(store):
    """Read the tables, and apply `change` to the table of gaps."""

    def look(*symbols, timeframes=(MINUTE_1,), sessions=TRADING.sessions, listings=None, change=None, now=MOMENT):
        with store.locked(symbols, timeframes, sessions, listings or {}) as rows:
            rows.apply(change or Change(), now)
        return rows

    return look


def cover(url, symbol, timeframe, days):
    with psycopg.connect(url) as connection:
        connection.execute("insert into coverage values (%s, %s, %s)", [symbol, timeframe.name, multirange(days)])


def gap(first, last, *, symbol="AAPL", timeframe="1m", reason=Reason.MISSING, explained=False, attempts=1):
    span = DayRange(first, last)
    due = None if explained else MOMENT + HOUR
    return Gap(symbol, timeframe, span, len(TRADING.within(span)), reason, explained, attempts, due)


def opened(*gaps, since=MOMENT):
    return Change(opened=tuple(OpenGap(g, since) for g in gaps))


def missing_days(recorded, symbol="AAPL", timeframe="1m"):
    return [(r.start, r.end) for r in recorded.missing.get((symbol, timeframe), [])]


# --- Missing sessions


def test_each_timeframe_of_each_symbol_has_its_own_missing_sessions(look, database_url):
    cover(database_url, "AAPL", MINUTE_1, [MON])
    cover(database_url, "SPY", DAY_1, [TUE])
    found = look("AAPL", "SPY", timeframes=(MINUTE_1, DAY_1), sessions=[MON, TUE])
    assert {key: [(r.start, r.end) for r in ranges] for key, ranges in found.missing.items()} == {
        ("AAPL", "1m"): [(TUE, TUE)],
        ("AAPL", "1d"): [(MON, TUE)],
        ("SPY", "1m"): [(MON, TUE)],
        ("SPY", "1d"): [(MON, MON)],
    }


@pytest.mark.parametrize("covered", [[], [MON]])
def test_where_no_session_is_expected_nothing_is_missing(look, database_url, covered):
    cover(database_url, "AAPL", MINUTE_1, covered)
    assert look("AAPL", sessions=[]).missing == {}
    assert look().missing == {}
    assert look("AAPL", timeframes=()).missing == {}


NEAR = st.integers(-5, len(TRADING.span) + 4).map(lambda n: TRADING.span.start + n * ONE_DAY)
COVERAGE = st.none() | st.sets(NEAR)
LISTINGS = st.builds(Listing, st.none() | NEAR, st.none() | NEAR)


@against_a_database
@given(
    st.sampled_from([TRADING.sessions, tuple(TRADING.span)]),
    st.lists(st.tuples(COVERAGE, COVERAGE, st.none() | LISTINGS), min_size=1, max_size=4),
)
def test_missing_sessions_are_the_expected_ones_without_those_covered(look, database_url, sessions, market):
    names = [next(fresh) for _ in market]
    listings = {}
    for name, (of_minutes, of_days, listing) in zip(names, market, strict=True):
        for timeframe, covered in ((MINUTE_1, of_minutes), (DAY_1, of_days)):
            if covered is not None:
                cover(database_url, name, timeframe, covered)
        if listing is not None:
            listings[name] = listing
    found = look(*names, timeframes=(MINUTE_1, DAY_1), sessions=sessions, listings=listings)
    for name, (of_minutes, of_days, listing) in zip(names, market, strict=True):
        for timeframe, covered in ((MINUTE_1, of_minutes), (DAY_1, of_days)):
            ranges = found.missing.get((name, timeframe.name), [])
            expected = [s for s in sessions if (listing or UNKNOWN).expects(s) and s not in (covered or ())]
            assert [s for r in ranges for s in sessions if s in r] == expected, "ascending, each once"
            assert all(a.end < b.start for a, b in itertools.pairwise(ranges))


# --- Incomplete answers


def test_incomplete_answers_are_read_of_source_timeframes_only(look, database_url):
    with psycopg.connect(database_url) as connection:
        for timeframe, session, bars, partial in (
            ("1m", MON, 5, False),
            ("1m", TUE, 5, True),
            ("1m", WED, 0, False),
            ("5m", WED, 0, False),
            ("1d", THU, 0, False),
        ):
            connection.execute(
                """insert into session_answers
                   (symbol, timeframe, session, bars, answers, failures, refused, partial, answered_at)
                   values ('AAPL', %s, %s, %s, 2, 1, false, %s, %s)""",
                [timeframe, session, bars, partial, MOMENT],
            )
    found = look("AAPL", "SPY", timeframes=(FIVE,)).incomplete
    thin = SessionAnswer(TUE, 5, None, None, 2, 1, refused=False, partial=True, attempted_at=MOMENT)
    assert found == {("AAPL", "1m"): {TUE: thin, WED: replace(thin, session=WED, bars=0, partial=False)}}
    assert set(look("AAPL", timeframes=(FIVE, WEEK_1)).incomplete) == {("AAPL", "1m"), ("AAPL", "1d")}
    assert look("SPY").incomplete == {}


# --- The table


def test_stored_gaps_are_read_back_unchanged(look, database_url):
    gaps = [
        gap(MON, TUE),
        gap(THU, FRI, attempts=5, explained=True, reason=Reason.VENDOR_EMPTY),
        gap(MON, MON, symbol="SPY", reason=Reason.NOT_ENTITLED, explained=True),
        gap(MON, MON, timeframe="5m", reason=Reason.PARTIAL),
    ]
    look("AAPL", change=opened(*gaps, since=MOMENT - HOUR))
    known = look("AAPL", "SPY", timeframes=(MINUTE_1, FIVE)).known
    assert {(k.gap, k.first_seen) for k in known} == {(g, MOMENT - HOUR) for g in gaps}
    assert len({k.id for k in known}) == len(gaps)
    assert {k.gap for k in look("SPY").known} == {gaps[2]}
    query = "SELECT symbol, timeframe, COUNT(*) FROM backfill_gaps WHERE filled = FALSE GROUP BY 1, 2"
    assert set(rows(database_url, query)) == {("AAPL", "1m", 2), ("AAPL", "5m", 1), ("SPY", "1m", 1)}


def test_gaps_of_other_timeframes_are_left_alone(look):
    kept = gap(MON, TUE, timeframe="5m")
    look("AAPL", change=opened(kept))
    assert look("AAPL", timeframes=(MINUTE_1,)).known == []
    assert [k.gap for k in look("AAPL", timeframes=(FIVE,)).known] == [kept]


def test_a_change_deletes_closes_and_opens(look, database_url):
    look("AAPL", change=opened(gap(MON, FRI)))
    (known,) = look("AAPL").known
    later = MOMENT + 9 * HOUR
    part = replace(gap(MON, TUE), next_attempt_at=None)
    rest = gap(WED, FRI, attempts=2)
    change = Change((known.id,), (OpenGap(part, MOMENT),), (OpenGap(rest, MOMENT),))
    look("AAPL", change=change, now=later)
    query = "select gap_start, gap_end, sessions, attempts, next_attempt_at, first_seen, filled, filled_at from backfill_gaps"
    assert set(rows(database_url, query)) == {
        (MON, TUE, 2, 1, None, MOMENT, True, later),
        (WED, FRI, 3, 2, MOMENT + HOUR, MOMENT, False, None),
    }
    assert [k.gap for k in look("AAPL").known] == [rest], "what is closed is known no more"


def test_a_gap_can_be_closed_and_opened_again_any_number_of_times(look, database_url):
    for _ in range(3):
        look("AAPL", change=opened(gap(MON, TUE)))
        (known,) = look("AAPL").known
        look("AAPL", change=Change((known.id,), (OpenGap(known.gap, known.first_seen),)))
    assert rows(database_url, "select filled, count(*) from backfill_gaps group by 1") == [(True, 3)]


def test_two_open_gaps_of_a_series_cannot_begin_on_one_day(look, database_url):
    look("AAPL", change=opened(gap(MON, TUE)))
    with pytest.raises(psycopg.errors.UniqueViolation):
        look("AAPL", change=opened(gap(MON, FRI)))
    assert rows(database_url, "select gap_end from backfill_gaps") == [(TUE,)]


def test_a_failed_comparison_changes_nothing(store, look):
    look("AAPL", change=opened(gap(MON, TUE)))
    before = look("AAPL").known

    def fail():
        with store.locked(["AAPL"], [MINUTE_1], TRADING.sessions, {}) as held:
            held.apply(Change((before[0].id,)), MOMENT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    bad = Change((before[0].id,), opened=(OpenGap(gap(THU, THU, symbol="A\0"), MOMENT),))
    with pytest.raises(psycopg.DataError):
        look("AAPL", change=bad)
    assert look("AAPL").known == before


def test_concurrent_comparisons_wait_for_one_another(store, database_url, look):
    reached, go_on = Event(), Event()

    def slow():
        with store.locked(["AAPL"], [MINUTE_1], TRADING.sessions, {}) as held:
            reached.set()
            assert go_on.wait(30)
            held.apply(opened(gap(MON, TUE)), MOMENT)

    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as pool, psycopg.connect(database_url, autocommit=True) as observer:
        first = pool.submit(slow)
        assert reached.wait(30)
        second = pool.submit(look, "AAPL")
        while not observer.execute(waiting).fetchone()[0]:
            observer.execute("select pg_sleep(0.01)")
        go_on.set()
        first.result(30)
        assert [k.gap for k in second.result(30).known] == [gap(MON, TUE)]


@pytest.mark.parametrize(
    "broken",
    [
        "update backfill_gaps set gap_end = gap_start - 1",
        "update backfill_gaps set sessions = 0",
        "update backfill_gaps set filled = true",
        "update backfill_gaps set filled_at = now()",
        "update backfill_gaps set reason = null",
    ],
)
def test_a_row_that_contradicts_itself_is_refused(look, database_url, broken):
    look("AAPL", change=opened(gap(MON, TUE)))
    with pytest.raises(psycopg.errors.IntegrityError), psycopg.connect(database_url) as connection:
        connection.execute(broken)


@against_a_database
@given(st.lists(st.tuples(st.sets(NEAR), st.sets(NEAR)), min_size=1, max_size=4))
def test_open_rows_are_the_current_gaps_and_closed_rows_the_former_ones(store, database_url, looks):
    name = next(fresh)
    finder = GapFinder(TRADING, USUAL)
    ever, now = {MINUTE_1: set(), DAY_1: set()}, MOMENT
    for covered in looks:
        now += HOUR
        found = []
        with psycopg.connect(database_url) as connection:
            connection.execute("delete from coverage where symbol = %s", [name])
        for timeframe, days in zip(ever, covered, strict=True):
            cover(database_url, name, timeframe, days)
            ever[timeframe] |= set(TRADING.sessions) - days

        for _ in range(2):
            found.clear()
            with store.locked([name], list(ever), TRADING.sessions, {}) as held:
                for timeframe in ever:
                    found.extend(finder.gaps(name, timeframe, held.missing.get((name, timeframe.name), []), {}))
                held.apply(reconcile(held.known, found, TRADING, {}, now), now)
        query = "select timeframe, gap_start, gap_end, sessions from backfill_gaps where symbol = %s and not filled"
        assert sorted(rows(database_url, query, name)) == sorted(
            (g.timeframe, g.days.start, g.days.end, g.sessions) for g in found
        )
        for timeframe, days in zip(ever, covered, strict=True):
            held = rows(
                database_url,
                "select gap_start, gap_end, filled from backfill_gaps where symbol = %s and timeframe = %s",
                name,
                timeframe.name,
            )
            sessions = {(s, filled) for a, b, filled in held for s in TRADING.within(DayRange(a, b))}
            assert {s for s, filled in sessions if not filled} == set(TRADING.sessions) - days
            assert {s for s, _ in sessions} == ever[timeframe], "whatever was missing is in the table"


# --- Counts of attempts


def minutes(session, number):
    """An answer of a session with its first so many minutes."""
    start = int(day_starts([session], NEW_YORK)[0]) + 570 * 60_000
    t = start + 60_000 * np.arange(number, dtype=np.int64)
    ones = np.ones(number)
    bars = Bars(t, *[ones] * 6, np.ones(number, np.int64))
    return CompleteSessions((session,), tuple(count_by_session(bars, [session], NEW_YORK)), bars)


def model(known, event, at, retries):
    """Return the record after an event.

    An attempt counts once the last pause is over; so do the first answer, and one with a tenth more bars, which restarts the
    count. A counted answer resets the failures. Fewer bars are a doubt until they come again an hour later; its begin and end
    restart the count. A complete session cannot fail, and only one without bars can be refused.
    """
    kind, bars = event
    if kind == "mark":
        return known and replace(known, partial=bool(known.bars))
    if kind == "answered":
        if known is None or bars > known.bars:
            return SessionAnswer(MON, bars, None, None, 1, 0, refused=False, partial=False, attempted_at=at)
        doubt, shrunk_at, had = None, None, known.doubt
        if bars < known.bars:
            again = had and had.startswith(f"the newer answer has {bars} of")
            if not (again and at >= known.shrunk_at + timedelta(hours=1)):
                shrunk_at = known.shrunk_at if again else at
                doubt = (
                    f"the newer answer has {bars} of {known.bars} stored bars; "
                    "they are kept until another answer confirms it"
                )
            else:
                known = replace(known, bars=bars)
        known = replace(known, doubt=doubt, shrunk_at=shrunk_at)
        if (had is None) != (doubt is None):
            return replace(known, answers=1, failures=0, refused=False, attempted_at=at)
        first = known.answers == 0
    else:
        refused = kind == "refused"
        if known is None:
            return SessionAnswer(MON, 0, None, None, 0, 1, refused=refused, partial=False, attempted_at=at)
        if known.complete:
            return known
        first = False
    counts = first or at >= known.attempted_at + retries.pause(known.attempts)
    return replace(
        known,
        answers=known.answers + (counts and kind == "answered"),
        failures=0 if counts and kind == "answered" else known.failures + counts,
        refused=kind == "refused" and known.bars == 0,
        attempted_at=at if counts else known.attempted_at,
    )


EVENTS = st.one_of(
    st.tuples(st.just("answered"), st.sampled_from([0, 0, 0, 3, 5, 8])),
    st.tuples(st.sampled_from(["failed", "failed", "refused", "mark"]), st.just(0)),
)
STEPS = st.sampled_from([0, 1, 2, 4, 8, 16, 64]).map(lambda m: timedelta(minutes=m))


@against_a_database
@given(st.lists(st.tuples(EVENTS, STEPS), max_size=12), st.sampled_from([1, 2, 7]).map(lambda m: timedelta(minutes=m)))
def test_attempts_are_counted_by_the_rules_whatever_the_order_of_events(store, events, pause):
    name, at, known = next(fresh), MOMENT, None
    bars, thin = BarStore.beside(store), SeriesStore.beside(store)
    for (kind, number), step in events:
        at += step
        terms = WriteContext(NEW_YORK, at, first_pause=pause)
        if kind == "answered":
            bars.write(name, MINUTE_1, minutes(MON, number), terms)
        elif kind == "mark":
            thin.mark_partial({(name, MON): "few minutes" if known and known.bars else None})
        else:
            bars.write_failures(name, MINUTE_1, [MON], terms, refused=kind == "refused")
        known = model(known, (kind, number), at, Retries(pause))
    found = bars.answers([name], [MINUTE_1], DayRange(MON, MON)).get((name, "1m"), {}).get(MON)
    assert (found and replace(found, first=None, last=None, partial_because=None)) == known
    assert (found and found.partial_because) == ("few minutes" if known and known.partial else None)
    if known and known.bars:
        assert (found.last - found.first) == timedelta(minutes=known.bars - 1)


def test_failures_are_noted_of_many_sessions_at_once_and_of_none(store, database_url):
    bars = BarStore.beside(store)
    bars.write("AAPL", MINUTE_1, minutes(TUE, 5), WriteContext(NEW_YORK, MOMENT))
    bars.write_failures("AAPL", MINUTE_1, [MON, TUE, WED], WriteContext(NEW_YORK, MOMENT + HOUR), refused=True)
    bars.write_failures("AAPL", MINUTE_1, [], WriteContext(NEW_YORK, MOMENT + HOUR), refused=False)
    query = "select session, bars, answers, failures, refused from session_answers order by 1"
    assert rows(database_url, query) == [(MON, 0, 0, 1, True), (TUE, 5, 1, 0, False), (WED, 0, 0, 1, True)]
    assert rows(database_url, "select filled::text from coverage") == [("{[2024-03-05,2024-03-06)}",)]


@pytest.mark.parametrize("read_only", [False, True])
def test_the_server_may_not_end_the_comparison_as_idle(database_url, read_only):
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"alter database {admin.info.dbname} set idle_in_transaction_session_timeout = '500ms'")
    with GapStore(database_url, read_only=read_only) as store, store.locked(["AAPL"], [MINUTE_1], (), {}) as held:
        assert held.connection.execute("show idle_in_transaction_session_timeout").fetchone() == ("0",)
