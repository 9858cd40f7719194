"""Compare a learned model with rules and plain statistics at finding faulty sessions that have all their minutes.

Prices are made for the minutes of `backfill_assets_tests/unit/domain/histories.py`: volatility in clusters, heavy tails,
quarterly results with ten times the trades and jumps of up to 15 %, a split, a takeover that pins the price, prints that only
the minutes or only the daily bar have. Thresholds are set on some symbols at one false alarm in 1,000 sessions of a market,
and everything is measured on others.

scikit-learn is no dependency of the project. Without it the columns of the forests are left out; `.venv/bin/pip install
scikit-learn==1.9.1` adds it. Run it with `.venv/bin/python benchmarks/learned.py`; `--symbols 6` is the documented size.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from common import PROJECT, heading
from numpy.lib.stride_tricks import sliding_window_view

sys.path.insert(0, str(PROJECT))

try:
    from sklearn.ensemble import IsolationForest
except ImportError:
    IsolationForest = None

from backfill_assets.domain.bars import Bars, impossible  # the tests are no installed package
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.minutes import AROUND, judge
from backfill_assets.domain.plausibility import (
    DAY_MARGIN,
    EXTENDED_MARGIN,
    NEAR,
    OUTSIDE_BARS,
    OUTSIDE_MARGIN,
    OUTSIDE_SHARE,
    REGULAR_MARGIN,
    PriceRange,
    implausible,
)
from backfill_assets.domain.sessions import Kind
from backfill_assets_tests.unit.domain.histories import CHARACTERS, Character, History, history

SPAN = DayRange(date(2021, 1, 4), date(2023, 12, 29))
ONE_IN = 1000
SPLIT = 4
"""New shares for an old one."""

APART = 28
"""Sessions between two planted faults."""

SPREAD = dict(zip((c.name for c in CHARACTERS), (0.5, 1, 4, 15, 40, 1, 5, 25), strict=True))
"""Half of the distance between bid and ask, in hundredths of a per cent."""

FAULTS = (
    "day x 10",
    "afternoon x 10",
    "another symbol's day",
    "constant afternoon",
    "an hour later",
)
FEATURES = ("minutes", "volume ratio", "range", "longest pause", "night", "unchanged", "profile")
PLAIN = ("open and close", "outside the day", "level", "constant run", "shift")


@dataclass(frozen=True, eq=False)
class Prices:
    """Sessions of a symbol. `ohlc` (4, n, 1440) by minute of the day, `day` (4, n) of the daily bar, NaN without one."""

    made: History
    ohlc: np.ndarray
    day: np.ndarray
    regular: np.ndarray  # bool (n, 1440)

    @property
    def traded(self) -> np.ndarray:
        """Which minutes are bars."""
        return self.made.volume > 0


def prices(character: Character, seed: int) -> Prices:
    """Make prices for the minutes of a symbol, and its daily bars."""
    made = history(character, SPAN, seed)
    random = np.random.default_rng([seed, 1, *character.name.encode()])
    n, clock, stocks = len(made.volume), np.arange(1440), character.kind is Kind.STOCKS
    half = np.isin(made.trading.sessions, made.trading.half_days)
    closes = np.where(half, 780, 960) if stocks else np.full(n, 1440)
    regular = (clock >= 570 * stocks) & (clock < closes[:, None])
    volume, ratio = made.volume.copy(), made.volume.sum(axis=1) / made.day_volume
    volatility = np.empty(n)
    state = 0.0
    for i in range(n):
        state = 0.96 * state + random.normal(0, 0.12)
        volatility[i] = (0.016 if stocks else 0.03) * np.exp(state)
    night = random.standard_t(4, n) * volatility * (0.4 if stocks else 0.01)
    results = np.flatnonzero(~half)[random.integers(12, 60) :: 63] if stocks else np.arange(0)
    for i in results:  # the trades of ten sessions in one
        volume[i] = made.volume[i - 9 : i + 1].sum(axis=0)
    night[results] = np.clip(random.normal(0, 0.06, len(results)), -0.15, 0.15)
    if character.name in {"middle stock", "small stock"} and seed % 2:
        volatility[results[-2] : results[-2] + 70] /= 20  # a takeover has been announced
    shape = np.where(regular, 1 + 0.8 * ((clock - 765) / 195) ** 2, 0.3) if stocks else np.ones((n, 1440))
    shape *= 1 / np.sqrt((shape**2).sum(axis=1, keepdims=True))
    steps = random.standard_t(4, (n, 1440)) / np.sqrt(2) * shape * volatility[:, None]
    steps[:, 0] += night
    path = (np.log(random.uniform(15, 300)) + steps.cumsum().reshape(n, 1440)).clip(np.log(0.5), np.log(1e5))
    half_spread = SPREAD[character.name] / 10_000
    last = path + half_spread * random.choice([-1, 1], path.shape)
    first = np.roll(path.ravel(), 1).reshape(n, 1440) + half_spread * random.choice([-1, 1], path.shape)
    first = np.where(volume < 190, last, first)  # one trade
    several = np.where(volume < 190, 0.0, np.abs(random.normal(0, 0.5, path.shape)) * shape * volatility[:, None])
    ohlc = np.exp(np.stack([first, np.maximum(first, last) + several, np.minimum(first, last) - several, last]))
    ohlc[:, n // 2 :] /= SPLIT if stocks and seed % 2 == 0 else 1
    ohlc = np.maximum(np.round(ohlc, 2 if stocks else 4), 0.01)
    made = replace(made, volume=volume, day_volume=volume.sum(axis=1, dtype=np.float64) / ratio)
    found = Prices(made, ohlc, np.empty((4, n)), regular)
    day = opening_and_closing(found)
    # Official prices are not those of the minutes, and the more so the thinner the symbol; both have prints of their own.
    day[[0, 3]] *= 1 + random.standard_t(3, (2, n)) * half_spread * (1.0 if stocks else 0.1)
    day[1], day[2] = np.maximum(day[1], day[[0, 3]].max(axis=0)), np.minimum(day[2], day[[0, 3]].min(axis=0))
    day[2, random.random(n) < 0.002] *= 0.85
    for i in np.flatnonzero(random.random(n) < 0.02):
        at = random.choice(np.flatnonzero((volume[i] > 0) & regular[i]), 1) if (volume[i] > 0)[regular[i]].any() else []
        ohlc[1, i, at] *= random.uniform(1.01, 1.09)
    return replace(found, day=np.round(day, 4))


def opening_and_closing(of: Prices) -> np.ndarray:
    """Return open, high, low, close (4, n) of regular hours; the close is the auction's, if any. NaN without bars."""
    there = of.traded & of.regular
    n, any_bar = len(there), there.any(axis=1)
    rows = np.arange(n)
    first, final = there.argmax(axis=1), 1439 - there[:, ::-1].argmax(axis=1)
    closes = of.regular.shape[1] - of.regular[:, ::-1].argmax(axis=1)
    auction = np.minimum(closes, 1439)
    printed = (closes < 1440) & of.traded[rows, auction]
    close = np.where(printed, of.ohlc[0, rows, auction], of.ohlc[3, rows, final])
    high = np.where(there, of.ohlc[1], -np.inf).max(axis=1)
    low = np.where(there, of.ohlc[2], np.inf).min(axis=1)
    found = np.stack([of.ohlc[0, rows, first], np.fmax(high, close), np.fmin(low, close), close])
    return np.where(any_bar, found, np.nan)


def plant(
    clean: Prices, other: Prices, fault: str, *, days_too: bool, random: np.random.Generator
) -> tuple[Prices, np.ndarray]:
    """Plant a fault in every 28th session, in its minutes or in its daily bar too; return which sessions have it."""
    rows = np.arange(APART + int(random.integers(10)), len(clean.day[0]) - APART, APART)
    ohlc, volume, day, day_volume = (
        x.copy() for x in (clean.ohlc, clean.made.volume, clean.day, clean.made.day_volume)
    )
    for i in rows:
        noon = (
            int(random.integers(720, 840))
            if clean.made.trading.kind is Kind.STOCKS
            else int(random.integers(500, 1000))
        )
        before = ohlc[3, i, :noon][volume[i, :noon] > 0]
        if fault == "day x 10":
            ohlc[:, i] *= 10
        elif fault == "afternoon x 10":
            ohlc[:, i, noon:] *= 10
        elif fault == "another symbol's day":
            ohlc[:, i], volume[i] = other.ohlc[:, i], other.made.volume[i]
        elif fault == "constant afternoon":
            ohlc[:, i, noon:] = before[-1] if len(before) else ohlc[0, i, noon]
        else:
            ohlc[:, i, 60:], ohlc[:, i, :60] = ohlc[:, i, :-60].copy(), ohlc[:, i, :1]
            volume[i, 60:], volume[i, :60] = volume[i, :-60].copy(), 0
    faulty = replace(clean, ohlc=ohlc, made=replace(clean.made, volume=volume))
    if days_too:
        day[:, rows] = opening_and_closing(faulty)[:, rows]
        day_volume[rows] = volume[rows].sum(axis=1, dtype=np.float64)
        faulty = replace(faulty, day=day, made=replace(faulty.made, day_volume=day_volume))
    planted = np.zeros(len(day_volume), bool)
    planted[rows] = True
    return faulty, planted


def rules(of: Prices) -> np.ndarray:
    """Return the sessions that a rule of the project reports: bool (n,).

    Those of statements are repeated here: outliers (`far_prices`), and bars outside the session's hours (`examined_bars`).
    """
    t = of.traded
    found = np.array([reason is not None for reason in judge(of.made.profiles()).reasons])
    if of.made.trading.kind is Kind.STOCKS:
        found |= t[:, 1200:].any(axis=1) | t[:, :240].any(axis=1)
    session = np.nonzero(t)[0]
    o, h, low, c = (x[t] for x in of.ohlc)
    k = np.arange(len(o))
    found[session[list(impossible(Bars(k, o, h, low, c, of.made.volume[t], c, k)))]] = True
    margins = np.where(
        of.regular, REGULAR_MARGIN if of.made.trading.kind is Kind.STOCKS else EXTENDED_MARGIN, EXTENDED_MARGIN
    )
    found[session[_far(o, h, low, c, session, of.day[2, session], of.day[1, session], margins[t])]] = True
    have = np.flatnonzero(np.isfinite(of.day[0]))
    d = of.day[:, have]
    unknown = np.full(len(have), np.nan)
    found[have[_far(*d, np.zeros(len(have)), unknown, unknown, np.full(len(have), DAY_MARGIN))]] = True
    return found


def outside_day(of: Prices) -> np.ndarray:
    """Return the sessions that the statement `minutes_outside_day` finds: bool (n,)."""
    there = of.traded & of.regular
    with np.errstate(invalid="ignore"):
        far = there & (
            (of.ohlc[3] > of.day[1][:, None] * OUTSIDE_MARGIN) | (of.ohlc[3] * OUTSIDE_MARGIN < of.day[2][:, None])
        )
    return far.sum(axis=1) >= np.maximum(OUTSIDE_BARS, OUTSIDE_SHARE * there.sum(axis=1))


def _far(o, h, low, c, group, day_low, day_high, margins) -> list[int]:  # noqa: ANN001  # arrays (bars,)
    top, bottom = np.maximum(o, c), np.minimum(o, c)
    alike = group[1:] == group[:-1]
    after, before = np.append(alike, False), np.append(False, alike)
    highest = np.maximum(np.where(after, np.roll(top, -1), 0), np.where(before, np.roll(top, 1), 0))
    lowest = np.minimum(np.where(after, np.roll(bottom, -1), np.inf), np.where(before, np.roll(bottom, 1), np.inf))
    found = []
    for i in np.flatnonzero((h > highest * margins) | (low * margins < lowest)):
        near = [j for j in range(max(0, i - NEAR), min(len(o), i + NEAR + 1)) if j != i and group[j] == group[i]]
        day = PriceRange(day_low[i], day_high[i]) if np.isfinite(day_low[i]) else None
        around = PriceRange(bottom[near].min(), top[near].max()) if near else None
        if around and implausible(PriceRange(low[i], h[i]), around, day, margins[i])[0]:
            found.append(int(i))
    return found


def around(values: np.ndarray, floor: float) -> np.ndarray:
    """Return standard deviations from the median of the 40 sessions around, itself left out; at least `floor` is one (n,)."""
    wide = np.pad(values, AROUND // 2, mode="reflect")
    windows = np.delete(sliding_window_view(wide, AROUND + 1), AROUND // 2, axis=1)
    middle = np.nanmedian(windows, axis=1)
    spread = 1.4826 * np.nanmedian(np.abs(windows - middle[:, None]), axis=1)
    return np.nan_to_num((values - middle) / np.maximum(spread, floor), nan=0.0, posinf=1e6, neginf=-1e6)


def _run(flags: np.ndarray) -> np.ndarray:
    """Return the longest run of true flags of each row: (n,)."""
    run, longest = np.zeros(len(flags), int), np.zeros(len(flags), int)
    for column in flags.T:
        run = (run + 1) * column
        np.maximum(longest, run, out=longest)
    return longest


def measure(of: Prices) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the model (n, 7), and the plain statistics (n, 5)."""
    t, there = of.traded, of.traded & of.regular
    n = len(t)
    volume = np.where(t, of.made.volume, 0).astype(np.float64)
    o, h, low, c = np.log(opening_and_closing(of))
    count = t.sum(axis=1)
    filled = np.where(t, of.ohlc[3], np.nan)
    index = np.maximum.accumulate(np.where(t, np.arange(1440), 0), axis=1)
    previous = np.take_along_axis(filled, np.pad(index, ((0, 0), (1, 0)))[:, :-1], axis=1)
    still = there & (of.ohlc[3] == previous) & (of.ohlc[1] == of.ohlc[2])
    packed = np.zeros((n, 1440), bool)  # the bars of regular hours without the minutes between them
    rank = np.cumsum(there, axis=1) - 1
    where = np.nonzero(there)
    packed[where[0], rank[there]] = still[there]
    constant = _run(packed)
    half_hours = volume.reshape(n, 48, 30).sum(axis=2)
    share = np.sqrt(half_hours / np.maximum(half_hours.sum(axis=1, keepdims=True), 1))
    wide = np.pad(share, ((AROUND // 2, AROUND // 2), (0, 0)), mode="reflect")
    usual = np.median(sliding_window_view(wide, AROUND + 1, axis=0), axis=-1)
    alike = [(share * np.roll(usual, lag, axis=1)).sum(axis=1) for lag in (-2, 0, 2)]
    night = o - np.append(np.nan, c[:-1])
    night = np.fmin(np.abs(night), np.abs(night + np.log(SPLIT)))  # the split is known
    ratio = np.log(np.maximum(volume.sum(axis=1), 1) / of.made.day_volume)
    model = np.stack(
        [
            around(np.log(np.maximum(count, 1)), 0.01),
            around(np.nan_to_num(ratio), 0.01),
            around(np.log(np.maximum(h - low, 1e-5)), 0.1),
            around(_run(of.regular & ~t).astype(float), 1.0),
            around(np.nan_to_num(night), 0.001),
            around(still.sum(axis=1) / np.maximum(there.sum(axis=1), 1), 0.01),
            around(1 - alike[1], 0.001),
        ],
        axis=1,
    )
    day_open, day_high, day_low, day_close = np.log(of.day)
    typical = np.nanmedian(sliding_window_view(np.pad(h - low, AROUND // 2, mode="reflect"), AROUND + 1), axis=1)
    apart = np.fmax(np.abs(o - day_open), np.abs(c - day_close)) / np.maximum(typical, 0.003)
    close = np.log(of.ohlc[3])
    outside = there & ((close > day_high[:, None] + 0.01) | (close < day_low[:, None] - 0.01))
    middle = np.nanmedian(np.where(there, close, np.nan), axis=1)
    before, after = (middle - x for x in (np.append(middle[0], middle[:-1]), np.append(middle[1:], middle[-1])))
    plain = np.stack(
        [
            np.nan_to_num(apart),
            outside.sum(axis=1) / np.maximum(there.sum(axis=1), 1),
            np.nan_to_num(np.where(before * after > 0, np.fmin(np.abs(before), np.abs(after)), 0)),
            around(np.log1p(constant), 0.15) * (constant > 0),
            np.maximum(alike[0], alike[2]) - alike[1],
        ],
        axis=1,
    )
    return model, plain


class Judges:
    """The judges of one market, with thresholds at one false alarm in 1,000 sessions of `clean`."""

    def __init__(self, clean: list[Prices]) -> None:
        """Set the limits of the plain statistics, and fit the forests if scikit-learn is installed."""
        model, plain = (np.concatenate(x) for x in zip(*map(measure, clean), strict=True))
        self.limits = np.quantile(plain, 1 - 1 / ONE_IN / len(PLAIN), axis=0)
        self.forests = []
        for columns in (slice(len(FEATURES)), slice(None)) if IsolationForest else ():
            values = np.hstack([model, plain])[:, columns]
            fitted = IsolationForest(n_estimators=200, max_samples=2048, random_state=0).fit(values)
            self.forests.append((fitted, columns, np.quantile(fitted.score_samples(values), 1 / ONE_IN)))

    def __call__(self, of: Prices) -> dict[str, np.ndarray]:
        """Return by judge which sessions it names: bool (n,)."""
        model, plain = measure(of)
        found = {"rules": rules(of), "new rule": outside_day(of)}
        found["rules, new rule"] = found["rules"] | found["new rule"]
        for name, (fitted, columns, limit) in zip(("forest", "forest of all"), self.forests, strict=False):
            found[name] = fitted.score_samples(np.hstack([model, plain])[:, columns]) < limit
        found |= dict(zip(PLAIN, (plain > self.limits).T, strict=True))
        found["plain"] = (plain > self.limits).any(axis=1)
        found["rules, plain"] = found["rules"] | found["plain"]
        if self.forests:
            found["rules, plain, forest"] = found["rules, plain"] | found["forest"]
        return found


def main() -> None:
    """Print a table in Markdown for each market."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--symbols", type=int, default=2, help="of each class, to set thresholds; half as many are tested"
    )
    options = parser.parse_args()
    heading("Faulty sessions: rules, plain statistics, an isolation forest")
    tested = range(options.symbols, options.symbols + max(options.symbols // 2, 1))
    if IsolationForest is None:
        print(
            "\nscikit-learn is not installed: the forests are left out. .venv/bin/pip install scikit-learn==1.9.1 adds it."
        )
    for kind in Kind:
        classes = [c for c in CHARACTERS if c.kind is kind]
        judges = Judges([prices(c, seed) for c in classes for seed in range(options.symbols)])
        print(f"\n{kind.value}: limits {dict(zip(PLAIN, judges.limits.round(3).tolist(), strict=True))}\n")
        cases = [(fault, too) for fault in FAULTS for too in (False, True) if (fault, too) != (FAULTS[-1], True)]
        found: dict[tuple[str, bool] | None, list[dict[str, np.ndarray]]] = {case: [] for case in [*cases, None]}
        random = np.random.default_rng(0)
        for character in classes:
            for seed in tested:
                clean, other = prices(character, seed), prices(character, seed + 1000)
                found[None].append(judges(clean))
                for fault, too in cases:
                    faulty, planted = plant(clean, other, fault, days_too=too, random=random)
                    found[fault, too].append({name: named[planted] for name, named in judges(faulty).items()})
        names = list(found[None][0])
        print("| fault | planted | " + " | ".join(names) + " |")
        print("|---" * (len(names) + 2) + "|")
        for case, parts in found.items():
            named = np.concatenate([np.stack(list(part.values())) for part in parts], axis=1)
            title, share = "false alarms in 1,000 sessions", [f"{1000 * x:.1f}" for x in named.mean(axis=1)]
            if case:
                title = f"{case[0]}, {'minutes and daily bar' if case[1] else 'minutes only'}"
                share = [f"{x:.0%}" for x in named.mean(axis=1)]
            print(f"| {title} | {named.shape[1]:,} | {' | '.join(share)} |", flush=True)


if __name__ == "__main__":
    main()
