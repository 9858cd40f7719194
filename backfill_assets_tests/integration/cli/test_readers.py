"""Commands that read: with a role that may only select, without writing, and with errors of the database as one sentence."""

import json
import os
import re
from datetime import date
from urllib.parse import urlsplit

import psycopg
import pytest

from backfill_assets.simulator import Hole
from backfill_assets_tests.support import PROJECT

PAGE = (PROJECT / "docs" / "howto" / "own-postgresql.md").read_text(encoding="utf-8")
(GRANTS,) = re.findall(
    r"```sql\n(.*?)```", PAGE.partition("## A role that reads only\n")[2].partition("\n## ")[0], re.DOTALL
)
LOST = Hole(ticker="AAPL", first=date(2024, 3, 6), last=date(2024, 3, 7))
THIN = Hole(ticker="X:BTCUSD", first=date(2024, 3, 9), last=date(2024, 3, 9), base="minute", start="08:00", end="24:00")
READING = ("status --json", "gaps --json", "plan --json", "report --json", "alerts --json")
OPEN_GAPS = "select symbol, timeframe, gap_start::text, sessions, reason, detail from backfill_gaps where not filled"
OTHER = ("OTHER", "1d", "2024-03-04", 1, "missing", "")


@pytest.fixture
def owner(backfilled_except):
    """A platform with gaps, and an open gap of a symbol that is not in its universe."""
    backfill = backfilled_except(LOST, THIN)
    with psycopg.connect(backfill.database_url) as connection:
        connection.execute(
            """
            insert into backfill_gaps (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts,
              first_seen, detail, filled)
            values ('OTHER', '1d', '2024-03-04', '2024-03-04', 1, 'missing', false, 0, now(), '', false)"""
        )
    return backfill


@pytest.fixture
def reader(owner, monkeypatch):
    """Run the commands as a role that has the rights of the documentation, and whose transactions are read only."""
    parts = urlsplit(owner.database_url)
    role = "reader" + parts.path.rpartition("_")[2]
    with psycopg.connect(owner.database_url, autocommit=True) as connection:
        connection.execute(GRANTS.replace("reader", role).replace("…", "pa55word"))
        connection.execute(f"alter role {role} set default_transaction_read_only = on")
        monkeypatch.setenv(
            "DATABASE_URL", parts._replace(netloc=f"{role}:pa55word@{parts.hostname}:{parts.port}").geturl()
        )
        yield owner
        connection.execute(f"drop owned by {role}; drop role {role}")


def outputs(backfill):
    """Return exit code and content of every reading command, without instants of now."""
    found = {}
    for command in READING:
        result = backfill(*command.split())
        assert result.err == "", result.err
        content = json.loads(result.out)
        if isinstance(content, dict):
            content = {k: v for k, v in content.items() if k not in {"as_of", "timestamp"}}
        found[command] = (result.code, content)
    return found


def contents(url):
    """Return all rows of all tables of the platform and of Dagster, with the transactions that wrote them."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'dagster')"
        ).fetchall()
        query = "select xmin::text, t::text from {} t"
        return {t: sorted(connection.execute(query.format(t)).fetchall()) for (t,) in tables}


def test_a_reader_is_shown_what_the_writing_path_finds_and_nothing_is_written(reader, monkeypatch):
    """Nothing is judged or recorded yet, and the sessions have no summaries, as if no daemon had ever run."""
    url = reader.database_url
    with psycopg.connect(url) as connection:
        connection.execute("delete from backfill_gaps where symbol <> 'OTHER'")
        connection.execute(
            "update session_answers set partial = false, partial_because = null, volume = null, half_hours = null"
        )
    before = contents(url)
    read = outputs(reader)
    monkeypatch.setenv("DATABASE_URL", url)
    assert outputs(reader) == read, "the owner writes nothing either"
    assert contents(url) == before

    gaps = read["gaps --json"][1]
    assert {(g["symbol"], g["reason"]) for g in gaps} == {("AAPL", "missing"), ("BTC", "partial")}
    assert reader("repair", "--dry-run").code == 3  # judges and records
    recorded = [(g["symbol"], g["timeframe"], g["start"], g["sessions"], g["reason"], g["detail"]) for g in gaps]
    assert sorted(reader.rows(OPEN_GAPS)) == sorted([*recorded, OTHER])
    assert outputs(reader) == read


@pytest.mark.parametrize(
    ("broken", "commands", "sentence"),
    [
        ("drop table coverage", ["status", "gaps", "repair"], 'relation "coverage" does not exist'),
        ("drop table session_answers", ["plan", "features", "run"], 'relation "session_answers" does not exist'),
        ("drop table backfill_runs cascade", ["report", "run"], 'relation "backfill_runs" does not exist'),
        ("drop table corporate_events cascade", ["events"], 'relation "corporate_events" does not exist'),
        ("drop table dagster.daemon_heartbeats", ["alerts"], 'relation "daemon_heartbeats" does not exist'),
        ("alter table check_results drop column details", ["status", "alerts"], 'column "details" does not exist'),
    ],
)
def test_a_damaged_database_is_one_sentence(owner, broken, commands, sentence):
    with psycopg.connect(owner.database_url) as connection:
        connection.execute(broken)
    for command in commands:
        result = owner(command)
        assert result.code == 1, command
        assert sentence in result.err.splitlines()[-1], command
        assert "restore a backup" in result.err
        assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize(
    ("revoked", "commands"),
    [
        ("select on coverage", ["status", "gaps"]),
        ("select on backfill_schema_version", ["status", "plan", "report", "alerts"]),
        ("select on dagster.daemon_heartbeats", ["alerts"]),
        ("usage on schema dagster", ["alerts"]),
    ],
)
def test_a_right_that_a_reader_does_not_have_is_one_sentence(reader, revoked, commands):
    with psycopg.connect(reader.database_url) as connection:
        connection.execute(f"revoke {revoked} from {urlsplit(os.environ['DATABASE_URL']).username}")
    for command in commands:
        result = reader(command)
        assert (result.code, result.out) == (1, "")
        assert re.search("permission denied for|may not use the schema dagster", result.error)
    for command in ("repair", "events"):
        result = reader(command)
        assert result.code == 1
        assert "grant the right" in result.err.splitlines()[-1]
        assert "Traceback" not in result.out + result.err
