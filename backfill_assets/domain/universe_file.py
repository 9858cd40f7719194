"""The YAML form of the universe, read and checked.

Scalars are taken as they are written: in YAML the tickers ON, NO and Y would else be booleans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from backfill_assets.domain.errors import UniverseMistake
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import TIMEFRAMES, Timeframe
from backfill_assets.domain.universe import Market, Symbol, Universe, default_ticker

_MARKET_KEYS = ("kind", "start", "symbols", "timeframes", "extra_closures")
_SYMBOL_KEYS = ("symbol", "ticker")
# Letters, digits and the marks of share classes (BRK.B, BF-B); a partition key is split at "|", lists at ",",
# and Dagster takes "..." for a range.
_SYMBOL = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9.\-]{0,19}")
_TICKER = re.compile(r"(?:[XCIO]:)?[A-Za-z0-9][A-Za-z0-9.\-]{0,24}")
# Dagster allows these in asset keys and group names.
_MARKET = re.compile(r"[a-z][a-z0-9_]{0,29}")
_EARLIEST = date(1970, 1, 1)
_LONGEST_SENTENCE = 500  # characters; what was written is repeated, and may be as long as the file


def parse_universe(text: str, source: str, today: date) -> Universe:
    """A universe from YAML text; `source` names the file in messages, no market may start after `today`.

    Raises UniverseMistake with file and line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UniverseMistake(f"{source}, line {line}: not valid YAML ({error.problem}).") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # also escapes and versions that are out of all range
        raise UniverseMistake(f"{source}: not valid YAML; it holds characters that no text file has.") from None
    except RecursionError:
        raise UniverseMistake(f"{source}: nested too deeply to be a universe.") from None
    if root is None:
        raise UniverseMistake(f"{source} is empty; it needs `markets:` with at least one market.")
    return _Reader(source, today).universe(root)


def _told(key: ScalarNode) -> str:
    """A key as it stands, on one line whatever it holds."""
    text = str(key.value)
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True, slots=True)
class _Reader:
    source: str
    today: date

    def fail(self, node: Node, sentence: str) -> NoReturn:
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = f"{sentence[: _LONGEST_SENTENCE // 2]} … {sentence[-_LONGEST_SENTENCE // 2 :]}"
        raise UniverseMistake(f"{self.source}, line {node.start_mark.line + 1}: {sentence}")

    def universe(self, root: Node) -> Universe:
        fields = self.mapping(root, "the file", ("markets",))
        if "markets" not in fields:
            self.fail(root, "`markets:` is missing.")
        entries = list(self.entries(fields["markets"], "`markets`"))
        if not entries:
            self.fail(fields["markets"], "`markets` is empty; name at least one market.")
        seen: dict[str, str] = {}
        return Universe(tuple(self.market(name, node, seen) for name, node in entries))

    def market(self, name: ScalarNode, node: Node, seen: dict[str, str]) -> Market:
        if not _MARKET.fullmatch(name.value):
            self.fail(name, f"market name {name.value!r} may hold a-z, 0-9 and _, and begins with a letter.")
        fields = self.mapping(node, f"market {name.value}", _MARKET_KEYS)
        kind = self.kind(name, fields.get("kind"))
        for key in ("start", "symbols"):
            if key not in fields:
                self.fail(node, f"market {name.value} has no `{key}`.")
        symbols = tuple(self.symbol(n, kind, name.value, seen) for n in self.items(fields["symbols"], "symbols"))
        start = self.start(fields["start"])
        timeframes = self.timeframes(fields.get("timeframes"))
        closures = self.closures(fields.get("extra_closures"), kind, start)
        return Market(name.value, kind, start, symbols, timeframes, closures)

    def kind(self, name: ScalarNode, node: Node | None) -> Kind:
        kinds = ", ".join(Kind)
        text = name.value if node is None else self.scalar(node, "kind")
        if text not in set(Kind):
            told = f"market {text} needs a `kind`" if node is None else f"kind {text!r} is unknown"
            self.fail(node or name, f"{told}: one of {kinds}.")
        return Kind(text)

    def symbol(self, node: Node, kind: Kind, market: str, seen: dict[str, str]) -> Symbol:
        ticker: str | None = None
        if isinstance(node, MappingNode):
            fields = self.mapping(node, "a symbol", _SYMBOL_KEYS)
            if "symbol" not in fields:
                self.fail(node, "an entry of `symbols` has no `symbol`.")
            name = self.scalar(fields["symbol"], "symbol")
            ticker = self.scalar(fields["ticker"], "ticker") if "ticker" in fields else None
        else:
            name = self.scalar(node, "a symbol")
        if not _SYMBOL.fullmatch(name):
            self.fail(node, f"symbol {name!r} may hold letters, digits, '.' and '-', 20 at the most.")
        ticker = default_ticker(kind, name) if ticker is None else ticker
        if not _TICKER.fullmatch(ticker):
            self.fail(node, f"ticker {ticker!r} is no vendor ticker (like AAPL, BRK.B or X:BTCUSD).")
        if (kind is Kind.CRYPTO) != ticker.startswith("X:"):
            self.fail(
                node, f"ticker {ticker!r} does not belong to a market of kind {kind}: only crypto begins with X:."
            )
        # AAPL and aapl would be two series of one share.
        other = seen.get(name.upper())
        if other is not None:
            where = "twice" if other == market else f"in {other} and in {market}"
            cure = "" if other == market else "; give one another name: {symbol: …, ticker: …}"
            self.fail(node, f"symbol {name} stands {where}{cure}.")
        seen[name.upper()] = market
        return Symbol(name, ticker)

    def timeframes(self, node: Node | None) -> tuple[Timeframe, ...]:
        if node is None:
            return tuple(TIMEFRAMES.values())
        names = []
        for item in self.items(node, "timeframes"):
            name = self.scalar(item, "a timeframe")
            if name not in TIMEFRAMES:
                self.fail(item, f"timeframe {name!r} is unknown: one of {', '.join(TIMEFRAMES)}.")
            if name in names:
                self.fail(item, f"timeframe {name} stands twice.")
            names.append(name)
        for item in node.value:
            source = TIMEFRAMES[item.value].derived_from
            if source and source not in names:
                self.fail(item, f"timeframe {item.value} is made from {source}: add {source}.")
        return tuple(t for t in TIMEFRAMES.values() if t.name in names)

    def start(self, node: Node) -> date:
        day = self.day(node, "start")
        if day < _EARLIEST:
            self.fail(node, f"start {day} lies before {_EARLIEST}.")
        if day > self.today:
            self.fail(node, f"start {day} lies in the future.")
        return day

    def closures(self, node: Node | None, kind: Kind, start: date) -> tuple[date, ...]:
        if node is None:
            return ()
        days: set[date] = set()
        for item in self.items(node, "extra_closures", "[2025-01-09]"):
            day = self.day(item, "extra closure")
            if day < start:
                self.fail(item, f"extra closure {day} lies before the market's start {start}.")
            if day.weekday() > 4 and not HOURS[kind].weekends:
                self.fail(item, f"extra closure {day} is a {day:%A}, on which {kind} do not trade anyway.")
            if day in days:
                self.fail(item, f"extra closure {day} stands twice.")
            days.add(day)
        return tuple(sorted(days))

    def day(self, node: Node, what: str) -> date:
        text = self.scalar(node, what)
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = None
        if day is None or day.isoformat() != text:  # weeks and other spellings of ISO 8601 are no dates here
            self.fail(node, f"{what} {text!r} is not a date like 2024-01-02.")
        return day

    def mapping(self, node: Node, what: str, allowed: tuple[str, ...]) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        for key, value in self.entries(node, what):
            if key.value not in allowed:
                close = get_close_matches(key.value, allowed, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(allowed)}."
                self.fail(key, f"{what} has an unknown key `{_told(key)}`; {hint}")
            fields[key.value] = value
        return fields

    def entries(self, node: Node, what: str) -> Iterator[tuple[ScalarNode, Node]]:
        if not isinstance(node, MappingNode):
            self.fail(node, f"{what} is no mapping of `key: value`.")
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.fail(key, f"{what} has a key that is no plain word.")
            if key.value in seen:
                self.fail(key, f"{what} names `{_told(key)}` twice.")
            seen.add(key.value)
            yield key, value

    def items(self, node: Node, what: str, like: str = "[A, B]") -> list[Node]:
        if not isinstance(node, SequenceNode):
            self.fail(node, f"`{what}` is not a list like {like}.")
        if not node.value:
            self.fail(node, f"`{what}` is empty.")
        return list(node.value)

    def scalar(self, node: Node, what: str) -> str:
        if not isinstance(node, ScalarNode) or not node.value:
            self.fail(node, f"{what} is no plain word.")
        return str(node.value)
