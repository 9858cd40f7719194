"""Whatever stands on the command line and in the environment: a result, or one sentence and exit code 1 or 2."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.errors import SettingMistake
from backfill_assets_tests.integration.cli.conftest import lonely, shell, surroundings, vendor, vendor_server
from backfill_assets_tests.surroundings import read_settings
from backfill_assets_tests.system.world import SOAK
from backfill_assets_tests.unit.adapters.test_settings import VARIABLES

__all__ = ["lonely", "shell", "surroundings", "vendor", "vendor_server"]

QUICK = settings(max_examples=5000 if SOAK else 150, suppress_health_check=[HealthCheck.function_scoped_fixture])

WORDS = st.sampled_from(
    [
        *(
            "",
            " ",
            "0",
            "-1",
            "1e309",
            "nan",
            "inf",
            "٣",
            "2_5",
            "true",
            "~nobody-of-that-name/x",
            "/dev/null",
            "../..",
            "\x00",
        ),
        *(
            "http://",
            "http://[::1",
            "http://h:99999",
            "http://u:p@h",
            "postgresql://",
            "postgresql://h:x/d",
            "mailto://",
        ),
        *(
            "postgresql://u:p@h:5432/d?sslmode=odd",
            "x" * 5000,
            "a\nb",
            "%00",
            "http://h/?q#f",
            "ftp://h",
            "\ud800",
            "\uff11",
        ),  # what is tried
    ]
)


@QUICK
@given(values=st.dictionaries(st.sampled_from(VARIABLES), WORDS | st.text(max_size=30), max_size=4))
def test_any_setting_is_taken_or_named(values: dict[str, str]) -> None:
    try:
        read = read_settings(values)
    except SettingMistake as mistake:
        sentence = str(mistake)
        assert len(sentence.splitlines()) == 1, sentence
        assert any(name in sentence for name in values), sentence
    else:
        assert 0 < read.requests_per_second <= 1000
        assert not any(f"{secret}=" in repr(read) for secret in ("api_key", "database_url", "alert_urls"))


COMMANDS = [
    *(
        ["run"],
        ["plan"],
        ["features"],
        ["status"],
        ["gaps"],
        ["repair"],
        ["events"],
        ["report"],
        ["alerts"],
        ["alerts", "test"],
    ),
    *(["db"], ["db", "url"], ["db", "upgrade"], ["db", "purge"], ["nothing"], []),
]
"""Those that end by themselves; `up` and `demo` start servers, so that only what they refuse is tried."""

OPTIONS = [
    *("--symbols", "--markets", "--timeframes", "--days", "--start", "--end", "--max-concurrent", "--run", "--since"),
    *(
        "--older-than",
        "--json",
        "--last",
        "--dry-run",
        "--explained",
        "--full",
        "--html",
        "--output",
        "--",
        "-x",
        "--help",
    ),
]
TYPED = st.sampled_from(
    [
        *(
            "",
            " ",
            ",",
            "AAPL",
            "aapl",
            "AAPL,AAPL",
            "BTC,,",
            "stocks",
            "1m",
            "13m",
            "0",
            "-1",
            "3",
            "1e3",
            "٣",
            "99999999999999",
        ),
        *(
            "2024-01-05",
            "2024-02-30",
            "0001-01-01",
            "9999-12-31",
            "2024-W01-1",
            "yesterday",
            "90d",
            "999999999d",
            "-1d",
            "0d",
        ),
        *(
            "'; drop table market_data; --",
            "/",
            "/nowhere/at/all/file",
            "\udcff",
            "a\nb",
            "x" * 5000,
            "%s",
            "{}",
            "[red]",
            "\x1b[0m",
        ),
        *("../..", "..."),
    ]
)


@settings(QUICK, max_examples=2000 if SOAK else 60)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(st.sampled_from(OPTIONS) | TYPED | st.text(max_size=10), max_size=4),
)
def test_any_command_line_is_carried_out_or_ends_in_one_sentence(lonely, tmp_path, command, words) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)  # for what is written to a file of any name
    try:
        said = lonely(*command, *words)
    finally:
        os.chdir(here)
    assert "Traceback" not in said.out + said.err
    assert said.code in {0, 1, 2, 3}, said
    if said.code in {1, 2} and said.err and not said.err.lstrip().startswith(("Usage", "╭")):
        assert len(said.err.strip().splitlines()) == 1, said.err
    assert lonely.vendor.requests == []
    lonely.said.clear()


@settings(QUICK, max_examples=300 if SOAK else 20)
@given(port=st.sampled_from(["-1", "0", "65536", "x", "", "1e3", "٣٠٠٠"]) | st.text(alphabet="abc-.,", max_size=5))
def test_a_port_that_is_none_starts_nothing(lonely, port) -> None:
    said = lonely("up", f"--port={port}")
    assert said.code == 2
    assert len(said.err.strip().splitlines()) == 1


WRONG = [
    "--days=0",
    "--symbols='; drop table market_data; --",
    "--start=2024-02-30",
    "--timeframes=13m",
    "--max-concurrent=0",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_words_change_no_table(wrong: str, shell) -> None:
    counts = """select relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by 1"""
    before = shell.rows(counts)
    for command in ("run", "features"):
        assert shell(command, wrong).code == 2
    assert shell.rows(counts) == before
    assert shell.vendor.requests == []
