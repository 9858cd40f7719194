import subprocess
import sys
import time
from datetime import UTC, datetime

import psycopg
import pytest
import sqlalchemy
from alembic import command

from backfill_assets.adapters.postgres import sqlalchemy_url
from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.schema import NEEDED, VERSION_TABLE, require_current
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable, SchemaBehind, StoreError
from backfill_assets_tests.support import rows

TABLES = {
    VERSION_TABLE,
    *"""
    alert_deliveries alerts backfill_gaps backfill_run_gaps backfill_run_rejected backfill_run_restatements
    backfill_run_series backfill_runs check_results corporate_event_lookups corporate_events coverage feature_marks
    fallback_answers flat_files_read listings market_data market_data_adjusted market_data_counts market_data_history
    market_data_total_return market_data_v2 market_features rate_limit session_answers source_differences
    ticker_changes witness_bars
    """.split(),
}
INDEXES = "select indexname, indexdef from pg_indexes where schemaname = 'public' order by 1"
UPGRADE = "import sys; from backfill_assets.adapters.store import schema; print(schema.upgrade(sys.argv[1]))"


def tables(url):
    return set(
        rows(
            url,
            """select table_schema, table_name from information_schema.tables
               where table_schema not in ('pg_catalog', 'information_schema')""",
        )
    )


def columns(url):
    return rows(
        url,
        """select table_name, column_name, data_type, is_nullable, column_default
           from information_schema.columns where table_schema = 'public' order by 1, ordinal_position""",
    )


def downgrade(url):
    migrate(url, command.downgrade, "base")


def migrate(url, move, revision):
    """Move to a revision by Alembic's upgrade or downgrade."""
    config = schema._config()
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        move(config, revision)
        connection.commit()


def test_upgrade_creates_the_market_tables_in_the_default_schema_only(empty_database):
    revision = schema.upgrade(empty_database)
    assert revision == NEEDED
    assert tables(empty_database) == {("public", name) for name in TABLES}
    assert rows(empty_database, "select version_num from backfill_schema_version") == [(revision,)]


def test_a_second_upgrade_changes_nothing(empty_database):
    first = schema.upgrade(empty_database)
    before = columns(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute("insert into rate_limit (name) values ('kept')")
    assert schema.upgrade(empty_database) == first
    assert columns(empty_database) == before
    assert rows(empty_database, "select name from rate_limit") == [("kept",)]


def test_concurrent_upgrades_of_processes_create_the_tables_once(empty_database):
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty_database], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    revision = schema.upgrade(empty_database)
    assert [p.communicate(timeout=60)[0].strip() for p in processes] == [revision] * 2
    assert {p.returncode for p in processes} == {0}
    assert tables(empty_database) == {("public", name) for name in TABLES}


def test_missing_tables_are_an_error_until_they_are_created(empty_database):
    with pytest.raises(SchemaBehind, match="not there yet: run `backfill db upgrade`"):
        require_current(empty_database)
    assert tables(empty_database) == set()  # checking creates nothing
    schema.upgrade(empty_database)
    require_current(empty_database)


@pytest.mark.parametrize(
    ("revision", "remedy"), [("0001", "run `backfill db upgrade`"), ("9999", "update the program")]
)
def test_tables_of_another_revision_are_an_error_and_not_upgraded(database_url, revision, remedy):
    with psycopg.connect(database_url) as connection:
        connection.execute("update backfill_schema_version set version_num = %s", [revision])
    with pytest.raises(SchemaBehind, match=rf"at revision {revision}, the code needs \d{{4}}: {remedy}"):
        require_current(database_url)
    assert rows(database_url, "select version_num from backfill_schema_version") == [(revision,)]


def test_tables_of_a_newer_program_are_not_upgraded(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("update backfill_schema_version set version_num = '9999'")
    with pytest.raises(SchemaBehind, match=r"9999.*: update the program"):
        schema.upgrade(database_url)
    assert rows(database_url, "select version_num from backfill_schema_version") == [("9999",)]


def test_a_role_without_permission_to_create_tables_is_an_error(empty_database):
    role = "may_not_" + empty_database.rsplit("_", 1)[1]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"create role {role}")
        try:
            connection.execute(f"grant {role} to current_user")
            limited = f"{empty_database}{'&' if '?' in empty_database else '?'}options=-crole%3D{role}"
            with pytest.raises(BackfillError, match="permission denied"):
                schema.upgrade(limited)
        finally:
            connection.execute(f"drop role {role}")


def test_an_empty_version_table_counts_as_no_tables(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from backfill_schema_version")
    with pytest.raises(SchemaBehind, match="not there yet"):
        require_current(database_url)


def test_downgrade_and_upgrade_lead_to_the_same_tables(database_url):
    before, indexed = columns(database_url), rows(database_url, INDEXES)
    downgrade(database_url)
    assert tables(database_url) == {("public", VERSION_TABLE)}
    with pytest.raises(SchemaBehind, match="not there yet"):
        require_current(database_url)
    schema.upgrade(database_url)
    require_current(database_url)
    assert sorted(columns(database_url)) == sorted(before)
    assert rows(database_url, INDEXES) == indexed


def test_run_records_survive_the_change_of_their_keys(empty_database):
    migrate(empty_database, command.upgrade, "0007")
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            """insert into backfill_runs (run_id, kind, market, trigger, started_at, status)
               values ('r', 'ohlcv', 'stocks', 'schedule', now(), 'started')"""
        )
        connection.execute("insert into backfill_run_series values ('r', 'AAPL', '1d', 5, 5, 0, 5, 0, 0, null)")
    migrate(empty_database, command.upgrade, "0008")
    query = "select kind, market, symbol, sessions, features_written from backfill_run_series"
    assert rows(empty_database, query) == [("ohlcv", "stocks", "AAPL", 5, 0)]
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            """insert into backfill_runs (run_id, kind, market, trigger, started_at, status)
               values ('r', 'features', 'stocks', 'schedule', now(), 'started')"""
        )
    migrate(empty_database, command.downgrade, "0007")
    assert rows(empty_database, "select run_id, kind from backfill_runs") == [("r", "ohlcv")]
    assert rows(empty_database, "select run_id, symbol, sessions from backfill_run_series") == [("r", "AAPL", 5)]


@pytest.mark.parametrize("ask", [schema.upgrade, require_current])
def test_a_server_that_does_not_answer(ask):
    with pytest.raises(
        DatabaseUnavailable, match=r"127\.0\.0\.1:1/x cannot be used \(the server does not answer\)"
    ) as raised:
        ask("postgresql://me:sekrit@127.0.0.1:1/x")
    assert "sekrit" not in str(raised.value)


# --- 0002: gaps, and failures in session_answers

DAY = "2024-03-0"
AT = datetime(2024, 3, 9, 2, tzinfo=UTC)
ANSWERED = (
    "select symbol, timeframe, session, bars, first_bar, last_bar, answered_at from session_answers order by 1, 2, 3"
)
COUNTED = "select session::text, bars, answers, failures, refused, partial from session_answers order by 1"


@pytest.fixture
def first_tables(empty_database):
    """A database at 0001 with bars, and with answers that have bars, have none, and have some after none."""
    migrate(empty_database, command.upgrade, "0001")
    with psycopg.connect(empty_database) as connection:
        for day, bars, empty in ((4, 390, 0), (5, 12, 2), (6, 0, 1), (7, 0, 3)):
            stamp = AT if bars else None
            connection.execute(
                """insert into session_answers
                   (symbol, timeframe, session, bars, first_bar, last_bar, empty_answers, answered_at)
                   values ('AAPL', '1m', %s, %s, %s, %s, %s, %s)""",
                [f"{DAY}{day}", bars, stamp, stamp, empty, AT],
            )
        connection.execute("insert into coverage values ('AAPL', '1m', '{[2024-03-04,2024-03-06)}')")
        connection.execute(
            """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
               values ('AAPL', '1m', %s, 1, 1, 1, 1, 1, 'polygon')""",
            [AT],
        )
    return empty_database


def kept(url):
    """What no migration may change."""
    return [rows(url, "select * from market_data"), rows(url, "select symbol, timeframe, filled::text from coverage")]


def test_what_was_answered_once_with_bars_counts_as_one_answer_and_empty_answers_as_so_many(first_tables):
    answered, before = rows(first_tables, ANSWERED), kept(first_tables)
    migrate(first_tables, command.upgrade, "0002")
    assert rows(first_tables, COUNTED) == [
        (f"{DAY}4", 390, 1, 0, False, False),
        (f"{DAY}5", 12, 1, 0, False, False),
        (f"{DAY}6", 0, 1, 0, False, False),
        (f"{DAY}7", 0, 3, 0, False, False),
    ]
    assert rows(first_tables, ANSWERED) == answered
    assert kept(first_tables) == before
    assert rows(first_tables, "select from backfill_gaps") == rows(first_tables, "select from listings") == []


def test_back_at_the_first_tables_empty_answers_are_counted_and_attempts_that_were_never_answered_are_gone(
    first_tables,
):
    form, answered, before = columns(first_tables), rows(first_tables, ANSWERED), kept(first_tables)
    migrate(first_tables, command.upgrade, "0002")
    with psycopg.connect(first_tables) as connection:
        connection.execute(
            """insert into session_answers (symbol, timeframe, session, bars, answers, failures, refused)
               values ('AAPL', '1m', '2024-03-08', 0, 0, 2, false), ('AAPL', '1m', '2024-03-11', 0, 0, 1, true)"""
        )
        connection.execute("update session_answers set answers = 4, failures = 2, partial = true where bars = 12")
        connection.execute("insert into listings values ('AAPL', '1980-12-12', null, now())")
        connection.execute(
            """insert into backfill_gaps
               (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts, first_seen)
               values ('AAPL', '1m', '2024-03-06', '2024-03-07', 2, 'missing', false, 3, now())"""
        )
    migrate(first_tables, command.downgrade, "0001")
    assert sorted(columns(first_tables)) == sorted(form)
    assert rows(first_tables, ANSWERED) == answered
    assert kept(first_tables) == before
    query = "select session::text, empty_answers from session_answers order by 1"
    assert rows(first_tables, query) == [(f"{DAY}4", 0), (f"{DAY}5", 0), (f"{DAY}6", 1), (f"{DAY}7", 3)]


def test_from_the_first_tables_the_newest_are_reached_with_every_row(first_tables):
    answered, before = rows(first_tables, ANSWERED), kept(first_tables)
    schema.upgrade(first_tables)
    require_current(first_tables)
    assert (rows(first_tables, ANSWERED), kept(first_tables)) == (answered, before)


@pytest.mark.parametrize(("ahead", "words"), [(3_700, "62 minutes ahead of"), (-700, "12 minutes behind")])
def test_a_clock_far_from_the_databases_is_refused(database_url, monkeypatch, ahead, words):
    monkeypatch.setattr(schema.time, "time", lambda now=time.time: now() + ahead)
    with pytest.raises(StoreError, match=f"This machine's clock is {words} the database's: set the clocks"):
        schema.require_current(database_url)


@pytest.mark.parametrize(("ahead", "warnings"), [(50, 0), (70, 1), (-590, 1)])
def test_a_clock_near_the_databases_is_a_warning(database_url, monkeypatch, caplog, ahead, warnings):
    monkeypatch.setattr(schema.time, "time", lambda now=time.time: now() + ahead)
    schema.require_current(database_url)
    assert len(caplog.records) == warnings


# --- 0019: fallbacks


def test_without_the_record_of_fallbacks_their_bars_are_kept_in_the_history_alone(database_url):
    with psycopg.connect(database_url) as connection:
        for day, source, filled_by in ((4, "polygon", None), (5, "yahoo", "yahoo")):
            at = f"{DAY}{day} 05:00+00"
            for timeframe, of in (("1d", source), ("5m", "derived_yahoo" if filled_by else "derived")):
                connection.execute(
                    "insert into market_data (symbol, timeframe, source, timestamp, open, high, low, close, volume)"
                    " values ('AAPL', %s, %s, %s, 1, 1, 1, 1, 1)",
                    [timeframe, of, at],
                )
                connection.execute(
                    "insert into session_answers (symbol, timeframe, session, bars, answers, failures, refused, partial,"
                    " answered_at, filled_by) values ('AAPL', %s, %s, 1, 1, 0, false, false, %s, %s)",
                    [timeframe, f"{DAY}{day}", AT, filled_by],
                )
        connection.execute(
            "insert into coverage select 'AAPL', t, '{[2024-03-04,2024-03-06)}' from unnest(array['1d', '5m']) t"
        )
    migrate(database_url, command.downgrade, "0018")
    schema.upgrade(database_url)
    assert rows(database_url, "select distinct source from market_data order by 1") == [("derived",), ("polygon",)]
    assert rows(database_url, "select source, removed from market_data_history") == [("yahoo", True)]
    assert rows(database_url, "select distinct session::text from session_answers") == [(f"{DAY}4",)]
    assert rows(database_url, "select distinct filled::text from coverage") == [("{[2024-03-04,2024-03-05)}",)]
    assert rows(database_url, "select timeframe, bars from market_data_counts order by 1") == [("1d", 1), ("5m", 1)]
