"""Exports say what the tables say, however these came to it, and rewrite only what changed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.archive.files import FORMATS, MANIFEST, Arguments, read_rows
from backfill_assets.adapters.archive.places import Folder
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.adapters.store.schema import NEEDED
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction, ListedActions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import ExportError, UsageMistake
from backfill_assets.domain.features import COLUMNS
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets.pipelines.export import Scope, differences, export
from backfill_assets_tests.integration.pipelines.test_features import COIN, STEP, STOCK, THOROUGH, World, empty
from backfill_assets_tests.support import MOMENT, SOAK, rows, stored_bars

FEATURES = tuple(column.name for column in COLUMNS)
EVERYTHING = Arguments("splits", FEATURES)
SHORT = replace(STOCK, days=DayRange(date(2024, 1, 25), date(2024, 3, 22)), splits=())


def scope(world, *symbols, days=None, timeframes=tuple(TIMEFRAMES)):
    return Scope(world.market, symbols or (world.symbol,), timeframes, days or world.nature.days)


def run(world, folder, arguments=None, *, full=False, **terms):
    scopes = [scope(world, *terms.pop("symbols", ()), **terms)]
    with ExportStore(world.url, read_only=True) as store:
        done = export(store, Folder(folder), scopes, arguments or Arguments(), full=full)
        assert differences(store, Folder(folder), scopes) == []
    assert not (folder / ".parts").exists()
    return done


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != MANIFEST
    }


def short(names):
    """1m 2024-03 of a file's name."""
    return {f"{parts[1].removeprefix('timeframe=')} {Path(parts[-1]).stem}" for parts in (n.split("/") for n in names)}


@pytest.fixture
def worlds(database_url, snapshots):
    """Two stocks over three months, with their features."""
    made = [World(database_url, SHORT, name) for name in ("AAPL", "MSFT")]

    def fill():
        for world in made:
            world.write_all()
            world.compute()

    snapshots.restore_or_make("two stocks to export", database_url, fill)
    return made


# --- Every change


@pytest.mark.parametrize("nature", [STOCK, COIN], ids=lambda nature: nature.symbol)
@settings(THOROUGH, max_examples=60 if SOAK else 3, phases=[Phase.generate])  # shrinking takes minutes
@given(data=st.data())
def test_an_export_after_any_changes_equals_one_from_nothing(database_url, nature, data):
    empty(database_url)
    world = World(database_url, nature)
    world.write(MINUTE_1)
    arguments = data.draw(
        st.sampled_from([Arguments(), EVERYTHING, Arguments(features=("rsi_14",)), Arguments("splits")])
    )
    with tempfile.TemporaryDirectory() as name:
        kept = Path(name, "kept")
        for number, step in enumerate(data.draw(st.lists(STEP, min_size=2, max_size=6))):
            step.done(world)
            run(world, kept, arguments)
            assert not run(world, kept, arguments).written
            run(world, Path(name, f"{number}"), arguments)
            assert contents(kept) == contents(Path(name, f"{number}"))


def bar_of(world, timeframe, day):
    return int(
        np.searchsorted(
            world.bars[timeframe].timestamp, datetime.combine(day, datetime.min.time(), UTC).timestamp() * 1000
        )
    )


def change(timeframe, day):
    def changed(world, other):
        world.change(timeframe, bar_of(world, timeframe, day), 1.05)
        world.write(timeframe)

    return changed


def withdraw(world, other):
    row = bar_of(world, MINUTE_1, date(2024, 3, 19))
    share = (row + 0.5) / (len(world.bars[MINUTE_1]) - 1)
    world.write(MINUTE_1, without=(share,))


def split(day):
    def known(world, other, withdrawn=False):
        action = CorporateAction(world.symbol, ActionKind.SPLIT, day, 1.0, 4.0)
        with CorporateActionStore(world.url) as actions:
            listed = ListedActions(day, () if withdrawn else (action,), frozenset([world.symbol]))
            actions.record([world.symbol], listed, [], MOMENT, world.zone)

    return known


INTRADAY = ("1m", "5m", "15m", "30m", "1h", "4h")
MONTHS = ("2024-01", "2024-02", "2024-03")


def months(timeframes, *of):
    return {f"{t} {month}" for t in timeframes for month in of}


@pytest.mark.parametrize(
    ("arguments", "changed", "computed", "touched"),
    [
        (Arguments(), lambda world, other: None, False, set()),
        (Arguments(), change(MINUTE_1, date(2024, 3, 19)), True, months(INTRADAY, "2024-03")),
        (Arguments(), change(DAY_1, date(2024, 2, 6)), True, months(("1d", "1w"), "2024-02")),
        (Arguments(), withdraw, True, months(INTRADAY, "2024-03")),
        (Arguments(), split(date(2024, 3, 14)), True, set()),
        (
            Arguments("splits"),
            split(date(2024, 3, 14)),
            False,
            months(INTRADAY, "2024-02", "2024-03") | months(("1d", "1w"), *MONTHS),
        ),
        (Arguments("splits"), split(date(2024, 1, 30)), False, months(("1d", "1w"), "2024-01")),
        (EVERYTHING, change(DAY_1, date(2024, 2, 6)), False, months(("1d", "1w"), "2024-02")),
        (EVERYTHING, change(DAY_1, date(2024, 2, 6)), True, {"1d 2024-02", "1d 2024-03", "1w 2024-02"}),
        (
            Arguments(features=("rsi_14",)),
            change(MINUTE_1, date(2024, 2, 28)),
            True,
            months(INTRADAY, "2024-02", "2024-03"),
        ),
    ],
)
def test_exactly_the_files_are_rewritten_whose_rows_changed(worlds, tmp_path, arguments, changed, computed, touched):
    names = ("AAPL", "MSFT")
    first = run(worlds[0], tmp_path, arguments, symbols=names)
    assert set(first.written) == set(first.partitions)
    before = contents(tmp_path)
    stamps = {name: (tmp_path / name).stat().st_ino for name in before}
    changed(*worlds)
    if computed:
        worlds[0].compute()
    again = run(worlds[0], tmp_path, arguments, symbols=names)
    assert short(again.written) == touched
    assert again.removed == []
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == set(again.written)
    assert {name for name in before if (tmp_path / name).stat().st_ino != stamps[name]} == set(again.written)
