"""What companies do to their shares: splits and cash dividends.

Days have no zone: they are the exchange's own, New York's. Tickers are the vendor's spelling. A vendor lists some events
twice or under two days (a split that was put off): each is one value here, and whoever applies them has to judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Split:
    """From `ex_date` on, `ratio_from` old shares are `ratio_to` new ones: 1 and 10 for ten for one, 8 and 1 for a reverse.

    A dividend paid in shares is one too. Prices from before are divided by `ratio_to / ratio_from`. ValueError where a
    number of shares is not finite and above zero.

    vendor_id  the vendor's own, None where it gives none
    """

    ticker: str
    ex_date: date
    ratio_from: float
    ratio_to: float
    vendor_id: str | None = None

    def __post_init__(self) -> None:
        if not (_is_positive(self.ratio_from) and _is_positive(self.ratio_to)):
            raise ValueError(f"{self.ticker}: a split of {self.ratio_from:g} into {self.ratio_to:g} is none")


@dataclass(frozen=True, slots=True)
class Dividend:
    """Whoever held the share before `ex_date` is paid `cash_amount` of `currency` a share, in the shares of that day.

    ValueError where the amount is negative or not finite. None where the vendor does not say:

    currency     ISO 4217
    declared, record_date, pay_date  days of announcement, of the register, of payment
    frequency    payments a year; 0 for one that is not regular
    vendor_id    the vendor's own
    """

    ticker: str
    ex_date: date
    cash_amount: float
    currency: str | None = None
    declared: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    frequency: int | None = None
    vendor_id: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cash_amount) and self.cash_amount >= 0):
            raise ValueError(f"{self.ticker}: {self.cash_amount:g} is no cash amount of a dividend")


def _is_positive(ratio: float) -> bool:
    return math.isfinite(ratio) and ratio > 0
