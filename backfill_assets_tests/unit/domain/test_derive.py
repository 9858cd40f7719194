"""Derived bars, compared with a simple implementation."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.derive import derive, week_end, week_start
from backfill_assets.domain.sessions import HOURS, Kind, session_rows
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1, made_from, sources

NEW_YORK, ZONE_UTC = ZoneInfo("America/New_York"), ZoneInfo("UTC")
MINUTE = 60_000
FROM_MINUTES = made_from(TIMEFRAMES["1m"], TIMEFRAMES.values())


def bars_at(stamps, seed=0, *, vwap=None, trades=None):
    random = np.random.default_rng(seed)
    count = len(stamps)
    low = random.uniform(1, 2, count)
    high = low + random.uniform(0, 1, count)
    inside = lambda: low + (high - low) * random.uniform(0, 1, count)  # noqa: E731  # three draws alike
    return Bars(
        np.array(stamps, np.int64),
        inside(),
        high,
        low,
        inside(),
        random.integers(1, 1000, count).astype(float),
        inside() if vwap is None else np.array(vwap, float),
        random.integers(1, 50, count) if trades is None else np.array(trades, np.int64),
    )


def same(one, other):
    for name in ("timestamp", "open", "high", "low", "close", "volume", "vwap", "trades"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12, err_msg=name)


@st.composite
def minutes(draw):
    start = draw(st.integers(28_000_000, 29_700_000))
    steps = draw(st.lists(st.integers(1, 400), min_size=1, max_size=60))
    stamps = [MINUTE * (start + sum(steps[: n + 1])) for n in range(len(steps))]
    return bars_at(stamps, draw(st.integers(0, 1000)))


@given(minutes(), st.sampled_from(FROM_MINUTES))
def test_derived_bars_equal_those_of_a_loop(bars, timeframe):
    made = derive(bars, timeframe, NEW_YORK)
    length = timeframe.seconds * 1000
    groups = {}
    for row in range(len(bars)):
        groups.setdefault(bars.timestamp[row] // length * length, []).append(row)
    assert made.timestamp.tolist() == sorted(groups)
    for position, rows in enumerate(groups[k] for k in sorted(groups)):
        assert made.open[position] == bars.open[rows[0]]
        assert made.close[position] == bars.close[rows[-1]]
        assert made.high[position] == max(bars.high[rows])
        assert made.low[position] == min(bars.low[rows])
        assert made.volume[position] == pytest.approx(sum(bars.volume[rows]))
        assert made.trades[position] == sum(bars.trades[rows])
        traded = sum(p * v for p, v in zip(bars.vwap[rows], bars.volume[rows], strict=True))
        assert made.vwap[position] == pytest.approx(traded / sum(bars.volume[rows]))


@given(minutes(), st.sampled_from(FROM_MINUTES), st.data())
def test_parts_cut_between_buckets_give_the_same_bars(bars, timeframe, data):
    complete = derive(bars, timeframe, NEW_YORK)
    edges = sorted(data.draw(st.sets(st.sampled_from(complete.timestamp.tolist()), max_size=4)))
    rows = [0, *np.searchsorted(bars.timestamp, edges).tolist(), len(bars)]
    parts = [derive(bars.take(slice(a, b)), timeframe, NEW_YORK) for a, b in pairwise(rows)]
    same(Bars.concat(*parts), complete)


@given(st.dates(date(2000, 1, 1), date(2030, 12, 31)))
def test_weeks_run_from_sunday_to_saturday(day):
    assert week_start(day).weekday() == 6
    assert week_end(day) - week_start(day) == timedelta(days=6)
    assert week_start(day) <= day <= week_end(day)


@pytest.mark.parametrize(("zone", "hours"), [(NEW_YORK, (5, 4)), (ZONE_UTC, (0, 0))], ids=["New York", "UTC"])
def test_a_week_starts_on_sunday_midnight_in_the_market_when_clocks_change(zone, hours):
    days = [date(2024, 3, 4) + timedelta(days=n) for n in (0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14)]  # clocks: 10 March
    stamps = [int(datetime(d.year, d.month, d.day, tzinfo=zone).timestamp() * 1000) for d in days]
    made = derive(bars_at(stamps), WEEK_1, zone)
    starts = [datetime.fromtimestamp(t / 1000, UTC) for t in made.timestamp.tolist()]
    summer = hours[1]
    assert starts == [
        datetime(2024, 3, 3, hours[0], tzinfo=UTC),
        datetime(2024, 3, 10, hours[0], tzinfo=UTC),
        datetime(2024, 3, 17, summer, tzinfo=UTC),
    ]


def test_four_hours_start_on_the_utc_grid_in_winter_and_in_summer():
    for month in (1, 7):
        opening = datetime(2024, month, 9, 4, tzinfo=NEW_YORK)
        stamps = [int((opening + timedelta(minutes=n)).timestamp() * 1000) for n in range(960)]
        made = derive(bars_at(stamps), TIMEFRAMES["4h"], NEW_YORK)
        assert {datetime.fromtimestamp(t / 1000, UTC).hour for t in made.timestamp.tolist()} == {8, 12, 16, 20} | (
            {0} if month == 1 else set()
        )


@pytest.mark.parametrize("kind", Kind)
@given(day=st.dates(date(2000, 1, 1), date(2030, 12, 31)))
def test_no_bar_made_from_minutes_crosses_the_edge_of_a_session(kind, day):
    """Of two neighbouring days, each with all minutes of its hours, no bar holds minutes of both."""
    hours = HOURS[kind]
    days = (day, day + timedelta(days=1))
    opens = [int(datetime.combine(d, hours.opens, hours.zone).timestamp()) * 1000 for d in days]
    minutes = [
        np.arange(first, int(hours.ends_at(d).timestamp()) * 1000, MINUTE) for first, d in zip(opens, days, strict=True)
    ]
    for timeframe in FROM_MINUTES:
        first, second = (derive(bars_at(stamps), timeframe, hours.zone) for stamps in minutes)
        assert first.timestamp[-1] < second.timestamp[0]
        assert (session_rows(first, days, hours.zone) == 0).all()


def test_an_average_over_an_unknown_price_is_unknown():
    made = derive(bars_at([0, MINUTE, 5 * MINUTE], vwap=[1.5, math.nan, 1.2]), TIMEFRAMES["5m"], ZONE_UTC)
    assert math.isnan(made.vwap[0])
    assert made.vwap[1] == pytest.approx(1.2)


def test_a_sum_over_an_unknown_count_is_unknown():
    made = derive(bars_at([0, MINUTE, 5 * MINUTE], trades=[3, NO_TRADES, 4]), TIMEFRAMES["5m"], ZONE_UTC)
    assert made.trades.tolist() == [NO_TRADES, 4]


def test_no_bars_give_no_bars():
    for timeframe in (*FROM_MINUTES, WEEK_1):
        assert len(derive(Bars.empty(), timeframe, NEW_YORK)) == 0


def test_only_minutes_and_days_are_requested():
    assert [t.name for t in sources(TIMEFRAMES.values())] == ["1m", "1d"]
    assert [t.name for t in TIMEFRAMES.values()] == ["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"]
    assert [t.name for t in sources([TIMEFRAMES["1w"]])] == ["1d"]
