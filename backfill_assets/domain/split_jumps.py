"""Whether prices jump where a split says that they do.

Raw prices fall by the ratio from the last close before the ex-date to the first open from it on, and move overnight besides.
Whether they do is told from three facts, all of them logarithms:

- at half of |log ratio| the jump is as near to none as to the split. 0.4 of it leaves that middle out: the night
  before a split of 2:1 may bring 32 % up or 24 % down;
- a night of more than half up or a third down (log 1.5) is not believed of any share, however large the ratio: else 10:1
  would pass for 20:1;
- a ratio nearer to 1 than 5:4 does not stand out from ordinary nights, and is not judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

SHARE_OF_RATIO = 0.4
MOST = math.log(1.5)
LEAST_JUDGED = math.log(5 / 4)


@dataclass(frozen=True, slots=True)
class SplitJump:
    """The splits of one symbol on one day, and the raw daily prices on both sides of it.

    expected  shares after over shares before, of all the day's splits: above 0
    close     the last close before, None where none is stored near; above 0
    open      the first open from the day on, None where none is stored near; above 0
    """

    symbol: str
    ex_date: date
    expected: float
    close: float | None
    open: float | None

    @property
    def seen(self) -> float | None:
        """The ratio that the prices show, None where one of them is not there."""
        return self.close / self.open if self.close and self.open else None

    @property
    def judged(self) -> bool:
        """Whether anything can be said."""
        return self.seen is not None and abs(math.log(self.expected)) >= LEAST_JUDGED

    @property
    def plausible(self) -> bool:
        """Whether the prices jump by about the ratio; True where nothing can be said."""
        if not self.judged or self.seen is None:
            return True
        ratio = math.log(self.expected)
        return abs(math.log(self.seen) - ratio) <= min(SHARE_OF_RATIO * abs(ratio), MOST)
