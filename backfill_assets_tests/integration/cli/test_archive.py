"""`backfill archive` over the simulator's flat files, and its files read with and without our code."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pyarrow import parquet

from backfill_assets import read_bars, read_features
from backfill_assets.adapters.archive.places import place_of
from backfill_assets.domain.errors import BackfillError, ExportError, NotStored, UsageMistake
from backfill_assets.simulator import FileFault
from backfill_assets_tests.buckets import s3
from backfill_assets_tests.integration.adapters.scripted_vendor import Response, ScriptedVendor
from backfill_assets_tests.support import PROJECT

__all__ = ["s3"]

UNIVERSE = """
markets:
  stocks: {start: 2025-06-16, sources: [polygon_files], symbols: [AAPL, MSFT]}
archives:
  us_stocks: {kind: stocks, start: 2025-06-16}
"""
DAYS = ("--start", "2025-06-16", "--end", "2025-06-27")
SESSIONS = 9  # without Juneteenth


@pytest.fixture
def archive(backfill, monkeypatch, tmp_path):
    """Run commands of `backfill archive` in a folder of the test; `archive.files` are the files by name."""
    universe = tmp_path / "universe.yaml"
    universe.write_text(UNIVERSE, encoding="utf-8")
    for name, value in {
        "BACKFILL_UNIVERSE": str(universe),
        "BACKFILL_ARCHIVE": str(tmp_path / "archive"),
        "POLYGON_FILES_URL": backfill.vendor.url,
        "POLYGON_FILES_ACCESS_KEY_ID": "id",
        "POLYGON_FILES_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    backfill.vendor.change(archive_tickers=40)
    return backfill


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


def files(folder):
    return sorted(folder.rglob("*.parquet"))


def test_an_archive_is_fetched_once_verified_and_repaired(archive, folder):
    result = archive("archive", "status", *DAYS)
    assert result.code == 3
    assert "To fetch them:\n  backfill archive fetch" in result.out
    result = archive("archive", "fetch", *DAYS)
    assert result.code == 0, result.err
    assert len(files(folder)) == 2 * SESSIONS
    before = {file: file.stat().st_mtime_ns for file in files(folder)}
    requests = len(archive.vendor.requests)
    assert archive("archive", "fetch", *DAYS).code == 0
    assert {file: file.stat().st_mtime_ns for file in files(folder)} == before
    assert not [r for r in archive.vendor.requests[requests:] if r.path.endswith(".csv.gz")]
    assert archive("archive", "verify", *DAYS).out == f"{2 * SESSIONS} files read, 0 wrong.\n"

    damaged, lost = files(folder)[0], files(folder)[-1]
    content = damaged.read_bytes()
    damage(damaged)
    lost.unlink()
    result = archive("archive", "verify", *DAYS)
    assert (result.code, len(result.out.splitlines())) == (3, 2)
    assert "the file is missing or damaged" in result.out
    assert archive("archive", "fetch", "--full", "--start", "2025-06-16", "--end", "2025-06-16").code == 0
    assert damaged.read_bytes() == content
    for left in (content[:-9], b""):  # without the end, where a file says what it is
        damaged.write_bytes(left)
        result = archive("archive", "verify", *DAYS)
        assert (result.code, len(result.out.splitlines())) == (3, 2)
        assert archive("archive", "fetch", *DAYS).code == 0
        assert damaged.read_bytes() == content
    assert len(files(folder)) == 2 * SESSIONS
    assert archive("archive", "verify", *DAYS).code == 0


def damage(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + b"\0" * 50 + content[len(content) // 2 + 50 :])


def test_an_archive_in_a_bucket_is_the_same(archive, s3, monkeypatch):
    monkeypatch.setenv("BACKFILL_ARCHIVE", "s3://market-data/whole/markets")
    days = ("--start", "2025-06-26", "--end", "2025-06-27")
    assert archive("archive", "fetch", *days, "-q").code == 0
    assert archive("archive", "verify", *days).out == "4 files read, 0 wrong.\n"
    names = [item["Key"] for item in s3.list_objects_v2(Bucket="market-data")["Contents"]]
    assert names[0] == "whole/markets/archive=us_stocks/timeframe=1d/year=2025/2025-06-26.parquet"
    assert len(read_bars(["AAPL", "MSFT"], "1d", archive="us_stocks")) == 4
    assert len(read_bars("AAPL", "1h", "2025-06-27", archive="us_stocks"))
    s3.put_object(Bucket="market-data", Key=names[0], Body=b"PAR1 and no more")
    assert "missing or damaged" in archive("archive", "verify", *days).out
    assert archive("archive", "fetch", *days, "-q").code == 0
    assert archive("archive", "verify", *days).code == 0


@pytest.mark.parametrize("below", ["", "archive=us_stocks/timeframe=1m/year=2025"])
async def test_a_page_in_place_of_a_bucket_is_no_empty_archive(monkeypatch, tmp_path, below):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a key")
    async with ScriptedVendor(Response(b"<html>log in</html>")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        place = place_of("s3://market-data/x", tmp_path)
        with pytest.raises(ExportError, match="the endpoint does not answer as S3 does"):
            await asyncio.to_thread(place.sizes, below)


def test_a_replaced_file_is_read_again_and_a_faulty_one_leaves_the_session_missing(archive, folder):
    wrong = FileFault(
        kind="restated", base="day", day=date(2025, 6, 17), until=datetime.fromisoformat("2025-06-28T00:00Z")
    )
    broken = FileFault(kind="truncated", base="minute", day=date(2025, 6, 18))
    archive.vendor.change(file_faults=(broken,))
    result = archive("archive", "fetch", *DAYS)
    assert result.code == 1
    assert "1 file could not be made: 2025-06-18 1m:" in result.err
    assert len(files(folder)) == 2 * SESSIONS - 1
    assert "2025-06-18.parquet: not made" in result.err
    archive.vendor.change(file_faults=(wrong,))  # the file that was faulty is replaced, and so is another
    changed = next(file for file in files(folder) if "1d" in str(file) and "2025-06-17" in file.name)
    before = changed.stat().st_mtime_ns
    assert archive("archive", "fetch", *DAYS).code == 0
    assert changed.stat().st_mtime_ns > before
    assert len(files(folder)) == 2 * SESSIONS


def test_a_killed_fetch_leaves_complete_files_only(archive, folder):
    command = [Path(sys.executable).parent / "backfill", "archive", "fetch", *DAYS, "-q"]
    for downloads in (2, 9, 15):
        before = len(archive.vendor.requests)
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                fetched = [
                    r for r in archive.vendor.requests[before:] if r.path.endswith(".csv.gz") and r.method == "GET"
                ]
                if len(fetched) >= downloads:
                    process.kill()
                    break
                time.sleep(0.005)
        assert process.returncode == -signal.SIGKILL or downloads > 2
        assert archive("archive", "verify", *DAYS, "-q").code == 0
    assert archive("archive", "fetch", *DAYS, "-q").code == 0
    digests = {file: file.read_bytes() for file in files(folder)}
    assert len(digests) == 2 * SESSIONS
    for file in files(folder):
        file.unlink()
    assert archive("archive", "fetch", *DAYS, "-q").code == 0
    assert {file: file.read_bytes() for file in files(folder)} == digests


def test_mistakes_are_one_sentence(archive, monkeypatch):
    for arguments, sentence in (
        (("status", "--archives", "us_stoks"), "There is no archive 'us_stoks'; did you mean us_stocks?"),
        (("fetch", "--start", "2099-01-01"), "--start 2099-01-01 is in the future."),
        (("status", "--start", "2025-06-20", "--end", "2025-06-19"), "--end 2025-06-19 is before --start 2025-06-20."),
    ):
        result = archive("archive", *arguments)
        assert (result.code, result.error) == (2, sentence)
    universe = Path(archive.data).parent / "none.yaml"
    monkeypatch.delenv("POLYGON_FILES_ACCESS_KEY_ID")
    monkeypatch.delenv("POLYGON_FILES_SECRET_ACCESS_KEY")
    for command in (("archive", "fetch"), ("plan",)):
        result = archive(*command, *DAYS)
        assert (result.code, "POLYGON_FILES_ACCESS_KEY_ID is not set" in result.error) == (2, True)
    universe.write_text(UNIVERSE.replace("[polygon_files]", "[polygon_files, polygon]"), encoding="utf-8")
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(universe))
    few = ("--start", "2025-06-26", "--end", "2025-06-27")  # as many files as symbols
    result = archive("plan", *few, "--json")
    assert (result.code, "polygon_files" in result.out) == (0, False)
    monkeypatch.setenv("POLYGON_FILES_ACCESS_KEY_ID", "id")
    assert "polygon_files" in archive("plan", *few, "--json").out
    universe.write_text(UNIVERSE.split("archives:", maxsplit=1)[0], encoding="utf-8")
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(universe))
    result = archive("archive", "status")
    assert (result.code, "has no `archives:`" in result.error) == (2, True)


def test_an_archive_fills_the_store_and_is_read_like_it(archive, folder):
    assert archive("archive", "fetch", *DAYS, "-q").code == 0
    requests = len(archive.vendor.requests)
    result = archive("run", *DAYS, "--features", "-q")
    assert result.code in {0, 3}, result.err
    # The bars come from the archive.
    assert not [r for r in archive.vendor.requests[requests:] if r.path.endswith(".csv.gz") or "/aggs/" in r.path]
    bars_and_features_are_those_of_the_store()
    the_python_of_the_page_on_archives_runs_as_printed()
    any_ticker_can_be_read_and_mistakes_are_one_sentence(folder)
    the_files_are_read_without_our_code(folder)


def bars_and_features_are_those_of_the_store():
    for timeframe in ("1m", "5m", "4h", "1d", "1w"):
        for options in ({}, {"session": "regular"}, {"adjust": "splits"}):
            between = ("2025-06-16", "2025-06-27") if timeframe != "1w" else ("2025-06-22", "2025-06-27")
            stored = read_bars(["AAPL", "MSFT"], timeframe, *between, **options)
            read = read_bars(["AAPL", "MSFT"], timeframe, *between, archive="us_stocks", **options)
            pd.testing.assert_frame_equal(read, stored, check_exact=timeframe in {"1m", "1d"}, rtol=1e-12)
    for timeframe in ("1m", "1h", "1d"):
        stored = read_features(["AAPL", "MSFT"], timeframe, "2025-06-20", "2025-06-25")
        read = read_features(["AAPL", "MSFT"], timeframe, "2025-06-20", "2025-06-25", archive="us_stocks")
        assert len(stored) == len(read) > 0
        pd.testing.assert_frame_equal(read, stored, check_exact=False, rtol=1e-9)


def the_python_of_the_page_on_archives_runs_as_printed():
    page = PROJECT.joinpath("docs", "howto", "archive.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    names = {}
    exec(code, names)  # noqa: S102  # our own page
    assert all(len(names[name]) for name in ("five_minutes", "days", "features"))


def any_ticker_can_be_read_and_mistakes_are_one_sentence(folder):
    days = next(file for file in files(folder) if "timeframe=1d" in str(file))
    names = parquet.read_table(days, partitioning=None)["ticker"].to_pylist()
    other = next(name for name in names if name not in {"AAPL", "MSFT"})
    assert len(read_bars(other, "1d", archive="us_stocks"))
    for call, sentence in (
        (lambda: read_bars(None, "1d", archive="us_stocks"), "symbols must be named"),
        (lambda: read_bars("AAPL", "1d", archive="other"), "There is no archive 'other'"),
        (lambda: read_bars("AAPL", "1d", archive="us_stocks", known_at="2025-06-20"), "without them"),
        (lambda: read_bars(other, "1d", archive="us_stocks", adjust="splits"), f"The splits of {other} are not known"),
        (lambda: read_features(other, "1d", archive="us_stocks"), f"The splits of {other} are not known"),
    ):
        with pytest.raises(BackfillError, match=sentence):
            call()
    assert issubclass(NotStored, UsageMistake)


def the_files_are_read_without_our_code(folder):
    pattern = f"{folder}/archive=us_stocks/timeframe=1m/**/*.parquet"
    frame = pl.scan_parquet(pattern, hive_partitioning=True).filter(pl.col("ticker") == "AAPL").collect()
    stored = read_bars("AAPL", "1m", "2025-06-16", "2025-06-27")
    assert np.array_equal(frame["close"].to_numpy(), stored["close"].to_numpy())
    table = parquet.read_table(files(folder)[0], filters=[("ticker", "==", "AAPL")], partitioning=None)
    assert table.num_rows
    assert table.schema.names == ["ticker", "timestamp", "open", "high", "low", "close", "volume", "trades"]
    duckdb = pytest.importorskip("duckdb")
    ((count,),) = duckdb.sql("select count(*) from read_parquet(?) where ticker = 'AAPL'", params=[pattern]).fetchall()
    assert count == len(stored)


def test_checks_read_what_a_run_wrote_and_its_last_sessions(archive, folder):
    universe = Path(archive.data).parent / "universe.yaml"
    universe.write_text(UNIVERSE.replace("2025-06-16", "2025-06-12"), encoding="utf-8")
    days = ("--start", "2025-06-12", "--end", "2025-06-27")
    assert archive("archive", "fetch", *days, "-q").code == 0
    days_only = [file for file in files(folder) if "timeframe=1d" in str(file)]
    damage(days_only[0])
    assert archive("archive", "fetch", *days, "-q").code == 0
    assert failed_checks(archive) == set()
    damage(days_only[-10])
    assert archive("archive", "fetch", *days, "-q").code == 0
    assert failed_checks(archive) == {("us_stocks/archive_1d", "bars_are_valid", days_only[-10].stem)}


def failed_checks(backfill):
    found = backfill.rows("select asset, check_name, sentence from check_results where not passed")
    return {(asset, name, sentence[:10]) for asset, name, sentence in found if name != "latest_session_is_here"}


def test_rows_that_are_left_out_are_counted_and_many_are_a_warning(archive):
    day = ("--start", "2025-06-26", "--end", "2025-06-26")
    warning = {("us_stocks/archive_1m", "sizes_are_usual", "2025-06-26")}
    for fault, warnings in (({"ticker": "AAPL", "count": 2}, set()), ({}, warning)):
        archive.vendor.change(file_faults=(FileFault(kind="doubles", base="minute", **fault),))
        assert archive("archive", "fetch", "--full", *day, "-q").code == 0
        minutes, days = json.loads(archive("archive", "status", "--json", *day).out)["archives"]
        assert (minutes["rejected"] == 2, days["rejected"]) == (not warnings, 0)
        assert failed_checks(archive) == warnings


def test_an_hour_without_bars_of_any_ticker_is_a_warning_also_on_a_half_day(archive):
    universe = Path(archive.data).parent / "universe.yaml"
    universe.write_text(UNIVERSE.replace("2025-06-16", "2024-07-02"), encoding="utf-8")
    days = ("--start", "2024-07-02", "--end", "2024-07-05")
    assert archive("archive", "fetch", *days, "-q").code == 0
    assert failed_checks(archive) == set()
    archive.vendor.change(file_faults=(FileFault(kind="missing_minutes", base="minute", day=date(2024, 7, 3)),))
    assert archive("archive", "fetch", *days, "-q").code == 0
    assert failed_checks(archive) == {("us_stocks/archive_1d", "closes_agree", "2024-07-03")}
    ((sentence,),) = archive.rows("select sentence from check_results where check_name = 'closes_agree'")
    assert sentence == "2024-07-03: no ticker has a bar in 60 minutes of regular hours."


def test_files_of_others_are_not_read_as_ours(archive, folder):
    days = ("--start", "2025-06-26", "--end", "2025-06-27")
    assert archive("archive", "fetch", *days, "-q").code == 0
    (folder / "archive=us_stocks/timeframe=1m/year=2025/2025-13-45.parquet").write_bytes(b"PAR1")
    one = files(folder)[-2]
    assert (one.parent.parent.name, one.stem) == ("timeframe=1m", "2025-06-27")
    content, table = one.read_bytes(), parquet.read_table(one, partitioning=None)
    metadata = table.schema.metadata
    for other in (
        table.replace_schema_metadata({}),
        table.slice(1).replace_schema_metadata(metadata),
        table.drop_columns(["close"]).replace_schema_metadata(metadata),
        table.set_column(3, "high", table["high"].cast("string")).replace_schema_metadata(metadata),
    ):
        parquet.write_table(other, one)
        assert "missing or damaged" in archive("archive", "verify", *days).out
        if other.schema.names != table.schema.names:
            with pytest.raises(ExportError, match=r"is damaged .*`backfill archive verify` names it"):
                read_bars("AAPL", "1m", "2025-06-26", "2025-06-27", archive="us_stocks")
        assert archive("archive", "fetch", *days, "-q").code == 0
        assert one.read_bytes() == content


def test_an_archive_that_cannot_be_read_does_not_stop_a_run(archive, monkeypatch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("BACKFILL_ARCHIVE", str(blocked))
    result = archive("run", "--start", "2025-06-26", "--end", "2025-06-27", "--timeframes", "1m,1d")
    assert result.code == 0
    assert result.err.count(f"{blocked} cannot be read (Not a directory). Flat files are downloaded instead.") == 1
    assert archive.rows("select distinct source from market_data order by 1") == [("derived",), ("polygon_files",)]


def test_a_place_that_cannot_be_written_is_one_sentence(archive, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("BACKFILL_ARCHIVE", str(blocked))
    result = archive("archive", "fetch", *DAYS)
    assert result.code == 1
    assert "Traceback" not in result.out + result.err
    assert str(place_of(str(blocked), tmp_path)) == str(blocked)
