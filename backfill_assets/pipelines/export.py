"""Bring the files of an export up to date: a file for each market, timeframe and month.

A file is due if the store has changed since the manifest recorded its state, or if it is missing. The state is read before
the bars: what changes in between makes the file due again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.adapters.archive.files import (
    Arguments,
    Manifest,
    Part,
    Partition,
    name_of,
    parse_name,
    read_manifest,
    read_rows,
    schema_of,
    write_manifest,
)
from backfill_assets.adapters.archive.places import Place, emptied
from backfill_assets.adapters.store.exports import ExportStore, MonthState, Sums, next_month, only_export
from backfill_assets.adapters.store.rows import instant
from backfill_assets.adapters.store.schema import NEEDED
from backfill_assets.domain.bars import Int
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.sessions import HOURS, day_starts
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.progress import SILENT, ExportProgress
from backfill_assets.reading import iterate_bars

BATCH_ROWS = 100_000
"""Rows that are in memory at a time, beside those of unfinished row groups: 35 MB with all features."""

MOST_MONTHS = 36
"""Files that are written at the same time, each with an unfinished row group: a connection costs as much as a month."""

TIMEOUT = 6 * 3600.0
"""Seconds that reading the months of a symbol may take, writing their files included."""


_EMPTY = Partition(0, 0, "", "")


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a market is exported: the months that contain the first and the last day, and those between, completely."""

    market: Market
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    days: DayRange

    @property
    def zone(self) -> ZoneInfo:
        """The market's time zone, in which months begin."""
        return HOURS[self.market.kind].zone

    @property
    def months(self) -> DayRange:
        """From the first day of the first month to the last day of the last."""
        return DayRange(self.days.start.replace(day=1), next_month(self.days.end) - ONE_DAY)

    def __contains__(self, name: str) -> bool:
        """Whether a name is that of a file of this scope."""
        match parse_name(name):
            case (self.market.name, timeframe, month):
                return timeframe in self.timeframes and month in self.months
            case _:
                return False


@dataclass(slots=True)
class Exported:
    """What an export did: files by name that were written, that were due but equal, that were removed.

    partitions  the files of the scopes, as they are now
    """

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    partitions: Mapping[str, Partition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File:
    scope: Scope
    timeframe: str
    month: date
    name: str
    state: MonthState


def export(
    store: ExportStore,
    place: Place,
    scopes: Sequence[Scope],
    arguments: Arguments | None,
    progress: ExportProgress = SILENT,
    *,
    full: bool = False,
) -> Exported:
    """Write the files that are due, then the manifest; with `full`, render all files again and compare.

    `arguments` None: those of the manifest, or the defaults. Stopped at any moment it leaves complete files, and the next
    call goes on. Raises UsageMistake if the place has an export with other arguments, ExportError, StoreError.
    """
    done = Exported()
    with only_export(store.url, str(place), progress.waiting), emptied(place):
        manifest = read_manifest(place) or Manifest(arguments or Arguments())
        if arguments and arguments != manifest.arguments:
            raise UsageMistake(_other_arguments(place, manifest.arguments, arguments))
        sizes, known = place.sizes(), dict(manifest.partitions)
        files = {file.name: file for scope in scopes for file in _files(store, scope, manifest.arguments)}
        due = [file for file in files.values() if full or _is_due(file, known.get(file.name), sizes)]
        gone = sorted(n for n in {*sizes, *known} if n not in files and any(n in scope for scope in scopes))
        progress.due(len(due) + len(gone))
        for group in _groups(due):
            for name, partition in _rendered(store.url, place, group, manifest.arguments):
                _take(place, name, partition, known, done)
                progress.exported(name, partition.rows)
            manifest = _recorded(place, manifest, known)
        for name in gone:
            _take(place, name, _EMPTY, known, done)
            progress.exported(name, 0)
        _recorded(place, manifest, known)
    done.partitions = {name: known[name] for name in sorted(known) if any(name in scope for scope in scopes)}
    return done


def _files(store: ExportStore, scope: Scope, arguments: Arguments) -> Iterator[_File]:
    """Yield the files that ought to exist, with the state of their bars."""
    symbols = [s for s in scope.symbols if arguments.symbols is None or s in arguments.symbols]
    states = store.states(
        symbols,
        scope.timeframes,
        scope.months,
        scope.zone,
        features=bool(arguments.features),
        adjust=arguments.adjust,
    )
    for (timeframe, month), state in sorted(states.items()):
        name = name_of(scope.market.name, timeframe, month, arguments.format)
        yield _File(scope, timeframe, month, name, state)


def _is_due(file: _File, known: Partition | None, sizes: Mapping[str, int]) -> bool:
    return known is None or known.state != file.state.text or sizes.get(file.name) != known.bytes


def _groups(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Group files of consecutive months, which are read at the same time: at most MOST_MONTHS."""
    group: list[_File] = []
    for file in files:
        if group and (
            (file.scope, file.timeframe) != (group[0].scope, group[0].timeframe)
            or file.month != next_month(group[-1].month)
            or len(group) == MOST_MONTHS
        ):
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _rendered(url: str, place: Place, files: Sequence[_File], arguments: Arguments) -> Iterator[tuple[str, Partition]]:
    """Write the bars of consecutive months to `place.parts`, all months at once; yield what each file became."""
    first, schema = files[0], schema_of(arguments.features)
    edges = day_starts([*(file.month for file in files), next_month(files[-1].month)], first.scope.zone)
    with ExitStack() as stack:
        parts = [Part(place.parts / Path(file.name).name, schema, arguments.format) for file in files]
        for part in parts:
            stack.callback(part.close)
        for batch in iterate_bars(
            sorted({symbol for file in files for symbol in file.state.symbols}),
            first.timeframe,
            instant(edges[0]),
            instant(edges[-1]),
            adjust=arguments.adjust,
            features=arguments.features or None,
            rows=BATCH_ROWS,
            url=url,
            timeout=TIMEOUT,
        ):
            cuts = np.searchsorted(batch.column("timestamp").cast("int64").to_numpy(), edges * 1000)
            for part, (begin, end) in zip(parts, pairwise(cuts), strict=True):
                if begin < end:
                    part.add(batch.slice(begin, end - begin))
    for file, part in zip(files, parts, strict=True):
        yield file.name, part.partition(file.state.text) if part.rows else _EMPTY


def _take(place: Place, name: str, made: Partition, known: dict[str, Partition], done: Exported) -> None:
    """Replace a file by what was rendered of it, unless it is the same; remove it if it has no rows."""
    if not made.rows:
        place.delete(name)
        known.pop(name, None)
        done.removed.append(name)
        return
    before, known[name] = known.get(name), made
    if before and before.sha256 == made.sha256:
        found = place.read(name)
        if found is not None and hashlib.sha256(found).hexdigest() == made.sha256:
            done.unchanged.append(name)
            return
    place.take(place.parts / Path(name).name, name)
    done.written.append(name)


def _recorded(place: Place, manifest: Manifest, known: Mapping[str, Partition]) -> Manifest:
    """Write the manifest if files have changed, and return it."""
    if dict(manifest.partitions) == known:
        return manifest
    columns = {column.name: str(column.type) for column in schema_of(manifest.arguments.features)}
    new = Manifest(manifest.arguments, dict(sorted(known.items())), columns, NEEDED, datetime.now(UTC))
    write_manifest(place, new)
    return new


def _other_arguments(place: Place, found: Arguments, wanted: Arguments) -> str:
    field = next(name for name in Arguments.__struct_fields__ if getattr(found, name) != getattr(wanted, name))
    value = getattr(found, field)
    shown = ",".join(value) or "none" if isinstance(value, tuple) else value or "all"
    return f"{place} has an export with --{field} {shown}: choose another place, or the same options."


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that does not have the bars of the tables."""

    name: str
    symbol: str
    bars: int
    stored: int


def differences(store: ExportStore, place: Place, scopes: Sequence[Scope]) -> list[Difference]:
    """Compare the files of the scopes with the tables: rows, first and last bar, and sums if nothing is adjusted."""
    manifest = read_manifest(place)
    arguments = manifest.arguments if manifest else Arguments()
    found = []
    for scope in scopes:
        for file in _files(store, scope, arguments):
            start, end = (instant(ms) for ms in day_starts([file.month, next_month(file.month)], scope.zone))
            stored = {s.symbol: s for s in store.sums(file.state.symbols, file.timeframe, start, end)}
            present = {s.symbol: s for s in _sums(read_rows(place, file.name, arguments))}
            found += [
                Difference(file.name, symbol, *(by.get(symbol, Sums(symbol)).bars for by in (present, stored)))
                for symbol in sorted({*stored, *present})
                if not _agree(stored.get(symbol), present.get(symbol), exactly=arguments.adjust == "none")
            ]
    return found


def _agree(stored: Sums | None, present: Sums | None, *, exactly: bool) -> bool:
    if stored and present and not exactly:
        present = replace(present, prices=stored.prices, volume=stored.volume)
    return stored == present


def _sums(rows: Any) -> Iterator[Sums]:
    """Add up the rows of a file, an Arrow table sorted by symbol, as `ExportStore.sums` does."""
    symbols = rows.column("symbol").combine_chunks().dictionary_encode()
    codes = symbols.indices.to_numpy()
    if not len(codes):
        return
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    ends = [*begins[1:], len(codes)]
    stamps = rows.column("timestamp").cast("int64").to_numpy() // 1000

    def total(name: str, scale: int) -> Int:
        values = np.rint(rows.column(name).fill_null(0).to_numpy() * scale).astype(np.int64)
        return np.add.reduceat(values, begins)

    trades, volume = total("trades", 1), total("volume", 100)
    prices = sum((total(name, 10_000) for name in ("open", "high", "low", "close", "vwap")), np.zeros_like(trades))
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        bounds = instant(stamps[begin]), instant(stamps[end - 1])
        name = symbols.dictionary[int(codes[begin])].as_py()
        yield Sums(name, int(end - begin), *bounds, int(trades[row]), int(prices[row]), int(volume[row]))
