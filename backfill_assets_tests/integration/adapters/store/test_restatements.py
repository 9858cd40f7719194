"""What a later answer changes and removes, and the history of it."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.bars import BarStore, WriteContext, Written
from backfill_assets.domain.answers import RejectedBar
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import derive
from backfill_assets.domain.retries import CONFIRMING_PAUSE, USUAL, Retry, Shrunk, unconfirmed
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1
from backfill_assets_tests.integration.adapters.store.test_bars import (
    FRI,
    MON,
    NEW_YORK,
    THU,
    TUE,
    WED,
    answer,
    at,
    bars,
    empty,
    fresh,
)
from backfill_assets_tests.support import MOMENT, assert_same_bars, rows, stored_bars

STORE = BarStore

MINUTES = (TIMEFRAMES["5m"], TIMEFRAMES["1h"])
WEEK = (MON, TUE, WED, THU, FRI)
AS_OF = """
  select timeframe, timestamp, open from market_data where symbol = %(symbol)s and ingested_at <= %(at)s
  union all
  select timeframe, timestamp, open from market_data_history
  where symbol = %(symbol)s and ingested_at <= %(at)s and changed_at > %(at)s
  order by 1, 2"""


@pytest.fixture
def write(store):
    """Write an answer so many hours after the first, with the derived bars, in a run."""

    def write(what, hours=0.0, timeframe=MINUTE_1, symbol="AAPL"):
        derived = MINUTES if timeframe == MINUTE_1 else (WEEK_1,)
        moment = MOMENT + hours * timedelta(hours=1)
        terms = WriteContext(NEW_YORK, moment, derived=derived, finished=WEEK, run_id=f"run at {hours:g}")
        return store.write(symbol, timeframe, what, terms)

    return write


@pytest.fixture
def recorded(store):
    """Return the record of a session."""
    return lambda session, timeframe=MINUTE_1: store.answers(["AAPL"], [timeframe], DayRange(session, session))[
        "AAPL", timeframe.name
    ][session]


def compute(url):
    """Stand in for the computation of features: a row for each bar, and no marks."""
    with psycopg.connect(url) as connection:
        connection.execute("""insert into market_features (symbol, timeframe, timestamp)
            select symbol, timeframe, timestamp from market_data on conflict do nothing""")
        connection.execute("delete from feature_marks")


def history(url):
    return rows(
        url,
        """select timeframe, timestamp, open, new_open, removed, run_id from market_data_history
           where source = 'polygon' order by id""",
    )


def test_withdrawn_and_changed_bars_follow_the_answer_and_are_kept_in_the_history(database_url, write):
    first = bars(MON, minutes=range(570, 591))
    write(answer(first, MON))
    compute(database_url)
    later = first.take(~np.isin(np.arange(21), [0, 20]))  # 20 is alone in its five minutes
    later.open[3] += 0.5
    done = write(answer(later, MON), 1)
    assert done == Written(changed=1, unchanged=18, removed=2)
    assert [(r.first, r.last, r.bars, r.removed) for r in done.restated] == [
        (at(MON, 574), at(MON, 574), 1, 0),
        (at(MON, 570), at(MON, 590), 2, 2),
    ]
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), later)
    for timeframe in MINUTES:
        assert_same_bars(stored_bars(database_url, "AAPL", timeframe.name), derive(later, timeframe, NEW_YORK))
    assert history(database_url) == [
        ("1m", at(MON, 574), first.open[4], later.open[3], False, "run at 1"),
        ("1m", at(MON, 570), first.open[0], None, True, "run at 1"),
        ("1m", at(MON, 590), first.open[20], None, True, "run at 1"),
    ]
    orphans = """select from market_features f where not exists (
      select from market_data m where (m.symbol, m.timeframe, m.timestamp) = (f.symbol, f.timeframe, f.timestamp))"""
    assert rows(database_url, orphans) == []
    stale = """select min(m.timestamp) from market_data m join feature_marks f
      on (m.symbol, m.timeframe) = (f.symbol, f.timeframe) and f.stale @> m.timestamp where m.timeframe = '1m'"""
    assert rows(database_url, stale) == [(at(MON, 571),)]
    counts = (
        "select timeframe, bars, first_bar, last_bar from session_answers where timeframe in ('1m', '5m') order by 1"
    )
    assert rows(database_url, counts) == [
        ("1m", 19, at(MON, 571), at(MON, 589)),
        ("5m", 4, at(MON, 570), at(MON, 585)),
    ]
    assert write(answer(later, MON), 2) == Written(unchanged=19)
    assert len(history(database_url)) == 3


@pytest.mark.parametrize("left", [0, 3])
def test_more_than_a_tenth_is_removed_only_by_a_second_answer_an_hour_later(database_url, write, recorded, left):
    first = bars(MON, TUE)
    less = bars(MON).take(slice(left))
    write(answer(first, MON, TUE))
    for hours in (5, 5.5, 5.99):
        assert write(answer(less, MON), hours) == Written(unchanged=left)
        assert_same_bars(stored_bars(database_url, "AAPL", "1m"), first)
        found = recorded(MON)
        assert (
            found.doubt
            == f"the newer answer has {left} of 5 stored bars; they are kept until another answer confirms it"
        )
        assert (found.bars, found.answers >= 1, found.shrunk_at) == (5, True, MOMENT + timedelta(hours=5))
        assert USUAL.next_attempt(found) >= MOMENT + timedelta(hours=6)
        assert not USUAL.explained(found)
    assert write(answer(less, MON), 6.5) == Written(unchanged=left, removed=5 - left)
    expected = Bars.concat(less, first.take(slice(5, None)))
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), expected)
    assert_same_bars(stored_bars(database_url, "AAPL", "5m"), derive(expected, TIMEFRAMES["5m"], NEW_YORK))
    found = recorded(MON)
    assert (found.bars, found.doubt, found.shrunk_at, found.answers) == (left, None, None, 1)
    covered = "{[2024-03-04,2024-03-06)}" if left else "{[2024-03-05,2024-03-06)}"
    assert rows(database_url, "select distinct filled::text from coverage") == [(covered,)]
    assert found.complete == bool(left)
    assert USUAL.asks(found, MOMENT + timedelta(hours=7), Retry.DUE) == (not left), (
        "an empty session is retried as usual"
    )


def test_an_answer_with_all_bars_or_with_another_number_begins_the_hour_again(write, recorded):
    every = bars(MON)
    write(answer(every, MON))
    for hours, number, since in ((1, 0, 1), (3, 5, None), (4, 0, 4), (5, 2, 5), (5.5, 2, 5), (5.9, 3, 5.9)):
        write(answer(every.take(slice(number)), MON), hours)
        shrunk_at = since and MOMENT + since * timedelta(hours=1)
        assert (recorded(MON).bars, recorded(MON).shrunk_at) == (5, shrunk_at), hours
    assert write(answer(every.take(slice(3)), MON), 7) == Written(unchanged=3, removed=2)


def test_no_bar_of_a_session_in_doubt_is_removed(database_url, write, recorded):
    every = bars(MON)
    write(answer(every, MON))
    rejected = (RejectedBar(MON, at(MON, 570), "high is below low"), RejectedBar(MON, at(MON, 571), "a price is 0"))
    for hours in (1, 3):
        assert write(replace(answer(every.take(slice(2, None)), MON), rejected=rejected), hours) == Written(unchanged=3)
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), every)
    assert (recorded(MON).bars, recorded(MON).doubt) == (5, "2 bars left out: high is below low")
    for hours in (4, 6):
        unsure = replace(answer(every.take(slice(4, None)), MON), unsure={MON: "a price is 0"})
        assert write(unsure, hours) == Written(unchanged=1)


def test_a_stored_bar_stays_while_one_whose_time_is_not_known_may_be_it(database_url, write, recorded):
    every = bars(MON, minutes=range(20))
    write(answer(every, MON))
    fewer = every.take(slice(1, None))
    write(replace(answer(fewer, MON), unsure={MON: "timestamp is not a usable number"}), 1)
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), every)
    assert recorded(MON).doubt == "a bar that was left out may be of it: timestamp is not a usable number"
    assert write(answer(fewer, MON), 2) == Written(unchanged=19, removed=1)


def test_a_week_follows_its_days(database_url, write, recorded):
    days = bars(*WEEK, minutes=[0])
    write(answer(days, *WEEK), timeframe=DAY_1)
    for hours in (1, 2):
        write(empty(FRI), hours, DAY_1)
    assert_same_bars(stored_bars(database_url, "AAPL", "1w"), derive(days.take(slice(4)), WEEK_1, NEW_YORK))
    assert (recorded(FRI, WEEK_1).bars, recorded(FRI, DAY_1).bars) == (1, 0)
    for hours in (3, 4):
        write(empty(*WEEK), hours, DAY_1)
    assert len(stored_bars(database_url, "AAPL", "1w")) == len(stored_bars(database_url, "AAPL", "1d")) == 0
    assert rows(database_url, "select from coverage where not isempty(filled)") == []
    assert {timeframe for timeframe, *_ in history(database_url)} == {"1d"}, "derived bars have no history"


@given(st.integers(1, 2000), st.data())
def test_a_tenth_is_removed_and_no_more(stored, data):
    lacking = np.arange(data.draw(st.integers(0, stored)), dtype=np.int64) * 60_000
    kept = unconfirmed(stored, lacking, MOMENT, None)
    assert (kept is None) == (len(lacking) / stored <= 0.1)
    if kept:
        assert unconfirmed(stored, lacking, MOMENT + CONFIRMING_PAUSE, kept) is None
        assert unconfirmed(stored, lacking, MOMENT + CONFIRMING_PAUSE - timedelta(seconds=1), kept) == kept
        assert unconfirmed(stored, lacking, MOMENT, Shrunk(MOMENT - CONFIRMING_PAUSE, kept.digest + 1)) == kept
        others = lacking + 60_000
        assert unconfirmed(stored, others, MOMENT + CONFIRMING_PAUSE, kept) != kept, "as many, but other ones"


DAYS = (date(2024, 3, 4), date(2024, 3, 5))
answers = st.lists(
    st.tuples(
        st.lists(st.sets(st.integers(0, 11)) | st.just(set(range(12))), min_size=2, max_size=2),
        st.integers(0, 2),  # the version of prices
        st.sampled_from([0.0, 0.5, 1.0, 30.0]),  # hours since the one before
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers)
def test_the_tables_equal_the_last_answers_and_the_history_every_state_before(database_url, write, answers):
    symbol, hours = next(fresh), 0.0
    stored, shrunk, states = {day: {} for day in DAYS}, dict.fromkeys(DAYS), []
    for minutes, version, pause in answers:
        hours += pause
        found = [
            bars(day, minutes=sorted(570 + m for m in of), price=100.0 + version)
            for day, of in zip(DAYS, minutes, strict=True)
        ]
        write(answer(Bars.concat(*found), *DAYS), hours, symbol=symbol)
        for day, part in zip(DAYS, found, strict=True):
            new = dict(zip(part.timestamp.tolist(), part.open.tolist(), strict=True))
            before = stored[day]
            lacking = before.keys() - new.keys()
            since = shrunk[day]
            stored[day] = before | new
            confirmed = since and since[1] == lacking and hours >= since[0] + 1
            if len(lacking) * 10 <= len(before) or confirmed:
                stored[day], shrunk[day] = new, None
            elif not since or since[1] != lacking:
                shrunk[day] = (hours, lacking)
        expected = {stamp: price for day in DAYS for stamp, price in sorted(stored[day].items())}
        table = stored_bars(database_url, symbol, "1m")
        assert dict(zip(table.timestamp.tolist(), table.open.tolist(), strict=True)) == expected
        for timeframe in MINUTES:
            assert_same_bars(stored_bars(database_url, symbol, timeframe.name), derive(table, timeframe, NEW_YORK))
        counted = """select session, bars, doubt is not null from session_answers
          where symbol = %s and timeframe = '1m' order by 1"""
        assert rows(database_url, counted, symbol) == [(d, len(stored[d]), shrunk[d] is not None) for d in DAYS]
        ((moment,),) = rows(database_url, "select clock_timestamp()")
        states.append((moment, list(expected.values())))
    with psycopg.connect(database_url) as connection:
        for moment, opens in states:
            found = connection.execute(AS_OF, {"symbol": symbol, "at": moment}).fetchall()
            assert [price for timeframe, _, price in found if timeframe == "1m"] == opens
