import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters import postgres
from backfill_assets.adapters.store.bars import BarStore, WriteContext, Written
from backfill_assets.domain.answers import CompleteSessions, RejectedBar
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import DatabaseUnavailable
from backfill_assets.domain.retries import USUAL
from backfill_assets.domain.sessions import HOURS, Kind, count_by_session, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1
from backfill_assets_tests.support import MOMENT, assert_same_bars, rows, stored_bars

STORE = BarStore

NEW_YORK = HOURS[Kind.STOCKS].zone
MON, TUE, WED, THU, FRI = (date(2024, 3, d) for d in range(4, 9))
OPENING = 570  # minutes after midnight

CONTENTS = {
    "market_data": "timestamp, open, high, low, close, volume, vwap, trades, source",
    "session_answers": "session, bars, first_bar, last_bar, answers, failures, refused, partial",
    "coverage": "filled::text",
}


def bars(*days, minutes=range(OPENING, OPENING + 5), zone=NEW_YORK, price=100.0):
    t = np.array([start + m * 60_000 for start in day_starts(days, zone).tolist() for m in minutes], np.int64)
    steps = np.arange(len(t), dtype=np.float64)
    prices = price + steps / 100
    return Bars(t, prices, prices + 1, prices - 1, prices + 0.5, 1000 + steps, prices + 0.25, np.arange(len(t)) + 7)


def with_absent(found):
    """The second bar without a vwap, the fourth without a trade count."""
    vwap, trades = found.vwap.copy(), found.trades.copy()
    vwap[1], trades[3] = np.nan, NO_TRADES
    return replace(found, vwap=vwap, trades=trades)


def answer(found, *sessions, zone=NEW_YORK):
    return CompleteSessions(sessions, tuple(count_by_session(found, sessions, zone)), found)


def empty(*sessions):
    return answer(Bars.empty(), *sessions)


TERMS = WriteContext(NEW_YORK, MOMENT)


@pytest.fixture
def write(store):
    def write(what, symbol="AAPL", timeframe=MINUTE_1, source="polygon", attempted_at=MOMENT):
        return store.write(symbol, timeframe, what, WriteContext(NEW_YORK, attempted_at, source))

    return write


def table(url, name, symbol="AAPL", *, and_row_versions=False):
    """Rows of a table without the times of writing; with their versions, which any write changes."""
    versions = ", xmin::text, ctid::text" if and_row_versions else ""
    query = f"select timeframe, {CONTENTS[name]}{versions} from {name} where symbol = %s order by 1, 2"  # noqa: S608
    return rows(url, query, symbol)


def everything(url, symbol="AAPL", **options):
    return {name: table(url, name, symbol, **options) for name in CONTENTS}


def at(day, minute):
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) + timedelta(minutes=minute)


def test_bars_sessions_and_coverage_are_stored(database_url, write):
    found = bars(MON, TUE)
    assert write(answer(found, MON, TUE)) == Written(inserted=10)
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), found)
    assert table(database_url, "session_answers") == [
        ("1m", MON, 5, at(MON, OPENING), at(MON, OPENING + 4), 1, 0, False, False),
        ("1m", TUE, 5, at(TUE, OPENING), at(TUE, OPENING + 4), 1, 0, False, False),
    ]
    assert table(database_url, "coverage") == [("1m", "{[2024-03-04,2024-03-06)}")]
    assert rows(database_url, "select distinct symbol, source from market_data") == [("AAPL", "polygon")]


@pytest.mark.parametrize("found", [bars(MON, TUE), with_absent(bars(MON, TUE))], ids=["whole", "absent values"])
def test_the_same_answer_again_writes_no_row(database_url, write, found):
    write(answer(found, MON, TUE))
    before = everything(database_url, and_row_versions=True)
    assert write(answer(found, MON, TUE)) == Written(unchanged=10)
    after = everything(database_url, and_row_versions=True)
    assert after["market_data"] == before["market_data"]
    assert after["coverage"] == before["coverage"]
    assert everything(database_url)["session_answers"] == [row[:-2] for row in before["session_answers"]]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "vwap", "trades"])
def test_a_changed_value_rewrites_its_row_only(database_url, write, column):
    first = bars(MON)
    write(answer(first, MON))
    before = table(database_url, "market_data", and_row_versions=True)
    values = getattr(first, column).copy()
    values[2] = values[2] + 1
    changed = replace(first, **{column: values})
    assert write(answer(changed, MON)) == Written(changed=1, unchanged=4)
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), changed)
    after = table(database_url, "market_data", and_row_versions=True)
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False, True, True]


@pytest.mark.parametrize("back", [False, True])
def test_a_value_that_appears_or_vanishes_is_a_change(write, back):
    first = bars(MON)
    second = replace(first, vwap=np.full(5, np.nan), trades=np.full(5, NO_TRADES))
    both = (second, first) if back else (first, second)
    assert [write(answer(b, MON)) for b in both] == [Written(inserted=5), Written(changed=5)]
    assert write(answer(both[-1], MON)) == Written(unchanged=5)


def test_added_changed_and_standing_rows_are_counted_apart(write):
    write(answer(bars(MON, minutes=[570, 571, 572]), MON))
    later = bars(MON, minutes=[571, 572, 573, 574])
    aligned = replace(later, open=later.open + 0.01)  # the second bar's price did not move with its place
    before = bars(MON, minutes=[570, 571, 572])
    assert before.timestamp[1] == aligned.timestamp[0]
    mixed = Bars(*(np.concatenate([getattr(before, f)[1:2], getattr(aligned, f)[1:]]) for f in Bars.__slots__))
    assert write(answer(mixed, MON)) == Written(inserted=2, changed=1, unchanged=1)


def test_values_that_the_vendor_omits_are_null(database_url, write):
    write(answer(with_absent(bars(MON)), MON))
    query = "select vwap is null, trades is null from market_data order by timestamp"
    assert rows(database_url, query) == [(i == 1, i == 3) for i in range(5)]


def test_a_changed_row_has_its_time_of_writing_and_its_source(database_url, write):
    write(answer(bars(MON), MON))
    with psycopg.connect(database_url) as connection:
        connection.execute("update market_data set ingested_at = '2020-01-01Z'")
    later = bars(MON)
    later.close[0] += 1
    write(answer(later, MON), source="elsewhere")
    query = "select source, ingested_at = '2020-01-01Z' from market_data order by timestamp"
    assert rows(database_url, query) == [("elsewhere", False)] + [("polygon", True)] * 4


def test_series_do_not_touch_each_other(database_url, write):
    write(answer(bars(MON), MON))
    write(answer(bars(MON, minutes=[0]), MON), timeframe=DAY_1)
    write(answer(bars(MON, price=5.0), MON), symbol="MSFT")
    assert [len(stored_bars(database_url, *s)) for s in (("AAPL", "1m"), ("AAPL", "1d"), ("MSFT", "1m"))] == [5, 1, 5]
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), bars(MON))
    assert len(rows(database_url, "select from coverage")) == 3


def test_empty_answers_are_counted_and_cover_nothing(database_url, write):
    for times in (1, 2, 3):
        assert write(empty(MON, TUE), attempted_at=MOMENT + times * timedelta(hours=1)) == Written()
        assert table(database_url, "session_answers") == [
            ("1m", MON, 0, None, None, times, 0, False, False),
            ("1m", TUE, 0, None, None, times, 0, False, False),
        ]
    assert table(database_url, "coverage") == []


def test_bars_after_empty_answers_restart_the_count(database_url, write):
    write(empty(MON, TUE))
    write(empty(MON, TUE), attempted_at=MOMENT + timedelta(hours=1))
    write(answer(bars(TUE), MON, TUE), attempted_at=MOMENT + timedelta(hours=2))
    found = [(row[1], row[2], row[5]) for row in table(database_url, "session_answers")]
    assert found == [(MON, 0, 3), (TUE, 5, 1)]
    assert table(database_url, "coverage") == [("1m", "{[2024-03-05,2024-03-06)}")]


@pytest.mark.parametrize("order", [1, -1])
def test_answers_that_hold_different_bars_add_up(database_url, write, order):
    """A session of which each of two answers misses some bars: the record tells what the table holds."""
    halves = [bars(MON, minutes=range(570, 575)), bars(MON, minutes=range(573, 578))][::order]
    for half in halves:
        write(answer(half, MON))
    assert table(database_url, "session_answers") == [("1m", MON, 8, at(MON, 570), at(MON, 577), 1, 0, False, False)]
    assert len(stored_bars(database_url, "AAPL", "1m")) == 8


@pytest.mark.parametrize(("timeframe", "minutes"), [(MINUTE_1, range(240, 1200, 7)), (DAY_1, [0])])
def test_the_summary_of_a_session_is_the_same_in_python_and_in_sql(database_url, store, write, timeframe, minutes):
    """Written at once, by an answer that changes bars, and for a session that was stored before summaries were kept."""
    query = "select symbol, session, bars, volume, half_hours from session_answers order by 1, 2"
    found = bars(MON, TUE, minutes=minutes)
    write(answer(found, MON, TUE), "ONCE", timeframe)
    write(answer(found, MON, TUE), "LATER", timeframe)
    for volume in (found.volume + 1, found.volume):
        write(answer(replace(found, volume=volume), MON, TUE), "TWICE", timeframe)
    with psycopg.connect(database_url) as connection:
        connection.execute("update session_answers set volume = null, half_hours = null where symbol = 'LATER'")
    store.summarize("LATER", timeframe, [MON, TUE], TERMS)
    later, once, twice = itertools.batched((row[1:] for row in rows(database_url, query)), 2)
    assert later == once == twice
    for (_, number, volume, half_hours), counted in zip(
        once, count_by_session(found, [MON, TUE], NEW_YORK), strict=True
    ):
        assert (number, volume) == (len(minutes), counted.volume)
        assert half_hours == (counted.half_hours if timeframe == MINUTE_1 else None)


def test_a_shorter_answer_leaves_the_record_of_what_is_stored(database_url, write):
    write(answer(bars(MON), MON))
    before = everything(database_url)
    shorter = bars(MON).take(slice(1, 3))
    assert write(answer(shorter, MON)) == Written(unchanged=2)
    assert everything(database_url) == before


def test_a_session_with_rejected_bars_is_in_doubt_until_an_answer_without_them(write, store):
    bad = RejectedBar(MON, at(MON, 571), "high is below low")
    write(replace(answer(bars(MON, TUE), MON, TUE), rejected=(bad, bad)))
    write(replace(empty(WED), rejected=(RejectedBar(WED, at(WED, 570), "a price is 0"),)))
    found = store.answers(["AAPL"], [MINUTE_1], DayRange(MON, WED))["AAPL", "1m"]
    assert [found[d].detail for d in (MON, TUE, WED)] == [
        "2 bars left out: high is below low",
        "",
        "1 bar left out: a price is 0",
    ]
    assert [found[d].complete for d in (MON, TUE, WED)] == [False, True, False]
    assert not any(USUAL.explained(replace(found[WED], answers=n, failures=0)) for n in range(9))
    write(answer(bars(MON), MON))
    assert store.answers(["AAPL"], [MINUTE_1], DayRange(MON, MON))["AAPL", "1m"][MON].complete


def test_recounting_keeps_to_the_days_of_the_market(database_url, write):
    """04:00 to 20:00 New York reaches into the next day of UTC, and the clocks change on 10 March."""
    friday, monday = date(2024, 3, 8), date(2024, 3, 11)
    whole = range(4 * 60, 20 * 60)
    for _ in range(2):
        write(answer(bars(friday, minutes=whole), friday))
        monday_bars = bars(monday, minutes=whole)
        write(answer(monday_bars, monday))
    write(answer(bars(friday, minutes=[0, 1439]), friday))
    counts = [(row[1], row[2]) for row in table(database_url, "session_answers")]
    assert counts == [(friday, 962), (monday, 960)]


def test_coverage_is_exactly_the_sessions_with_bars(database_url, write):
    write(answer(bars(MON, WED, THU), MON, TUE, WED, THU))
    assert table(database_url, "coverage") == [("1m", "{[2024-03-04,2024-03-05),[2024-03-06,2024-03-08)}")]
    write(answer(bars(TUE), TUE))
    assert table(database_url, "coverage") == [("1m", "{[2024-03-04,2024-03-08)}")]
    write(answer(bars(date(2023, 1, 3)), date(2023, 1, 3)))
    assert table(database_url, "coverage") == [("1m", "{[2023-01-03,2023-01-04),[2024-03-04,2024-03-08)}")]


def test_an_answer_without_sessions_changes_nothing(database_url, write):
    assert write(CompleteSessions((), (), Bars.empty())) == Written()
    assert everything(database_url) == {name: [] for name in CONTENTS}


@pytest.mark.parametrize("name", ["coverage", "session_answers"])
def test_bars_and_their_records_are_one_transaction(database_url, write, name):
    with psycopg.connect(database_url) as connection:
        connection.execute("""create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'not today'; end $$""")
        connection.execute(f"create trigger refuse before insert or update on {name} execute function refuse()")
    with pytest.raises(psycopg.errors.RaiseException, match="not today"):
        write(answer(bars(MON), MON))
    assert everything(database_url) == {name: [] for name in CONTENTS}
    with psycopg.connect(database_url) as connection:
        connection.execute(f"drop trigger refuse on {name}")
    assert write(answer(bars(MON), MON)) == Written(inserted=5)


def test_a_store_goes_on_after_a_failed_write(write):
    with pytest.raises(psycopg.DataError):
        write(answer(bars(MON), MON), symbol="A\0")
    assert write(answer(bars(MON), MON)) == Written(inserted=5)


def waits_for_a_lock(connection):
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while not connection.execute(query).fetchone()[0]:
        connection.execute("select pg_sleep(0.01)")


@pytest.mark.parametrize("found", [bars(MON), with_absent(bars(MON))], ids=["whole", "absent values"])
def test_a_stretch_that_another_process_fills_meanwhile_is_merged_into(database_url, write, found):
    """Nothing is seen in the stretch, so that it is copied into; then the other's row is there after all."""
    with psycopg.connect(database_url) as other, psycopg.connect(database_url, autocommit=True) as observer:
        other.execute(
            "insert into market_data values ('AAPL', '1m', %s, 1, 1, 1, 1, 1, 1, 1, 'other')",
            [at(MON, 572)],
        )
        with ThreadPoolExecutor(1) as pool:
            ours = pool.submit(write, answer(found, MON))
            waits_for_a_lock(observer)
            other.commit()
            assert ours.result(30) == Written(inserted=4, changed=1)
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), found)


def test_two_writers_of_overlapping_ranges_end_in_the_right_table(database_url, monkeypatch):
    monkeypatch.setattr(postgres, "RECONNECT_PAUSES", ())  # a deadlock would be tried again, and so go unnoticed
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(12)]
    minutes = range(240, 440)
    start = threading.Barrier(2)

    def writer(backwards):
        windows = [days[i : i + 5] for i in range(8)]
        with BarStore(database_url, connections=1) as store:
            start.wait(30)
            written = Written()
            for window in windows[::-1] if backwards else windows:
                # each writer's values differ, so that every row of an overlap is written by both
                found = bars(*window, minutes=minutes, price=200.0 if backwards else 100.0)
                written += store.write("AAPL", MINUTE_1, answer(found, *window), TERMS)
            return written

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(writer, [False, True]))
    assert sum(w.inserted for w in both) == len(days) * len(minutes)
    found = stored_bars(database_url, "AAPL", "1m")
    np.testing.assert_array_equal(found.timestamp, bars(*days, minutes=minutes).timestamp)
    assert {round(p / 100) for p in found.open.tolist()} <= {1, 2}
    assert {(row[1], row[2]) for row in table(database_url, "session_answers")} == {(d, len(minutes)) for d in days}
    assert table(database_url, "coverage") == [("1m", "{[2024-01-01,2024-01-13)}")]


def test_writers_of_the_same_answer_at_once_insert_each_row_once(database_url):
    with BarStore(database_url, connections=4) as store, ThreadPoolExecutor(4) as pool:
        what = answer(bars(MON, TUE, minutes=range(240, 1200)), MON, TUE)
        done = list(pool.map(lambda _: store.write("AAPL", MINUTE_1, what, TERMS), range(4)))
    assert sum(w.inserted for w in done) == 1920
    assert [row[2] for row in table(database_url, "session_answers")] == [960, 960]
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), what.bars)


def test_a_dropped_idle_connection_goes_unnoticed(database_url, write, store):
    write(answer(bars(MON), MON))
    with psycopg.connect(database_url, autocommit=True) as killer:
        killer.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert write(answer(bars(TUE), TUE)) == Written(inserted=5)
    assert set(store.answers(["AAPL"], [MINUTE_1], DayRange(MON, FRI))["AAPL", "1m"]) == {MON, TUE}


def break_connections(url, times):
    """The server drops the session of the next so many writers, in the last statement of their transaction."""
    with psycopg.connect(url) as connection:
        connection.execute("create sequence attempts")
        connection.execute(f"""create function die() returns trigger language plpgsql as $$ begin
            if nextval('attempts') <= {times} then perform pg_terminate_backend(pg_backend_pid()); end if;
            return new; end $$""")
        connection.execute("create trigger die before insert on coverage for each row execute function die()")


def test_a_broken_transaction_is_run_again(database_url, write, monkeypatch):
    monkeypatch.setattr(postgres, "RECONNECT_PAUSES", (0.0,) * 3)
    break_connections(database_url, 2)
    assert write(answer(bars(MON), MON)) == Written(inserted=5)
    assert rows(database_url, "select last_value from attempts") == [(3,)]
    assert table(database_url, "session_answers") == [
        ("1m", MON, 5, at(MON, OPENING), at(MON, OPENING + 4), 1, 0, False, False)
    ]


def test_an_unavailable_database_is_reported_and_nothing_is_stored(database_url, write, monkeypatch):
    monkeypatch.setattr(postgres, "RECONNECT_PAUSES", (0.0,) * 2)
    break_connections(database_url, 3)
    with pytest.raises(DatabaseUnavailable, match="cannot be used"):
        write(answer(bars(MON), MON))
    assert everything(database_url) == {name: [] for name in CONTENTS}


def test_answers_are_read_back_by_series_and_days(store, write):
    write(answer(bars(MON, TUE), MON, TUE, WED))
    write(answer(bars(MON, minutes=[0]), MON), timeframe=DAY_1)
    write(answer(bars(MON), MON), symbol="MSFT")
    found = store.answers(["AAPL", "NVDA"], [MINUTE_1, DAY_1], DayRange(TUE, FRI))
    assert set(found) == {("AAPL", "1m")}
    tuesday, wednesday = found["AAPL", "1m"][TUE], found["AAPL", "1m"][WED]
    assert (tuesday.bars, tuesday.first, tuesday.last) == (5, at(TUE, OPENING), at(TUE, OPENING + 4))
    assert (wednesday.bars, wednesday.first, wednesday.answers) == (0, None, 1)
    assert store.answers([], [], DayRange(MON, FRI)) == {}


SESSIONS = tuple(date(2024, 3, d) for d in (4, 5, 6, 7, 8, 11, 12, 13))
HAVING = (True, True, False, True, False, True, True, True)
fresh = (f"S{i}" for i in itertools.count())


@st.composite
def partitions(draw):
    """The sessions, shuffled and dealt into answers."""
    shuffled = draw(st.permutations(range(len(SESSIONS))))
    cuts = sorted(draw(st.sets(st.integers(1, len(SESSIONS) - 1))))
    return [sorted(shuffled[a:b]) for a, b in itertools.pairwise([0, *cuts, len(SESSIONS)])]


def whole(indices):
    found = [bars(SESSIONS[i], minutes=range(570 + i, 575 + 2 * i), price=10.0 * (i + 1)) for i in indices if HAVING[i]]
    return answer(Bars.concat(*found) if found else Bars.empty(), *(SESSIONS[i] for i in indices))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(partitions(), st.data())
def test_any_order_and_any_split_of_the_sessions_gives_the_same_tables(database_url, store, parts, data):
    one_go, in_parts, doubled = next(fresh), next(fresh), next(fresh)
    store.write(one_go, MINUTE_1, whole(range(len(SESSIONS))), TERMS)
    expected = everything(database_url, one_go)
    for part in parts:
        store.write(in_parts, MINUTE_1, whole(part), TERMS)
    assert everything(database_url, in_parts) == expected
    # and once more, with some answers given twice: only the count of empty answers may tell
    again = [*parts, *data.draw(st.lists(st.sampled_from(parts), max_size=3))]
    for part in again:
        store.write(doubled, MINUTE_1, whole(part), TERMS)
    found = everything(database_url, doubled)
    assert (found["market_data"], found["coverage"]) == (expected["market_data"], expected["coverage"])
    assert [row[:-1] for row in found["session_answers"]] == [row[:-1] for row in expected["session_answers"]]
