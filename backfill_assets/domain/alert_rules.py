"""The rules of alerting: from an observation to a finding."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Protocol

from backfill_assets.domain.alerts import Finding, Measure, Place, Rows, severity
from backfill_assets.domain.gaps import Gap, missing_gaps, most_missing_sessions, repair_command
from backfill_assets.domain.timeframes import TIMEFRAMES, ranges
from backfill_assets.domain.universe import Market

GAP_CHECK = "no_missing_sessions"
"""The check that `GapObservation` replaces: one incident a market instead of one a timeframe."""

MARKET_CHECKS = frozenset({"latest_session_is_here", "features_cover_bars", "features_are_fresh"})
"""Checks that fail in all timeframes at once, for one reason: one incident a market."""

COVERAGE_CHECKS = MARKET_CHECKS | {GAP_CHECK, "minutes_are_complete", "bars_are_the_vendors"}
"""Checks of what is missing. Commands count that themselves, in the sessions that they are about."""


MOST_ROWS = 100
"""Rows of a check's table that are kept; `backfill gaps` lists all gaps."""


class Observation(Protocol):
    """The state of one thing, good or bad."""

    @property
    def incident(self) -> str:
        """The name of the incident that this is about."""

    def finding(self) -> Finding | None:
        """What is wrong, or None."""


@dataclass(frozen=True, slots=True)
class GapObservation:
    """All open gaps of a market at `now`. `assets` are the names of its assets by timeframe, for the link."""

    market: str
    gaps: tuple[Gap, ...]
    assets: Mapping[str, str] = MappingProxyType({})
    now: datetime | None = None

    @property
    def incident(self) -> str:
        """`gap:stocks`."""
        return f"gap:{self.market}"

    def finding(self) -> Finding | None:
        """As severe as the series with the most missing sessions. Partial sessions are left to `minutes_are_complete`."""
        gaps = missing_gaps(self.gaps)
        most = most_missing_sessions(gaps)
        level = severity(Measure.MISSING_SESSIONS, most)
        if level is None:
            return None
        symbols = list(dict.fromkeys(gap.symbol for gap in sorted(gaps)))
        order = list(TIMEFRAMES)
        missing: dict[tuple[str, str], int] = {}
        for gap in sorted(gaps, key=lambda g: (g.symbol, order.index(g.timeframe))):
            missing[gap.symbol, gap.timeframe] = missing.get((gap.symbol, gap.timeframe), 0) + gap.sessions
        symbol, timeframe = max(missing, key=missing.__getitem__)
        if len(symbols) == 1:
            sentence = f"{self.market}: {symbol} has {most} unexplained missing sessions."
        else:
            sentence = (
                f"{self.market}: {len(symbols)} symbols have unexplained missing sessions; most: {symbol}, {most}."
            )
        return Finding(
            self.incident,
            level,
            sentence,
            _gap_rows(gaps, self.now),
            repair_command(symbols, self.market),
            Place(asset=self.assets.get(timeframe), check=GAP_CHECK),
        )


def _gap_rows(gaps: Sequence[Gap], now: datetime | None) -> Rows:
    """One row for all timeframes of a symbol with the same gap, the largest first."""
    timeframes: dict[Gap, list[str]] = {}
    for gap in sorted(gaps, key=lambda g: (-g.sessions, g.symbol, g.days)):
        timeframes.setdefault(replace(gap, timeframe=""), []).append(gap.timeframe)
    header = ("symbol", "timeframes", "missing", "days", "tries", "next try (UTC)")
    return (
        header,
        *(
            (
                gap.symbol,
                ranges(names),
                str(gap.days),
                str(gap.sessions),
                str(gap.attempts),
                "now" if now and gap.due(now) else f"{at:%Y-%m-%d %H:%M}" if (at := gap.next_attempt_at) else "none",
            )
            for gap, names in timeframes.items()
        ),
    )


def format_utc(at: datetime) -> str:
    """Format an instant (aware, UTC) to the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The newest result of an asset check. `error`: a failure is an error, not a warning; `checked_at` is UTC."""

    asset: str
    check: str
    passed: bool
    error: bool
    sentence: str
    rows: Rows = ()
    repair: str | None = None
    checked_at: datetime | None = field(default=None, compare=False)

    @property
    def wrong_data(self) -> bool:
        """Whether stored data are wrong, which no command counts itself."""
        return not self.passed and self.check not in COVERAGE_CHECKS

    def concerns(self, symbols: Collection[str]) -> bool:
        """Whether its rows name one of these symbols, or do not say which."""
        if not self.rows or self.rows[0][0] != "symbol" or len(self.rows) > MOST_ROWS:
            return True
        return any(row[0] in symbols for row in self.rows[1:])


def merge_checks(results: Iterable[CheckResult]) -> list[CheckResult]:
    """Merge results that differ by their timeframe only: one of `stocks/ohlcv_1m-4h` stands for six."""
    alike: dict[CheckResult, list[str]] = {}
    for result in results:
        family, _, timeframe = result.asset.rpartition("_")
        alike.setdefault(replace(result, asset=family, rows=()), []).append(timeframe)
    return [
        replace(result, asset=f"{result.asset}_{ranges(names) if TIMEFRAMES.keys() >= set(names) else ' '.join(names)}")
        for result, names in alike.items()
    ]


def failed_checks(
    results: Iterable[CheckResult], market: Market, family: str | None = None, symbols: Collection[str] | None = None
) -> list[CheckResult]:
    """Return what failed of a market's assets, or of one family: ohlcv, features, corporate_events.

    What concerns none of `symbols` is left out; of all symbols in the universe if None.
    """
    if symbols is None:
        symbols = {symbol.name for symbol in market.symbols}
    families = {f"{name}_{t}": name for t in market.timeframes for name in ("ohlcv", "features")}
    families["corporate_events"] = "corporate_events"
    assets = {f"{market.name}/{asset}" for asset, name in families.items() if family in {None, name}}
    return [r for r in results if not r.passed and r.asset in assets and r.concerns(symbols)]


@dataclass(frozen=True, slots=True)
class CheckObservation:
    """The results of one check that form an incident: of one asset, or of all assets of a market's family.

    subject  the asset (`stocks/ohlcv_1m`) or the family (`stocks/ohlcv`)
    """

    subject: str
    results: tuple[CheckResult, ...]

    @property
    def incident(self) -> str:
        """`check:stocks/ohlcv_1m:bars_are_valid`, `check:stocks/ohlcv:latest_session_is_here`."""
        return check_incident(self.subject, self.results[0].check)

    def finding(self) -> Finding | None:
        """As severe as the worst result; for a family with a row for each asset that fails."""
        failed = sorted((r for r in self.results if not r.passed), key=lambda r: r.asset)
        if not failed:
            return None
        worst = max(failed, key=lambda r: (r.error, r.asset))
        level = severity(Measure.FAILED_ERROR_CHECKS if worst.error else Measure.FAILED_WARNING_CHECKS, 1)
        if level is None:
            return None
        sentence = f"{self.subject}: the check {worst.check} fails. {worst.sentence}".strip()
        rows = (
            worst.rows
            if worst.asset == self.subject
            else (("asset", "found"), *((r.asset, r.sentence) for r in failed))
        )
        return Finding(self.incident, level, sentence, rows, worst.repair, Place(asset=worst.asset, check=worst.check))


def check_incident(subject: str, check: str) -> str:
    """Return the incident of a check."""
    return f"check:{subject}:{check}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed run: its id and error. `passing`: it is retried, or the command that ran it was ended."""

    run: str
    sentence: str
    passing: bool = False


KEY_INCIDENT = "key:polygon"


@dataclass(frozen=True, slots=True)
class KeyObservation:
    """The run in which the vendor refused the key, or None. What follows from it has no alert of its own."""

    failure: Failure | None
    incident: str = KEY_INCIDENT

    def finding(self) -> Finding | None:
        """Critical: nothing can be fetched."""
        level = severity(Measure.CRASHES, int(self.failure is not None))
        if self.failure is None or level is None:
            return None
        sentence = f"{self.failure.sentence.removesuffix('.')}. Until then nothing is fetched or repaired."
        return Finding(self.incident, level, sentence, repair="backfill up", place=Place(run=self.failure.run))


@dataclass(frozen=True, slots=True)
class JobObservation:
    """The last failure of a job that no later run has made good, or None.

    features  every failure counts; otherwise only those that did not name the series that failed, which are gaps
    """

    job: str
    failure: Failure | None
    features: bool = False
    repair: str | None = None

    @property
    def incident(self) -> str:
        """`run:stocks_ohlcv_job`."""
        return f"run:{self.job}"

    def finding(self) -> Finding | None:
        """Critical, or a warning if the failure is passing."""
        if self.failure is None:
            return None
        measure = Measure.PASSING_CRASHES if self.failure.passing else Measure.CRASHES
        level = severity(Measure.FAILED_FEATURES if self.features else measure, 1)
        if level is None:
            return None
        return Finding(
            self.incident,
            level,
            f"{self.job}: a run failed. {self.failure.sentence}",
            repair=self.repair,
            place=Place(run=self.failure.run),
        )


@dataclass(frozen=True, slots=True)
class FailedDaysObservation:
    """The latest days (UTC, ascending) on which OHLCV runs of a market ended and none succeeded."""

    market: str
    days: tuple[date, ...]
    run: str | None = None

    @property
    def incident(self) -> str:
        """`backfill:stocks`."""
        return f"backfill:{self.market}"

    def finding(self) -> Finding | None:
        """As severe as the number of days."""
        level = severity(Measure.FAILED_DAYS, len(self.days))
        if level is None:
            return None
        return Finding(
            self.incident,
            level,
            f"{self.market}: the OHLCV backfill failed on {len(self.days)} consecutive days, "
            f"{self.days[0]} to {self.days[-1]}.",
            repair=f"backfill run --markets {self.market}",
            place=Place(run=self.run),
        )


@dataclass(frozen=True, slots=True)
class HeartbeatObservation:
    """Whether a sensor or schedule ticks.

    silent  a tick that was due is missing or failed
    last    the last successful or skipped tick (UTC); None: never
    error   of the last tick, if it failed
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
        """Critical if it is silent; a warning, sent once, if a person has switched it off."""
        kind = "schedule" if self.schedule else "sensor"
        last = f"its last good tick was at {format_utc(self.last)}" if self.last else "it has never ticked"
        place = Place(schedule=self.name) if self.schedule else Place(sensor=self.name)
        if self.switched_off:
            level = severity(Measure.SWITCHED_OFF, 1)
            sentence, repair = f"The {kind} {self.name} is switched off in the Dagster UI; {last}.", None
        else:
            level = severity(Measure.SILENT, int(self.silent))
            sentence, repair = f"The {kind} {self.name} does not tick; {last}.", "backfill up"
            if self.error:
                sentence += f" Error: {self.error}"
        if level is None:
            return None
        return Finding(self.incident, level, sentence, repair=repair, place=place, reminds=not self.switched_off)


def heartbeat_incident(name: str) -> str:
    """Return the incident of a sensor or schedule."""
    return f"heartbeat:{name}"
