"""What is read: arguments checked against each other and against the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.errors import EmptyStore, NotStored, UsageMistake
from backfill_assets.domain.text import suggestion
from backfill_assets.domain.timeframes import TIMEFRAMES, Timeframe
from backfill_assets.reading.connection import Reader

if TYPE_CHECKING:
    from backfill_assets.domain.sessions import Hours

type Names = str | Iterable[str] | None
type When = date | datetime | str | None
"""A day (`date`, "2024-01-02") or an instant with a zone (`datetime`, "2024-01-02T14:30Z"); None for no bound."""
type Bounds = tuple[date | datetime | None, date | datetime | None]

_FIRST, _LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Series:
    """A series to read: bars that begin in [start, end), UTC."""

    symbol: str
    hours: Hours
    start: datetime
    end: datetime


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise UsageMistake unless the value of an argument is allowed."""
    if value not in allowed:
        raise UsageMistake(f"{name} must be {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}, not {value!r}.")


def timeframe_of(name: Timeframe | str) -> Timeframe:
    """Return the timeframe of a name. Raises NotStored."""
    if str(name) not in TIMEFRAMES:
        raise NotStored(f"Timeframe {str(name)!r} is unknown; there are {', '.join(TIMEFRAMES)}.")
    return TIMEFRAMES[str(name)]


def zone_of(tz: str | ZoneInfo) -> ZoneInfo:
    """Return a time zone. Raises UsageMistake."""
    try:
        return tz if isinstance(tz, ZoneInfo) else ZoneInfo(tz)
    except (KeyError, ValueError, TypeError, OSError):
        raise UsageMistake(f"tz {tz!r} is no time zone; write it like 'UTC' or 'America/New_York'.") from None


def names_of(argument: str, names: Names) -> list[str] | None:
    """Return the names of an argument, each once, in order; None for all. Raises UsageMistake."""
    if names is None:
        return None
    found = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else []
    if not found or not all(isinstance(name, str) for name in found):
        raise UsageMistake(f"{argument} must be a name or a list of names, or None for all.")
    return list(dict.fromkeys(found))


def feature_columns(features: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the columns of features: all of them for "all". Raises NotStored."""
    if features is None:
        return ()
    from backfill_assets.domain.features import COLUMNS

    known = [column.name for column in COLUMNS]
    if isinstance(features, str) and features == "all":
        return tuple(known)
    for name in (wanted := names_of("features", features) or []):
        if name not in known:
            raise NotStored(f"Feature {name!r} is unknown; {suggestion(name, known)}")
    return tuple(wanted)


def day_of(argument: str, value: When) -> date | None:
    """Return a day. Raises UsageMistake."""
    found = _when(argument, value)
    if isinstance(found, datetime):
        raise UsageMistake(f"{argument} must be a day like '2024-01-02', not {value!r}.")
    return found


def instant_of(argument: str, value: When) -> datetime | None:
    """Return an instant, UTC; a day is its end in New York. Raises UsageMistake."""
    found = _when(argument, value)
    if found is None or isinstance(found, datetime):
        return found
    return datetime.combine(min(found, _LAST.date()) + ONE_DAY, time(0), ZoneInfo("America/New_York")).astimezone(UTC)


def _when(argument: str, value: When) -> date | datetime | None:
    found: Any = value
    try:
        if isinstance(value, str):
            found = date.fromisoformat(value) if len(value) <= len("2024-01-02") else datetime.fromisoformat(value)
    except ValueError:
        found = ...
    if not isinstance(found, date | None):
        raise UsageMistake(f"{argument} must be a day like '2024-01-02' or an instant with a zone, not {value!r}.")
    if not isinstance(found, datetime):
        return found
    if found.tzinfo is None:
        raise UsageMistake(f"{argument} {value!r} has no time zone: write an instant like '2024-01-02T14:30+00:00'.")
    return min(max(found, _FIRST), _LAST).astimezone(UTC)


def require_known(symbols: Iterable[str] | None, known: Sequence[str]) -> None:
    """Raise NotStored for a symbol that is not known."""
    for name in symbols or ():
        if name not in known:
            raise NotStored(f"There is nothing of {name!r} in the store; {suggestion(name, known)}")


def bounds_of(start: When, end: When) -> Bounds:
    """Return days or instants. Raises UsageMistake."""
    first, last = _when("start", start), _when("end", end)
    if first and last and isinstance(first, datetime) == isinstance(last, datetime) and last < first:
        raise UsageMistake(f"end {end} is before start {start}.")
    return first, last


def select(reader: Reader, symbols: Names, timeframe: Timeframe, bounds: Bounds) -> list[Series]:
    """Return the series to read, sorted by symbol. Raises EmptyStore, NotStored, UsageMistake."""
    from backfill_assets.domain.sessions import HOURS, Kind

    wanted = names_of("symbols", symbols)
    stored = reader.rows("series")
    if not stored:
        raise EmptyStore("The store has no bars yet: `backfill run` fetches them.")
    known = list(dict.fromkeys(symbol for symbol, _ in stored))
    require_known(wanted, known)
    timeframes = {name for _, name in stored}
    if timeframe.name not in timeframes:
        there = ", ".join(name for name in TIMEFRAMES if name in timeframes)
        raise NotStored(f"There are no bars of timeframe {timeframe}; stored are {there}.")
    chosen = sorted(wanted or known)
    kinds = dict.fromkeys(chosen, Kind.STOCKS)
    kinds |= {symbol: Kind.CRYPTO for (symbol,) in reader.rows("around_the_clock", symbols=chosen)}
    return [series_of(symbol, HOURS[kinds[symbol]], *bounds) for symbol in chosen]


def series_of(symbol: str, hours: Hours, start: date | datetime | None, end: date | datetime | None) -> Series:
    """Return a series between two bounds, in the days of its market."""

    def midnight(day: date) -> datetime:
        inside = min(max(day, _FIRST.date()), _LAST.date())
        return datetime.combine(inside, time(0), hours.zone).astimezone(UTC)

    first = start if isinstance(start, datetime) else midnight(start) if start else _FIRST
    last = end if isinstance(end, datetime) else midnight(min(end, _LAST.date()) + ONE_DAY) if end else _LAST
    return Series(symbol, hours, first, last)
