"""Random command lines: a result, or one line and exit code 1 or 2."""

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets_tests.support import SOAK

QUICK = settings(max_examples=5000 if SOAK else 150, suppress_health_check=[HealthCheck.function_scoped_fixture])

COMMANDS = [
    *([], ["alerts", "test"], ["db"], ["db", "url"], ["db", "upgrade"], ["db", "purge"], ["export", "out"]),
    *([name] for name in "run plan features status gaps repair events report alerts nothing".split()),
]
"""Commands that end by themselves; `up` and `demo` would start servers."""

OPTIONS = """--symbols --markets --timeframes --days --start --end --max-concurrent --run --since --older-than --json --last
    --dry-run --explained --full --html --output --adjust --features --format -- -x --help""".split()
VALUES = st.sampled_from(
    [
        *", AAPL aapl AAPL,AAPL BTC,, stocks 1m 13m 0 -1 3 1e3 ٣ 99999999999999 90d 999999999d -1d 0d ../.. ...".split(),
        *"2024-01-05 2024-02-30 0001-01-01 9999-12-31 2024-W01-1 yesterday / /nowhere/at/all/file %s {} [red]".split(),
        *("", " ", "'; drop table market_data; --", "\udcff", "a\nb", "x" * 5000, "\x1b[0m"),
    ]
)


@settings(QUICK, max_examples=2000 if SOAK else 60)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(st.sampled_from(OPTIONS) | VALUES | st.text(max_size=10), max_size=4),
)
def test_any_command_line_is_carried_out_or_ends_in_one_sentence(bare_backfill, tmp_path, command, words) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)  # --output may name any file
    try:
        result = bare_backfill(*command, *words)
    finally:
        os.chdir(here)
    assert "Traceback" not in result.out + result.err
    assert result.code in {0, 1, 2, 3}, result
    if result.code in {1, 2} and result.err and not result.err.lstrip().startswith(("Usage", "╭")):
        assert len(result.err.strip().splitlines()) == 1, result.err
    assert bare_backfill.vendor.requests == []
    bare_backfill.results.clear()


@settings(QUICK, max_examples=300 if SOAK else 20)
@given(port=st.sampled_from(["-1", "0", "65536", "x", "", "1e3"]) | st.text(alphabet="abc-.,", max_size=5))
def test_an_invalid_port_starts_nothing(bare_backfill, port) -> None:
    result = bare_backfill("up", f"--port={port}")
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1


def test_wrong_words_change_no_table(backfill) -> None:
    counts = "select relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by 1"
    before = backfill.rows(counts)
    for wrong in ("--days=0", "--symbols='; drop table market_data; --", "--start=2024-02-30", "--timeframes=13m"):
        for command in ("run", "features"):
            assert backfill(command, wrong).code == 2
    assert backfill.rows(counts) == before
    assert backfill.vendor.requests == []
