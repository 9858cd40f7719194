"""The commands as they are typed: exit codes, what is said, what is sent, and what is left behind."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import dagster as dg
import psutil
import psycopg
import pytest
from dagster._core.test_utils import create_run_for_test

from backfill_assets.adapters.processes import identity
from backfill_assets.deployment.runs import end_dead_runs
from backfill_assets.deployment.storage import _CREATION_LOCK
from backfill_assets.deployment.tags import HOST_TAG, PROCESS_TAG, TRIGGER_TAG
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.surroundings import KEY, let_time_pass

WEEK = ("--start", "2024-03-04", "--end", "2024-03-08")
STOCKS = ("run", "--markets", "stocks", *WEEK)
DAYS = [f"2024-03-0{d}" for d in range(4, 9)]


def test_a_run_fetches_what_is_missing_and_the_next_one_has_nothing_to_do(shell):
    first = shell("run", *WEEK)
    assert first.code == 0
    lines = {tuple(line.split()) for line in first.out.splitlines()}
    found = shell.rows("select symbol, timeframe, count(*) from market_data group by 1, 2 order by 1, 2 desc")
    counts = {(s, t): n for s, t, n in found}
    for symbol in ("AAPL", "MSFT", "BTC"):
        intraday = tuple(f"{counts[symbol, t]:,}" for t in list(TIMEFRAMES)[:6])
        assert (symbol, "5/5", *intraday, "5", "1") in lines
    assert "6 requests at 500 a second" in first.err
    assert len(shell.vendor.requests) == 6
    with shell.instance() as instance:
        runs = {run.job_name: run for run in instance.get_runs()}
        assert set(runs) == {"stocks_ohlcv_job", "crypto_ohlcv_job"}
        stocks = runs["stocks_ohlcv_job"]
        assert stocks.status is dg.DagsterRunStatus.SUCCESS
        assert stocks.tags[TRIGGER_TAG] == "command line"
        assert stocks.tags[HOST_TAG] == socket.gethostname()
        assert stocks.tags[PROCESS_TAG].startswith(f"{os.getpid()}@")
        assert stocks.tags["dagster/asset_partition_range_start"] == "2024-03-04|AAPL"
        assert stocks.tags["dagster/asset_partition_range_end"] == "2024-03-08|MSFT"
        assert stocks.remote_job_origin.location_name == "backfill_assets"
        shown = instance.get_materialized_partitions(dg.AssetKey(["stocks", "ohlcv_1m"]))
        assert shown == {f"{day}|{symbol}" for day in DAYS for symbol in ("AAPL", "MSFT")}

    again = shell("run", *WEEK)
    assert (again.code, again.out) == (0, first.out)
    assert "No request is needed." in again.err
    assert len(shell.vendor.requests) == 6
    with shell.instance() as instance:
        assert instance.get_runs_count() == 2


def test_a_hole_is_told_of_until_it_is_confirmed_empty(shell, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "3")
    hole = date(2024, 3, 6)
    shell.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole, base="minute"),))
    said = []
    for _ in range(4):
        said.append(shell(*STOCKS))
        let_time_pass(shell.database_url)
    assert [s.code for s in said] == [3, 3, 0, 0]
    series = "2024-03-06 (1 session) of AAPL 1m 5m 15m 30m 1h 4h"
    assert [f"\nmissing: {series}\n" in s.out for s in said] == [True] * 2 + [False] * 2
    assert [f"\nvendor_empty: {series}\n" in s.out for s in said] == [False] * 2 + [True] * 2
    assert "No request is needed." in said[-1].err
    assert len(shell.vendor.requests) == 4 + 2
    found = json.loads(shell(*STOCKS, "--json").out)
    lacking = [s for s in found["series"] if s["missing"]]
    assert [(s["symbol"], s["timeframe"]) for s in lacking] == [("AAPL", t) for t in list(TIMEFRAMES)[:6]]
    assert all(s["missing"] == s["explained"] == ["2024-03-06"] for s in lacking)


def test_a_refused_key_costs_one_request_and_gives_one_sentence(shell):
    shell.vendor.change(api_keys=("another",))
    said = shell("run", *WEEK)
    assert said.code == 1
    assert len(shell.vendor.requests) == 1
    told = [line for line in said.err.splitlines() if "POLYGON_API_KEY" in line]
    assert told == [said.err.splitlines()[-1]]
    assert told[0].startswith("backfill: stocks: Polygon refuses the API key")
    assert "Traceback" not in said.out + said.err
    assert said.out == ""
    assert shell.rows("select count(*) from session_answers") == [(0,)]


def test_a_series_that_fails_is_named_beside_what_was_fetched(shell):
    shell.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/day/"),))
    said = shell(*STOCKS)
    assert said.code == 1
    last = said.err.splitlines()[-1]
    assert last.startswith("backfill: stocks: 1 of 4 series could not be fetched whole: MSFT 1d: Polygon does not know")
    assert "Traceback" not in said.out + said.err
    assert "missing: 2024-03-04 to 2024-03-08 (5 sessions) of MSFT 1d 1w" in said.out
    assert re.search(r"AAPL +5/5 +[\d,]+", said.out)


def test_json_is_alone_on_standard_output(shell):
    said = shell("run", "--symbols", "AAPL,BTC", "--timeframes", "1d", *WEEK, "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["exit_code"] == 0
    assert found["planned_requests"] == 2
    assert [(r["market"], r["succeeded"], r["error"]) for r in found["runs"]] == [
        ("stocks", True, None),
        ("crypto", True, None),
    ]
    assert [(s["symbol"], s["timeframe"], s["bars"], s["missing"]) for s in found["series"]] == [
        ("AAPL", "1d", 5, []),
        ("BTC", "1d", 5, []),
    ]
    assert {r["run_id"] for r in found["runs"]} == {row[0] for row in shell.rows("select run_id from dagster.runs")}
    shell.vendor.change(api_keys=("another",))
    refused = shell("run", *WEEK, "--json")
    assert refused.code == json.loads(refused.out)["exit_code"] == 1
    assert "POLYGON_API_KEY" in refused.sentence


def test_symbols_and_timeframes_narrow_what_is_asked_for(shell):
    assert shell("run", "--symbols", "MSFT", "--timeframes", "1d", *WEEK).code == 0
    assert [r.path.split("/")[4:8] for r in shell.vendor.requests] == [["MSFT", "range", "1", "day"]]
    assert shell.rows("select distinct symbol, timeframe from market_data order by 2") == [
        ("MSFT", "1d"),
        ("MSFT", "1w"),
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--symbols", "APPL"], "Symbol 'APPL' is not in the universe; did you mean AAPL?"),
        (["run", "--symbols", "aapl"], "did you mean AAPL?"),
        (["run", "--symbols", "AAPL,,MSFT"], "--symbols 'AAPL,,MSFT' is not a list like A,B."),
        (["run", "--symbols", "BTC", "--markets", "stocks"], "Symbol 'BTC' is not in the chosen markets"),
        (["run", "--markets", "bonds"], "Market 'bonds' is not in the universe; there are stocks, crypto."),
        (["run", "--timeframes", "7m"], "Timeframe '7m' is "),
        (["run", "--days", "0"], "--days '0' is not a whole number from 1 to 36525."),
        (["run", "--days", "ten"], "--days 'ten' is not a whole number"),
        (["run", "--days", "\uff13"], "is not a whole number"),
        (["run", "--days", "5", "--start", "2024-03-04"], "--days and --start exclude each other"),
        (["run", "--start", "2024-02-30"], "--start '2024-02-30' is not a date like 2025-01-31."),
        (["run", "--start", "2099-01-01"], "--start 2099-01-01 lies in the future."),
        (["run", "--start", "2024-03-08", "--end", "2024-03-04"], "--end 2024-03-04 lies before --start 2024-03-08."),
        (["run", "--max-concurrent", "51"], "--max-concurrent '51' is not a whole number from 1 to 50."),
        (["run", "--nonsense"], "--nonsense"),
        (["run", "superfluous"], "superfluous"),
        (["fetch"], "fetch"),
        (["db", "drop"], "drop"),
        (["up", "--port", "70000"], "--port '70000' is not a whole number from 1 to 65535."),
        (["db", "start"], "DATABASE_URL names a server of your own"),
        (["db", "stop"], "DATABASE_URL names a server of your own"),
    ],
)
def test_wrong_usage_is_one_line_and_touches_nothing(lonely, arguments, sentence):
    said = lonely(*arguments)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.sentence
    assert lonely.vendor.requests == []
    assert not lonely.data.exists()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("POLYGON_REQUESTS_PER_SECOND", "many", "POLYGON_REQUESTS_PER_SECOND 'many' is no number above 0"),
        ("POLYGON_BASE_URL", "polygon", "POLYGON_BASE_URL"),
        ("POLYGON_API_KEY", "two words", "POLYGON_API_KEY holds characters that no key has"),
        ("DATABASE_URL", "mysql://me:pa55word@h/d", "DATABASE_URL is not of the form postgresql://"),
        ("BACKFILL_UNIVERSE", "/nonexistent.yaml", "/nonexistent.yaml does not exist"),
        ("BACKFILL_DATA_DIR", "/dev/null/x", "/dev/null/x"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(lonely, monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)
    if name == "BACKFILL_DATA_DIR":
        monkeypatch.delenv("DATABASE_URL")
    said = lonely("run", *WEEK)
    assert said.code in (1, 2)
    assert sentence in said.sentence
    assert "two words" not in said.err
    assert "pa55word" not in said.err


def test_a_mistake_in_the_universe_is_told_with_its_line(lonely, monkeypatch, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("markets:\n  stocks:\n    start: 2024-01-02\n    symbols: [AAPL, AAPL]\n", encoding="utf-8")
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(path))
    said = lonely("run")
    assert said.code == 2
    assert f"{path}, line 4: " in said.sentence


def test_a_folder_without_the_instance_is_told_of(shell, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    said = shell("run", *WEEK)
    assert said.code == 2
    assert "holds no dagster.yaml" in said.sentence


@pytest.mark.parametrize("command", [("run", *WEEK), ("db", "upgrade")])
def test_a_database_that_nobody_serves_is_one_line(lonely, command):
    said = lonely(*command)
    assert (said.code, said.out) == (1, "")
    assert "PostgreSQL at 127.0.0.1:1/market cannot be used (nobody answers there)" in said.sentence
    assert "pa55word" not in said.err
    assert lonely.vendor.requests == []


def test_a_connection_that_breaks_while_the_records_are_opened_is_one_line(shell):
    over = threading.Event()

    def end_who_waits(connection):
        waits = """select pg_terminate_backend(pid) from pg_locks join pg_database on database = pg_database.oid
                   where locktype = 'advisory' and not granted and datname = current_database()"""
        while not over.is_set():
            if connection.execute(waits).fetchone():
                return True
        return False

    with psycopg.connect(shell.database_url, autocommit=True) as other, ThreadPoolExecutor(1) as beside:
        other.execute("select pg_advisory_lock(%s)", [_CREATION_LOCK])
        ended = beside.submit(end_who_waits, other)
        said = shell("run", *WEEK)
        over.set()
        assert ended.result()
    assert (said.code, said.out) == (1, "")
    *_, last = said.err.splitlines()
    assert re.fullmatch(r"backfill: PostgreSQL at \S+ cannot be used \(terminating .+\); check DATABASE_URL\.", last)
    assert "Traceback" not in said.err


def test_a_database_url_with_an_unknown_parameter_is_one_line(lonely, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pa55word@127.0.0.1:1/market?nonsense=1")
    said = lonely("run", *WEEK)
    assert said.code in (1, 2)
    assert "pa55word" not in said.sentence


def test_tables_that_are_behind_are_brought_up_to_date_by_the_command_that_is_named(shell):
    with psycopg.connect(shell.database_url) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    said = shell("run", *WEEK)
    assert said.code == 1
    assert "run `backfill db upgrade`" in said.sentence
    assert shell.vendor.requests == []
    upgraded = shell("db", "upgrade")
    assert (upgraded.code, upgraded.err) == (0, "")
    assert re.fullmatch(r"The market tables are at revision \d{4}\.\n", upgraded.out)
    assert shell("db", "upgrade").out == upgraded.out
    assert shell.rows("select count(*) from market_data") == [(0,)]


def test_the_url_is_printed_as_a_driver_needs_it(shell):
    said = shell("db", "url")
    assert (said.code, said.out, said.err) == (0, f"{shell.database_url}\n", "")


def test_a_range_before_the_markets_first_day_has_nothing_to_run(shell):
    said = shell("run", "--markets", "stocks", "--end", "2023-12-29")
    assert said.code == 0
    assert "no finished session in this range" in said.err
    assert shell.vendor.requests == []


def test_runs_whose_process_is_gone_are_ended(shell):
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone_tag = identity(gone.pid)
    gone.communicate(b"\n")
    me = psutil.Process()
    host = socket.gethostname()
    tags = {
        "gone": {HOST_TAG: host, PROCESS_TAG: gone_tag},
        "another process with the same number": {HOST_TAG: host, PROCESS_TAG: identity(me.pid) + "1"},
        "unreadable": {HOST_TAG: host, PROCESS_TAG: "?"},
        "alive": {HOST_TAG: host, PROCESS_TAG: identity(me.pid)},
        "elsewhere": {HOST_TAG: "elsewhere.example", PROCESS_TAG: gone_tag},
        "of the daemon": {},
    }
    with shell.instance() as instance:
        runs = {
            name: create_run_for_test(instance, job_name="j", status=dg.DagsterRunStatus.STARTED, tags=t).run_id
            for name, t in tags.items()
        }
        assert end_dead_runs(instance) == 3
        ended = {name for name, run_id in runs.items() if instance.get_run_by_id(run_id).status.value == "FAILURE"}
        assert ended == {"gone", "another process with the same number", "unreadable"}
        late = create_run_for_test(instance, job_name="j", status=dg.DagsterRunStatus.STARTED, tags=tags["gone"])
    shell("run", "--markets", "stocks", "--end", "2023-12-29")
    with shell.instance() as instance:
        assert instance.get_run_by_id(late.run_id).status is dg.DagsterRunStatus.FAILURE
        (event,) = instance.all_logs(late.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "process that carried this run out is gone" in event.dagster_event.message


def every_row(url):
    """All that a database holds, as text, by table."""
    with psycopg.connect(url) as connection:
        names = connection.execute(
            """select format('%I.%I', schemaname, tablename) from pg_tables
               where schemaname not in ('pg_catalog', 'information_schema')"""
        ).fetchall()
        for (name,) in names:
            with connection.cursor().copy(f"copy {name} to stdout") as copy:
                yield name, b"".join(bytes(block) for block in copy)


def test_the_key_is_nowhere(shell):
    """As a program, with a vendor that fails, one that refuses, and one that is well: where else could it be written?"""
    shell.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT"),))
    assert shell.program(*STOCKS).code == 1
    shell.vendor.change(faults=(), api_keys=("another",))
    assert shell(*STOCKS).code == 1
    shell.vendor.change(api_keys=())
    assert shell(*STOCKS).code == 0
    assert all(r.header_key and not r.url_key for r in shell.vendor.requests)
    held = dict(every_row(shell.database_url))
    assert {"public.market_data", "dagster.event_logs", "dagster.runs"} <= set(held)
    assert [name for name, content in held.items() if KEY.encode() in content] == []
    files = [path for path in shell.data.rglob("*") if path.is_file()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert not [s for s in shell.said if KEY in s.out + s.err]


def test_as_a_program_it_says_the_same(shell):
    done = shell.program("run", "--symbols", "AAPL", "--timeframes", "1d", *WEEK, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["series"][0]["bars"] == 5
    wrong = shell.program("fetch")
    assert (wrong.code, wrong.out) == (2, "")
    assert "fetch" in wrong.sentence


def test_help_needs_nothing_at_all(lonely, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    monkeypatch.setenv("POLYGON_REQUESTS_PER_SECOND", "nonsense")
    said = lonely("--help")
    assert (said.code, said.err) == (0, "")
    assert all(re.search(rf"\b{command}\b", said.out) for command in ("run", "up", "demo", "db"))


def test_a_command_closes_what_it_opened(lonely):
    lonely("run", *WEEK)
    before = psutil.Process().num_fds()
    for _ in range(3):
        lonely("run", *WEEK)
    assert psutil.Process().num_fds() == before


def test_a_timeframe_that_joins_the_universe_is_made_without_a_request(shell, monkeypatch, tmp_path):
    def only(timeframes):
        text = f"markets: {{stocks: {{start: 2024-01-02, symbols: [AAPL], timeframes: [{timeframes}]}}}}"
        (tmp_path / "grows.yaml").write_text(text, encoding="utf-8")

    monkeypatch.setenv("BACKFILL_UNIVERSE", str(tmp_path / "grows.yaml"))
    only("1m, 1d")
    assert shell("run", *WEEK).code == 0
    sent = len(shell.vendor.requests)
    only("1m, 5m, 1h, 1d, 1w")
    said = shell("run", *WEEK)
    assert said.code == 0, said.out
    assert len(shell.vendor.requests) == sent
    made = shell.rows("select distinct timeframe from market_data where source = 'derived' order by 1")
    assert made == [("1h",), ("1w",), ("5m",)]


@pytest.mark.parametrize("lacking", ["dagster.yaml", "workspace.yaml"])
def test_a_home_that_is_no_project_is_one_line_and_stays_as_it_is(lonely, monkeypatch, tmp_path, lacking):
    home = tmp_path / "home"
    home.mkdir()
    other = {"dagster.yaml": "workspace.yaml", "workspace.yaml": "dagster.yaml"}[lacking]
    (home / other).write_text("{}", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    for command in (["run", *WEEK], ["up"]):
        said = lonely(*command)
        assert said.code == 2
        assert f"{home} holds no {lacking}: run this in the project's folder" in said.sentence
    assert [p.name for p in home.iterdir()] == [other]
