"""How the duration of a run's stages grows with the number of symbols; it should be linear.

A month of each number of symbols in eight timeframes, into a database of its own, by `backfill run` and then
`backfill features`, without a rate limit in effect. The stages are delimited by the logs of the simulator and
Dagster. Prints for each stage the cost per partition by least squares, that of the last interval as a multiple of it, and the
exponent of growth (the slope with logarithmic axes).

Run it with `.venv/bin/python benchmarks/growth.py`; `--symbols 10,25,50,100` is the documented size, `--plot FILE` draws it.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import psycopg
from common import (
    ALL_TIMEFRAMES,
    Vendor,
    another_database,
    backfill,
    environment,
    heading,
    load,
    postgres,
    symbols,
    vendor,
)

from backfill_assets.adapters.store import schema
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.simulator.scenario import Scenario

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 30)
RATE = 250
NAMES = [f"S{a}{b}" for a, b in product(ascii_uppercase, repeat=2)]
STAGES = ("start, plan", "fetch, write, tell Dagster", "checks", "finish", "features")
ALL = "all of them"
NOTHING = 0.01
"""Milliseconds a partition below which a stage does not grow."""

EVENTS = """
  select (extract(epoch from min(timestamp) filter (where dagster_event_type = 'STEP_START')))::float8,
    (extract(epoch from max(timestamp) filter (where dagster_event_type = 'ASSET_MATERIALIZATION')))::float8,
    (extract(epoch from max(timestamp) filter (where dagster_event_type = 'STEP_SUCCESS')))::float8,
    count(*) filter (where dagster_event_type = 'ASSET_MATERIALIZATION')
  from dagster.event_logs where step_key = %s"""


@dataclass(frozen=True)
class Point:
    """One number of symbols: its partitions, and seconds by stage."""

    symbols: int
    partitions: int
    seconds: Mapping[str, float]


def measured(url: str, simulator: Vendor, count: int) -> Point:
    """Run a number of symbols and their features in an empty database."""
    schema.upgrade(url)
    simulator.forget()
    market = Market("stocks", Kind.STOCKS, FIRST, symbols(NAMES[:count]), ALL_TIMEFRAMES)
    with tempfile.TemporaryDirectory() as scratch, psycopg.connect(url, autocommit=True) as connection:
        variables = environment(Path(scratch) / "data", url, simulator.url, [market], RATE)
        span = ("--start", str(FIRST), "--end", str(LAST))
        start, taken = backfill(variables, "run", *span)
        first_request = min(float(str(request["wall"])) for request in simulator.arrivals())
        backfill(variables, "features", *span)
        run: Any = connection.execute(EVENTS, ["stocks_ohlcv"]).fetchone()
        features: Any = connection.execute(EVENTS, ["stocks_features"]).fetchone()
    _, last, success, partitions = run
    cuts = (
        first_request - start,
        last - first_request,
        success - last,
        start + taken - success,
        features[2] - features[0],
    )
    return Point(count, partitions, dict(zip(STAGES, cuts, strict=True)))


def best(points: Sequence[Point]) -> Point:
    """Return the fastest round of each stage."""
    quickest = {stage: min(point.seconds[stage] for point in points) for stage in STAGES}
    return Point(points[0].symbols, points[0].partitions, quickest)


def slopes(points: Sequence[Point], stage: str) -> tuple[float, float, float]:
    """Return milliseconds per partition by least squares, the last interval as a multiple of that, and the exponent."""
    partitions = np.array([point.partitions for point in points], float)
    taken = np.array([sum(p.seconds.values()) if stage == ALL else p.seconds[stage] for p in points])
    slope, _ = np.polyfit(partitions, taken, 1)
    stretches = np.diff(taken) / np.diff(partitions)
    power, _ = np.polyfit(np.log(partitions), np.log(taken), 1)
    return 1000 * float(slope), float(stretches[-1] / slope), float(power)


def plot(points: Sequence[Point], file: Path) -> None:
    """Plot seconds over symbols, one line per stage."""
    colours = ("#888888", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")
    most = max(max(point.seconds.values()) for point in points)
    widest = max(point.symbols for point in points)
    across, down = (lambda n: 50 + 380 * n / widest), (lambda s: 260 - 230 * s / most)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 300" font-family="sans-serif" font-size="11">',
        '<rect width="640" height="300" fill="white"/>',
        '<path d="M50 30V260H430" fill="none" stroke="black"/>',
        f'<text x="10" y="20">seconds (top: {most:.0f})</text><text x="380" y="292">symbols</text>',
    ]
    parts += [f'<text x="{across(p.symbols):.0f}" y="276" text-anchor="middle">{p.symbols}</text>' for p in points]
    for number, (stage, colour) in enumerate(zip(STAGES, colours, strict=True)):
        line = " ".join(f"{across(p.symbols):.1f},{down(p.seconds[stage]):.1f}" for p in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="445" y="{50 + 20 * number}" fill="{colour}">{stage}</text>')
    file.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def main() -> None:
    """Measure every number of symbols and print the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", default="5,10,15")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    counts = [int(count) for count in options.symbols.split(",")]
    points = []
    with postgres() as url, vendor(Scenario(known=tuple(NAMES[: max(counts)]))) as simulator:
        heading(f"growth: {options.symbols} symbols x {len(ALL_TIMEFRAMES)} timeframes, {FIRST} to {LAST}", url)
        for count in counts:
            rounds = [measured(another_database(url, "growth"), simulator, count) for _ in range(options.rounds)]
            points.append(best(rounds))
            stages = ", ".join(f"{stage} {points[-1].seconds[stage]:.2f}" for stage in STAGES)
            print(f"{count:4} symbols, {points[-1].partitions:,} partitions: {stages} s ({load()})", flush=True)
    for stage in (*STAGES, ALL):
        slope, last, power = slopes(points, stage)
        growing = f"; the last interval {last:.2f} of that; exponent {power:.2f}" if slope > NOTHING else ""
        print(f"{stage:22} {slope:7.3f} ms per partition{growing}")
    if options.plot:
        plot(points, options.plot)


if __name__ == "__main__":
    main()
