"""Compare daily bars with those of a witness, within what is usual for each symbol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from backfill_assets.domain.bars import Float

FIELDS = ("high", "low", "close")
"""What is compared. Volumes are not: a vendor counts other trades than the next one."""

_LEAST, _MOST = 0.001, 0.02
"""Relative bounds of a usual difference: a cent of 10 dollars, and what no vendor's rules explain."""
_EQUAL, _TIMES, _FEW = 1e-4, 6.0, 5
"""Smaller differences count as none. Six times the median of the others is unusual: of normal ones, one in 20,000. So few
others teach nothing."""
_ENOUGH = 20
"""Sessions from which the usual difference is learned; with fewer it is `_MOST`."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A price of a session that differs from the witness by more than `usual` (relative); `stored` is None without a bar."""

    symbol: str
    session: date
    field: str
    stored: float | None
    witness: float
    usual: float


def usual(difference: Float) -> float:
    """Return the largest usual one of relative differences of one price, float64 (n,)."""
    if len(difference) < _ENOUGH:
        return _MOST
    sizes = np.abs(difference)
    others = sizes[sizes > _EQUAL]
    return float(np.clip(_TIMES * np.median(others), _LEAST, _MOST)) if len(others) >= _FEW else _LEAST


def disagreements(symbol: str, sessions: Sequence[date], stored: Float, witness: Float) -> Iterator[Disagreement]:
    """Yield what differs unusually, by session. `stored` and `witness` have the columns of FIELDS: float64 (n, 3)."""
    difference = witness / stored - 1
    bounds = [usual(column) for column in difference.T]
    for row, column in np.argwhere(np.abs(difference) > bounds).tolist():
        values = float(stored[row, column]), float(witness[row, column])
        yield Disagreement(symbol, sessions[row], FIELDS[column], *values, bounds[column])
