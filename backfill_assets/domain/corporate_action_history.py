"""Splits and dividends as they are kept, and what a new answer of the vendor changes in them.

An event is known by its symbol, kind, ex-date and size. So a record that the vendor lists twice is one event, and one that
was put off or whose ratio was mended is two: the old one, withdrawn, and the new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import StrEnum
from functools import reduce

from backfill_assets.domain.corporate_actions import Dividend, Split


class ActionKind(StrEnum):
    """What a company does to its shares."""

    SPLIT = "split"
    DIVIDEND = "dividend"


type ActionKey = tuple[str, str, date, float]
"""Symbol, kind, ex-date, size."""

FEWEST, MOST = 1e-9, 1e9
"""Shares that a split can name: wide of every real one, narrow enough that the product of a symbol's splits is a number."""

_IDENTITY = frozenset({"symbol", "kind", "ex_date"})


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """A split (`ratio_from`, `ratio_to`) or a dividend (`cash_amount` and the days around it) of a symbol of the universe.

    Fields mean what they mean in `corporate_events`; those that are not of its kind, or not known, are None. ValueError for
    numbers of shares that none can be (FEWEST, MOST), and where the numbers of its kind are not given.
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
        if math.isnan(self.size) or not all(FEWEST <= number <= MOST for number in shares):
            raise ValueError(f"{self.symbol}: the {self.kind} of {self.ex_date} has no size")

    @property
    def size(self) -> float:
        """New shares for an old one of a split, cash a share of a dividend."""
        if self.kind is ActionKind.DIVIDEND:
            return math.nan if self.cash_amount is None else self.cash_amount
        return self.ratio_to / self.ratio_from if self.ratio_to and self.ratio_from else math.nan

    @property
    def key(self) -> ActionKey:
        """What tells it from every other event."""
        return self.symbol, self.kind.value, self.ex_date, self.size

    def completed(self, other: CorporateAction) -> CorporateAction:
        """Itself, with what it does not tell taken from another record of the same event."""
        lacking = [f.name for f in fields(self) if f.name not in _IDENTITY and getattr(self, f.name) is None]
        return replace(self, **{name: getattr(other, name) for name in lacking})


def to_corporate_action(symbol: str, listed: Split | Dividend) -> CorporateAction:
    """A vendor's record as an event of a symbol. ValueError where it has a number of shares that none can be."""
    if isinstance(listed, Split):
        return CorporateAction(
            symbol,
            ActionKind.SPLIT,
            listed.ex_date,
            ratio_from=listed.ratio_from,
            ratio_to=listed.ratio_to,
            vendor_id=listed.vendor_id,
        )
    return CorporateAction(
        symbol,
        ActionKind.DIVIDEND,
        listed.ex_date,
        cash_amount=listed.cash_amount,
        currency=listed.currency,
        declared=listed.declared,
        record_date=listed.record_date,
        pay_date=listed.pay_date,
        frequency=listed.frequency,
        vendor_id=listed.vendor_id,
    )


@dataclass(frozen=True, slots=True)
class KnownAction:
    """An event as the table holds it, and whether it stands withdrawn."""

    action: CorporateAction
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class ListedActions:
    """What the vendor lists of some symbols from a day on.

    since   the first ex-date that was asked for; there is no last one
    events  in any order, doubled or not
    whole   symbols and kinds of which everything was said: what is not listed of them is not there any more
    """

    since: date
    actions: tuple[CorporateAction, ...]
    complete: frozenset[tuple[str, ActionKind]]


@dataclass(frozen=True, slots=True)
class ActionChanges:
    """What an answer changes, each in the order of symbol, kind and ex-date.

    new        events that were never seen
    changed    events of which something beside the key is told otherwise, as they are now
    returned   withdrawn events that are listed again, as they are now
    withdrawn  events that are not listed any more, as they were
    """

    new: tuple[CorporateAction, ...] = ()
    changed: tuple[CorporateAction, ...] = ()
    returned: tuple[CorporateAction, ...] = ()
    withdrawn: tuple[CorporateAction, ...] = ()

    @property
    def split_days(self) -> list[tuple[str, date]]:
        """Symbols and ex-dates, each once, at which units begin or no longer begin."""
        moved = (*self.new, *self.returned, *self.withdrawn)
        return sorted({(event.symbol, event.ex_date) for event in moved if event.kind is ActionKind.SPLIT})


def compare(known: Iterable[KnownAction], listed: ListedActions) -> ActionChanges:
    """From all that is known of the symbols, withdrawn events too, and what is listed of them now: what changes.

    What a record leaves out stays as it was known: the vendor's older paths tell less than its newer ones.
    """
    before = {k.action.key: k for k in known}
    now = _without_doubles(listed.actions)
    seen = {key: event.completed(before[key].action) for key, event in now.items() if key in before}
    gone = [
        k.action
        for key, k in before.items()
        if key not in now
        and not k.withdrawn
        and k.action.ex_date >= listed.since
        and (k.action.symbol, k.action.kind) in listed.complete
    ]
    return ActionChanges(
        new=_ordered(event for key, event in now.items() if key not in before),
        changed=_ordered(e for key, e in seen.items() if not before[key].withdrawn and e != before[key].action),
        returned=_ordered(event for key, event in seen.items() if before[key].withdrawn),
        withdrawn=_ordered(gone),
    )


def _without_doubles(events: Iterable[CorporateAction]) -> dict[ActionKey, CorporateAction]:
    """One event a key: the first by its text, completed by the others, so that the order of answers does not matter."""
    records: dict[ActionKey, set[CorporateAction]] = {}
    for event in events:
        records.setdefault(event.key, set()).add(event)
    return {key: reduce(CorporateAction.completed, sorted(same, key=repr)) for key, same in records.items()}


def _ordered(events: Iterable[CorporateAction]) -> tuple[CorporateAction, ...]:
    return tuple(sorted(events, key=lambda event: event.key))
