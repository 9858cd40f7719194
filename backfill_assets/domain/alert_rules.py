"""The rules of alerting: from what was observed of one thing to what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Protocol

from backfill_assets.domain.alerts import Finding, Measure, Place, Rows, severity
from backfill_assets.domain.gaps import Gap, missing_gaps, most_missing_sessions
from backfill_assets.domain.timeframes import TIMEFRAMES

GAP_CHECK = "no_missing_sessions"
"""The check that the rule for gaps stands for: it speaks of a market where the check speaks of a timeframe."""

WHOLE_MARKET_CHECKS = frozenset({"latest_session_is_here", "features_cover_bars", "features_are_fresh"})
"""Checks that fail in all timeframes at once, for one reason: one incident a market."""

_MOST_NAMED = 10


class Observation(Protocol):
    """What was seen of one thing. An observation without a finding says that all is well with it."""

    @property
    def incident(self) -> str:
        """The incident that this is about."""

    def finding(self) -> Finding | None:
        """What is wrong, or None."""


@dataclass(frozen=True, slots=True)
class GapsSeen:
    """All open gaps of a market."""

    market: str
    gaps: tuple[Gap, ...]

    @property
    def incident(self) -> str:
        """`gap:stocks`."""
        return f"gap:{self.market}"

    def finding(self) -> Finding | None:
        """Bad by what the series lacks that lacks most; of partial sessions the check of the minutes tells."""
        gaps = missing_gaps(self.gaps)
        most = most_missing_sessions(gaps)
        level = severity(Measure.MISSING_SESSIONS, most)
        if level is None:
            return None
        symbols = list(dict.fromkeys(gap.symbol for gap in sorted(gaps)))
        few = len(symbols) <= _MOST_NAMED
        order = list(TIMEFRAMES)
        named = sorted({(g.symbol, g.timeframe) for g in gaps}, key=lambda s: (s[0], order.index(s[1])))
        series = max(named, key=lambda s: _lacks(gaps, *s))
        return Finding(
            self.incident,
            level,
            f"{self.market}: {_lacking(symbols)} without an explanation; {series[0]} lacks most: {most} sessions.",
            _gap_rows(gaps),
            f"backfill repair --symbols {','.join(symbols)}" if few else f"backfill repair --markets {self.market}",
            Place(asset=f"{self.market}/ohlcv/{series[1]}", check=GAP_CHECK),
        )


def _lacks(gaps: Iterable[Gap], symbol: str, timeframe: str) -> int:
    return sum(g.sessions for g in gaps if (g.symbol, g.timeframe) == (symbol, timeframe))


def _lacking(symbols: Sequence[str]) -> str:
    return f"{symbols[0]} lacks sessions" if len(symbols) == 1 else f"{len(symbols)} symbols lack sessions"


def _gap_rows(gaps: Sequence[Gap]) -> Rows:
    """One row for all timeframes of a symbol that lack the same, the largest first."""
    alike: dict[Gap, list[str]] = {}
    for gap in sorted(gaps, key=lambda g: (-g.sessions, g.symbol, g.days)):
        alike.setdefault(replace(gap, timeframe=""), []).append(gap.timeframe)
    header = ("symbol", "timeframes", "missing", "sessions", "reason", "attempts", "next attempt")
    return (
        header,
        *(
            (
                gap.symbol,
                " ".join(timeframes),
                str(gap.days),
                str(gap.sessions),
                gap.reason.value,
                str(gap.attempts),
                spelled(gap.next_attempt_at) if gap.next_attempt_at else "none",
            )
            for gap, timeframes in alike.items()
        ),
    )


def spelled(at: datetime) -> str:
    """An instant (aware, UTC) for a person, to the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class CheckSeen:
    """The newest result of an asset check.

    subject  what the incident is named by: the asset, or what several assets have in common
    error    whether the check calls a failure an error, not a warning
    """

    asset: str
    check: str
    passed: bool
    error: bool
    sentence: str
    rows: Rows = ()
    cure: str | None = None
    subject: str = ""

    @property
    def incident(self) -> str:
        """`check:stocks/ohlcv/1m:bars_are_valid`, and `check:stocks/ohlcv:…` of a check that is about the market."""
        return check_incident(self.subject or self.asset, self.check)

    def finding(self) -> Finding | None:
        """Bad as the check itself says."""
        if self.passed:
            return None
        level = severity(Measure.FAILED_ERROR_CHECKS if self.error else Measure.FAILED_WARNING_CHECKS, 1)
        if level is None:
            return None
        sentence = f"{self.subject or self.asset}: the check {self.check} fails. {self.sentence}".strip()
        return Finding(self.incident, level, sentence, self.rows, self.cure, Place(asset=self.asset, check=self.check))


def check_incident(asset: str, check: str) -> str:
    """The incident of a check of an asset."""
    return f"check:{subject_of(asset, check)}:{check}"


def subject_of(asset: str, check: str) -> str:
    """What a check's incident is named by: `stocks/ohlcv/1m`, or `stocks/ohlcv` where the check is about the market."""
    return "/".join(asset.split("/")[:2]) if check in WHOLE_MARKET_CHECKS else asset


def together(results: Sequence[CheckSeen]) -> CheckSeen:
    """One observation of the same check of several assets: as bad as the worst, with a row for each that fails."""
    failed = [r for r in results if not r.passed]
    worst = max(failed or results, key=lambda r: (r.error, r.asset))
    rows = (("asset", "found"), *((r.asset, r.sentence) for r in sorted(failed, key=lambda r: r.asset)))
    return replace(worst, subject=subject_of(worst.asset, worst.check), rows=rows if failed else ())


@dataclass(frozen=True, slots=True)
class Failure:
    """How a run failed: its id, the error's sentence, and whether it is tried again or was somebody's own command."""

    run: str
    sentence: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class WorkSeen:
    """How the runs of one job stand: the failure that no later run has made good, or None.

    `features`: any failure counts. Else only those count that did not name the series which failed: these are gaps.
    """

    work: str
    failure: Failure | None
    features: bool = False
    cure: str | None = None

    @property
    def incident(self) -> str:
        """`run:stocks_ohlcv_job`."""
        return f"run:{self.work}"

    def finding(self) -> Finding | None:
        """Bad as the ladder says of features, of crashes, and of those that pass."""
        if self.failure is None:
            return None
        measure = Measure.PASSING_CRASHES if self.failure.passing else Measure.CRASHES
        level = severity(Measure.FAILED_FEATURES if self.features else measure, 1)
        if level is None:
            return None
        return Finding(
            self.incident,
            level,
            f"{self.work}: a run failed. {self.failure.sentence}",
            cure=self.cure,
            place=Place(run=self.failure.run),
        )


@dataclass(frozen=True, slots=True)
class FailedDaysSeen:
    """The latest days (UTC, ascending) on which a market's OHLCV runs ended and none of them succeeded."""

    market: str
    days: tuple[date, ...]
    run: str | None = None

    @property
    def incident(self) -> str:
        """`backfill:stocks`."""
        return f"backfill:{self.market}"

    def finding(self) -> Finding | None:
        """Bad by how many there are."""
        level = severity(Measure.FAILED_DAYS, len(self.days))
        if level is None:
            return None
        return Finding(
            self.incident,
            level,
            f"{self.market}: the OHLCV backfill failed on {len(self.days)} consecutive days, "
            f"{self.days[0]} to {self.days[-1]}.",
            cure=f"backfill run --markets {self.market}",
            place=Place(run=self.run),
        )


@dataclass(frozen=True, slots=True)
class HeartbeatSeen:
    """Whether a sensor or schedule ticks.

    silent  it should have ticked well, and has not, since `last` (UTC; None: never)
    error   of its last tick, where that failed
    """

    name: str
    schedule: bool
    silent: bool
    switched_off: bool
    last: datetime | None
    error: str = ""

    @property
    def incident(self) -> str:
        """`heartbeat:gap_repair`."""
        return heartbeat_incident(self.name)

    def finding(self) -> Finding | None:
        """Critical where it is silent, a warning once where a person has switched it off."""
        kind = "schedule" if self.schedule else "sensor"
        last = f"its last good tick was at {spelled(self.last)}" if self.last else "it has never ticked well"
        place = Place(schedule=self.name) if self.schedule else Place(sensor=self.name)
        if self.switched_off:
            level = severity(Measure.SWITCHED_OFF, 1)
            sentence, cure = f"The {kind} {self.name} is switched off in Dagit; {last}.", None
        else:
            level = severity(Measure.SILENT, int(self.silent))
            sentence, cure = f"The {kind} {self.name} does not tick; {last}.", "backfill up"
            if self.error:
                sentence += f" It fails: {self.error}"
        if level is None:
            return None
        return Finding(self.incident, level, sentence, cure=cure, place=place, reminds=not self.switched_off)


def heartbeat_incident(name: str) -> str:
    """The incident of a sensor or schedule."""
    return f"heartbeat:{name}"
