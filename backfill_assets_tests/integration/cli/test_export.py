"""`backfill export`: files, output, exit codes, and following."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import psycopg
import pytest

from backfill_assets.adapters.archive.files import MANIFEST
from backfill_assets_tests.support import PROJECT

DAYS = ("--timeframes", "1d")


@pytest.fixture
def filled(closed_markets, snapshots):
    def fetch():
        assert closed_markets("run").code == 0

    snapshots.restore_or_make((__name__, "filled"), closed_markets.database_url, fetch)
    return closed_markets


def counts(result):
    return {
        tuple(line.split()[:2]): line.split()[2:] for line in result.out.splitlines() if line.split()[1:2] == ["1d"]
    }


def test_the_files_of_all_markets_are_written_once_and_only_changes_later(filled, tmp_path):
    first = filled("export", str(tmp_path / "out"), *DAYS)
    assert first.code == 0
    assert counts(first) == {
        ("stocks", "1d"): ["1", "1", "0", "10", "0.0"],
        ("crypto", "1d"): ["1", "1", "0", "7", "0.0"],
    }
    assert "market=stocks/timeframe=1d/year=2024/2024-03.parquet: 10 rows" in first.err
    frame = pl.read_parquet(tmp_path / "out" / "**" / "*.parquet", hive_partitioning=True)
    assert frame.sort("market", "symbol", "timestamp").select("market", "symbol", "close").rows() == filled.rows(
        """select case symbol when 'BTC' then 'crypto' else 'stocks' end, symbol, close
        from market_data where timeframe = '1d' order by 1, symbol, "timestamp" """
    )
    again = json.loads(filled("export", str(tmp_path / "out"), *DAYS, "--json").out)
    assert (again["exit_code"], again["files"], again["rows"], again["written"]) == (0, 2, 17, [])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--adjust", "all-of-it"), 2, "--adjust must be one of none, splits, all, not 'all-of-it'."),
        (("--format", "xlsx"), 2, "--format must be one of parquet, csv, feather, not 'xlsx'."),
        (("--features", "rsi_41"), 2, "Feature 'rsi_41' is unknown; did you mean rsi_14?"),
        (("--symbols", "APPL"), 2, "Symbol 'APPL' is not in the universe; did you mean AAPL?"),
        (("--start", "2024-03-05", "--end", "2024-03-04"), 2, "--end 2024-03-04 is before --start 2024-03-05."),
        (("--every", "0"), 2, "Invalid value for '--every'"),
    ],
)
def test_wrong_options_are_one_sentence(filled, tmp_path, arguments, code, sentence):
    result = filled("export", str(tmp_path / "out"), *arguments)
    assert result.code == code
    assert sentence in result.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("where", "code"), [("gs://bucket", 2), ("s3://", 2), ("/proc/nothing", 1)])
def test_a_wrong_place_is_one_sentence(filled, where, code):
    result = filled("export", where, *DAYS)
    assert result.code == code
    assert result.error


def test_missing_days_are_named_and_exit_with_3(backfill, tmp_path):
    result = backfill("export", str(tmp_path / "out"), "--markets", "stocks", *DAYS, "--end", "2024-01-31")
    assert result.code == 3
    assert "missing" in result.out


def test_following_exports_what_changes_until_it_is_interrupted(filled, tmp_path):
    command = [
        Path(sys.executable).with_name("backfill"),
        "export",
        tmp_path / "out",
        *DAYS,
        "--follow",
        "--every",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=os.environ) as process:
        lines = iter(process.stdout.readline, "")
        assert any("2 files written" in line for line in lines)
        with psycopg.connect(filled.database_url) as connection:
            connection.execute("update market_data set close = close + 1 where symbol = 'BTC' and timeframe = '1d'")
            connection.execute("update session_answers set bars = bars where symbol = 'BTC' and timeframe = '1d'")
        assert any("1 file written" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert len(json.loads((tmp_path / "out" / MANIFEST).read_text())["partitions"]) == 2
