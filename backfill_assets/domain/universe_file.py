"""The YAML form of the universe.

Scalars stay as they are written: YAML would turn the tickers ON, NO and Y into booleans.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from io import StringIO
from reprlib import repr as shortened
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, InstanceOf, ValidationError
from ruamel.yaml import YAML
from yaml.nodes import MappingNode, Node, SequenceNode

from backfill_assets.domain.errors import UniverseMistake
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.sources import FALLBACKS, FIRST_SOURCES, POLYGON, SOURCES
from backfill_assets.domain.timeframes import TIMEFRAMES, Timeframe, sources
from backfill_assets.domain.universe import Archive, EarlierTicker, Market, Symbol, Universe, default_ticker

_EARLIEST = date(1970, 1, 1)

type _Loc = tuple[int | str, ...]


def _matching(pattern: str, rule: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {rule}, not {shortened(text)}")
        return text

    return AfterValidator(check)


def _day(value: Any) -> date:
    try:
        day = date.fromisoformat(value)
    except (TypeError, ValueError):
        day = None
    if day is None or day.isoformat() != value:  # other spellings of ISO 8601, such as weeks
        raise ValueError(f"must be a date like 2024-01-02, not {shortened(value)}")
    return day


def _timeframe(name: Any) -> Timeframe:
    if not isinstance(name, str) or name not in TIMEFRAMES:
        raise ValueError(f"must be one of {', '.join(TIMEFRAMES)}, not {shortened(name)}")
    return TIMEFRAMES[name]


def _source(name: Any) -> str:
    if name not in SOURCES:
        raise ValueError(f"must be one of {', '.join(SOURCES)}, not {shortened(name)}")
    return str(name)


def _witness(name: Any) -> str:
    if not isinstance(name, str) or name not in FALLBACKS:
        raise ValueError(f"must be one of {', '.join(FALLBACKS)}, not {shortened(name)}")
    return str(name)


def _named_kinds(markets: Any) -> Any:
    """Let a market's name be its kind where none is written."""
    if not isinstance(markets, dict):
        return markets
    return {name: {"kind": name} | market if isinstance(market, dict) else market for name, market in markets.items()}


type _Day = Annotated[date, BeforeValidator(_day)]
# Dagster allows these characters in asset keys and group names.
type _MarketName = Annotated[str, _matching(r"[a-z][a-z0-9_]{0,29}", "a letter and up to 29 more of a-z, 0-9 and _")]
# Letters, digits and the marks of share classes (BRK.B, BF-B). A partition key is split at "|", a list at ",", and
# Dagster reads "..." as a range.
type _Name = Annotated[
    str, _matching(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9.\-]{0,19}", "up to 20 letters, digits, '.' and '-'")
]
type _Ticker = Annotated[
    str, _matching(r"(?:[XCIO]:)?[A-Za-z0-9][A-Za-z0-9.\-]{0,24}", "a ticker like AAPL, BRK.B or X:BTCUSD")
]


class _FormerlyEntry(BaseModel, extra="forbid"):
    ticker: _Ticker
    until: _Day


class _SymbolEntry(BaseModel, extra="forbid"):
    symbol: _Name
    ticker: _Ticker | None = None
    formerly: list[_FormerlyEntry] = Field(default_factory=list, min_length=1)

    def symbol_of(self, kind: Kind) -> Symbol:
        formerly = tuple(EarlierTicker(f.ticker, f.until) for f in self.formerly)
        return Symbol(self.symbol, self.ticker or default_ticker(kind, self.symbol), formerly)

    def problems(self, kind: Kind, today: date) -> Iterator[tuple[_Loc, str]]:
        tickers: list[tuple[_Loc, str | None]] = [(("ticker",), self.ticker)]
        tickers += [(("formerly", at, "ticker"), f.ticker) for at, f in enumerate(self.formerly)]
        for loc, ticker in tickers:
            if ticker and ticker.startswith("X:") != (kind is Kind.CRYPTO):
                yield loc, f"must begin with X: in crypto and only there, not {ticker!r}."
        for at, item in enumerate(self.formerly):
            if at and item.until <= self.formerly[at - 1].until:
                yield ("formerly", at, "until"), f"must be after {self.formerly[at - 1].until}, not {item.until}."
            if item.until >= today:
                yield ("formerly", at, "until"), f"must be before today, not {item.until}."


class _ArchiveEntry(BaseModel, extra="forbid"):
    kind: Kind
    start: _Day
    timeframes: list[Annotated[InstanceOf[Timeframe], BeforeValidator(_timeframe)]] = Field(
        default_factory=lambda: list(sources(TIMEFRAMES.values())), min_length=1
    )
    extra_closures: list[_Day] = Field(default_factory=list, min_length=1)

    @property
    def ordered(self) -> tuple[Timeframe, ...]:
        return tuple(t for t in TIMEFRAMES.values() if t in self.timeframes)

    def archive(self, name: str) -> Archive:
        return Archive(name, self.kind, self.start, self.ordered, tuple(sorted(self.extra_closures)))

    def timeframe_problem(self, timeframe: Timeframe) -> str | None:
        return f"is derived on reading: name {timeframe.derived_from}." if timeframe.derived_from else None

    def problems(self, today: date) -> Iterator[tuple[_Loc, str]]:
        if not _EARLIEST <= self.start <= today:
            yield ("start",), f"must be from {_EARLIEST} to today, not {self.start}."
        for at, timeframe in enumerate(self.timeframes):
            if sentence := self.timeframe_problem(timeframe):
                yield ("timeframes", at), sentence
        for at, day in enumerate(self.extra_closures):
            if day < self.start:
                yield ("extra_closures", at), f"must not be before the start {self.start}, as {day} is."
            if day.weekday() > 4 and not HOURS[self.kind].weekends:
                yield ("extra_closures", at), f"is {day}, a {day:%A}, when {self.kind} are never traded."
        yield from _repeats("timeframes", self.timeframes)
        yield from _repeats("extra_closures", self.extra_closures)


class _MarketEntry(_ArchiveEntry):
    symbols: list[
        Annotated[_SymbolEntry, BeforeValidator(lambda item: {"symbol": item} if isinstance(item, str) else item)]
    ] = Field(min_length=1)
    timeframes: list[Annotated[InstanceOf[Timeframe], BeforeValidator(_timeframe)]] = Field(
        default_factory=lambda: list(TIMEFRAMES.values()), min_length=1
    )
    sources: list[Annotated[str, BeforeValidator(_source)]] = Field(default_factory=lambda: [POLYGON], min_length=1)
    witness: Annotated[str, BeforeValidator(_witness)] | None = None

    def market(self, name: str) -> Market:
        symbols = tuple(item.symbol_of(self.kind) for item in self.symbols)
        closures = tuple(sorted(self.extra_closures))
        order = tuple(self.sources)
        return Market(name, self.kind, self.start, symbols, self.ordered, closures, order, self.witness)

    def timeframe_problem(self, timeframe: Timeframe) -> str | None:
        if timeframe.derived_from in {None, *(t.name for t in self.timeframes)}:
            return None
        return f"needs {timeframe.derived_from}, from which {timeframe.name} is derived: add it."

    def problems(self, today: date) -> Iterator[tuple[_Loc, str]]:
        yield from super().problems(today)
        yield from _repeats("sources", self.sources)
        for at, source in enumerate(self.sources):
            if source in FALLBACKS and not set(self.sources[:at]) & set(FIRST_SOURCES):
                yield ("sources", at), f"must come after {' or '.join(FIRST_SOURCES)}: {source} is a fallback."
            if source in FIRST_SOURCES and set(self.sources[:at]) & set(FALLBACKS):
                yield ("sources", at), "must come before the fallbacks."
        named: list[tuple[_Loc, str]] = [(("sources", at), source) for at, source in enumerate(self.sources)]
        for loc, source in [*named, *([(("witness",), self.witness)] if self.witness else [])]:
            if source in FALLBACKS and FALLBACKS[source].kind is not self.kind:
                yield loc, f"has bars of {FALLBACKS[source].kind} only, and this market is of {self.kind}."
        for at, item in enumerate(self.symbols):
            for loc, sentence in item.problems(self.kind, today):
                yield ("symbols", at, *loc), sentence


class _File(BaseModel, extra="forbid"):
    markets: Annotated[dict[_MarketName, _MarketEntry], Field(min_length=1), BeforeValidator(_named_kinds)]
    archives: Annotated[dict[_MarketName, _ArchiveEntry], Field(min_length=1)] = Field(default_factory=dict)


_MODELS: dict[int, type[BaseModel]] = {1: _File, 3: _MarketEntry, 5: _SymbolEntry, 7: _FormerlyEntry}
"""By the length of the location of one of their keys."""

_SENTENCES = {
    "dict_type": "must be a mapping of `key: value`.",
    "enum": f"must be one of {', '.join(Kind)}.",
    "list_type": "must be a list like [A, B].",
    "missing": "is missing.",
    "model_type": "must be a mapping of `key: value`.",
    "string_type": "must be a single word.",
    "too_short": "is empty.",
}
"""By Pydantic's type of error."""


class _Loader(yaml.BaseLoader):
    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found duplicate key {shortened(key.value)}", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_universe(text: str, source: str, today: date) -> Universe:
    """Read a universe from YAML text; `source` names the file in messages, no market may start after `today`.

    Raises UniverseMistake with file and line.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        content = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UniverseMistake(f"{source}, line {line}: not valid YAML ({error.problem}).") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # also escapes and versions that are out of range
        raise UniverseMistake(f"{source}: not valid YAML; it contains characters that a text file cannot.") from None
    except RecursionError:
        raise UniverseMistake(f"{source}: nested too deeply for a universe.") from None
    if root is None:
        raise UniverseMistake(f"{source} is empty; it needs `markets:` with at least one market.")
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        problem: tuple[_Loc, str] | None = _first(error)
    else:
        problem = next(_problems(file, today), None)
    if problem is None:
        return Universe(
            tuple(entry.market(name) for name, entry in file.markets.items()),
            tuple(entry.archive(name) for name, entry in file.archives.items()),
        )
    loc, sentence = problem
    where = ".".join(step if re.fullmatch(r"[\w.-]{1,40}", step) else shortened(step) for step in map(str, loc))
    raise UniverseMistake(f"{source}, line {_line(root, loc)}: {where or 'the file'} {sentence}")


def with_symbols(text: str, market: str, symbols: Sequence[Symbol]) -> str:
    """Return the universe file's text with symbols added to a market; comments are kept. Raises KeyError."""

    def add(markets: Any) -> None:
        kind = Kind(markets[market].get("kind", market))
        markets[market]["symbols"].extend(
            s.name if s.ticker == default_ticker(kind, s.name) else {"symbol": s.name, "ticker": s.ticker}
            for s in symbols
        )

    return _edited(text, add)


def without_symbols(text: str, names: Container[str]) -> str:
    """Return the universe file's text without symbols; comments are kept."""

    def remove(markets: Any) -> None:
        for market in markets.values():
            for at in reversed(range(len(market["symbols"]))):
                item = market["symbols"][at]
                if str(item["symbol"] if isinstance(item, dict) else item) in names:
                    del market["symbols"][at]

    return _edited(text, remove)


def _edited(text: str, change: Callable[[Any], None]) -> str:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(sequence=4, offset=2)
    document = yaml.load(text)
    change(document["markets"])
    written = StringIO()
    yaml.dump(document, written)
    return written.getvalue()


def _first(errors: ValidationError) -> tuple[_Loc, str]:
    """Return the first unknown key, which may explain other errors, or else the first error."""
    found = min(errors.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    loc = tuple(step for step in found["loc"] if step != "[key]")
    if found["type"] == "extra_forbidden":
        known = (_ArchiveEntry if loc[0] == "archives" and len(loc) == 3 else _MODELS[len(loc)]).model_fields
        close = get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(known)}."
        return loc, f"is an unknown key; {hint}"
    return loc, f"{found['ctx']['error']}." if found["type"] == "value_error" else _SENTENCES[found["type"]]


def _line(root: Node, loc: _Loc) -> int:
    """Return the line of the last key or item of `loc` that is in the file."""
    node, line = root, root.start_mark.line
    for step in loc:
        if isinstance(node, MappingNode) and step in (keys := {key.value: (key, value) for key, value in node.value}):
            key, node = keys[step]
            line = key.start_mark.line
        elif isinstance(node, SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line
    return int(line) + 1


def _problems(file: _File, today: date) -> Iterator[tuple[_Loc, str]]:
    """Yield what the types do not express: where, and a sentence."""
    market_of: dict[str, str] = {}
    for name, archive in file.archives.items():
        if name in file.markets:
            yield ("archives", name), "is the name of a market too: choose another, such as us_stocks."
        for loc, sentence in archive.problems(today):
            yield ("archives", name, *loc), sentence
    for market, entry in file.markets.items():
        for loc, sentence in entry.problems(today):
            yield ("markets", market, *loc), sentence
        for at, item in enumerate(entry.symbols):
            # AAPL and aapl would be two series of one share.
            if other := market_of.get(item.symbol.upper()):
                hint = "" if other == market else f" (in {other}); use another name: {{symbol: …, ticker: …}}"
                yield ("markets", market, "symbols", at), f"repeats {item.symbol}{hint}."
            market_of[item.symbol.upper()] = market


def _repeats(field: str, items: Sequence[object]) -> Iterator[tuple[_Loc, str]]:
    return (((field, at), f"repeats {item}.") for at, item in enumerate(items) if item in items[:at])
