import math
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.corporate_actions import (
    MIN_CHECKED,
    ActionChanges,
    ActionKind,
    CorporateAction,
    KnownAction,
    ListedActions,
    SplitJump,
    compare,
)

DAY = date(2024, 6, 10)
SPLIT, DIVIDEND = ActionKind.SPLIT, ActionKind.DIVIDEND
FIRST = date(2024, 1, 2)
SYMBOLS = ("AAPL", "NVDA")
ALL = frozenset((symbol, kind) for symbol in SYMBOLS for kind in ActionKind)


def split(ex_date, to=10.0, old=1.0, symbol="NVDA", **more):
    return CorporateAction(symbol, SPLIT, date.fromisoformat(ex_date), ratio_from=old, ratio_to=to, **more)


def dividend(ex_date, cash=0.25, symbol="AAPL", **more):
    return CorporateAction(symbol, DIVIDEND, date.fromisoformat(ex_date), cash_amount=cash, **more)


def known(*actions, withdrawn=()):
    return [*(KnownAction(e) for e in actions), *(KnownAction(e, withdrawn=True) for e in withdrawn)]


def listed(*actions, since=FIRST, complete=ALL):
    return ListedActions(since, actions, complete)


@pytest.mark.parametrize("facts", [{}, {"ratio_to": 4.0}, {"cash_amount": 4.0}])
def test_a_split_without_a_ratio_is_invalid(facts):
    with pytest.raises(ValueError, match="has no valid size"):
        CorporateAction("NVDA", SPLIT, FIRST, **facts)


def test_a_dividend_of_zero_is_valid():
    assert dividend("2024-06-10", 0.0).size == 0.0


def test_unknown_actions_are_new_and_known_ones_change_nothing():
    actions = (dividend("2024-05-10"), split("2024-06-10"))
    assert compare([], listed(*actions)) == ActionChanges(new=actions)
    assert compare(known(*actions), listed(*actions)) == ActionChanges()


def test_duplicate_records_are_one_action_in_any_order():
    duplicates = [split("2024-06-10", vendor_id="E2"), split("2024-06-10", 20, 2, vendor_id="E1"), split("2024-06-10")]
    first = compare([], listed(*duplicates)).new
    assert len(first) == 1
    assert {
        compare([], listed(*reordered)).new
        for reordered in (duplicates[::-1], duplicates[1:] + duplicates[:1], duplicates * 2)
    } == {first}
    assert compare(known(*first), listed(*duplicates)) == ActionChanges()


def test_two_splits_of_one_day_with_different_ratios_are_two_actions():
    assert len(compare([], listed(split("2024-06-10", 10), split("2024-06-10", 1.05))).new) == 2


def test_a_postponed_split_is_withdrawn_and_a_new_one_added():
    before, after = split("2024-06-10", vendor_id="E1"), split("2024-06-17", vendor_id="E1")
    changes = compare(known(before), listed(after))
    assert changes == ActionChanges(new=(after,), withdrawn=(before,))
    assert changes.split_days == [("NVDA", DAY), ("NVDA", date(2024, 6, 17))]


def test_a_corrected_ratio_is_a_withdrawn_and_a_new_split_of_the_same_day():
    changes = compare(known(split("2024-06-10", 10)), listed(split("2024-06-10", 4)))
    assert (len(changes.new), len(changes.withdrawn)) == (1, 1)
    assert changes.split_days == [("NVDA", DAY)]


def test_an_action_that_is_no_longer_listed_is_withdrawn_once_and_can_return():
    action = split("2024-06-10")
    assert compare(known(action), listed()) == ActionChanges(withdrawn=(action,))
    assert compare(known(withdrawn=[action]), listed()) == ActionChanges()
    back = compare(known(withdrawn=[action]), listed(action))
    assert back == ActionChanges(returned=(action,))
    assert back.split_days == [("NVDA", DAY)]


def test_changed_details_are_changes_and_move_no_split_day():
    before = dividend("2024-05-10", pay_date=date(2024, 5, 16))
    after = replace(before, pay_date=date(2024, 5, 17))
    assert compare(known(before), listed(after)) == ActionChanges(changed=(after,))
    renamed = compare(known(split("2024-06-10", vendor_id="E1")), listed(split("2024-06-10", vendor_id="E2")))
    assert len(renamed.changed) == 1
    assert renamed.split_days == []


def test_fields_that_a_record_leaves_out_keep_their_stored_values():
    full = dividend("2024-05-10", currency="USD", pay_date=date(2024, 5, 16), frequency=4, vendor_id="E1")
    assert compare(known(full), listed(dividend("2024-05-10"))) == ActionChanges()


def test_nothing_is_withdrawn_for_incomplete_symbols_and_kinds():
    actions = (split("2024-06-10"), dividend("2024-06-10", symbol="NVDA"), split("2024-06-10", symbol="AAPL"))
    changes = compare(known(*actions), listed(complete=ALL - {("NVDA", SPLIT)}))
    assert set(changes.withdrawn) == set(actions[1:])


DAYS = st.integers(0, 40).map(lambda n: FIRST + timedelta(days=n))
ACTIONS = st.builds(
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


@given(st.lists(st.tuples(st.lists(ACTIONS, max_size=8), DAYS), min_size=1, max_size=5))
def test_after_every_answer_exactly_the_listed_actions_are_active_within_the_requested_days(answers):
    table = []
    for actions, since in answers:
        listing = listed(*(e for e in actions if e.ex_date >= since), since=since)
        acted_before = {k.action.key for k in table if not k.withdrawn and k.action.ex_date < since}
        changes = compare(table, listing)
        touched = [
            e.key for group in (changes.new, changes.changed, changes.returned, changes.withdrawn) for e in group
        ]
        assert len(touched) == len(set(touched))
        table = applied(table, changes)
        active = {k.action.key for k in table if not k.withdrawn}
        assert active == acted_before | {e.key for e in listing.actions}
        assert compare(table, listing) == ActionChanges()


# --- Sizes


BAD = (0, -1, math.nan, math.inf)


@pytest.mark.parametrize(
    ("old", "new"), [(1, 1e10), (1e-10, 1), (1e300, 1e300), *((1, bad) for bad in BAD), *((bad, 1) for bad in BAD)]
)
def test_a_split_with_an_impossible_number_of_shares_is_invalid(old, new):
    with pytest.raises(ValueError, match="NVDA: the split of 2024-06-10 has no valid size"):
        split("2024-06-10", new, old)


@pytest.mark.parametrize("amount", [-0.01, float("nan"), float("inf")])
def test_an_amount_is_finite_and_not_negative(amount):
    with pytest.raises(ValueError, match="AAPL: the dividend of 2024-06-10 has no valid size"):
        dividend("2024-06-10", amount)


def test_equal_splits_are_equal_and_hashable():
    assert len({split("2024-06-10", 10), split("2024-06-10", 10.0), split("2024-06-10", vendor_id="E1")}) == 2


# --- Jumps at splits

NIGHTS = st.floats(-0.08, 0.08)  # logarithms: a lively night, not an extraordinary one


def jump(expected, seen):
    return SplitJump("NVDA", DAY, expected, 100.0 * seen, 100.0)


@pytest.mark.parametrize(
    ("expected", "seen", "plausible"),
    [
        (10, 10, True),
        (10, 1, False),  # no split in the prices: duplicate, or postponed
        (10, 4, False),  # another ratio
        (20, 10, False),
        (0.125, 8, False),  # the wrong way round
        (0.125, 0.125, True),
        (2, 2 * 1.25, True),  # a bad night
        (2, 2 / 1.25, True),
        (2, 4, False),
        (1.5, 1.5, True),
        (1.5, 1, False),
        (50, 50 * 1.4, True),
        (50, 50 * 1.6, False),
    ],
)
def test_known_cases(expected, seen, plausible):
    assert jump(expected, seen).checked
    assert jump(expected, seen).plausible is plausible


@given(st.floats(1e-4, 1e4).filter(lambda r: abs(math.log(r)) >= MIN_CHECKED), NIGHTS)
def test_a_split_that_happened_is_plausible_after_an_ordinary_night_and_one_that_did_not_is_implausible(ratio, night):
    assert jump(ratio, ratio * math.exp(night)).plausible
    assert not jump(ratio, math.exp(night)).plausible


@given(st.floats(math.exp(-0.2), math.exp(0.2)), st.floats(0.1, 10))
def test_ratios_near_one_are_not_checked(ratio, seen):
    assert not jump(ratio, seen).checked
    assert jump(ratio, seen).plausible


@pytest.mark.parametrize(("close", "opened"), [(None, 1.0), (1.0, None), (None, None)])
def test_without_a_bar_on_each_side_nothing_is_checked(close, opened):
    bare = SplitJump("NVDA", DAY, 10.0, close, opened)
    assert (bare.seen, bare.checked, bare.plausible) == (None, False, True)
