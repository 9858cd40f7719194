"""Example markets, and random ones."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from backfill_assets.domain.completeness import completeness
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.listings import Listing
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets_tests.support import market, trading_calendar

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
LAST_BAR = datetime(2025, 6, 30, 23, 59, tzinfo=UTC)
INTRADAY = list(TIMEFRAMES)[:6]
DUE = NOW + timedelta(minutes=4)


def gap(symbol, timeframe, sessions, reason=Reason.MISSING, *, explained=False):
    """A gap over consecutive sessions."""
    days = DayRange(sessions[0], sessions[-1])
    attempts, due = (5, None) if explained else (1, DUE)
    return Gap(symbol, timeframe, days, len(sessions), reason, explained, attempts, due)


def incomplete_market(start=date(2024, 1, 2), symbols=("AAPL", "MSFT", "NVDA", "SPY"), end=date(2025, 6, 30)):
    """AAPL misses three sessions and has a partial one, MSFT has one confirmed empty, NVDA was listed late, SPY is
    complete."""
    universe_market = market("stocks", *symbols, start=start, timeframes=" ".join(TIMEFRAMES))
    sessions = trading_calendar().within(DayRange(start, end))
    middle = len(sessions) // 2
    gaps = [
        g
        for timeframe in INTRADAY
        for g in (
            gap(symbols[0], timeframe, sessions[middle : middle + 3]),
            gap(symbols[0], timeframe, sessions[middle + 6 : middle + 7], Reason.PARTIAL),
            gap(symbols[1], timeframe, sessions[middle : middle + 1], Reason.VENDOR_EMPTY, explained=True),
        )
    ]
    listings = {symbols[2]: Listing(sessions[middle], None)}
    last_bars = {(s, t): LAST_BAR for s in symbols for t in TIMEFRAMES if s != symbols[-1]}
    return completeness(universe_market, sessions, listings, gaps, last_bars, NOW)


def complete_market(start=date(2025, 6, 2), end=date(2025, 6, 30)):
    """A market without gaps."""
    universe_market = market("stocks", "AAPL", "MSFT", start=start, timeframes="1m 1d")
    sessions = trading_calendar().within(DayRange(start, end)) if start <= end else ()
    last_bars = {(s, t): LAST_BAR for s in ("AAPL", "MSFT") for t in ("1m", "1d")}
    return completeness(universe_market, sessions, {}, [], last_bars, NOW)


@st.composite
def some_markets(draw):
    """A market of up to five symbols over up to three years, with random gaps."""
    names = ("AAPL", "BRK.B", "V", "GOOGL", "SPY")[: draw(st.integers(1, 5))]
    start = draw(st.dates(date(2022, 1, 3), date(2024, 12, 31)))
    sessions = trading_calendar().within(DayRange(start, start + timedelta(days=draw(st.integers(0, 1100)))))
    kinds = [(Reason.MISSING, False), (Reason.PARTIAL, False), (Reason.VENDOR_EMPTY, True), (Reason.NOT_ENTITLED, True)]
    gaps = []
    for name in names:
        free = 0
        for length, (reason, explained) in draw(
            st.lists(st.tuples(st.integers(1, 40), st.sampled_from(kinds)), max_size=8)
        ):
            at = free + draw(st.integers(0, 60))
            free = at + length
            if free <= len(sessions):
                gaps.append(gap(name, "1d", sessions[at:free], reason, explained=explained))
    universe_market = market("stocks", *names, start=start, timeframes="1d")
    days = st.none() | st.dates(date(2022, 1, 3), date(2026, 12, 31))
    listings = {name: Listing(draw(days), draw(days)) for name in names}
    return completeness(universe_market, sessions, listings, gaps, {}, NOW)
