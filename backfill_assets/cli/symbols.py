"""`backfill symbols`: list, add and remove the symbols of the universe file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import typer

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.cli.output import COMPLETE, counted, output_console, plain_table, print_json, write_file
from backfill_assets.domain.errors import UniverseMistake, UsageMistake
from backfill_assets.domain.universe import Symbol, Universe, default_ticker
from backfill_assets.domain.universe_file import parse_universe, with_symbols, without_symbols
from backfill_assets.pipelines.selection import require_known
from backfill_assets.presentation.documents import symbols_json


def list_command(*, as_json: bool) -> int:
    """List the symbols of the universe, and those that are stored without being in it."""
    settings, universe = _read()
    with SeriesStore(database.ready(settings), connections=1, read_only=True) as store:
        bars = store.bars_by_symbol()
    rows = symbols_json(universe, bars)
    if as_json:
        print_json(rows)
        return COMPLETE
    table = plain_table("market", "symbol", "ticker", "bars", right=["bars"])
    for row in rows:
        market, ticker = row["market"] or "[yellow]not in the universe[/]", row["ticker"] or ""
        table.add_row(market, row["symbol"], ticker, f"{row['bars']:,}")
    output_console().print(table)
    return COMPLETE


def add_command(names: Sequence[str], market_name: str | None, ticker: str | None) -> int:
    """Add symbols to a market of the universe file."""
    settings, universe = _read()
    markets = {market.name: market for market in universe.markets}
    if market_name is None and len(markets) > 1:
        raise UsageMistake(f"--market is missing: give one of {', '.join(markets)}.")
    require_known("Market", [market_name] if market_name else (), list(markets), "the universe")
    market = markets[market_name or next(iter(markets))]
    if ticker and len(names) > 1:
        raise UsageMistake("--ticker needs exactly one symbol.")
    added = tuple(Symbol(name, ticker or default_ticker(market.kind, name)) for name in dict.fromkeys(names))
    markets[market.name] = replace(market, symbols=(*market.symbols, *added))
    _write(
        settings, with_symbols(_text(settings), market.name, added), replace(universe, markets=tuple(markets.values()))
    )
    listed = ",".join(symbol.name for symbol in added)
    sys.stdout.write(
        f"Added to {market.name} in {settings.universe_file}. To fetch the bars:\n  backfill run --symbols {listed}\n"
    )
    return COMPLETE


def remove_command(names: Sequence[str], *, purge: bool, yes: bool) -> int:
    """Remove symbols from the universe file; with `purge`, also what is stored of them."""
    settings, universe = _read()
    stored: dict[str, int] = {}
    if purge:
        with SeriesStore(database.ready(settings), connections=1) as store:
            stored = store.bars_by_symbol()
    gone = universe.without(names)
    for name in gone:
        if name not in stored:
            raise UsageMistake(
                f"Symbol {name!r} is not in the universe{', and no bar of it is stored' if purge else ''}."
            )
    if purge and not yes:
        question = (
            f"Delete {counted(sum(stored.get(n, 0) for n in names), 'bar')} of {', '.join(names)}, and their features?"
        )
        if not sys.stdin.isatty():
            raise UsageMistake(f"{question} Confirm with --yes.")
        typer.confirm(question, abort=True)
    if len(gone) < len(names):
        markets = [replace(m, symbols=tuple(s for s in m.symbols if s.name not in names)) for m in universe.markets]
        for market in markets:
            if not market.symbols:
                raise UsageMistake(
                    f"{market.name} has no other symbols: remove the market from {settings.universe_file}."
                )
        _write(settings, without_symbols(_text(settings), names), replace(universe, markets=tuple(markets)))
        sys.stdout.write(f"Removed from {settings.universe_file}.\n")
    if purge:
        with SeriesStore(database.ready(settings), connections=1) as store:
            sys.stdout.write(f"Deleted {counted(store.purge(names), 'bar')}.\n")
    else:
        sys.stdout.write("Stored bars are kept; --purge deletes them.\n")
    return COMPLETE


def _read() -> tuple[Settings, Universe]:
    settings = Settings.read()
    return settings, settings.universe(datetime.now(UTC).date())


def _text(settings: Settings) -> str:
    return settings.universe_file.read_text(encoding="utf-8")


def _write(settings: Settings, text: str, expected: Universe) -> None:
    """Replace the universe file. Raises UniverseMistake if the new one is not valid, or says something else."""
    path = settings.universe_file
    if parse_universe(text, str(path), datetime.now(UTC).date()) != expected:
        raise UniverseMistake(f"{path} cannot be edited automatically: edit it by hand.")
    write_file(path, text, "The universe file")
