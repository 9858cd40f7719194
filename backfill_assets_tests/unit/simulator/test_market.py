from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from backfill_assets.simulator import Columns, Hole, Market, Restatement, Scenario, Split
from backfill_assets.simulator.noise import bits, normals, seed
from backfill_assets.simulator.universe import DEFAULT_KNOWN, profile

NEW_YORK = ZoneInfo("America/New_York")
FIELDS = ("day", "t", "open", "high", "low", "close", "volume", "vwap", "trades")


def market(scenario=None, now=datetime(2025, 7, 1, tzinfo=UTC)):
    return Market(scenario or Scenario(), lambda: now)


def clock_minutes(bars):
    """Minutes since midnight in New York of every bar."""
    moments = [datetime.fromtimestamp(t / 1000, NEW_YORK) for t in bars.t.tolist()]
    return np.array([m.hour * 60 + m.minute for m in moments])


def same(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def days(start, end):
    return [start + timedelta(days=i) for i in range((end - start).days + 1)]


@pytest.mark.parametrize("ticker", ["AAPL", "X:BTCUSD", "X:SHIBUSD", "SMOL"])
def test_a_range_in_pieces_equals_the_range_in_one(ticker):
    m = market(Scenario(known=(*DEFAULT_KNOWN, "SMOL")))
    start, end = date(2024, 2, 20), date(2024, 6, 12)
    for ask in (m.minute_bars, m.daily_bars):
        complete = ask(ticker, start, end)
        assert len(complete) > 70
        same(complete, Columns.concat(*(ask(ticker, d, d) for d in days(start, end))))


def test_bars_are_the_same_in_every_process():
    """A cent's tolerance: another processor's exponential may round the last bit differently."""
    bar = market().daily_bars("AAPL", date(2024, 3, 4), date(2024, 3, 4))
    assert bar.t.tolist() == [1709528400000]
    assert [bar.open[0], bar.high[0], bar.low[0], bar.close[0]] == pytest.approx(
        [213.7, 214.17, 210.18, 210.66], abs=0.011
    )
    assert bar.volume[0] == pytest.approx(77956425, rel=1e-6)


def test_prices_are_possible():
    m = market(Scenario(known=(*DEFAULT_KNOWN, "SMOL")))
    for ticker in (*DEFAULT_KNOWN, "SMOL"):
        for bars in (
            m.minute_bars(ticker, date(2025, 6, 23), date(2025, 6, 27)),
            m.daily_bars(ticker, date(2025, 1, 2), date(2025, 1, 10)),
        ):
            assert len(bars) >= 6
            assert (bars.low > 0).all()
            assert (bars.low <= np.minimum(bars.open, bars.close)).all()
            assert (bars.high >= np.maximum(bars.open, bars.close)).all()
            there = ~np.isnan(bars.vwap)
            assert (bars.vwap[there] >= bars.low[there] - 1e-4).all()
            assert (bars.vwap[there] <= bars.high[there] + 1e-4).all()
            assert (bars.volume > 0).all()
            assert (bars.trades != 0).all()
            assert (np.diff(bars.t) > 0).all()


def test_prices_stay_near_the_table():
    m = market()
    for ticker in DEFAULT_KNOWN:
        close = m.daily_bars(ticker, date(2025, 6, 2), date(2025, 6, 6)).close
        assert (close > profile(ticker).price / 5).all()
        assert (close < profile(ticker).price * 5).all()


def test_some_bars_have_no_vwap_or_trades():
    bars = market().minute_bars("AAPL", date(2024, 3, 4), date(2024, 3, 15))
    assert 0 < np.isnan(bars.vwap).sum() < len(bars) / 50
    assert 0 < (bars.trades == -1).sum() < len(bars) / 50
    assert not ((bars.trades == -1) == np.isnan(bars.vwap)).all()


def test_a_session_has_every_regular_minute_and_most_extended_ones():
    bars = market().minute_bars("IBM", date(2024, 3, 5), date(2024, 3, 5))
    clock = clock_minutes(bars)
    assert clock.min() >= 4 * 60
    assert clock.max() < 20 * 60
    assert set(range(570, 961)) <= set(clock.tolist())
    extended = ((clock < 570) | (clock >= 960)).sum() / 570
    assert 0.8 < extended < 0.97


def test_an_unlisted_ticker_trades_thinly():
    bars = market(Scenario(known=("SMOL",))).minute_bars("SMOL", date(2024, 3, 4), date(2024, 3, 8))
    clock = clock_minutes(bars)
    regular = ((clock >= 570) & (clock < 960)).sum() / (5 * 390)
    assert 0.85 < regular < 1
    assert len(bars) < 5 * 960 * 0.85


@pytest.mark.parametrize(
    ("friday", "monday", "opens"),
    [
        (date(2024, 3, 8), date(2024, 3, 11), ("14:30", "13:30")),
        (date(2024, 11, 1), date(2024, 11, 4), ("13:30", "14:30")),
    ],
)
def test_sessions_follow_new_york_time_when_clocks_change(friday, monday, opens):
    bars = market().minute_bars("SPY", friday, monday)
    clock = clock_minutes(bars)
    assert clock.min() >= 240
    assert clock.max() < 1200
    found = [datetime.fromtimestamp(t / 1000, UTC).strftime("%H:%M") for t in bars.t[clock == 570].tolist()]
    assert tuple(found) == opens
    daily = market().daily_bars("SPY", friday, monday)
    assert [datetime.fromtimestamp(t / 1000, NEW_YORK).isoformat()[:16] for t in daily.t.tolist()] == [
        f"{friday}T00:00",
        f"{monday}T00:00",
    ]


def test_thanksgiving_is_closed_and_the_next_day_is_a_half_day():
    m = market()
    bars = m.minute_bars("AAPL", date(2024, 11, 27), date(2024, 11, 29))
    last = {d: c for d, c in zip(bars.day.tolist(), clock_minutes(bars).tolist(), strict=True)}  # noqa: C416 - keeps the last
    assert len(last) == 2
    wednesday, friday = last.values()
    assert wednesday > 19 * 60
    assert 16 * 60 < friday < 17 * 60
    day = m.daily_bars("AAPL", date(2024, 11, 28), date(2024, 11, 29))
    assert len(day) == 1
    half = m.minute_bars("AAPL", date(2024, 11, 29), date(2024, 11, 29))
    assert half.open[clock_minutes(half) == 13 * 60] == day.close
    assert clock_minutes(half)[half.volume.argmax()] == 13 * 60


@pytest.mark.parametrize(
    "closed", [date(2024, 1, 1), date(2024, 1, 15), date(2024, 3, 29), date(2024, 7, 6), date(2025, 1, 9)]
)
def test_no_stock_trades_on_a_closed_day_but_coins_do(closed):
    m = market()
    assert len(m.minute_bars("AAPL", closed, closed)) == 0
    assert len(m.daily_bars("AAPL", closed, closed)) == 0
    assert len(m.minute_bars("X:ETHUSD", closed, closed)) > 1420
    assert len(m.daily_bars("X:ETHUSD", closed, closed)) == 1


def test_coins_trade_all_day_in_utc_on_days_when_new_york_changes_clocks():
    bars = market().minute_bars("X:BTCUSD", date(2024, 3, 9), date(2024, 3, 11))
    assert set(Counter((bars.t // 86_400_000).tolist())) == {19791, 19792, 19793}
    assert len(bars) > 3 * 1440 * 0.99
    assert (bars.volume % 1 != 0).any()


def test_a_day_bar_has_regular_prices_and_the_volume_of_all_hours():
    m = market()
    minutes, day = (ask("AAPL", date(2024, 3, 5), date(2024, 3, 5)) for ask in (m.minute_bars, m.daily_bars))
    clock = clock_minutes(minutes)
    regular = minutes.take((clock >= 570) & (clock < 960))
    auction = minutes.take(clock == 960)
    assert day.open == regular.open[0]
    assert day.close == auction.open
    assert day.high == max(regular.high.max(), auction.open[0])
    assert day.low == min(regular.low.min(), auction.open[0])
    assert day.volume == minutes.volume.sum() > regular.volume.sum()
    assert day.close != minutes.close[-1]


def test_a_coins_day_is_the_sum_of_its_minutes():
    m = market()
    minutes, day = (ask("X:BTCUSD", date(2024, 3, 5), date(2024, 3, 5)) for ask in (m.minute_bars, m.daily_bars))
    assert (day.open, day.close) == (minutes.open[0], minutes.close[-1])
    assert (day.high, day.low) == (minutes.high.max(), minutes.low.min())
    assert day.volume[0] == pytest.approx(minutes.volume.sum())


def test_raw_prices_jump_at_a_split_and_adjusted_ones_do_not():
    m = market()
    raw = m.daily_bars("NVDA", date(2024, 6, 6), date(2024, 6, 11))
    adjusted = m.daily_bars("NVDA", date(2024, 6, 6), date(2024, 6, 11), adjusted=True)
    assert raw.close[1] / raw.open[2] == pytest.approx(10, rel=0.1)
    assert adjusted.close[1] / adjusted.open[2] == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(adjusted.close[:2], raw.close[:2] / 10, atol=1e-4)
    np.testing.assert_array_equal(adjusted.volume[:2], raw.volume[:2] * 10)
    np.testing.assert_array_equal(adjusted.close[2:], raw.close[2:])
    minutes = m.minute_bars("NVDA", date(2024, 6, 7), date(2024, 6, 10))
    change = np.flatnonzero(np.diff(minutes.day))[0]
    assert minutes.close[change] / minutes.open[change + 1] == pytest.approx(10, rel=0.1)
    assert clock_minutes(minutes)[change + 1] < 570  # the premarket of the execution date is split already


def test_splits_and_reverse_splits_multiply():
    splits = (
        Split(ticker="T", execution_date=date(2024, 3, 5), split_to=4),
        Split(ticker="T", execution_date=date(2024, 3, 7), split_from=2, split_to=1),
    )
    m = market(Scenario(splits=splits))
    raw = m.daily_bars("T", date(2024, 3, 4), date(2024, 3, 8))
    adjusted = m.daily_bars("T", date(2024, 3, 4), date(2024, 3, 8), adjusted=True)
    np.testing.assert_allclose(raw.close / adjusted.close, [2, 0.5, 0.5, 1, 1], rtol=1e-3)
    np.testing.assert_allclose(adjusted.volume / raw.volume, [2, 0.5, 0.5, 1, 1], rtol=1e-3)


def test_a_future_split_adjusts_nothing():
    split = Split(ticker="T", execution_date=date(2024, 3, 7), split_to=3)
    m = market(Scenario(splits=(split,)), now=datetime(2024, 3, 7, 3, tzinfo=UTC))  # the 6th in New York
    for adjusted in (False, True):
        same(
            m.daily_bars("T", date(2024, 3, 4), date(2024, 3, 6), adjusted=adjusted),
            m.daily_bars("T", date(2024, 3, 4), date(2024, 3, 6)),
        )


def test_bars_of_today_end_at_the_clock():
    noon = datetime(2024, 3, 5, 12, 0, 30, tzinfo=NEW_YORK)
    m = market(now=noon)
    minutes = m.minute_bars("AAPL", date(2024, 3, 4), date(2024, 3, 9))
    assert minutes.t[-1] == int(datetime(2024, 3, 5, 11, 59, tzinfo=NEW_YORK).timestamp() * 1000)
    today = m.daily_bars("AAPL", date(2024, 3, 5), date(2024, 3, 5))
    complete = market().daily_bars("AAPL", date(2024, 3, 5), date(2024, 3, 5))
    assert today.open == complete.open
    assert today.volume < complete.volume
    assert today.close == minutes.close[-1]
    early = market(now=noon.replace(hour=9))
    assert len(early.daily_bars("AAPL", date(2024, 3, 5), date(2024, 3, 5))) == 0
    assert len(early.minute_bars("AAPL", date(2024, 3, 5), date(2024, 3, 5))) > 200


def test_there_are_no_bars_before_listing_or_after_delisting():
    m = market(Scenario(listed={"AMD": date(2024, 3, 5)}, delisted={"AMD": date(2024, 3, 7)}))
    assert len(m.daily_bars("AMD", date(2024, 3, 1), date(2024, 3, 29))) == 3
    assert len(m.daily_bars("META", date(2012, 5, 1), date(2012, 5, 18))) == 1
    assert len(m.daily_bars("IBM", date(2003, 9, 1), date(2003, 9, 11))) == 2
    assert len(m.minute_bars("NOPE", date(2024, 3, 1), date(2024, 3, 29))) == 0


def test_a_day_is_restated_from_the_given_time_on():
    at = datetime(2024, 5, 1, tzinfo=UTC)
    scenario = Scenario(restatements=(Restatement(ticker="AAPL", day=date(2024, 3, 5), factor=1.01, at=at),))
    before, after = market(scenario, at - timedelta(seconds=1)), market(scenario, at)
    for name in ("minute_bars", "daily_bars"):
        old, new = (getattr(m, name)("AAPL", date(2024, 3, 4), date(2024, 3, 6)) for m in (before, after))
        changed = old.close != new.close
        assert set(new.day[changed]) == {np.datetime64("2024-03-05").astype(int)}
        np.testing.assert_allclose(new.close[changed], old.close[changed] * 1.01, atol=1e-4)


def test_holes_are_left_out_on_request_only():
    m = market(Scenario(holes=(Hole(ticker="AAPL", first=date(2024, 3, 5), last=date(2024, 3, 5)),)))
    span = ("AAPL", date(2024, 3, 4), date(2024, 3, 6))
    assert len(m.daily_bars(*span)) == 3
    assert len(m.daily_bars(*span, holes=True)) == 2
    assert len(np.unique(m.minute_bars(*span, holes=True).day)) == 2


def test_noise_is_normal_and_independent():
    z = normals(bits(seed("a"), np.arange(100_000)))
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    assert abs(np.corrcoef(z, normals(bits(seed("b"), np.arange(100_000))))[0, 1]) < 0.02
    assert abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 0.02
