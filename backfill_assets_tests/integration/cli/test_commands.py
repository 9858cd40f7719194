"""Commands: exit codes, output, requests, and what is stored."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import psutil
import psycopg
import pytest
from dagster._core.test_utils import create_run_for_test

from backfill_assets.adapters.database import only_platform, platform_runs
from backfill_assets.adapters.postgres import connect
from backfill_assets.adapters.processes import identity, machine
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.runs import HOST_TAG, PROCESS_TAG, TRIGGER_TAG, end_dead_runs
from backfill_assets.deployment.services import WEBSERVER, started_by_this_process
from backfill_assets.deployment.storage import _CREATION_LOCK
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.domain.runs import RunKind, RunStart
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.postgres import public_folder
from backfill_assets_tests.secrets_search import find_secrets
from backfill_assets_tests.support import KEY, PROJECT, backdate_answers

WEEK = ("--start", "2024-03-04", "--end", "2024-03-08")
STOCKS = ("run", "--markets", "stocks", *WEEK)
DAYS = [f"2024-03-0{d}" for d in range(4, 9)]


def test_a_run_fetches_what_is_missing_and_the_next_one_has_nothing_to_do(backfill):
    first = backfill("run", *WEEK)
    assert first.code == 0
    lines = {tuple(line.split()) for line in first.out.splitlines()}
    found = backfill.rows("select symbol, timeframe, count(*) from market_data group by 1, 2 order by 1, 2 desc")
    counts = {(s, t): n for s, t, n in found}
    for symbol in ("AAPL", "MSFT", "BTC"):
        intraday = tuple(f"{counts[symbol, t]:,}" for t in list(TIMEFRAMES)[:6])
        assert (symbol, "5/5", *intraday, "5", "1") in lines
    assert "6 requests at 500 per second" in first.err
    assert len(backfill.vendor.requests) == 6
    with backfill.instance() as instance:
        runs = {run.job_name: run for run in instance.get_runs()}
        assert set(runs) == {"stocks_ohlcv_job", "crypto_ohlcv_job"}
        stocks = runs["stocks_ohlcv_job"]
        assert stocks.status is dg.DagsterRunStatus.SUCCESS
        assert stocks.tags[TRIGGER_TAG] == "command line"
        assert stocks.tags[HOST_TAG] == machine()
        assert stocks.tags[PROCESS_TAG].startswith(f"{os.getpid()}@")
        assert stocks.tags["dagster/asset_partition_range_start"] == "2024-03-04|AAPL"
        assert stocks.tags["dagster/asset_partition_range_end"] == "2024-03-08|MSFT"
        assert stocks.remote_job_origin.location_name == "backfill_assets"
        shown = instance.get_materialized_partitions(dg.AssetKey(["stocks", "ohlcv_1m"]))
        assert shown == {f"{day}|{symbol}" for day in DAYS for symbol in ("AAPL", "MSFT")}

    again = backfill("run", *WEEK)
    assert (again.code, again.out) == (0, first.out)
    assert "No requests needed." in again.err
    assert len(backfill.vendor.requests) == 6
    with backfill.instance() as instance:
        assert instance.get_runs_count() == 2


def requested(backfill):
    """Return the requests in order: a symbol and its first day, or the day of a request for the complete market."""
    paths = [r.path.split("/") for r in backfill.vendor.requests]
    return [f"{p[4]} {p[8]}" if p[3] == "ticker" else p[8] for p in paths]


def test_days_of_the_whole_market_come_before_the_last_three_symbols_and_the_newest_first(
    backfill, monkeypatch, tmp_path
):
    """The first symbols come before them: they show what the vendor's plan includes."""
    universe = "markets: {stocks: {start: 2024-01-02, symbols: [AAPL, MSFT, NVDA, TSLA, AMZN]}}"
    (tmp_path / "five.yaml").write_text(universe, encoding="utf-8")
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(tmp_path / "five.yaml"))
    backfill("run", "--max-concurrent", "1", "--timeframes", "1m,1d", "--start", "2024-03-04", "--end", "2024-03-06")
    first, days, last = ["AAPL", "MSFT"], ["2024-03-06", "2024-03-05", "2024-03-04"], ["NVDA", "TSLA", "AMZN"]
    assert requested(backfill) == [*(f"{s} 2024-03-04" for s in first), *days, *(f"{s} 2024-03-04" for s in last)]


def test_the_newest_days_of_a_symbol_are_requested_first(backfill):
    minutes = ("run", "--symbols", "AAPL", "--timeframes", "1m", "--start")
    backfill(*minutes, "2024-02-01", "--end", "2024-05-31")
    before = len(backfill.vendor.requests)
    backfill(*minutes, "2024-01-31", "--end", "2024-06-03")
    assert requested(backfill)[before:] == ["AAPL 2024-06-03", "AAPL 2024-01-31"]


def test_a_hole_is_reported_until_it_is_confirmed_empty(backfill, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "3")
    hole = date(2024, 3, 6)
    backfill.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole, base="minute"),))
    result = []
    for _ in range(4):
        result.append(backfill(*STOCKS))
        backdate_answers(backfill.database_url)
    assert [s.code for s in result] == [3, 3, 0, 0]
    series = "2024-03-06 (1 session) of AAPL 1m-4h"
    assert [f"\nmissing: {series}\n" in s.out for s in result] == [True] * 2 + [False] * 2
    assert [f"\nvendor_empty: {series}\n" in s.out for s in result] == [False] * 2 + [True] * 2
    assert "No requests needed." in result[-1].err
    assert len(backfill.vendor.requests) == 4 + 2
    found = json.loads(backfill(*STOCKS, "--json").out)
    missing = [s for s in found["series"] if s["missing"]]
    assert [(s["symbol"], s["timeframe"]) for s in missing] == [("AAPL", t) for t in list(TIMEFRAMES)[:6]]
    assert all(s["missing"] == s["explained"] == ["2024-03-06"] for s in missing)


def test_a_refused_key_costs_one_request_and_gives_one_sentence(backfill):
    backfill.vendor.change(api_keys=("another",))
    result = backfill("run", *WEEK)
    assert result.code == 1
    assert len(backfill.vendor.requests) == 1
    *before, last = result.err.splitlines()
    assert not [line for line in before if "POLYGON_API_KEY" in line]
    assert last.startswith("backfill: stocks: Polygon refuses the API key")
    assert "Traceback" not in result.out + result.err
    assert result.out == ""
    assert backfill.rows("select count(*) from session_answers") == [(0,)]


def test_a_failed_series_is_named_and_the_others_are_fetched(backfill):
    backfill.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/day/"),))
    result = backfill(*STOCKS)
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert last.startswith(
        "backfill: stocks: 1 of 4 series could not be fetched completely: MSFT 1d: Polygon does not know"
    )
    assert "Traceback" not in result.out + result.err
    assert "missing: 2024-03-04 to 2024-03-08 (5 sessions) of MSFT 1d 1w" in result.out
    assert re.search(r"AAPL +5/5 +[\d,]+", result.out)


def test_json_is_alone_on_standard_output(backfill):
    result = backfill("run", "--symbols", "AAPL,BTC", "--timeframes", "1d", *WEEK, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
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
    assert {r["run_id"] for r in found["runs"]} == {row[0] for row in backfill.rows("select run_id from dagster.runs")}
    backfill.vendor.change(api_keys=("another",))
    refused = backfill("run", *WEEK, "--json")
    assert refused.code == json.loads(refused.out)["exit_code"] == 1
    assert "POLYGON_API_KEY" in refused.error


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        *(
            (f"{name} --symbols APPL", "Symbol 'APPL' is not in the universe; did you mean AAPL?")
            for name in ("run", "plan", "features", "status", "gaps", "repair", "events")
        ),
        ("repair --symbols BTC --markets stocks", "Symbol 'BTC' is not in the selected markets"),
        ("events --markets crypto", "Only stocks have splits and dividends: select a market of stocks."),
        ("features --start 2099-01-01", "--start 2099-01-01 is in the future."),
        ("gaps --days 3", "No such option: --days"),
        ("repair --timeframes 1m", "No such option: --timeframes"),
        ("run superfluous", "superfluous"),
        ("fetch", "fetch"),
        ("db drop", "drop"),
        ("up --port 70000", "Invalid value for '--port': must be at most 65535."),
        ("db start", "DATABASE_URL names a server of your own"),
        ("db stop", "DATABASE_URL names a server of your own"),
    ],
)
def test_wrong_usage_is_one_line_and_touches_nothing(bare_backfill, command, sentence):
    result = bare_backfill(*command.split())
    assert (result.code, result.out) == (2, "")
    assert sentence in result.error
    assert bare_backfill.vendor.requests == []
    assert not bare_backfill.data.exists()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("POLYGON_REQUESTS_PER_SECOND", "many", "POLYGON_REQUESTS_PER_SECOND is 'many': input should be"),
        ("POLYGON_BASE_URL", "polygon", "POLYGON_BASE_URL"),
        ("POLYGON_API_KEY", "two words", "POLYGON_API_KEY contains characters that no API key has"),
        ("DATABASE_URL", "mysql://me:pa55word@h/d", "DATABASE_URL must be of the form postgresql://"),
        ("DATABASE_URL", "postgresql://me:pa55word@127.0.0.1:1/market?nonsense=1", "nonsense"),
        ("BACKFILL_UNIVERSE", "/nonexistent.yaml", "/nonexistent.yaml does not exist"),
        ("BACKFILL_DATA_DIR", "/dev/null/x", "/dev/null/x"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(bare_backfill, monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)
    if name == "BACKFILL_DATA_DIR":
        monkeypatch.delenv("DATABASE_URL")
    result = bare_backfill("run", *WEEK)
    assert result.code in (1, 2)
    assert sentence in result.error
    assert "two words" not in result.err
    assert "pa55word" not in result.err


@pytest.mark.parametrize("command", [("run", *WEEK), ("gaps",), ("events",), ("db", "upgrade")])
def test_an_unreachable_database_is_one_line(bare_backfill, command):
    result = bare_backfill(*command)
    assert (result.code, result.out) == (1, "")
    assert "PostgreSQL at 127.0.0.1:1/market cannot be used (the server does not answer)" in result.error
    assert "pa55word" not in result.err
    assert bare_backfill.vendor.requests == []


def test_a_connection_that_breaks_while_the_records_are_opened_is_one_line(backfill):
    over = threading.Event()

    def end_the_waiting_session(connection):
        waits = """select pg_terminate_backend(pid) from pg_locks join pg_database on database = pg_database.oid
                   where locktype = 'advisory' and not granted and datname = current_database()"""
        while not over.is_set():
            if connection.execute(waits).fetchone():
                return True
        return False

    with psycopg.connect(backfill.database_url, autocommit=True) as other, ThreadPoolExecutor(1) as beside:
        other.execute("select pg_advisory_lock(%s)", [_CREATION_LOCK])
        ended = beside.submit(end_the_waiting_session, other)
        result = backfill("run", *WEEK)
        over.set()
        assert ended.result()
    assert (result.code, result.out) == (1, "")
    *_, last = result.err.splitlines()
    assert re.fullmatch(r"backfill: PostgreSQL at \S+ cannot be used \(terminating .+\); check DATABASE_URL\.", last)
    assert "Traceback" not in result.err


def test_outdated_tables_are_upgraded_by_the_command_in_the_message(backfill):
    with psycopg.connect(backfill.database_url) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    result = backfill("run", *WEEK)
    assert result.code == 1
    assert "run `backfill db upgrade`" in result.error
    assert backfill.vendor.requests == []
    upgraded = backfill("db", "upgrade")
    assert (upgraded.code, upgraded.err) == (0, "")
    assert re.fullmatch(r"The market tables are at revision \d{4}\.\n", upgraded.out)
    assert backfill("db", "upgrade").out == upgraded.out
    assert backfill.rows("select count(*) from market_data") == [(0,)]


def test_the_url_is_printed_with_its_password(backfill):
    result = backfill("db", "url")
    assert (result.code, result.out, result.err) == (0, f"{backfill.database_url}\n", "")


def test_a_range_before_the_markets_first_day_has_nothing_to_run(backfill):
    result = backfill("run", "--markets", "stocks", "--end", "2023-12-29")
    assert result.code == 0
    assert "no finished session in this range" in result.err
    assert backfill.vendor.requests == []


def test_runs_whose_process_is_gone_are_ended(backfill):
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone_tag = identity(gone.pid)
    gone.communicate(b"\n")
    me = psutil.Process()
    host = machine()
    tags = {
        "gone": {HOST_TAG: host, PROCESS_TAG: gone_tag},
        "another process with the same number": {HOST_TAG: host, PROCESS_TAG: identity(me.pid) + "1"},
        "unreadable": {HOST_TAG: host, PROCESS_TAG: "?"},
        "alive": {HOST_TAG: host, PROCESS_TAG: identity(me.pid)},
        "elsewhere": {HOST_TAG: "elsewhere.example", PROCESS_TAG: gone_tag},
        "elsewhere and silent": {HOST_TAG: "elsewhere.example", PROCESS_TAG: identity(me.pid)},
        "in another container": {HOST_TAG: f"{socket.gethostname()} boot pid:[1]", PROCESS_TAG: gone_tag},
        "of the daemon": {},
    }
    with backfill.instance() as instance, RunStore(backfill.database_url) as records:
        runs = {
            name: create_run_for_test(instance, job_name="j", status=dg.DagsterRunStatus.STARTED, tags=t).run_id
            for name, t in tags.items()
        }
        for name, seen_before in (("elsewhere", 179), ("in another container", 1), ("elsewhere and silent", 181)):
            start = RunStart(runs[name], RunKind.OHLCV, "stocks", "by hand", datetime.now(UTC))
            records.start(start)
            with connect(backfill.database_url) as connection:
                connection.execute(
                    "update backfill_runs set seen_at = seen_at - make_interval(secs => %s) where run_id = %s",
                    [seen_before, runs[name]],
                )
        assert end_dead_runs(instance, records) == 4
        ended = {name for name, run_id in runs.items() if instance.get_run_by_id(run_id).status.value == "FAILURE"}
        assert ended == {"gone", "another process with the same number", "unreadable", "elsewhere and silent"}
        late = create_run_for_test(instance, job_name="j", status=dg.DagsterRunStatus.STARTED, tags=tags["gone"])
    backfill("run", "--markets", "stocks", "--end", "2023-12-29")
    with backfill.instance() as instance:
        assert instance.get_run_by_id(late.run_id).status is dg.DagsterRunStatus.FAILURE
        (event,) = instance.all_logs(late.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "The process of this run died" in event.dagster_event.message


def test_a_port_in_use_is_refused_before_anything_is_started(backfill):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = backfill.program("up", "--port", str(port))
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith(f"Cannot listen on port {port} of 127.0.0.1: Address already in use.")
    assert not backfill.data.exists()


def test_an_orphan_that_holds_the_port_is_ended_before_the_port_is_checked(bare_backfill):
    listens = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    )
    killed = {name: value.replace("@", "@0") for name, value in started_by_this_process(bare_backfill.data).items()}
    with subprocess.Popen(
        [sys.executable, "-c", listens, WEBSERVER], env=os.environ | killed, stdout=subprocess.PIPE, text=True
    ) as orphan:
        threading.Thread(target=orphan.wait, daemon=True).start()  # as init does: a zombie would be waited for
        result = bare_backfill.program("up", "--port", orphan.stdout.readline().strip())
        assert orphan.wait(20) != 0
    assert result.out == "Stopped the services that a killed `backfill up` had left running.\n"
    assert result.error.startswith("PostgreSQL at 127.0.0.1:1/market cannot be used"), "the next step"


def test_a_second_platform_on_a_database_is_refused_while_the_first_one_runs(backfill):
    with socket.create_server(("127.0.0.1", 0)) as taken, only_platform(backfill.database_url):
        result = backfill.program("up", "--port", str(taken.getsockname()[1]))  # which the first one uses
        assert (result.code, result.out) == (2, "")
        assert result.error.startswith("Another `backfill up` is running on the database 127.0.0.1:")
    said = []
    with only_platform(backfill.database_url, said.append) as keep:
        keep()
        backfill.rows("select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory'")
        keep()  # finds that the server has closed the connection
        keep()
        assert [said[0].partition(" is lost")[1:], *said[1:]] == [
            (" is lost", "; waiting for it."),
            "The database is back.",
        ]
        assert platform_runs(backfill.database_url)
        with pytest.raises(SettingMistake, match="Another"), only_platform(backfill.database_url):
            pass
        backfill.rows("select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory'")
        with only_platform(backfill.database_url):
            keep()
            with pytest.raises(SettingMistake, match="Another"):
                keep()
    assert not platform_runs(backfill.database_url)
    assert backfill.rows("select count(*) from dagster.daemon_heartbeats") == [(0,)]


def test_the_embedded_server_is_not_stopped_while_a_platform_uses_it(bare_backfill, monkeypatch):
    monkeypatch.delenv("DATABASE_URL")
    with public_folder() as folder:
        monkeypatch.setenv("BACKFILL_DATA_DIR", str(folder / "data"))
        try:
            assert bare_backfill("db", "start").code == 0
            with only_platform(bare_backfill("db", "url").out.strip()):
                refused = bare_backfill("db", "stop")
                assert (refused.code, refused.out) == (2, "")
                assert refused.error.startswith(
                    "`backfill up` uses the embedded PostgreSQL: stop that first, or add --force"
                )
        finally:
            assert bare_backfill("db", "stop", "--force").out == "The embedded PostgreSQL is stopped.\n"
        assert bare_backfill("db", "stop").out == "The embedded PostgreSQL is not running.\n"


def test_the_key_is_not_stored_or_printed(backfill):
    backfill.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT"),))
    assert backfill.program(*STOCKS).code == 1
    backfill.vendor.change(faults=(), api_keys=("another",))
    assert backfill(*STOCKS).code == 1
    backfill.vendor.change(api_keys=())
    assert backfill(*STOCKS).code == 0
    assert all(r.header_key and not r.url_key for r in backfill.vendor.requests)
    texts = {f"output {n}": result.out + result.err for n, result in enumerate(backfill.results)}
    places = {"database_url": backfill.database_url, "folders": [backfill.data], "texts": texts}
    assert find_secrets({"the key": KEY}, **places) == []
    found = find_secrets({"a job": "stocks_ohlcv_job"}, **places)
    assert {"table dagster.runs: a job", "table dagster.event_logs: a job"} <= set(found), (
        "the search finds what is there"
    )


def in_shell(command, redirection, **variables):
    """Run a command with redirected standard streams; return its exit code and what is left of its output."""
    program = f"{shlex.quote(str(Path(sys.executable).parent / 'backfill'))} {command}"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} {redirection}"],
        capture_output=True,
        check=False,
        timeout=100,
        cwd=PROJECT,
        env=os.environ | variables,
    )
    assert b"Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_the_work_is_done_if_standard_streams_are_closed_or_full(backfill, redirection):
    code, _, _ = in_shell("run --symbols BTC --timeframes 1d --start 2024-03-04 --end 2024-03-05", redirection)
    assert code == int(redirection.startswith(">/dev/full"))
    assert backfill.rows("select count(*) from market_data") == [(2,)]
    assert backfill.rows("select distinct status from backfill_runs") == [("succeeded",)]


@pytest.mark.usefixtures("backfill")
@pytest.mark.parametrize("command", ["status", "report", "--help"])
def test_a_full_standard_output_is_one_sentence(command):
    code, _, err = in_shell(command, ">/dev/full")
    assert err == "backfill: Standard output cannot be written (No space left on device).\n"
    assert code == (3 if command == "status" else 1)


@pytest.mark.usefixtures("backfill")
def test_characters_that_a_console_does_not_have_are_replaced():
    assert in_shell("run --symbols BTC --timeframes 1d --start 2024-03-08 --end 2024-03-08", "")[0] == 0
    code, out, err = in_shell("status --markets crypto", "", PYTHONIOENCODING="ascii")
    assert (code, err) == (3, "")
    assert "+ complete, ~ explained, x open gaps" in out


def test_a_malformed_proxy_is_wrong_usage(backfill, monkeypatch):
    monkeypatch.setenv("POLYGON_BASE_URL", "http://vendor.invalid")
    monkeypatch.setenv("http_proxy", "http://proxy:port")
    result = backfill("run", *WEEK)
    assert (result.code, result.out, len(backfill.vendor.requests)) == (2, "", 0)
    assert result.err.splitlines()[-1].startswith("backfill: stocks: HTTP_PROXY must be an address like http://host")


def test_help_needs_no_settings(bare_backfill, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    monkeypatch.setenv("POLYGON_REQUESTS_PER_SECOND", "nonsense")
    result = bare_backfill("--help")
    assert (result.code, result.err) == (0, "")
    assert all(re.search(rf"\b{command}\b", result.out) for command in ("run", "up", "demo", "db"))


def test_a_command_closes_what_it_opened(bare_backfill):
    bare_backfill("run", *WEEK)
    before = psutil.Process().num_fds()
    for _ in range(3):
        bare_backfill("run", *WEEK)
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("missing", ["dagster.yaml", "workspace.yaml"])
def test_a_home_that_is_not_a_project_is_one_line_and_unchanged(bare_backfill, monkeypatch, tmp_path, missing):
    home = tmp_path / "home"
    home.mkdir()
    other = {"dagster.yaml": "workspace.yaml", "workspace.yaml": "dagster.yaml"}[missing]
    (home / other).write_text("{}", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    for command in (["run", *WEEK], ["up"]):
        result = bare_backfill(*command)
        assert result.code == 2
        assert f"{home} has no {missing}: run this in the project's folder" in result.error
    assert [p.name for p in home.iterdir()] == [other]


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        # plan, status, gaps and report never need Dagster; run and repair load it after they have planned.
        ([f"cli.{name}" for name in ("plan", "status", "gaps", "report", "run", "repair")], {"dagster", "pandas"}),
        # Only features need pandas, only alerts that are due need apprise.
        (["orchestration.build", "orchestration.launch"], {"pandas", "apprise"}),
    ],
)
def test_no_library_is_loaded_before_it_is_needed(modules, libraries):
    imported = ", ".join(f"backfill_assets.{module}" for module in modules)
    code = f"import sys, {imported}; sys.exit(not sys.modules.keys().isdisjoint({libraries}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
