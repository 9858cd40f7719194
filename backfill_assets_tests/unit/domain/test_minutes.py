"""Partial sessions in made-up histories of dense and thin symbols, and in a year of the simulator's minutes."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.minutes import MIN_OTHERS, MinuteProfiles, closing_half_hours, judge
from backfill_assets.domain.sessions import HALF_HOURS, Kind, calendar, count_by_session
from backfill_assets.simulator import Market, Scenario
from backfill_assets_tests.support import MOMENT
from backfill_assets_tests.unit.domain.frames import frame
from backfill_assets_tests.unit.domain.histories import CHARACTERS, CRYPTO, STOCKS, TWELVE_YEARS, history

FUND, COIN = (next(c for c in CHARACTERS if c.name == name) for name in ("index fund", "large coin"))
YEAR = DayRange(date(2024, 1, 2), date(2024, 12, 31))


def found(profiles):
    """Return the reasons of partial sessions by index."""
    return {i: because for i, because in enumerate(judge(profiles).reasons) if because}


def cut(made, sessions, start, end):
    """Return the profiles without the minutes from `start` to `end` (minutes of the day) in these sessions."""
    volume = made.volume.copy()
    volume[sessions, start:end] = 0
    return made.profiles(volume)


def without_days(profiles):
    return replace(profiles, day_volume=np.full(len(profiles), np.nan))


def steady(counts, kind=CRYPTO):
    """Profiles of sessions with these numbers of minutes, spread over the day."""
    minutes = np.array([[n // 48 + (h < n % 48) for h in range(HALF_HOURS)] for n in counts], np.uint8)
    nan = np.full(len(counts), np.nan)
    return MinuteProfiles(kind, minutes.reshape(-1, HALF_HOURS), nan, nan, np.full(len(counts), HALF_HOURS))


# --- No false alarms


@pytest.mark.parametrize("character", CHARACTERS, ids=lambda c: c.name.replace(" ", "_"))
def test_in_twelve_years_no_session_is_partial_and_each_can_be_judged(character):
    """Half days, holidays, both changes of the clocks, quiet weeks, growing and shrinking activity."""
    profiles = history(character, TWELVE_YEARS).profiles()
    verdicts = judge(profiles)
    assert [because for because in verdicts.reasons if because] == []
    assert verdicts.judged.all()
    assert found(without_days(profiles)) == {}


def test_the_first_session_of_a_listing_may_begin_late():
    made = history(FUND, YEAR)
    assert found(without_days(cut(made, [0], 0, 12 * 60))) == {}
    assert 30 in found(without_days(cut(made, [30], 0, 12 * 60)))


# --- Holes


@pytest.mark.parametrize("place", [0, 3, 100, -1])
@pytest.mark.parametrize(
    ("character", "start", "end", "because"),
    [
        (FUND, "10:00", "13:30", "no minutes from 10:00 to 13:30"),
        (FUND, "11:10", "20:00", "10 of about"),
        (COIN, "02:00", "06:00", "no minutes from 02:00 to 06:00"),
        (COIN, "23:45", "24:00", "15 of about 30 minutes from 23:30 to 24:00"),
    ],
)
def test_a_hole_in_a_dense_session_is_found_and_described(character, start, end, because, place):
    made = history(character, YEAR)
    place %= len(made.volume)
    clock = [60 * int(t[:2]) + int(t[3:]) for t in (start, end)]
    reasons = found(without_days(cut(made, [place], *clock)))
    assert list(reasons) == [place]
    assert reasons[place].startswith(because)


@pytest.mark.parametrize(("size", "least"), [(0.1, 0.95), (0.2, 1.0), (0.6, 1.0)])
@pytest.mark.parametrize("name", ["index fund", "large stock", "large coin"])
def test_of_dense_symbols_nearly_all_holes_are_found_and_nothing_else(name, size, least):
    made = history(next(c for c in CHARACTERS if c.name == name), DayRange(date(2019, 1, 2), date(2024, 12, 31)))
    random = np.random.default_rng(0)
    places = random.choice(len(made.volume), 30, replace=False)
    volume = made.volume.copy()
    for place in places:
        opens, closes = (570, 780 if made.trading.sessions[place] in made.trading.half_days else 960)
        opens, closes = (opens, closes) if made.trading.kind is STOCKS else (0, 1440)
        length = int(size * (closes - opens))
        start = random.integers(opens, closes - length + 1)
        volume[place, start : start + length] = 0  # on a half day of 10 % it is 21 minutes
    reasons = found(made.profiles(volume))
    assert set(reasons) <= set(places.tolist())
    assert len(reasons) >= least * len(places)


def test_half_of_the_volume_of_a_thin_stock_is_missed():
    """Its minutes say little; their volume is that of the day."""
    made = history(next(c for c in CHARACTERS if c.name == "thin stock"), YEAR)
    place = 77
    volume = made.volume.copy()
    volume[place, 10 * 60 :: 2] = 0
    profiles = made.profiles(volume)
    assert list(found(profiles)) == [place]
    assert "of the day's, usually 0." in found(profiles)[place]
    assert found(without_days(profiles)) == {}


def test_the_band_of_counts_follows_their_spread():
    assert found(steady([1440] * 20 + [1430] + [1440] * 20)) == {20: "1,430 of about 1,440 minutes"}
    assert found(steady([1440] * 20 + [1435] + [1440] * 20)) == {}
    random = np.random.default_rng(1)
    assert found(steady(random.integers(300, 900, 60))) == {}


def test_scattered_minutes_are_missed_where_all_others_are_complete():
    profiles = steady([1440] * 41)
    profiles.minutes[20, ::4] -= 1
    assert found(profiles) == {20: "1,428 of about 1,440 minutes"}
    profiles.minutes[7, ::4] -= 1
    assert found(profiles) == {}, "a quiet day lacks a minute here and there"


# --- Histories that are cut alike, and short ones


@pytest.mark.parametrize("sessions", [1, MIN_OTHERS, 25])
@pytest.mark.parametrize("character", [FUND, COIN], ids=["fund", "coin"])
def test_sessions_that_all_end_early_are_found_by_their_own_hours(character, sessions):
    made = history(character, YEAR).rows(slice(sessions))
    reasons = found(without_days(cut(made, slice(None), 11 * 60, 1440)))
    assert list(reasons) == list(range(sessions))
    assert all(because.startswith("no minutes from 11:00 to ") for because in reasons.values())


def test_sessions_that_all_lack_volume_are_found():
    made = history(next(c for c in CHARACTERS if c.name == "small stock"), YEAR)
    reasons = found(cut(made, slice(None), 11 * 60, 1440))
    assert len(reasons) > 0.99 * len(made.volume)


def test_a_run_of_sessions_that_end_early_is_found():
    made = history(FUND, YEAR)
    assert list(found(cut(made, slice(60, 85), 12 * 60, 1440))) == list(range(60, 85))


def test_a_lasting_change_of_activity_is_not_partial():
    busy, quiet = history(CHARACTERS[1], YEAR), history(CHARACTERS[3], YEAR)
    for change in (57, 60, 124):
        volume = np.concatenate([busy.volume[:change], quiet.volume[change:]])
        profiles = replace(busy.profiles(volume), day_volume=volume.sum(axis=1, dtype=np.float64))
        assert found(profiles) == {}


@pytest.mark.parametrize("sessions", range(MIN_OTHERS + 2))
def test_with_too_few_others_a_session_cannot_be_judged(sessions):
    made = history(FUND, YEAR).profiles()
    columns = (made.minutes, made.volume, made.day_volume, made.closes)
    verdicts = judge(MinuteProfiles(STOCKS, *(column[:sessions] for column in columns)))
    assert verdicts.judged.tolist() == [sessions > MIN_OTHERS] * sessions
    assert np.isnan(verdicts.likely).tolist() == [sessions <= MIN_OTHERS] * sessions


def test_a_symbol_whose_loss_would_not_be_seen_cannot_be_judged():
    assert not judge(without_days(history(CHARACTERS[4], YEAR).profiles())).judged.any()


# --- Random profiles


@given(
    st.sampled_from(Kind).flatmap(
        lambda kind: st.integers(0, 60).flatmap(
            lambda n: st.builds(
                MinuteProfiles,
                st.just(kind),
                npst.arrays(np.uint8, (n, HALF_HOURS), elements=st.integers(0, 30)),
                npst.arrays(np.float64, n),
                npst.arrays(np.float64, n),
                npst.arrays(np.int64, n, elements=st.sampled_from([26, HALF_HOURS])),
            )
        )
    )
)
def test_any_profiles_can_be_judged(profiles):
    """Also volumes that are NaN, infinite, zero or negative."""
    verdicts = judge(profiles)
    assert len(verdicts.reasons) == len(verdicts.likely) == len(verdicts.judged) == len(profiles)
    assert all(verdicts.judged[i] for i, because in enumerate(verdicts.reasons) if because)


# --- Sessions of the simulator


@pytest.mark.parametrize(("kind", "ticker"), [("stocks", "AAPL"), ("stocks", "IBM"), ("crypto", "X:BTCUSD")])
def test_in_a_year_of_the_simulator_only_the_cut_sessions_are_partial(kind, ticker):
    """From July to June: three half days, and both changes of the clocks."""
    span = DayRange(date(2024, 7, 1), date(2025, 6, 27))
    trading = calendar(Kind(kind), span)
    made = Market(Scenario(), lambda: MOMENT).minute_bars(ticker, span.start, span.end)
    counts = count_by_session(frame(made.t.tolist(), [0] * len(made)), trading.sessions, trading.hours.zone)
    minutes = np.frombuffer(b"".join(c.half_hours for c in counts), np.uint8).reshape(-1, HALF_HOURS).copy()
    nan = np.full(len(counts), np.nan)
    profiles = MinuteProfiles(trading.kind, minutes, nan, nan, closing_half_hours(trading, trading.sessions))
    assert found(profiles) == {}
    assert minutes.sum() == len(made)
    half_days = [trading.sessions.index(d) for d in trading.half_days]
    assert len(half_days) == (3 if kind == "stocks" else 0)
    places = [0, 100, len(counts) - 1, *half_days]
    minutes[places, 21:24] = 0
    assert list(found(profiles)) == sorted(places)
