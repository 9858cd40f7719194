"""Years of made-up minutes of dense and thin symbols: which minutes of each session have trades, and their volume.

The number of trades in a minute is a Poisson number. Its mean follows the time of day (a U in regular hours, little outside
them), the day (quiet and busy days in a row), the half hour (bursts), the weekday and holidays, and grows or shrinks over the
years. Half days close at 13:00; a coin follows the working day of New York, on UTC days, so that it moves with its clock.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import numpy as np

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.minutes import MinuteProfiles, closing_half_hours
from backfill_assets.domain.sessions import HOURS, Calendar, Kind, calendar

NEW_YORK = HOURS[Kind.STOCKS].zone
TWELVE_YEARS = DayRange(date(2013, 1, 2), date(2024, 12, 31))


@dataclass(frozen=True)
class Character:
    """A class of symbols.

    regular, extended   mean trades in a minute, at noon and at the edge of regular hours
    daily, bursts       standard deviation of the logarithm of a day's and of a half hour's activity
    growth              the logarithm of the change of activity per year
    ratio, spread       volume of the minutes by that of the day: median, and standard deviation of the logarithm
    """

    name: str
    kind: Kind
    regular: float
    extended: float
    daily: float = 0.3
    bursts: float = 0.2
    growth: float = 0.0
    ratio: float = 1.02
    spread: float = 0.004


STOCKS, CRYPTO = Kind.STOCKS, Kind.CRYPTO
CHARACTERS = (
    Character("index fund", STOCKS, 60, 8, 0.25, 0.2, 0.05, 1.15, 0.025),
    Character("large stock", STOCKS, 20, 1.5, 0.3, 0.25, -0.05, 1.036, 0.001),
    Character("middle stock", STOCKS, 3, 0.1, 0.35, 0.3, 0.15, 1.016, 0.004),
    Character("small stock", STOCKS, 0.6, 0.02, 0.45, 0.4, -0.1, 1.0, 0.01),
    Character("thin stock", STOCKS, 0.1, 0.003, 0.6, 0.5, 0.1, 0.95, 0.04),
    Character("large coin", CRYPTO, 400, 400, 0.5, 0.3, 0.2, 1.0, 0.0005),
    Character("middle coin", CRYPTO, 4, 4, 0.5, 0.3, -0.1, 1.0, 0.002),
    Character("thin coin", CRYPTO, 0.4, 0.4, 0.6, 0.5, 0.2, 1.0, 0.01),
)


@dataclass(frozen=True, eq=False)
class History:
    """The sessions of one symbol: by session and minute of the market's day, what was traded (0: no bar)."""

    trading: Calendar
    volume: np.ndarray
    day_volume: np.ndarray

    def profiles(self, volume: np.ndarray | None = None) -> MinuteProfiles:
        """Summarize it, or other volumes of the same sessions."""
        volume = self.volume if volume is None else volume
        counts = (volume > 0).reshape(len(volume), 48, 30).sum(axis=2).astype(np.uint8)
        return MinuteProfiles(
            self.trading.kind,
            counts,
            volume.sum(axis=1, dtype=np.float64),
            self.day_volume,
            closing_half_hours(self.trading, self.trading.sessions),
        )

    def rows(self, part: slice) -> "History":
        """Return some of the sessions, in a calendar of only these."""
        sessions = self.trading.sessions[part]
        return History(
            calendar(self.trading.kind, DayRange(sessions[0], sessions[-1])), self.volume[part], self.day_volume[part]
        )


def history(character: Character, span: DayRange = TWELVE_YEARS, seed: int = 0) -> History:
    """Make the sessions of a symbol of this character."""
    random = np.random.default_rng([seed, *character.name.encode()])
    trading = calendar(character.kind, span)
    n = len(trading.sessions)
    steps = random.normal(0, character.daily * np.sqrt(1 - 0.7**2), n)
    level = np.empty(n)
    level[0] = random.normal(0, character.daily)
    for i in range(1, n):  # an autoregressive series: quiet and busy days come in a row
        level[i] = 0.7 * level[i - 1] + steps[i]
    years = np.array([(s - span.start).days / 365.25 for s in trading.sessions])
    level += character.growth * (years - years.mean())
    if character.kind is CRYPTO:
        level += np.where([s.weekday() >= 5 for s in trading.sessions], -0.35, 0.0)
    quiet = np.array([(s.month, s.day) in {(12, 24), (12, 26), (12, 31), (7, 3), (1, 2)} for s in trading.sessions])
    half = np.isin(trading.sessions, trading.half_days)
    level -= 0.6 * (quiet | half)
    bursts = np.repeat(random.normal(0, character.bursts, (n, 48)), 30, axis=1)
    mean = _day(character, trading) * np.exp(level[:, None] + bursts)
    trades = random.poisson(mean).astype(np.float32)
    volume = trades * random.lognormal(4.6, 0.7, trades.shape).astype(np.float32)
    ratio = character.ratio * np.exp(random.normal(0, character.spread, n))
    return History(trading, volume, volume.sum(axis=1, dtype=np.float64) / ratio)


def _day(character: Character, trading: Calendar) -> np.ndarray:
    """Mean trades by session and minute."""
    clock = np.arange(1440)
    if character.kind is CRYPTO:
        at = [datetime.combine(s, time(12), UTC).astimezone(NEW_YORK).hour - 12 for s in trading.sessions]  # -5 or -4
        local = (clock[None, :] + 60 * np.array(at)[:, None]) % 1440
        return character.regular * (1 - 0.5 * np.cos(2 * np.pi * (local - 120) / 1440))

    def of(closes: int) -> np.ndarray:
        x = (clock - (570 + closes) / 2) / ((closes - 570) / 2)
        last = 1200 if closes == 960 else 1020
        outside = np.where(clock < 570, (clock - 240) / 330, (last - clock) / (last - closes))
        inside = (clock >= 570) & (clock < closes)
        found = np.where(inside, character.regular * (1 + 2 * x**2), character.extended * np.clip(outside, 0, 1) ** 2)
        found[(clock < 240) | (clock >= last)] = 0
        found[closes] = 20 * max(character.regular, 0.2)  # the closing auction
        return found

    half = np.isin(trading.sessions, trading.half_days)
    return np.where(half[:, None], of(780)[None, :], of(960)[None, :])
