"""Splits and cash dividends: what is stored, what a new answer changes, and whether prices agree.

Days are the exchange's own, New York's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import StrEnum
from functools import reduce


class ActionKind(StrEnum):
    """The kinds of corporate action."""

    SPLIT = "split"
    DIVIDEND = "dividend"


type ActionKey = tuple[str, str, date, float]
"""Symbol, kind, ex-date, size."""

MIN_SHARES, MAX_SHARES = 1e-9, 1e9
"""Limits for the shares of a split: far wider than any real one, and the product of a symbol's splits stays finite."""

_IDENTITY = frozenset({"symbol", "kind", "ex_date"})


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """A split (`ratio_from`, `ratio_to`) or a dividend (`cash_amount` and its dates) of a symbol.

    A split turns `ratio_from` old shares into `ratio_to` new ones: 1 and 10 for ten for one, 8 and 1 for a reverse; stock
    dividends are splits too. `cash_amount` is for each share that is held before `ex_date`.

    Actions are identified by symbol, kind, ex-date and size: a record that the vendor lists twice is one action, and a
    postponed or corrected one is two, the old one, withdrawn, and the new one.

    Fields have the meaning of the columns of `corporate_events`; those of the other kind, or unknown, are None. ValueError if
    the numbers of its kind are missing, shares are outside MIN_SHARES to MAX_SHARES, or cash is negative or not finite.
    """

    symbol: str
    kind: ActionKind
    ex_date: date
    ratio_from: float | None = None
    ratio_to: float | None = None
    cash_amount: float | None = None
    currency: str | None = None
    declared: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    frequency: int | None = None
    vendor_id: str | None = None

    def __post_init__(self) -> None:
        shares = (self.ratio_from or 1.0, self.ratio_to or 1.0)
        if not 0 <= self.size < math.inf or not all(MIN_SHARES <= number <= MAX_SHARES for number in shares):
            raise ValueError(f"{self.symbol}: the {self.kind} of {self.ex_date} has no valid size")

    @property
    def size(self) -> float:
        """New shares per old share of a split, cash per share of a dividend; NaN if unknown."""
        if self.kind is ActionKind.DIVIDEND:
            return math.nan if self.cash_amount is None else self.cash_amount
        return self.ratio_to / self.ratio_from if self.ratio_to and self.ratio_from else math.nan

    @property
    def key(self) -> ActionKey:
        """The identity of the action."""
        return self.symbol, self.kind.value, self.ex_date, self.size

    def completed(self, other: CorporateAction) -> CorporateAction:
        """Fill in missing fields from another record of the same action."""
        missing = [f.name for f in fields(self) if f.name not in _IDENTITY and getattr(self, f.name) is None]
        return replace(self, **{name: getattr(other, name) for name in missing})


# --- What a new answer changes


@dataclass(frozen=True, slots=True)
class KnownAction:
    """A stored action, and whether it is withdrawn."""

    action: CorporateAction
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class ListedActions:
    """What the vendor lists of some symbols from a day on.

    since     the first ex-date that was requested; there is no last one
    actions   in any order, with or without duplicates
    complete  symbols and kinds that were listed completely: stored actions of these that are not listed are withdrawn
    """

    since: date
    actions: tuple[CorporateAction, ...]
    complete: frozenset[tuple[str, ActionKind]]


@dataclass(frozen=True, slots=True)
class ActionChanges:
    """What an answer changes, each sorted by symbol, kind and ex-date.

    new        actions that were not stored
    changed    actions with changed fields beside the key, as they are now
    returned   withdrawn actions that are listed again, as they are now
    withdrawn  actions that are no longer listed, as they were
    """

    new: tuple[CorporateAction, ...] = ()
    changed: tuple[CorporateAction, ...] = ()
    returned: tuple[CorporateAction, ...] = ()
    withdrawn: tuple[CorporateAction, ...] = ()

    @property
    def split_days(self) -> list[tuple[str, date]]:
        """Symbols and ex-dates of the splits that were added or withdrawn, each once."""
        moved = (*self.new, *self.returned, *self.withdrawn)
        return sorted({(action.symbol, action.ex_date) for action in moved if action.kind is ActionKind.SPLIT})


def compare(known: Iterable[KnownAction], listed: ListedActions) -> ActionChanges:
    """Compare all stored actions of the symbols, withdrawn ones too, with what the vendor lists.

    Fields that a record leaves out keep their stored values: the vendor's older paths have fewer fields than its newer ones.
    """
    before = {k.action.key: k for k in known}
    now = _deduplicated(listed.actions)
    seen = {key: action.completed(before[key].action) for key, action in now.items() if key in before}
    gone = [
        k.action
        for key, k in before.items()
        if key not in now
        and not k.withdrawn
        and k.action.ex_date >= listed.since
        and (k.action.symbol, k.action.kind) in listed.complete
    ]
    return ActionChanges(
        new=_sorted(action for key, action in now.items() if key not in before),
        changed=_sorted(a for key, a in seen.items() if not before[key].withdrawn and a != before[key].action),
        returned=_sorted(action for key, action in seen.items() if before[key].withdrawn),
        withdrawn=_sorted(gone),
    )


def _deduplicated(actions: Iterable[CorporateAction]) -> dict[ActionKey, CorporateAction]:
    """One action a key: the first by `repr`, completed by the others, so that the order of answers does not matter."""
    records: dict[ActionKey, set[CorporateAction]] = {}
    for action in actions:
        records.setdefault(action.key, set()).add(action)
    return {key: reduce(CorporateAction.completed, sorted(same, key=repr)) for key, same in records.items()}


def _sorted(actions: Iterable[CorporateAction]) -> tuple[CorporateAction, ...]:
    return tuple(sorted(actions, key=lambda action: action.key))


# --- Whether prices jump at a split

SHARE_OF_RATIO = 0.4
"""At 0.5 of |log ratio| the jump is as close to none as to the split. 0.4 leaves that middle out: the night before a split of
2:1 may bring 32 % up or 24 % down."""

MAX_NIGHT = math.log(1.5)
"""A night of more than half up or a third down is not plausible, however large the ratio: 10:1 must not pass for 20:1."""

MIN_CHECKED = math.log(5 / 4)
"""A ratio closer to 1 than 5:4 cannot be distinguished from ordinary nights and is not checked."""


@dataclass(frozen=True, slots=True)
class SplitJump:
    """The splits of one symbol on one day, and the raw daily prices on both sides of it.

    Between the last close before the ex-date and the first open from it on, raw prices change by the ratio and overnight.

    expected  shares after over shares before, of all the day's splits: above 0
    close     the last close before, None if none is stored near; above 0
    open      the first open from the day on, None if none is stored near; above 0
    """

    symbol: str
    ex_date: date
    expected: float
    close: float | None
    open: float | None

    @property
    def seen(self) -> float | None:
        """The ratio that the prices show, None without both of them."""
        return self.close / self.open if self.close and self.open else None

    @property
    def checked(self) -> bool:
        """Whether prices and ratio allow a check."""
        return self.seen is not None and abs(math.log(self.expected)) >= MIN_CHECKED

    @property
    def plausible(self) -> bool:
        """Whether the prices jump by about the ratio; True if it cannot be checked."""
        if not self.checked or self.seen is None:
            return True
        ratio = math.log(self.expected)
        return abs(math.log(self.seen) - ratio) <= min(SHARE_OF_RATIO * abs(ratio), MAX_NIGHT)
