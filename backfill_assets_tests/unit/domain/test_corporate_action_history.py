"""What a new answer of the vendor changes in the events that are known."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.corporate_action_history import (
    ActionChanges,
    ActionKind,
    CorporateAction,
    KnownAction,
    ListedActions,
    compare,
    to_corporate_action,
)
from backfill_assets.domain.corporate_actions import Dividend, Split

SPLIT, DIVIDEND = ActionKind.SPLIT, ActionKind.DIVIDEND
FIRST = date(2024, 1, 2)
SYMBOLS = ("AAPL", "NVDA")
ALL = frozenset((symbol, kind) for symbol in SYMBOLS for kind in ActionKind)


def split(ex_date, to=10.0, old=1.0, symbol="NVDA", **more):
    return CorporateAction(symbol, SPLIT, date.fromisoformat(ex_date), ratio_from=old, ratio_to=to, **more)


def dividend(ex_date, cash=0.25, symbol="AAPL", **more):
    return CorporateAction(symbol, DIVIDEND, date.fromisoformat(ex_date), cash_amount=cash, **more)


def known(*events, withdrawn=()):
    return [*(KnownAction(e) for e in events), *(KnownAction(e, withdrawn=True) for e in withdrawn)]


def listed(*events, since=FIRST, whole=ALL):
    return ListedActions(since, events, whole)


def test_records_of_the_vendor_become_events():
    day = date(2024, 6, 10)
    assert to_corporate_action("NV", Split("NVDA", day, 1, 10, "E1")) == CorporateAction(
        "NV", SPLIT, day, ratio_from=1, ratio_to=10, vendor_id="E1"
    )
    told = {
        "currency": "USD",
        "declared": FIRST,
        "record_date": day,
        "pay_date": day,
        "frequency": 4,
        "vendor_id": "E2",
    }
    assert to_corporate_action("A", Dividend("AAPL", day, 0.25, **told)) == CorporateAction(
        "A", DIVIDEND, day, cash_amount=0.25, **told
    )


@pytest.mark.parametrize(("old", "new"), [(1, 1e10), (1e-10, 1), (1e300, 1e300)])
def test_a_split_into_numbers_of_shares_that_none_can_be_is_refused(old, new):
    with pytest.raises(ValueError, match="NVDA: the split of 2024-06-10 has no size"):
        to_corporate_action("NVDA", Split("NVDA", date(2024, 6, 10), old, new))


@pytest.mark.parametrize("facts", [{}, {"ratio_to": 4.0}, {"cash_amount": 4.0}])
def test_a_split_without_a_ratio_is_refused(facts):
    with pytest.raises(ValueError, match="has no size"):
        CorporateAction("NVDA", SPLIT, FIRST, **facts)


def test_a_dividend_of_nothing_is_one():
    assert dividend("2024-06-10", 0.0).size == 0.0


def test_what_was_never_seen_is_new_and_seen_again_it_changes_nothing():
    events = (dividend("2024-05-10"), split("2024-06-10"))
    assert compare([], listed(*events)) == ActionChanges(new=events)
    assert compare(known(*events), listed(*events)) == ActionChanges()


def test_a_doubled_record_is_one_event_whatever_the_order_of_the_answer():
    doubles = [split("2024-06-10", vendor_id="E2"), split("2024-06-10", 20, 2, vendor_id="E1"), split("2024-06-10")]
    first = compare([], listed(*doubles)).new
    assert len(first) == 1
    assert {compare([], listed(*turned)).new for turned in (doubles[::-1], doubles[1:] + doubles[:1], doubles * 2)} == {
        first
    }
    assert compare(known(*first), listed(*doubles)) == ActionChanges()


def test_two_splits_of_one_day_with_different_ratios_are_two_events():
    assert len(compare([], listed(split("2024-06-10", 10), split("2024-06-10", 1.05))).new) == 2


def test_a_split_that_is_put_off_is_the_old_one_withdrawn_and_a_new_one():
    before, after = split("2024-06-10", vendor_id="E1"), split("2024-06-17", vendor_id="E1")
    changes = compare(known(before), listed(after))
    assert changes == ActionChanges(new=(after,), withdrawn=(before,))
    assert changes.split_days == [("NVDA", date(2024, 6, 10)), ("NVDA", date(2024, 6, 17))]


def test_a_ratio_that_is_mended_is_the_old_one_withdrawn_and_a_new_one_of_one_day():
    changes = compare(known(split("2024-06-10", 10)), listed(split("2024-06-10", 4)))
    assert (len(changes.new), len(changes.withdrawn)) == (1, 1)
    assert changes.split_days == [("NVDA", date(2024, 6, 10))]


def test_what_is_listed_no_longer_is_withdrawn_once_and_comes_back():
    event = split("2024-06-10")
    assert compare(known(event), listed()) == ActionChanges(withdrawn=(event,))
    assert compare(known(withdrawn=[event]), listed()) == ActionChanges()
    back = compare(known(withdrawn=[event]), listed(event))
    assert back == ActionChanges(returned=(event,))
    assert back.split_days == [("NVDA", date(2024, 6, 10))]


def test_details_that_are_told_otherwise_are_changed_and_move_no_units():
    before = dividend("2024-05-10", pay_date=date(2024, 5, 16))
    after = replace(before, pay_date=date(2024, 5, 17))
    assert compare(known(before), listed(after)) == ActionChanges(changed=(after,))
    renamed = compare(known(split("2024-06-10", vendor_id="E1")), listed(split("2024-06-10", vendor_id="E2")))
    assert len(renamed.changed) == 1
    assert renamed.split_days == []


def test_what_an_answer_leaves_out_stays_as_it_was_known():
    full = dividend("2024-05-10", currency="USD", pay_date=date(2024, 5, 16), frequency=4, vendor_id="E1")
    assert compare(known(full), listed(dividend("2024-05-10"))) == ActionChanges()


def test_events_before_the_day_that_was_asked_from_are_left_alone():
    old, late = split("2024-06-10"), split("2024-06-11")
    assert compare(known(old, late), listed(since=date(2024, 6, 11))) == ActionChanges(withdrawn=(late,))


def test_nothing_is_withdrawn_of_symbols_and_kinds_that_the_answer_is_not_whole_for():
    events = (split("2024-06-10"), dividend("2024-06-10", symbol="NVDA"), split("2024-06-10", symbol="AAPL"))
    changes = compare(known(*events), listed(whole=ALL - {("NVDA", SPLIT)}))
    assert set(changes.withdrawn) == set(events[1:])


DAYS = st.integers(0, 40).map(lambda n: FIRST + timedelta(days=n))
EVENTS = st.builds(
    lambda symbol, day, to, name: CorporateAction(symbol, SPLIT, day, ratio_from=1.0, ratio_to=to, vendor_id=name),
    st.sampled_from(SYMBOLS),
    DAYS,
    st.sampled_from([2.0, 3.0]),
    st.sampled_from([None, "E1", "E2"]),
) | st.builds(
    lambda symbol, day, pays: CorporateAction(symbol, DIVIDEND, day, cash_amount=0.5, pay_date=pays),
    st.sampled_from(SYMBOLS),
    DAYS,
    st.none() | DAYS,
)


def applied(before, changes):
    """The table after the changes: by key, whether withdrawn."""
    table = {k.action.key: k for k in before}
    table |= {e.key: KnownAction(e) for e in (*changes.new, *changes.changed, *changes.returned)}
    return list((table | {e.key: KnownAction(e, withdrawn=True) for e in changes.withdrawn}).values())


@given(st.lists(st.tuples(st.lists(EVENTS, max_size=8), DAYS), min_size=1, max_size=5))
def test_after_every_answer_exactly_what_is_listed_acts_within_the_days_that_were_asked_for(answers):
    table = []
    for events, since in answers:
        listing = listed(*(e for e in events if e.ex_date >= since), since=since)
        acted_before = {k.action.key for k in table if not k.withdrawn and k.action.ex_date < since}
        changes = compare(table, listing)
        touched = [
            e.key for group in (changes.new, changes.changed, changes.returned, changes.withdrawn) for e in group
        ]
        assert len(touched) == len(set(touched))
        table = applied(table, changes)
        acting = {k.action.key for k in table if not k.withdrawn}
        assert acting == acted_before | {e.key for e in listing.actions}
        assert compare(table, listing) == ActionChanges()
