"""Exports say what the tables say, however these came to it, and rewrite only what changed."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.archive.files import FORMATS, MANIFEST, Arguments, read_manifest, read_rows
from backfill_assets.adapters.archive.places import Folder, place_of
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction, ListedActions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import ExportError, UsageMistake
from backfill_assets.domain.features import COLUMNS
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets.pipelines.export import Scope, differences, export
from backfill_assets_tests.buckets import s3
from backfill_assets_tests.integration.pipelines.test_features import COIN, STEP, STOCK, THOROUGH, World, empty
from backfill_assets_tests.support import MOMENT, PROJECT, SOAK, rows

__all__ = ["s3"]

FEATURES = tuple(column.name for column in COLUMNS)
EVERYTHING = Arguments("splits", FEATURES)
SHORT = replace(STOCK, days=DayRange(date(2024, 1, 25), date(2024, 3, 22)), splits=())


def scope(world, *symbols, days=None, timeframes=tuple(TIMEFRAMES)):
    return Scope(world.market, symbols or (world.symbol,), timeframes, days or world.nature.days)


def run(world, place, arguments=None, *, full=False, checked=True, **terms):
    place = Folder(place) if isinstance(place, Path) else place
    scopes = [scope(world, *terms.pop("symbols", ()), **terms)]
    with ExportStore(world.url, read_only=True) as store:
        done = export(store, place, scopes, arguments or Arguments(), full=full)
        if checked:
            assert differences(store, place, scopes) == []
    assert not place.parts.exists()
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


FEW = ("1m", "1d", "1w")


# --- Every change


@pytest.mark.parametrize("nature", [STOCK, COIN], ids=lambda nature: nature.symbol)
@settings(THOROUGH, max_examples=60 if SOAK else 2, phases=[Phase.generate])  # shrinking takes minutes
@given(data=st.data())
def test_an_export_after_any_changes_equals_one_from_nothing(database_url, nature, data):
    empty(database_url)
    world = World(database_url, nature)
    world.write(MINUTE_1)
    kinds = [Arguments(), EVERYTHING, Arguments(features=("rsi_14",)), Arguments("splits")]
    arguments = data.draw(st.sampled_from(kinds))
    with tempfile.TemporaryDirectory() as name:
        kept = Path(name, "kept")
        for number, step in enumerate(data.draw(st.lists(STEP, min_size=2, max_size=4))):
            step.done(world)
            run(world, kept, arguments, timeframes=FEW)
            run(world, Path(name, f"{number}"), arguments, timeframes=FEW, checked=False)
            assert contents(kept) == contents(Path(name, f"{number}"))


def bar_of(world, timeframe, day):
    at = datetime.combine(day, datetime.min.time(), UTC).timestamp() * 1000
    return int(np.searchsorted(world.bars[timeframe].timestamp, at))


def nothing(_):
    pass


def change(timeframe, day):
    def changed(world):
        world.change(timeframe, bar_of(world, timeframe, day), 1.05)
        world.write(timeframe)

    return changed


def withdraw(world):
    row = bar_of(world, MINUTE_1, date(2024, 3, 19))
    world.write(MINUTE_1, without=((row + 0.5) / (len(world.bars[MINUTE_1]) - 1),))


def split(day):
    def known(world):
        action = CorporateAction(world.symbol, ActionKind.SPLIT, day, 1.0, 4.0)
        with CorporateActionStore(world.url) as actions:
            actions.record([world.symbol], ListedActions(day, (action,), frozenset()), [], MOMENT, world.zone)

    return known


DAYS, MINUTES = ("1d", "1w"), ("1m", "1h")
MONTHS = ("2024-01", "2024-02", "2024-03")


def months(timeframes, *of):
    return {f"{t} {month}" for t in timeframes for month in of}


@pytest.mark.parametrize(
    ("arguments", "changed", "computed", "touched"),
    [
        (Arguments(), nothing, False, set()),
        (Arguments(), change(MINUTE_1, date(2024, 3, 19)), True, months(MINUTES, "2024-03")),
        (Arguments(), change(DAY_1, date(2024, 2, 6)), True, months(DAYS, "2024-02")),
        (Arguments(), withdraw, True, months(MINUTES, "2024-03")),
        (Arguments(), split(date(2024, 3, 14)), True, set()),
        (
            Arguments("splits"),
            split(date(2024, 3, 14)),
            False,
            months(MINUTES, "2024-02", "2024-03") | months(DAYS, *MONTHS),
        ),
        (Arguments("splits"), split(date(2024, 1, 30)), False, months(DAYS, "2024-01")),
        (EVERYTHING, change(DAY_1, date(2024, 2, 6)), False, months(DAYS, "2024-02")),
        (EVERYTHING, change(DAY_1, date(2024, 2, 6)), True, {"1d 2024-02", "1d 2024-03", "1w 2024-02"}),
        (  # the hour's close stays
            Arguments(features=("rsi_14",)),
            change(MINUTE_1, date(2024, 2, 28)),
            True,
            {"1m 2024-02", "1m 2024-03", "1h 2024-02"},
        ),
    ],
)
def test_exactly_the_files_are_rewritten_whose_rows_changed(worlds, tmp_path, arguments, changed, computed, touched):
    terms = {"symbols": ("AAPL", "MSFT"), "timeframes": DAYS + MINUTES}
    first = run(worlds[0], tmp_path, arguments, checked=False, **terms)
    assert set(first.written) == set(first.partitions)
    before = contents(tmp_path)
    inodes = {name: (tmp_path / name).stat().st_ino for name in before}
    manifest = (tmp_path / MANIFEST).read_bytes()
    changed(worlds[0])
    if computed:
        worlds[0].compute()
    again = run(worlds[0], tmp_path, arguments, **terms)
    assert (short(again.written), again.removed) == (touched, [])
    assert {name for name, content in contents(tmp_path).items() if before[name] != content} == set(again.written)
    assert {name for name in before if (tmp_path / name).stat().st_ino != inodes[name]} == set(again.written)
    if changed is nothing:
        assert (tmp_path / MANIFEST).read_bytes() == manifest


def test_a_month_without_bars_has_no_file_and_a_lost_or_edited_one_is_restored(worlds, tmp_path):
    world = worlds[0]
    first = run(world, tmp_path, timeframes=("1d",))
    before = contents(tmp_path)
    names = sorted(before)
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(b"damaged")
    again = run(world, tmp_path, timeframes=("1d",))
    assert (again.written, contents(tmp_path)) == (names[:2], before)
    rows_before = [p.rows for p in first.partitions.values()]
    assert rows_before == [5, 20, 16]

    # Bars edited by hand: only a full export sees it.
    with ExportStore(world.url) as store:
        store._transaction(
            lambda c: c.execute("update market_data set close = close + 1 where timeframe = '1d' and symbol = 'AAPL'")
        )
        assert export(store, Folder(tmp_path), [scope(world, timeframes=("1d",))], None).written == []
        assert len(differences(store, Folder(tmp_path), [scope(world, timeframes=("1d",))])) == 3
        assert export(store, Folder(tmp_path), [scope(world, timeframes=("1d",))], None, full=True).written == names
        store._transaction(
            lambda c: c.execute("delete from session_answers where timeframe = '1d' and session < '2024-02-01'")
        )
        assert export(store, Folder(tmp_path), [scope(world, timeframes=("1d",))], None).removed == names[:1]
    assert sorted(contents(tmp_path)) == names[1:] == sorted(read_manifest(Folder(tmp_path)).partitions)


def test_files_of_others_stay(worlds, tmp_path):
    own = run(worlds[0], tmp_path, timeframes=("1d",)).written[0]
    others = [tmp_path / "notes.txt", (tmp_path / own).with_name("notes.txt"), (tmp_path / own).with_suffix(".backup")]
    for other in others:
        other.write_text("kept")
    assert run(worlds[0], tmp_path, timeframes=("1d",)).removed == []
    assert [other.read_text() for other in others] == ["kept"] * 3


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_numbers_of_the_tables_bit_for_bit(worlds, tmp_path, form):
    arguments = Arguments("none", ("rsi_14", "obv_change_20"), form)
    done = run(worlds[0], tmp_path, arguments, symbols=("AAPL", "MSFT"), timeframes=("1m", "1w"))
    for timeframe in ("1m", "1w"):
        files = [read_rows(Folder(tmp_path), name, arguments) for name in done.partitions if f"={timeframe}/" in name]
        found = sorted(tuple(row.values()) for table in files for row in table.to_pylist())
        columns = 'symbol, "timestamp", open, high, low, close, volume, vwap, trades, rsi_14, obv_change_20'
        query = f"""select {columns} from market_data left join market_features using (symbol, timeframe, "timestamp")
            where timeframe = %s order by symbol, "timestamp\""""  # noqa: S608  # our own columns
        assert found == rows(worlds[0].url, query, timeframe)


def test_an_export_with_other_options_is_refused_and_without_options_continued(worlds, tmp_path):
    run(worlds[0], tmp_path, Arguments("splits"), timeframes=("1d",), checked=False)
    with pytest.raises(UsageMistake, match="has an export with --adjust splits: choose another place"):
        run(worlds[0], tmp_path, Arguments(), timeframes=("1d",))
    with ExportStore(worlds[0].url) as store:
        assert export(store, Folder(tmp_path), [scope(worlds[0], timeframes=("1d",))], None).written == []
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(UsageMistake, match="is not a manifest of this version"):
        run(worlds[0], tmp_path, Arguments("splits"))


# --- Killed at every step

KILLED = """
import os, sys
from datetime import date
from pathlib import Path
from backfill_assets.adapters.archive.files import Arguments
from backfill_assets.adapters.archive.places import Folder
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.pipelines.export import Scope, export
from backfill_assets_tests.integration.pipelines import test_export
import adbc_driver_postgresql.dbapi, pyarrow.parquet, backfill_assets.reading.connection

url, folder = sys.argv[1:]

def attempt(step):
    # In a fork, ended like by SIGKILL before its step-th change of a file; returns whether it was.
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    left = step
    def count(event, arguments):
        nonlocal left
        if event in ("os.rename", "os.remove", "os.mkdir") or event == "open" and arguments[1] and "w" in arguments[1]:
            if folder in str(arguments[0]):
                left -= 1
                if left == 0:
                    os._exit(9)
    sys.addaudithook(count)
    world = test_export.World(url, test_export.SHORT)
    with ExportStore(url, connections=1) as store:
        export(store, Folder(Path(folder)), [test_export.scope(world, timeframes=("1d",))], Arguments())
    os._exit(0)

step = 1
while attempt(step):
    for file in Path(folder).rglob("*.parquet"):
        child = os.fork()
        if not child:
            os._exit(0 if pyarrow.parquet.read_table(file).num_rows else 1)
        assert os.waitpid(child, 0)[1] == 0, file
    step += 1
print(step)
"""


def test_killed_at_any_step_it_leaves_files_that_can_be_read_and_the_next_call_completes_them(worlds, tmp_path):
    killed, complete = tmp_path / "killed", tmp_path / "complete"
    run(worlds[0], complete, timeframes=("1d",))
    command = [sys.executable, "-W", "ignore", "-c", KILLED, worlds[0].url, str(killed)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, cwd=PROJECT, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
    assert contents(killed) == contents(complete)
    assert read_manifest(Folder(killed)).partitions == read_manifest(Folder(complete)).partitions
    assert not (killed / ".backfill-export-parts").exists()


# --- Places


def test_what_is_wrong_with_a_folder_is_one_sentence(worlds, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for where, words in (("file", "cannot be"), ("file/below", "cannot be"), ("/proc/nothing", "cannot be written")):
        with pytest.raises(ExportError, match=words):
            run(worlds[0], tmp_path / where, timeframes=("1d",))
    for where in ("gs://bucket/x", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/../x", " ", "a\0b"):
        with pytest.raises(UsageMistake) as caught:
            place_of(where, tmp_path)
        assert "secret" not in str(caught.value)


def test_a_full_disk_is_one_sentence_and_the_files_stay(worlds, tmp_path):
    run(worlds[0], tmp_path, timeframes=("1w",))
    before = contents(tmp_path)
    change(DAY_1, date(2024, 2, 6))(worlds[0])

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
        with pytest.raises(ExportError, match="cannot be written"):
            run(worlds[0], tmp_path, timeframes=("1w",))
        with pytest.raises(ExportError, match="cannot be written"):  # before the last rows of a file
            run(worlds[0], tmp_path / "minutes", symbols=("AAPL", "MSFT"), timeframes=("1m",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert contents(tmp_path) == before
    assert short(run(worlds[0], tmp_path, timeframes=("1w",)).written) == {"1w 2024-02"}


def test_a_bucket_holds_the_same_files_as_a_folder(worlds, tmp_path, s3):
    place = place_of("s3://market-data/exports/us", tmp_path / "scratch")
    first = run(worlds[0], place, timeframes=("1d", "1w"))
    run(worlds[0], tmp_path / "folder", timeframes=("1d", "1w"))
    listed = s3.list_objects_v2(Bucket="market-data")["Contents"]
    found = {
        o["Key"].removeprefix("exports/us/"): s3.get_object(Bucket="market-data", Key=o["Key"])["Body"].read()
        for o in listed
        if not o["Key"].endswith(MANIFEST)
    }
    assert found == contents(tmp_path / "folder")
    assert set(first.written) == set(found)
    assert run(worlds[0], place, timeframes=("1d", "1w")).written == []
    change(DAY_1, date(2024, 2, 6))(worlds[0])
    assert short(run(worlds[0], place, timeframes=("1d", "1w")).written) == months(DAYS, "2024-02")


def test_what_is_wrong_with_a_bucket_is_one_sentence_without_secrets(worlds, tmp_path, s3, monkeypatch):
    httpx.post(f"{s3.meta.endpoint_url}/moto-api/reset-auth", content=b"0")  # from now on keys are checked
    with pytest.raises(ExportError, match="the access key is unknown: check AWS_ACCESS_KEY_ID"):
        run(worlds[0], place_of("s3://market-data/x", tmp_path), timeframes=("1d",))
    httpx.post(f"{s3.meta.endpoint_url}/moto-api/reset-auth", content=b"inf")
    with pytest.raises(ExportError, match="the bucket does not exist"):
        run(worlds[0], place_of("s3://no-such-bucket/x", tmp_path), timeframes=("1d",))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ExportError) as caught:
        run(worlds[0], place_of("s3://market-data/x", tmp_path), timeframes=("1d",))
    assert "AWS_ENDPOINT_URL" in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("the-key-id", "the-secret-key"))
