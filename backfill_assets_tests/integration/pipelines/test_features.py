"""Features computed in pieces, in any order of bars, changes and splits, equal those computed in one pass."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store import features as store_of_features
from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.adapters.store.features import FeatureStore, UnusableBars
from backfill_assets.domain.adjustments import SplitRatio, weekly_bars
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction, ListedActions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.features import COLUMNS, LOOK_BACK, compute_range
from backfill_assets.domain.sessions import HOURS, Kind, calendar, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1, made_from
from backfill_assets.pipelines import features as pipeline
from backfill_assets.pipelines.features import Computed, FeatureRequest, bounds, compute_features
from backfill_assets_tests.integration.adapters.store.test_bars import answer
from backfill_assets_tests.support import MOMENT, SOAK, market, rows, stored_bars
from backfill_assets_tests.unit.domain.test_features import NAMES, as_traded, assert_as_one
from backfill_assets_tests.unit.domain.walks import walk

ALL = " ".join(TIMEFRAMES)
VERSIONS = 'select timeframe, "timestamp", xmin::text, ctid::text, computed_at from market_features where symbol = %s'
TABLES = (
    "market_data, session_answers, coverage, market_features, feature_marks, corporate_events, corporate_event_lookups"
)


@dataclass(frozen=True)
class Nature:
    """What is finally stored for a symbol. The session `dense` has all its minutes, the others a `share` of them.

    `splits` are those of the symbol, as (ex-date, shares before, shares after).
    """

    kind: Kind
    symbol: str
    days: DayRange
    minutes: DayRange
    dense: date
    share: float
    splits: tuple[tuple[date, float, float], ...] = ()

    @property
    def ratios(self):
        return [SplitRatio(*split) for split in self.splits]

    @property
    def sessions(self):
        return calendar(self.kind, self.days).sessions

    @property
    def minute_sessions(self):
        return [s for s in self.sessions if s in self.minutes]

    def stamps(self):
        hours, chance = HOURS[self.kind], np.random.default_rng(3)
        parts = []
        for session, start in zip(self.minute_sessions, day_starts(self.minute_sessions, hours.zone), strict=True):
            every = start + 60_000 * (hours.opens.hour * 60 + np.arange(hours.minutes, dtype=np.int64))
            parts.append(every[chance.random(len(every)) < (1.0 if session == self.dense else self.share)])
        return np.concatenate(parts)

    def bars(self):
        """Return the bars by source timeframe, in the shares of their day."""
        days = walk(day_starts(self.sessions, HOURS[self.kind].zone), seed=1, volatility=0.02)
        minutes = walk(self.stamps(), seed=2, volatility=2e-3, untraded=0.02)
        return {t: as_traded(b, self.ratios, t) for t, b in ((DAY_1, days), (MINUTE_1, minutes))}


# Clocks go forward on 10 March 2024. Two splits: a Wednesday of days only, a Thursday within the minutes.
STOCK = Nature(
    Kind.STOCKS,
    "AAPL",
    DayRange(date(2023, 1, 3), date(2024, 3, 22)),
    DayRange(date(2024, 2, 28), date(2024, 3, 22)),
    date(2024, 3, 12),
    0.15,
    ((date(2023, 3, 15), 1.0, 4.0), (date(2024, 3, 14), 5.0, 1.0)),
)
COIN = Nature(
    Kind.CRYPTO,
    "BTC",
    DayRange(date(2024, 1, 7), date(2024, 3, 16)),
    DayRange(date(2024, 3, 8), date(2024, 3, 13)),
    date(2024, 3, 10),
    0.3,
)
FEW = replace(
    STOCK,
    days=DayRange(date(2024, 3, 4), date(2024, 3, 22)),
    minutes=DayRange(date(2024, 3, 11), date(2024, 3, 15)),
    splits=(),
)


def wanted(of, days):
    """All days of every symbol of a market."""
    return dict.fromkeys(of.symbols, tuple(days))


class World:
    """One symbol in a database, with the bars that are traded, and methods that store and compute them."""

    def __init__(self, url: str, nature: Nature, symbol: str | None = None) -> None:
        self.url, self.nature = url, nature
        self.symbol = symbol or nature.symbol
        self.zone = HOURS[nature.kind].zone
        self.market = market(nature.kind.value, self.symbol, start=nature.days.start, timeframes=ALL)
        self.bars = nature.bars()

    def write(self, timeframe, sessions: Sequence[date] | None = None, without=()) -> None:
        """Store the bars of sessions (or all), without those at the relative places `without`."""
        of = sessions or (self.nature.sessions if timeframe == DAY_1 else self.nature.minute_sessions)
        start, end = day_starts([of[0], of[-1] + timedelta(days=1)], self.zone)
        bars = self.bars[timeframe]
        bars = bars.take((bars.timestamp >= start) & (bars.timestamp < end))
        bars = bars.take(~np.isin(np.arange(len(bars)), [int(part * (len(bars) - 1)) for part in without]))
        derived = made_from(timeframe, TIMEFRAMES.values())
        terms = WriteContext(self.zone, MOMENT, derived=derived, finished=self.nature.sessions)
        with BarStore(self.url) as store:
            store.write(self.symbol, timeframe, answer(bars, *of, zone=self.zone), terms)

    def write_all(self) -> None:
        self.write(DAY_1)
        self.write(MINUTE_1)

    def change(self, timeframe, row: int, factor: float, columns: Sequence[str] = ("high", "close", "volume")) -> None:
        """Change a traded bar, without storing it."""
        bars = self.bars[timeframe]
        changed = {name: getattr(bars, name).copy() for name in columns}
        for values in changed.values():
            values[row] *= factor
        self.bars[timeframe] = replace(bars, **changed)

    def split(self, number: int) -> None:
        """Store one of the splits, besides those already stored."""
        day, before, after = self.nature.splits[number]
        event = CorporateAction(self.symbol, ActionKind.SPLIT, day, before, after)
        with CorporateActionStore(self.url) as events:
            # The list is not complete for any symbol, so that no stored split is withdrawn.
            events.record([self.symbol], ListedActions(day, (event,), frozenset()), [], MOMENT, self.zone)

    def request(self, days: DayRange | None = None, timeframes: str = ALL, **terms) -> FeatureRequest:
        of = tuple(TIMEFRAMES[name] for name in timeframes.split())
        return FeatureRequest(self.market, wanted(self.market, days or self.nature.days), of, **terms)

    def compute(self, days: DayRange | None = None, timeframes: str = ALL, **terms) -> list[Computed]:
        with FeatureStore(self.url) as store:
            return asyncio.run(compute_features(self.request(days, timeframes, **terms), store)).done

    def features(self, timeframe):
        """Return the stored rows of a series: starts (milliseconds), values."""
        names = ", ".join(NAMES)
        query = f"""select (extract(epoch from "timestamp") * 1000)::int8, {names}
            from market_features where symbol = %s and timeframe = %s order by 1"""  # noqa: S608  # names of the catalog
        found = np.array(rows(self.url, query, self.symbol, timeframe.name), np.float64).reshape(-1, 1 + len(NAMES))
        return found[:, 0].astype(np.int64), found[:, 1:]

    def in_one_pass(self, timeframe, splits: Sequence[SplitRatio]):
        """Return the stored bars of a series, and their features computed in one pass."""
        bars = stored_bars(self.url, self.symbol, timeframe.name)
        if timeframe == WEEK_1:
            made = weekly_bars(stored_bars(self.url, self.symbol, "1d"), splits, self.zone)
            bars = made.take(np.isin(made.timestamp, bars.timestamp))
        return bars, compute_range(bars, timeframe, self.zone, splits)

    def assert_complete(self, splits: Sequence[SplitRatio] | None = None) -> None:
        """Check that every bar has its row, computed from the complete history, and that nothing is stale."""
        for timeframe in TIMEFRAMES.values():
            bars, want = self.in_one_pass(timeframe, self.nature.ratios if splits is None else splits)
            stamps, got = self.features(timeframe)
            assert stamps.tolist() == bars.timestamp.tolist(), timeframe
            assert_as_one(got, want, bars)
        with FeatureStore(self.url) as store:
            assert store.stale([self.symbol], list(TIMEFRAMES.values())) == []

    def versions(self):
        """Return the row versions by timeframe and start."""
        return {row[:2]: row[2:] for row in rows(self.url, VERSIONS, self.symbol)}


def ms(at):
    return int(at.timestamp()) * 1000


def empty(url):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"truncate {TABLES}")


# --- Any order


@dataclass(frozen=True)
class Step:
    """One random step; each kind interprets the drawn places and factor in its own way."""

    what: str
    parts: tuple[float, ...]
    factor: float = 1.0
    timeframes: str = ALL
    most: int = 20_000

    def done(self, world: World) -> None:
        getattr(self, f"_{self.what}")(world)

    def _within(self, days: Sequence[date]) -> list[date]:
        first, last = sorted(int(part * (len(days) - 1)) for part in self.parts[:2])
        return list(days[first : last + 1])

    def _minutes(self, world: World) -> None:
        world.write(MINUTE_1, self._within(world.nature.minute_sessions), without=self.parts[2:])

    def _days(self, world: World) -> None:
        world.write(DAY_1, self._within(world.nature.sessions), without=self.parts[2:])

    def _change(self, world: World) -> None:
        timeframe = MINUTE_1 if self.parts[0] < 0.7 else DAY_1
        world.change(timeframe, int(self.parts[1] * (len(world.bars[timeframe]) - 1)), self.factor)

    def _split(self, world: World) -> None:
        if world.nature.splits:
            world.split(int(self.parts[0] * len(world.nature.splits) * 0.999))

    def _compute(self, world: World) -> None:
        days = self._within(list(world.nature.days))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(store_of_features, "MOST_ROWS", self.most)
            world.compute(DayRange(days[0], days[-1]), self.timeframes)


SOME = st.lists(st.sampled_from(list(TIMEFRAMES)), min_size=1, max_size=8, unique=True).map(" ".join)
STEP = st.builds(
    Step,
    what=st.sampled_from(["minutes", "minutes", "days", "change", "split", "compute", "compute"]),
    parts=st.tuples(*[st.floats(0, 1)] * 4),
    factor=st.sampled_from([1.001, 1.05, 0.98]),
    timeframes=SOME,
    most=st.sampled_from([97, 640, 20_000]),
)
THOROUGH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def run_through(url, nature, steps):
    empty(url)
    world = World(url, nature)
    for step in steps:
        step.done(world)
    world.write(MINUTE_1)
    for number in range(len(nature.splits)):
        world.split(number)
    world.write(DAY_1)
    world.compute()
    world.assert_complete()


@settings(THOROUGH, max_examples=100 if SOAK else 3)
@given(steps=st.lists(STEP, min_size=3, max_size=10))
def test_a_stock_in_any_order(database_url, steps):
    run_through(database_url, STOCK, steps)


@settings(THOROUGH, max_examples=100 if SOAK else 2)
@given(steps=st.lists(STEP, min_size=3, max_size=10))
def test_a_coin_in_any_order(database_url, steps):
    run_through(database_url, COIN, steps)


@pytest.mark.parametrize("nature", [STOCK, COIN], ids=lambda nature: nature.symbol)
def test_a_change_after_everything_was_computed(database_url, nature):
    world = World(database_url, nature)
    for number in range(len(nature.splits)):
        world.split(number)
    world.write_all()
    world.compute()
    world.assert_complete()
    start = day_starts([nature.dense], world.zone)[0]
    for timeframe, row in ((MINUTE_1, int(np.searchsorted(world.bars[MINUTE_1].timestamp, start))), (DAY_1, 20)):
        world.change(timeframe, row, 1.05)
        world.write(timeframe)
    world.compute()
    world.assert_complete()


# --- What is rewritten, and what is not


@pytest.fixture
def world(database_url, snapshots):
    """A stock with everything written and computed."""
    made = World(database_url, replace(STOCK, splits=()))

    def fill():
        made.write_all()
        made.compute()

    snapshots.restore_or_make("a computed stock", database_url, fill)
    return made


EARLY, LATE = 5 * 60, 15 * 60  # minutes after midnight: in a session of 960, before and after the look-back's end


@pytest.mark.parametrize(
    ("timeframe", "minute"),
    [(t, minute) for t in TIMEFRAMES for minute in (EARLY, LATE)],
)
def test_a_changed_bar_rewrites_only_the_rows_that_depend_on_it(world, timeframe, minute):
    before = world.versions()
    at = day_starts([world.nature.dense], world.zone)[0]
    source = TIMEFRAMES[timeframe].source
    row = int(np.searchsorted(world.bars[source].timestamp, at + (60_000 * minute if source == MINUTE_1 else 0)))
    world.change(source, row, 1.05)
    world.write(source)
    world.compute()
    after = world.versions()
    touched = sorted(
        ms(stamp) for (t, stamp), version in after.items() if t == timeframe and before[t, stamp] != version
    )
    stamps = stored_bars(world.url, world.symbol, timeframe).timestamp
    changed = int(np.searchsorted(stamps, world.bars[source].timestamp[row], side="right")) - 1
    ends = day_starts([world.nature.dense + timedelta(days=1)], world.zone)[0]
    reached = stamps[changed:]
    if source == MINUTE_1:
        reached = reached[(np.arange(len(reached)) <= LOOK_BACK) | (reached < ends)]
    assert touched == reached.tolist()
    assert set(before) == set(after)


def test_a_split_rewrites_rows_of_its_symbol_from_its_day_on_only(database_url):
    worlds = [World(database_url, STOCK, name) for name in ("AAPL", "MSFT")]
    for world in worlds:
        world.write_all()
        world.compute()
        world.assert_complete(splits=())
    ours, other = worlds
    versions = [world.versions() for world in worlds]
    values = {t: ours.features(t) for t in TIMEFRAMES.values()}
    day = STOCK.splits[1][0]
    ours.split(1)
    for world in worlds:
        world.compute()
    assert other.versions() == versions[1]
    ours.assert_complete(splits=STOCK.ratios[1:])
    after = ours.versions()
    for timeframe in TIMEFRAMES.values():
        first = week_start(day) if timeframe == WEEK_1 else day
        at = day_starts([first], ours.zone)[0]
        stamps, then = values[timeframe]
        now = ours.features(timeframe)[1]
        assert then[stamps < at].tobytes() == now[stamps < at].tobytes(), "to the last bit"
        from_it = stamps[stamps >= at]
        reach = from_it if timeframe.base.value == "day" else from_it[:LOOK_BACK]
        touched = sorted(
            ms(stamp) for (t, stamp), v in after.items() if t == timeframe.name and versions[0][t, stamp] != v
        )
        assert touched == reach.tolist()
    ours.split(0)
    ours.compute()
    ours.assert_complete()


def test_a_changed_day_recomputes_its_week_even_if_the_raw_week_is_unchanged(database_url):
    """Prices before a reverse split are a fifth, so a later day's low does not change the raw week's range."""
    world = World(database_url, STOCK)
    for number in (0, 1):
        world.split(number)
    world.write(DAY_1)
    world.compute(timeframes="1w")
    friday = int(np.searchsorted(world.bars[DAY_1].timestamp, day_starts([date(2024, 3, 15)], world.zone)[0]))
    week = "select xmin::text from market_data where timeframe = '1w' order by timestamp"
    before = rows(world.url, week)
    world.change(DAY_1, friday, 0.5, columns=["low"])
    world.write(DAY_1)
    assert rows(world.url, week) == before
    world.compute()
    bars, want = world.in_one_pass(WEEK_1, STOCK.ratios)
    assert_as_one(world.features(WEEK_1)[1], want, bars)


def test_a_split_stored_while_its_rows_are_computed_is_applied(database_url, monkeypatch):
    world = World(database_url, STOCK)
    world.write_all()
    calls = []

    def learning(*arguments):
        calls.append(arguments)
        if len(calls) in (1, 9):
            world.split(len(calls) // 9)
        return compute_range(*arguments)

    monkeypatch.setattr(pipeline, "compute_range", learning)
    world.compute()
    world.compute()
    world.assert_complete()


# --- Interruptions


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("pieces", [1, 4, 9])
def test_an_interrupted_computation_continues_where_it_stopped(database_url, monkeypatch, pieces):
    monkeypatch.setattr(store_of_features, "MOST_ROWS", 300)
    world = World(database_url, FEW)
    world.write_all()
    left = pieces

    def failing(*arguments):
        nonlocal left
        if not left:
            raise PowerCutError
        left -= 1
        return compute_range(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "compute_range", failing)
        with pytest.raises(PowerCutError):
            world.compute()
    there = world.versions()
    assert len(there) >= 200 * pieces
    world.compute()
    assert there.items() <= world.versions().items(), "what was done is not done again"
    world.assert_complete()


CHILD = """
import sys
from backfill_assets.adapters.store import features
from backfill_assets.pipelines import features as pipeline
from backfill_assets_tests.integration.pipelines.test_features import FEW, World, compute_range

def announced(*arguments):
    values = compute_range(*arguments)
    print("piece", flush=True)
    sys.stdin.readline()
    return values

features.MOST_ROWS = 300
pipeline.compute_range = announced
World(sys.argv[1], FEW).compute()
"""


def test_a_killed_process_leaves_what_it_committed(database_url):
    world = World(database_url, FEW)
    world.write_all()
    command = [sys.executable, "-c", CHILD, database_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(3):
            assert child.stdout.readline() == "piece\n"
            child.stdin.write("go on\n")
            child.stdin.flush()
        assert child.stdout.readline() == "piece\n"
        os.kill(child.pid, signal.SIGKILL)
        child.stdin.close()
    assert child.returncode == -signal.SIGKILL
    there = world.versions()
    assert len(there) == 900
    world.compute()
    assert there.items() <= world.versions().items()
    world.assert_complete()


def test_two_computations_at_once_share_the_work(database_url, monkeypatch):
    monkeypatch.setattr(store_of_features, "MOST_ROWS", 200)
    world = World(database_url, FEW)
    world.write_all()

    async def both():
        with FeatureStore(database_url) as one, FeatureStore(database_url) as other:
            return await asyncio.gather(*(compute_features(world.request(), store) for store in (one, other)))

    done = asyncio.run(both())
    bars = rows(database_url, "select count(*) from market_data")[0][0]
    assert sum(c.rows for computed in done for c in computed.done) == bars
    world.assert_complete()


def test_no_transaction_is_open_while_features_are_computed(database_url, monkeypatch):
    """A server may end it as idle, and it would keep autovacuum from removing rows."""
    world = World(database_url, FEW)
    world.write_all()
    seen = []

    def watching(*arguments):
        seen.append(rows(database_url, IN_TRANSACTION))
        return compute_range(*arguments)

    monkeypatch.setattr(pipeline, "compute_range", watching)
    world.compute()
    assert seen == [[]] * len(TIMEFRAMES)
    world.assert_complete()


IN_TRANSACTION = """select state, query from pg_stat_activity
  where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()"""


async def test_a_cancelled_computation_ends_after_the_current_window(database_url, monkeypatch):
    monkeypatch.setattr(store_of_features, "MOST_ROWS", 100)
    world = World(database_url, FEW)
    world.write(MINUTE_1)
    begun, go_on = threading.Event(), threading.Event()

    def held(*arguments):
        begun.set()
        assert go_on.wait(30)
        return compute_range(*arguments)

    monkeypatch.setattr(pipeline, "compute_range", held)
    with FeatureStore(database_url) as store:
        task = asyncio.create_task(compute_features(world.request(), store))
        assert await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await asyncio.get_running_loop().shutdown_default_executor()
    assert len(world.versions()) == 100


# --- Requests and progress


class Recorder:
    def __init__(self):
        self.series = []

    def computed(self, symbol, timeframe, rows):
        self.series.append((symbol.name, timeframe.name, rows))


async def test_computed_rows_are_reported_by_series(database_url):
    worlds = [World(database_url, FEW, name) for name in ("AAPL", "MSFT")]
    for world in worlds:
        world.write(MINUTE_1)
    both = market("stocks", "AAPL", "MSFT", "NVDA", timeframes=ALL)
    request = FeatureRequest(both, wanted(both, FEW.days), (MINUTE_1, TIMEFRAMES["1h"]))
    progress = Recorder()
    with FeatureStore(database_url) as store:
        done = (await compute_features(request, store, at_once=2, progress=progress)).done
        assert [c.rows for c in (await compute_features(request, store)).done] == [0] * 6
    counts = dict(rows(database_url, "select timeframe, count(*) from market_data where symbol = 'AAPL' group by 1"))
    expected = [(s, t, counts[t] if s != "NVDA" else 0) for s in ("AAPL", "MSFT", "NVDA") for t in ("1m", "1h")]
    assert [(c.symbol.name, c.timeframe.name, c.rows) for c in done] == expected
    assert sorted(progress.series) == sorted(expected)


def test_only_the_requested_days_are_computed(world):
    empty_features = "delete from market_features; delete from feature_marks"
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute(empty_features)
        connection.execute(
            "insert into feature_marks (symbol, timeframe, stale) select symbol, timeframe, '(,)' from coverage"
        )
    days = DayRange(date(2024, 3, 7), date(2024, 3, 12))  # Thursday to Tuesday, over the change of clocks
    world.compute(days)
    for timeframe in TIMEFRAMES.values():
        start, end = day_starts(
            [date(2024, 3, 3) if timeframe == WEEK_1 else days.start, date(2024, 3, 13)], world.zone
        )
        bars = stored_bars(world.url, world.symbol, timeframe.name).timestamp
        stamps, _ = world.features(timeframe)
        assert stamps.tolist() == bars[(bars >= start) & (bars < end)].tolist()
        assert tuple(map(ms, bounds(days, timeframe, world.zone))) == (start, end)


def test_a_full_request_recomputes_all_rows_of_its_days(world):
    before = world.versions()
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute("update market_features set ema_50 = 0, computed_at = '2020-01-01Z' where timeframe = '1h'")
    day = DayRange(world.nature.dense, world.nature.dense)
    done = world.compute(day, "1h", full=True)
    assert [c.rows for c in done] == [16]
    query = (
        "select count(*) from market_features where timeframe = '1h' and ema_50 <> 0 and computed_at > '2021-01-01Z'"
    )
    assert rows(world.url, query) == [(16,)]
    world.compute(timeframes="1h", full=True)
    world.assert_complete()
    assert set(world.versions()) == set(before)


def test_the_first_rows_of_a_series_are_null_for_the_warm_up_of_each_column(world):
    for timeframe in (MINUTE_1, DAY_1):
        _, values = world.features(timeframe)
        for column, of in zip(COLUMNS, values.T, strict=True):
            assert np.isnan(of[: column.warm_up]).all(), column.name
            assert np.isfinite(of[column.warm_up : column.warm_up + 200]).any(), column.name
    query = " or ".join(f"{name} in ('NaN', 'Infinity', '-Infinity')" for name in NAMES)
    assert rows(world.url, f"select count(*) from market_features where {query}") == [(0,)]  # noqa: S608  # of the catalog


@pytest.mark.parametrize("column", ["low", "volume"])
def test_a_price_that_is_not_finite_fails_only_its_series(database_url, column):
    worlds = {name: World(database_url, FEW, name) for name in ("AAPL", "MSFT")}
    for world in worlds.values():
        world.write_all()
    with psycopg.connect(database_url, autocommit=True) as connection:
        bad = f"""update market_data set {column} = 'NaN' where symbol = 'AAPL' and (timeframe, "timestamp") in
          (('1m', '2024-03-12 12:00Z'), ('1d', '2024-03-06 05:00Z'))"""  # noqa: S608  # named above
        assert connection.execute(bad).rowcount == 2
    both = market("stocks", "AAPL", "MSFT", timeframes=ALL)
    request = FeatureRequest(both, wanted(both, FEW.days), tuple(TIMEFRAMES.values()))
    with FeatureStore(database_url) as store:
        computation = asyncio.run(compute_features(request, store))
    reason = "has a price or a volume that is not a finite number; correct it in market_data"
    bars = ("1m: the bar of 2024-03-12 12:00 UTC", "1d: the bar of 2024-03-06 05:00 UTC")
    assert isinstance(computation.failure, UnusableBars)
    assert {c.symbol.name for c in computation.done if c.timeframe in {MINUTE_1, DAY_1}} == {"MSFT"}
    assert str(computation.failure) == "; ".join(f"AAPL {bar} {reason}" for bar in bars)
    worlds["MSFT"].assert_complete()
    done = rows(database_url, "select distinct timeframe from market_features where symbol = 'AAPL'")
    assert {t for (t,) in done} == set(TIMEFRAMES) - {"1m", "1d"}
