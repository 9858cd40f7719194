"""What a command is asked to work on: options read, checked against the universe, and made into requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.retries import USUAL, Retries
from backfill_assets.domain.sessions import HOURS
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.pipelines.backfill_request import BackfillRequest, market_calendar

MOST_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Options:
    """A command's options, each well formed by itself; empty or None means all."""

    symbols: tuple[str, ...]
    markets: tuple[str, ...]
    timeframes: tuple[str, ...]
    days: int | None
    start: date | None
    end: date | None
    max_concurrent: int

    @classmethod
    def parse(  # one parameter an option
        cls,
        *,
        symbols: str | None = None,
        markets: str | None = None,
        timeframes: str | None = None,
        days: str | None = None,
        start: str | None = None,
        end: str | None = None,
        max_concurrent: str = "3",
    ) -> Options:
        """From what was typed. Raises UsageMistake."""
        first, last = day("--start", start), day("--end", end)
        if days is not None and first is not None:
            raise UsageMistake("--days and --start exclude each other: give one of them.")
        if first and last and last < first:
            raise UsageMistake(f"--end {last} lies before --start {first}.")
        return cls(
            symbols=_names("--symbols", symbols),
            markets=_names("--markets", markets),
            timeframes=_names("--timeframes", timeframes),
            days=None if days is None else _count("--days", days, 36_525),
            start=first,
            end=last,
            max_concurrent=_count("--max-concurrent", max_concurrent, MOST_AT_ONCE),
        )


def backfill_requests(
    options: Options, universe: Universe, now: datetime, retries: Retries = USUAL
) -> list[BackfillRequest]:
    """One request a market that is meant, over its finished sessions; requests may have no sessions.

    Raises UsageMistake where a name is not in the universe or the days lie in the future.
    """
    _check_all("market", options.markets, [m.name for m in universe.markets], "the universe")
    chosen = [m for m in universe.markets if not options.markets or m.name in options.markets]
    place = "the chosen markets" if options.markets else "the universe"
    _check_all("symbol", options.symbols, [s.name for m in chosen for s in m.symbols], place)
    chosen = [m for m in chosen if not options.symbols or any(s.name in options.symbols for s in m.symbols)]
    for name in options.timeframes:
        if name not in TIMEFRAMES:
            raise UsageMistake(f"Timeframe {name!r} is unknown: there are {', '.join(TIMEFRAMES)}.")
    for name in options.timeframes:
        if not any(name == t.name for m in chosen for t in m.timeframes):
            raise UsageMistake(f"Timeframe {name} is left out of {', '.join(m.name for m in chosen)} in the universe.")
    if options.start and all(options.start > _today(m, now) for m in chosen):
        raise UsageMistake(f"--start {options.start} lies in the future.")
    return [o for o in (_request(market, options, now, retries) for market in chosen) if o.timeframes]


def _today(market: Market, now: datetime) -> date:
    return now.astimezone(HOURS[market.kind].zone).date()


def _request(market: Market, options: Options, now: datetime, retries: Retries) -> BackfillRequest:
    trading = market_calendar(market, now.date())
    newest, today = trading.last_finished(now), _today(market, now)
    end = min(options.end or today, newest or today)
    start = options.start or market.start
    if options.days is not None:
        start = end - timedelta(days=min(options.days - 1, (end - date.min).days))
    sessions: tuple[date, ...] = ()
    if newest is not None and max(start, market.start) <= end:
        sessions = trading.within(DayRange(max(start, market.start), end))
    symbols = [s for s in market.symbols if not options.symbols or s.name in options.symbols]
    timeframes = tuple(t for t in market.timeframes if not options.timeframes or t.name in options.timeframes)
    return BackfillRequest(market, trading, dict.fromkeys(symbols, sessions), timeframes, now, retries=retries)


def _check_all(what: str, names: Iterable[str], known: list[str], place: str) -> None:
    for name in names:
        if name not in known:
            close = get_close_matches(name.upper() if what == "symbol" else name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {_some(known)}."
            raise UsageMistake(f"{what.capitalize()} {name!r} is not in {place}; {hint}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _names(option: str, text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageMistake(f"{option} {text!r} is not a list like A,B.")
    return tuple(dict.fromkeys(names))


def day(option: str, text: str | None) -> date | None:
    """A day as it was typed; None where nothing was. Raises UsageMistake that names the option."""
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  # a calendar day has no zone
    except ValueError:
        raise UsageMistake(f"{option} {text!r} is not a date like 2025-01-31.") from None


def _count(option: str, text: str, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
        return int(text)
    raise UsageMistake(f"{option} {text!r} is not a whole number from 1 to {most}.")
