from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.domain.answers import CompleteSessions, PageCutter, SessionAnswer, missing_sessions
from backfill_assets.domain.bars import BadBar, Bars
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import Kind, SessionBars, calendar
from backfill_assets_tests.unit.domain.frames import assert_same, frame, ms, rows

NEW_YORK = ZoneInfo("America/New_York")
SPAN = DayRange(date(2024, 12, 1), date(2025, 12, 31))
CALENDARS = {kind: calendar(kind, SPAN) for kind in Kind}
MON, TUE, WED, THU, FRI = (date(2025, 6, d) for d in (2, 3, 4, 5, 6))
WEEK = (MON, TUE, WED, THU, FRI)


def at(day, hour=12, minute=0):
    return ms(day.year, day.month, day.day, hour, minute, zone=NEW_YORK)


def cutter(*sessions):
    return PageCutter(sessions, NEW_YORK)


def answer(session, bars, *, partial=False):
    start = datetime(2025, 6, 2, 12, tzinfo=UTC) if bars else None
    attempted_at = datetime(2025, 6, 3, tzinfo=UTC)
    return SessionAnswer(session, bars, start, start, 2, 1, refused=False, partial=partial, attempted_at=attempted_at)


# --- SessionAnswer


@pytest.mark.parametrize(("bars", "partial", "complete"), [(0, False, False), (1, False, True), (1, True, False)])
def test_a_session_is_complete_with_bars_unless_partial(bars, partial, complete):
    assert answer(MON, bars, partial=partial).complete is complete


def test_attempts_are_answers_and_failures():
    assert answer(MON, 0).attempts == 3


def test_missing_sessions_were_never_requested_or_are_empty():
    known = {MON: answer(MON, 390), TUE: answer(TUE, 0), WED: answer(WED, 1, partial=True)}
    assert missing_sessions(WEEK, known) == [TUE, THU, FRI]
    assert missing_sessions([], known) == []
    assert missing_sessions([TUE], {MON: answer(MON, 390)}) == [TUE]


def test_sessions_without_a_count_are_empty():
    instant = datetime(2025, 6, 3, tzinfo=UTC)
    complete = CompleteSessions((MON, TUE, WED), (SessionBars(TUE, 1, instant, instant),), Bars.empty())
    assert complete.empty == (MON, WED)


# --- Cutting pages: examples


def test_the_only_page_completes_every_session():
    complete = cutter(MON, TUE, WED).feed(frame([at(MON), at(WED)]), more=False)
    assert complete.sessions == (MON, TUE, WED)
    assert [(c.session, c.bars) for c in complete.counts] == [(MON, 1), (WED, 1)]
    assert complete.empty == (TUE,)
    assert rows(complete.bars) == [(at(MON), 0), (at(WED), 1)]


def test_a_session_that_may_continue_on_the_next_page_is_held_back():
    cut = cutter(MON, TUE)
    first = cut.feed(frame([at(MON), at(TUE, 9)]), more=True)
    assert first.sessions == (MON,)
    assert rows(first.bars) == [(at(MON), 0)]
    second = cut.feed(frame([at(TUE, 10)], [7]), more=False)
    assert second.sessions == (TUE,)
    assert rows(second.bars) == [(at(TUE, 9), 1), (at(TUE, 10), 7)]
    assert [(c.session, c.bars) for c in second.counts] == [(TUE, 2)]


def test_a_session_is_held_back_over_several_pages():
    cut = cutter(MON, TUE)
    for minute in range(3):
        assert cut.feed(frame([at(MON, 9, minute)]), more=True).sessions == ()
    complete = cut.feed(frame([at(TUE)]), more=True)
    assert [(c.session, c.bars) for c in complete.counts] == [(MON, 3)]
    assert cut.feed(Bars.empty(), more=False).sessions == (TUE,)


def test_sessions_skipped_by_a_page_are_empty():
    complete = cutter(*WEEK).feed(frame([at(MON), at(THU)]), more=True)
    assert complete.sessions == (MON, TUE, WED)
    assert complete.empty == (TUE, WED)


def test_a_page_without_bars_completes_nothing_while_more_follow():
    cut = cutter(MON, TUE)
    assert cut.feed(Bars.empty(), more=True).sessions == ()
    assert cut.feed(Bars.empty(), more=False).empty == (MON, TUE)


def test_a_page_of_other_bars_completes_nothing_while_more_follow():
    cut = cutter(MON, TUE)
    strangers = frame([at(MON - ONE_DAY), at(FRI)])
    assert cut.feed(strangers, more=True).sessions == ()
    assert cut.dropped == 2
    assert cut.feed(frame([at(MON)]), more=False).sessions == (MON, TUE)


def test_bars_before_between_and_after_the_sessions_are_dropped_and_counted():
    cut = cutter(MON, WED)
    complete = cut.feed(frame([at(MON - ONE_DAY), at(MON), at(TUE), at(WED), at(THU, 0)]), more=False)
    assert [t for t, _ in rows(complete.bars)] == [at(MON), at(WED)]
    assert cut.dropped == 3


def test_dropped_bars_are_counted_over_all_pages():
    cut = cutter(MON, TUE)
    cut.feed(frame([at(MON - ONE_DAY), at(MON)]), more=True)
    cut.feed(frame([at(TUE)]), more=True)
    cut.feed(frame([at(THU), at(FRI)]), more=False)
    assert cut.dropped == 3


def test_the_last_duplicate_of_a_bar_is_kept_and_none_counts_as_dropped():
    cut = cutter(MON)
    complete = cut.feed(frame([at(MON), at(MON)]), more=False)
    assert rows(complete.bars) == [(at(MON), 1)]
    assert cut.dropped == 0


def test_a_bar_repeated_on_the_next_page_is_replaced():
    cut = cutter(MON, TUE)
    cut.feed(frame([at(MON, 9), at(MON, 10)], [1, 2]), more=True)
    complete = cut.feed(frame([at(MON, 10), at(MON, 11)], [3, 5]), more=False)
    assert rows(complete.bars) == [(at(MON, 9), 1), (at(MON, 10), 3), (at(MON, 11), 5)]


def test_after_the_last_page_nothing_is_left():
    cut = cutter(MON)
    cut.feed(frame([at(MON)]), more=False)
    again = cut.feed(frame([at(MON)]), more=False)
    assert (again.sessions, again.counts, len(again.bars)) == ((), (), 0)


def test_without_sessions_there_are_no_answers():
    complete = cutter().feed(frame([at(MON)]), more=False)
    assert (complete.sessions, complete.counts, len(complete.bars)) == ((), (), 0)


def test_bad_rows_are_rejected_with_their_session_once_it_is_complete():
    cut = cutter(MON, TUE, WED)
    bad = [BadBar(at(TUE, 9), "two"), BadBar(at(MON, 9), "one"), BadBar(at(FRI), "of another day")]
    first = cut.feed(frame([at(MON), at(TUE)]), more=True, bad=bad)
    assert [(bar.session, bar.start, bar.reason) for bar in first.rejected] == [
        (MON, datetime(2025, 6, 2, 13, tzinfo=UTC), "one")
    ]
    assert cut.dropped == 1
    rest = cut.feed(Bars.empty(), more=False, bad=[BadBar(at(TUE, 10), "three"), BadBar(at(MON, 10), "answered")])
    assert rest.sessions == (TUE, WED)
    assert [bar.reason for bar in rest.rejected] == ["two", "three"]
    assert rest.doubts == {TUE: "2 bars left out: two"}
    assert cut.dropped == 2


def test_a_bad_row_of_an_unknown_time_puts_all_sessions_in_doubt_to_which_it_may_belong():
    cut = cutter(*WEEK)
    first = cut.feed(frame([at(MON), at(THU)]), more=True, bad=[BadBar(at(TUE), "no time", (at(TUE), at(THU, 0)))])
    assert [bar.session for bar in first.rejected] == [TUE]
    assert first.doubts == {
        TUE: "1 bar left out: no time",
        WED: "a bar that was left out may be of it: no time",
    }
    assert list(cut.feed(frame([at(FRI)]), more=False).doubts) == [THU]


# --- Cutting pages: properties


@st.composite
def answers_in_pages(draw):
    """Consecutive sessions, their bars, and the same bars as pages of a faulty vendor."""
    kind = draw(st.sampled_from(list(Kind)))
    trading = CALENDARS[kind]
    first = draw(st.sampled_from([date(2025, 3, 5), date(2025, 10, 30), date(2025, 1, 7), date(2025, 7, 1)]))
    sessions = trading.within(DayRange(first, first + draw(st.integers(0, 9)) * ONE_DAY))
    zone = trading.hours.zone
    midnight = {s: datetime(s.year, s.month, s.day, tzinfo=zone) for s in sessions}
    bars = sorted(
        int((midnight[s] + timedelta(minutes=m)).timestamp()) * 1000
        for s in sessions
        for m in draw(st.sets(st.sampled_from([0, 240, 570, 571, 572, 959, 1200, 1439]) | st.integers(0, 1439)))
    )
    marks = dict(zip(bars, range(len(bars)), strict=True))
    cuts = sorted(draw(st.lists(st.integers(0, len(bars)), max_size=6)))
    pages = [bars[a:b] for a, b in zip([0, *cuts], [*cuts, len(bars)], strict=True)]
    day = 86_400_000
    low = ms(first.year, first.month, first.day) - 3 * day
    strange = [t for t in range(low, low + 16 * day, 7_200_000) if _day(t, zone) not in sessions]
    messy = []
    for i, page in enumerate(pages):
        doubled = draw(st.lists(st.sampled_from(page), max_size=3)) if page else []
        before = bars.index(page[0]) if page and i else 0
        repeated = bars[max(0, before - draw(st.integers(0, 3))) : before]
        outside = draw(st.lists(st.sampled_from(strange), max_size=3)) if strange else []
        messy.append(draw(st.permutations([*page, *doubled, *repeated, *outside])))
    marks |= {t: -7 for page in messy for t in page if t not in marks}
    return sessions, zone, frame(bars, [marks[t] for t in bars]), [frame(p, [marks[t] for t in p]) for p in messy]


def _day(t, zone):
    return datetime.fromtimestamp(t / 1000, zone).date()


@given(answers_in_pages())
def test_the_result_does_not_depend_on_pages(drawn):
    sessions, zone, bars, pages = drawn
    alone = PageCutter(sessions, zone).feed(bars, more=False)
    cut = PageCutter(sessions, zone)
    parts = [cut.feed(page, more=page is not pages[-1]) for page in pages]
    assert tuple(s for p in parts for s in p.sessions) == alone.sessions == tuple(sessions)
    assert tuple(c for p in parts for c in p.counts) == alone.counts
    assert tuple(s for p in parts for s in p.empty) == alone.empty
    assert_same(Bars.concat(*(p.bars for p in parts)), alone.bars)
    assert_same(alone.bars, bars)


@given(answers_in_pages())
@settings(max_examples=50)
def test_each_part_has_only_the_bars_of_its_sessions(drawn):
    sessions, zone, _, pages = drawn
    cut = PageCutter(sessions, zone)
    for page in pages:
        part = cut.feed(page, more=page is not pages[-1])
        days = [_day(int(t), zone) for t in part.bars.timestamp]
        assert set(days) == {c.session for c in part.counts} <= set(part.sessions)
        assert [days.count(c.session) for c in part.counts] == [c.bars for c in part.counts]


@given(answers_in_pages())
@settings(max_examples=50)
def test_no_session_is_complete_before_its_last_bar(drawn):
    sessions, zone, bars, pages = drawn
    cut = PageCutter(sessions, zone)
    seen = set()
    for page in pages:
        seen |= set(page.timestamp.tolist())
        done = set(cut.feed(page, more=page is not pages[-1]).sessions)
        assert {t for t in bars.timestamp.tolist() if _day(t, zone) in done} <= seen
