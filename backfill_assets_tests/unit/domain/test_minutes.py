"""Partial sessions in random counts and in years of the simulator's minutes."""

import warnings
from datetime import date
from statistics import median

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.minutes import MIN_NEIGHBOURS, MIN_SHARE, SPREADS, likely_minutes, partial
from backfill_assets.domain.sessions import Kind, calendar, count_by_session
from backfill_assets.simulator import Market, Scenario
from backfill_assets_tests.support import MOMENT
from backfill_assets_tests.unit.domain.frames import frame

SEEDS = st.integers(0, 2**32 - 1)


def column(values):
    return np.array(values, np.int64)


def alike(bars, regular=390):
    """Return the indices of partial sessions, all of the same length."""
    return np.flatnonzero(partial(column(bars), np.full(len(bars), regular, np.int64))).tolist()


# --- Examples


def test_without_sessions_there_are_no_results():
    assert partial(column([]), column([])).tolist() == []
    likely, spread = likely_minutes(column([]), column([]))
    assert likely.shape == spread.shape == (0,)


@pytest.mark.parametrize("place", [0, 7, 39])
@pytest.mark.parametrize("left", [1, 200, 470])
def test_a_session_without_more_than_half_is_partial_at_any_position(place, left):
    bars = [960, 950, 945, 958, 940] * 8
    bars[place] = left
    assert alike(bars) == [place]


def test_seven_tenths_of_the_likely_count_are_enough():
    assert alike([960] * 20 + [672] + [960] * 20) == []
    assert alike([960] * 20 + [671] + [960] * 20) == [20]


def test_more_than_likely_is_never_partial():
    assert alike([390] * 10 + [960] + [390] * 10) == []


def test_several_partial_sessions_are_found_if_most_are_complete():
    bars = [900] * 21
    for place in range(0, 20, 3):
        bars[place] = 100
    assert alike(bars) == list(range(0, 20, 3))


def test_a_run_of_partial_sessions_is_found_if_it_is_shorter_than_its_surroundings():
    assert alike([900] * 40 + [200] * 15 + [900] * 40) == list(range(40, 55))


def test_a_permanent_drop_in_trading_is_not_partial():
    assert alike([900] * 60 + [200] * 60) == []


def test_half_days_are_compared_by_their_length():
    bars, regular = [900] * 12, [390] * 12
    bars[5], regular[5] = 485, 210  # 210 / 390 of the others
    bars[9], regular[9] = 230, 210
    assert np.flatnonzero(partial(column(bars), column(regular))).tolist() == [9]
    likely, _ = likely_minutes(column(bars), column(regular))
    assert likely[5] == pytest.approx(900 * 210 / 390)


def test_the_first_sessions_need_five_others():
    assert [alike([5] + [900] * others) for others in range(7)] == [[]] * 5 + [[0]] * 2


@pytest.mark.parametrize("sessions", range(1, MIN_NEIGHBOURS + 1))
def test_with_too_few_others_nothing_is_partial(sessions):
    likely, spread = likely_minutes(column([900] * sessions), column([390] * sessions))
    assert np.isnan(likely).all()
    assert np.isnan(spread).all()
    assert alike([1] + [900] * (sessions - 1)) == []


# --- Random counts

COUNTS = st.lists(st.tuples(st.integers(1, 1440), st.sampled_from([390, 210, 1440])), max_size=70)


def plainly(counts):
    """Compute likely count, spread and partial session by session."""
    found = []
    for place, (bars, regular) in enumerate(counts):
        others = counts[max(place - 20, 0) : place] + counts[place + 1 : place + 21]
        if len(others) < 5:
            found.append((None, None, False))
            continue
        rates = [b / r for b, r in others]
        middle = median(rates)
        likely, spread = middle * regular, median(abs(rate - middle) for rate in rates) * regular
        found.append((likely, spread, bars < 0.7 * likely and bars < likely - 6 * spread))
    return found


@given(COUNTS)
def test_sessions_are_compared_with_twenty_before_and_after(counts):
    bars, regular = column([b for b, _ in counts]), column([r for _, r in counts])
    with warnings.catch_warnings(action="error"):
        likely, spread = likely_minutes(bars, regular)
    expected = plainly(counts)
    for place, (middle, around, _) in enumerate(expected):
        assert np.isnan(likely[place]) if middle is None else likely[place] == pytest.approx(middle)
        assert np.isnan(spread[place]) if around is None else spread[place] == pytest.approx(around, abs=1e-9)
    thin = partial(bars, regular)
    assert thin.dtype == np.bool_
    for place, (middle, around, is_thin) in enumerate(expected):
        limits = [] if middle is None else [MIN_SHARE * middle, middle - SPREADS * around]
        if all(abs(bars[place] - limit) > 1e-6 for limit in limits):
            assert thin[place] == is_thin


@given(st.integers(10, 1440), st.floats(0, 0.15), st.integers(0, 120), SEEDS)
def test_noise_around_a_level_is_not_partial(level, noise, sessions, seed):
    """Within 15 % of a level: the minimum is above 0.7 of the maximum."""
    draws = np.random.default_rng(seed).uniform(1 - noise, 1 + noise, sessions)
    assert alike(np.ceil(level * draws)) == []


@given(st.integers(100, 1440), st.floats(0, 0.05), st.integers(6, 80), st.floats(0.01, 0.9), SEEDS)
@example(level=960, noise=0.0, sessions=6, left=0.45, seed=0)
def test_of_a_steady_symbol_only_the_session_that_lost_most_is_partial(level, noise, sessions, left, seed):
    random = np.random.default_rng(seed)
    bars = np.ceil(level * random.uniform(1 - noise, 1 + noise, sessions))
    place = int(random.integers(sessions))
    bars[place] = np.ceil(bars[place] * left)
    found = alike(bars)
    assert set(found) <= {place}
    if left <= 0.6:
        assert found == [place]
    if left >= 0.8:
        assert found == []


@pytest.mark.parametrize("level", [3, 8, 20])
def test_of_an_illiquid_symbol_hardly_any_session_is_partial(level):
    """Random minutes of days that differ by a factor of ten: 20,000 sessions of each level."""
    random = np.random.default_rng(level)
    busy = np.exp(random.normal(0, 0.8, 20_000))
    bars = np.maximum(random.poisson(level * busy), 1)
    assert len(alike(bars)) < 5


def test_a_partial_session_of_a_steady_illiquid_symbol_is_found():
    bars = [30 + n % 3 for n in range(40)]
    bars[17] = 4
    assert alike(bars) == [17]


# --- Sessions of the simulator


@pytest.fixture(scope="module")
def vendor():
    return Market(Scenario(), lambda: MOMENT)


@pytest.mark.parametrize(
    ("kind", "ticker"), [("stocks", "AAPL"), ("stocks", "SPY"), ("crypto", "X:BTCUSD"), ("stocks", "MSFT")]
)
def test_in_a_healthy_year_no_session_is_partial_and_each_that_is_halved_is(vendor, kind, ticker):
    """From July to June: three half days, and both changes of the clocks."""
    span = DayRange(date(2024, 7, 1), date(2025, 6, 27))
    trading = calendar(Kind(kind), span)
    minutes = vendor.minute_bars(ticker, span.start, span.end)
    counts = count_by_session(frame(minutes.t.tolist(), [0] * len(minutes)), trading.sessions, trading.hours.zone)
    bars = column([c.bars for c in counts])
    regular = column([trading.regular_minutes(c.session) for c in counts])
    assert len(bars) == len(trading.sessions)
    assert not partial(bars, regular).any()
    half_days = [trading.sessions.index(d) for d in trading.half_days]
    assert len(half_days) == (3 if kind == "stocks" else 0)
    for place in [0, 100, len(bars) - 1]:
        cut = bars.copy()
        cut[place] = int(cut[place] * 0.4)
        assert np.flatnonzero(partial(cut, regular)).tolist() == [place]
    for place in half_days:
        cut = bars.copy()
        cut[place] = 5
        assert np.flatnonzero(partial(cut, regular)).tolist() == [place]
