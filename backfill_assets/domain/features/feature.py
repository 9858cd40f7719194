"""What a feature is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from backfill_assets.domain.bars import Float
from backfill_assets.domain.features.window import Window

type Bounds = tuple[float | None, float | None]


class Scaling(StrEnum):
    """How a value follows its bars into the units of another day: as a price (x f), as a volume (/ f), or not at all."""

    PRICE = "price"
    VOLUME = "volume"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the feature table.

    unit     what its numbers are
    warm_up  how many bars of a series come before the first with a value
    scaling  how it follows a split
    bounds   the least and the greatest value that it can have, rounding aside; None where there is none
    """

    name: str
    unit: str
    description: str
    warm_up: int
    scaling: Scaling = Scaling.NONE
    bounds: Bounds = (None, None)


@dataclass(frozen=True, slots=True)
class Feature:
    """One entry of the set: an indicator with its columns.

    name      the indicator; its column's name where it has one
    source    who computes it, and after whom
    columns   in the order of what `compute` gives
    compute   from a window of n bars, one float64 (n,) for each column
    settles   of a recursion: bars after which it has forgotten, to 1e-9 of the column's scale, where it was begun.
              None where each value is made from its own bars alone
    """

    name: str
    source: str
    columns: tuple[Column, ...]
    compute: Callable[[Window], tuple[Float, ...]]
    settles: int | None = None

    @property
    def look_back(self) -> int:
        """How many bars must precede a row for its values to be those of the whole history.

        Exactly those where each is made from its own bars, else to 1e-9 of the scale.
        """
        return self.settles or max(column.warm_up for column in self.columns)
