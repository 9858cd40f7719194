"""Find sessions that are missing minute bars, compared with the symbol's other sessions.

A minute without a trade has no bar, so a missing minute by itself says nothing. Sessions are compared by three things: the
number of minutes, the half hours of the day that they are in, and their volume in proportion to that of the daily bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backfill_assets.domain.bars import Float, Int
from backfill_assets.domain.sessions import HALF_HOURS, HOURS, Calendar, Kind

Counts = NDArray[Any]
Mask = NDArray[np.bool_]

MIN_OTHERS = 5
"""A session is compared once the symbol has so many others."""

BLOCK = 10
AROUND = 40
"""Sessions that a block of ten is compared with, the block included, once before and once after it: two months each. What
both sides have is expected, so neither growing nor shrinking activity makes a session partial, nor does a lasting change."""

SPREADS = 6.0
"""Standard deviations below the median. Days of trading have heavier tails than a normal distribution, in which one of a
thousand million is that far out."""

MAD_TO_SIGMA = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""

SHARE = 0.7
"""With less than this share of the likely minutes a session is partial even if another one near it has as few. With more,
only if it is far below all others: a quiet day is missing a minute here and there."""

SHORTEST_HOLE = {Kind.STOCKS: 15, Kind.CRYPTO: 8}
"""Minutes. A halt of a single stock takes five or ten of them, a halt of the market fifteen."""

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Half hours that are examined for a hole. A hole of another length nearly fills one of these."""

PACE = 0.35
"""Any session is taken to have this share of the trades of the quietest fifth, at any time of the day: the quietest one of
years, and pauses of half an hour, have about as many."""

PACES: Float = 0.8 ** np.arange(16, dtype=np.float64)
"""The paces that a session is compared with if all of it is slower: down to a thirtieth."""

REGULAR = {Kind.STOCKS: range(19, 32), Kind.CRYPTO: range(HALF_HOURS)}
"""The half hours of regular trading: of stocks from 09:30 to 16:00."""

SILENCE = {Kind.STOCKS: 60, Kind.CRYPTO: 120}
"""A stretch of regular hours without any minute, in which this many were to be expected from the rest of the same session, is
a hole even if all sessions have it. Thin coins rest for hours, stocks do not."""

CLOSE_VOLUMES = 0.1
"""Volumes that differ by less than a tenth do not count: the vendor corrects both after the close, at different times."""

LEAST_VOLUME = 0.5
"""Minutes with less than half of the day's volume are incomplete, even if all sessions are like that."""


@dataclass(frozen=True, slots=True, eq=False)
class MinuteProfiles:
    """The sessions of one symbol in order of time, n of them.

    minutes     uint8 (n, 48)   minute bars in each half hour of the market's day
    volume      float64 (n,)    their volume, NaN where it is not known
    day_volume  float64 (n,)    the volume of the daily bar, NaN where there is none
    closes      int64 (n,)      half hours that are compared: those before the close of a half day, else all 48
    """

    kind: Kind
    minutes: Counts
    volume: Float
    day_volume: Float
    closes: Int

    def __len__(self) -> int:
        return len(self.minutes)


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What was found of each of n sessions.

    reasons  why it is partial; None if it is not, or cannot be judged
    likely   float64 (n,)   the minutes expected from the other sessions, NaN with too few of them
    judged   bool (n,)      whether the loss of half of the session would be seen
    """

    reasons: list[str | None]
    likely: Float
    judged: Mask


def closing_half_hours(calendar: Calendar, sessions: Sequence[date]) -> Int:
    """Return for each session how many half hours of the day are compared: int64 (n,).

    After the early close of a half day (regular trading of less than 390 minutes) there is no usual number of minutes.
    """
    if calendar.kind is Kind.CRYPTO:
        return np.full(len(sessions), HALF_HOURS, np.int64)
    lengths = dict(zip(calendar.sessions, calendar.minutes, strict=True))
    minutes = np.array([lengths[s] for s in sessions], np.int64)
    return np.where(minutes < 390, (570 + minutes) // 30, HALF_HOURS)


def judge(sessions: MinuteProfiles) -> Verdicts:
    """Compare each session with itself and with the others."""
    n = len(sessions)
    compared = np.arange(HALF_HOURS) < sessions.closes[:, None]
    # Trading of a new listing begins during its first session.
    begins = int(np.argmax(sessions.minutes[0] > 0)) if n else 0
    compared[:1, :begins] = False
    counts: Counts = np.where(compared, sessions.minutes, 0)
    usual: Counts = np.zeros_like(counts)
    silent = _silent(sessions.kind, counts, compared)
    holes: Mask = np.asarray(silent.any(axis=1))
    few: Mask = np.zeros(n, np.bool_)
    judged: Mask = np.zeros(n, np.bool_)
    likely: Float = np.full(n, np.nan)
    if n > MIN_OTHERS:
        middle, fifth, twentieth, *_ = _surroundings(sessions.minutes)
        usual = np.where(compared, middle, 0)
        quiet: Float = np.where(compared, _quiet(sessions, fifth, twentieth), 0.0)
        holes |= _holes(sessions.kind, counts, quiet)
        few, judged, likely = _few(sessions, -30 * np.expm1(-quiet).sum(axis=1))
    few[:1] &= begins <= REGULAR[sessions.kind].start
    light, narrow, ratios = _light(sessions)
    judged |= narrow
    reasons: list[str | None] = [None] * n
    for i in np.flatnonzero(holes | few | light).tolist():
        if holes[i]:
            reasons[i] = _hole(counts[i].astype(np.int64), np.where(silent[i], 30, usual[i]))
        elif few[i]:
            reasons[i] = f"{counts[i].sum():,} of about {likely[i]:,.0f} minutes"
        else:
            ratio, lowest, highest = ratios[:, i]
            reasons[i] = f"volume of the minutes is {ratio:.2f} of the day's"
            if ratio < lowest:
                reasons[i] = f"{reasons[i]}, usually {lowest:.2f} to {highest:.2f}"
        judged[i] = True
    return Verdicts(reasons, likely, judged)


def _surroundings(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Return of each session's surroundings, by column: five (n, k).

    These are the median, what a fifth and a twentieth of the sessions do not reach, the second lowest, and the spread (a
    standard deviation). Of the surroundings before and after a session, it is the lower value, or the larger spread.
    """
    n = len(values)
    starts = range(0, n, BLOCK)
    before = [_full(max(0, min(s + BLOCK, n) - AROUND), min(s + BLOCK, n), n) for s in starts]
    after = [_full(s, min(s + AROUND, n), n) for s in starts]
    by_length: dict[int, list[int]] = {}
    for a, b in {*before, *after}:
        by_length.setdefault(b - a, []).append(a)
    known: dict[tuple[int, int], tuple[Any, ...]] = {}
    for length, begins in by_length.items():
        window = np.sort(values[np.array(begins)[:, None] + np.arange(length)], axis=1)
        middle = window[:, (length - 1) // 2]
        away = np.sort(np.abs(window.astype(np.float32) - middle[:, None].astype(np.float32)), axis=1)
        spread = -MAD_TO_SIGMA * away[:, length // 2].astype(np.float64)
        columns = (middle, *(window[:, i] for i in (length // 5, length // 20, 1)), spread)
        known |= {(a, a + length): tuple(x[i] for x in columns) for i, a in enumerate(begins)}
    sides = [[np.array(column) for column in zip(*(known[w] for w in side), strict=True)] for side in (before, after)]
    *found, spread = (np.repeat(np.minimum(*both), BLOCK, axis=0)[:n] for both in zip(*sides, strict=True))
    return [*found, -spread]


def _full(start: int, end: int, n: int) -> tuple[int, int]:
    """Widen a window at either end of the history to half of AROUND, as far as there are sessions."""
    if end - start >= AROUND // 2:
        return start, end
    return (0, min(n, AROUND // 2)) if start == 0 else (max(0, n - AROUND // 2), n)


def _few(sessions: MinuteProfiles, quiet: Float) -> tuple[Mask, Mask, Float]:
    """Return which sessions have too few minutes, whether half of the likely number would be too few, and that number.

    `quiet` (n,): the minutes that any session has at least.
    """
    n = len(sessions)
    few, judged, likely = np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.full(n, np.nan)
    for closes in np.unique(sessions.closes):
        rows = sessions.closes == closes
        most = 30 * max(int(closes) - HOURS[sessions.kind].opens.hour * 2, 1)
        bars = sessions.minutes[:, :closes].sum(axis=1, dtype=np.int64)
        value = _stable(bars, most)
        middle, _, _, second, spread = (x[:, 0] for x in _surroundings(value[:, None]))
        limit = middle - SPREADS * np.maximum(spread, 1.0)
        lowest = np.minimum(limit, middle - SPREADS * (middle - second))
        usual = most * np.sin(middle / (2 * np.sqrt(most))) ** 2
        few[rows] = ((value < lowest) | ((value < limit) & (bars < np.minimum(SHARE * usual, quiet))))[rows]
        likely[rows] = usual[rows]
        judged[rows] = ((_stable(usual / 2, most) < limit) & (usual / 2 < quiet))[rows]
    return few, judged, likely


def _stable(bars: NDArray[Any], most: int) -> Float:
    """Transform counts of at most `most` so that chance gives them a standard deviation of one, whatever their mean."""
    return np.asarray(2 * np.sqrt(most) * np.arcsin(np.sqrt(np.minimum(bars / most, 1.0))), np.float64)


def _holes(kind: Kind, counts: Counts, quiet: Float) -> Mask:
    """Return which sessions have a stretch with fewer minutes than a quiet session would have there.

    `quiet` (n, 48): the mean trades in a minute of quiet sessions, see `_quiet`. It is taken as lower if the rest of the
    session has less.
    """
    found: Mask = _worst(kind, counts, quiet, PACES[:1]) > SPREADS
    rows = np.flatnonzero(found)
    found[rows] = _worst(kind, counts[rows], quiet[rows], PACES) > SPREADS
    return found


def _quiet(sessions: MinuteProfiles, fifth: Counts, twentieth: Counts) -> Float:
    """Return the mean number of trades in a minute that any session has at least: float64 (n, 48).

    The number of trades in a minute is a Poisson number; a minute bar is a minute with at least one.
    """
    complete = np.sort(sessions.minutes[sessions.closes == HALF_HOURS], axis=0)
    always = complete[len(complete) // 50] == 30 if len(complete) else np.zeros(HALF_HOURS, np.bool_)
    # A half hour with all thirty minutes may be missing one in another session; rarely if hardly any session ever was.
    most = np.where(twentieth < 30, 31.0, np.where(always, 30.005, 30.1))
    return np.asarray(-PACE * np.log(1 - fifth / most), np.float64)


def _worst(kind: Kind, counts: Counts, trades: Float, paces: Float) -> Float:
    """Return by how many standard deviations of chance the worst stretch of each session is below expectation: (n,).

    `trades` (n, 48): the mean number of trades in a minute. The pace of a session is that of the `paces` (descending) which
    its other half hours follow.
    """
    expected = -30 * np.expm1(-np.multiply.outer(paces, trades))
    of_bars, of_expected = (_sums(x) for x in (counts, expected))
    of_chance = _sums(expected * (1 - expected / 30))
    worst = np.zeros(len(counts))
    for length in LENGTHS:
        bars, likely, chance = (s[..., length:] - s[..., :-length] for s in (of_bars, of_expected, of_chance))
        ahead = (of_expected[..., -1:] - likely > of_bars[:, -1:] - bars).sum(axis=0)
        pace = np.minimum(ahead, len(paces) - 1)[None]
        likely, chance = (np.take_along_axis(x, pace, axis=0)[0] for x in (likely, chance))
        lost = likely - bars
        deviations = np.where(lost > SHORTEST_HOLE[kind], lost / np.sqrt(chance + 1.0), 0.0)
        np.maximum(worst, deviations.max(axis=1), out=worst)
    return worst


def _sums(values: NDArray[Any]) -> Float:
    """Return the sums before each half hour and of all: float64 (…, 49)."""
    return np.cumsum(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 0)]), axis=-1, dtype=np.float64)


def _silent(kind: Kind, counts: Counts, compared: Mask) -> Mask:
    """Return the half hours of the longest silence in regular hours, where it is too long: bool (n, 48)."""
    n = len(counts)
    regular = REGULAR[kind]
    run, longest, at = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    for half_hour in regular:
        run = (run + 1) * (compared[:, half_hour] & (counts[:, half_hour] == 0))
        at[run > longest] = half_hour + 1
        longest[:] = np.maximum(longest, run)
    others = np.maximum(compared[:, regular].sum(axis=1) - longest, 1)
    expected = counts[:, regular].sum(axis=1, dtype=np.int64) / others * longest
    clock = np.arange(HALF_HOURS)
    within = (clock >= (at - longest)[:, None]) & (clock < at[:, None])
    return np.asarray(within & (expected >= SILENCE[kind])[:, None], np.bool_)


def _light(sessions: MinuteProfiles) -> tuple[Mask, Mask, Float]:
    """Return which sessions have too little volume, whether half of it would be too little, and the ratios.

    These are the volume of the minutes by that of the day, the lowest usual and the highest usual: float64 (3, n).
    """
    ratios = np.full((3, len(sessions)), np.nan)
    known = np.isfinite(sessions.volume) & np.isfinite(sessions.day_volume) & (sessions.day_volume > 0)
    with np.errstate(over="ignore", under="ignore"):
        ratios[0, known] = np.clip(sessions.volume[known] / sessions.day_volume[known], 1e-9, 1e9)
    if np.count_nonzero(known) > MIN_OTHERS:
        middle, *_, spread = (x[:, 0] for x in _surroundings(np.log(ratios[0, known])[:, None]))
        band = np.maximum(SPREADS * spread, CLOSE_VOLUMES)
        ratios[1:, known] = np.exp(middle - band), np.exp(middle + band)
    own, lowest, highest = ratios
    # Comparisons with NaN are false.
    return (own < lowest) | (own < LEAST_VOLUME), np.sqrt(lowest * highest) / 2 < lowest, ratios


def _hole(counts: Counts, usual: Counts) -> str:
    """Describe the stretch that lacks most: half hours with less than half of the usual minutes, if any."""
    for share in (0.5, 0.8, 1.0):
        lost = share * usual - counts - 1e-6  # the shortest stretch of several that lack as much
        sums = np.concatenate([[0.0], np.cumsum(lost)])
        gain = np.triu(sums[None, :] - sums[:, None])  # from each half hour up to each later one
        first, last = (int(x) for x in np.unravel_index(np.argmax(gain), gain.shape))
        if first < last:
            break
    times = f"from {_clock(first)} to {_clock(last)}"
    bars = counts[first:last].sum()
    return f"{bars:,} of about {usual[first:last].sum():,} minutes {times}" if bars else f"no minutes {times}"


def _clock(half_hour: int) -> str:
    return f"{half_hour // 2:02}:{half_hour % 2 * 30:02}"
