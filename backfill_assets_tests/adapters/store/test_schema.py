import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy
from alembic import command

from backfill_assets.adapters.postgres import sqlalchemy_url
from backfill_assets.adapters.store import schema
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable, SchemaBehind
from backfill_assets_tests.surroundings import rows

TABLES = {"market_data", "session_answers", "coverage", "rate_limit", schema.VERSION_TABLE}
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
    config = schema._config()
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()


def test_upgrade_makes_the_market_tables_in_the_default_schema_and_nothing_else(empty_database):
    revision = schema.upgrade(empty_database)
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


def test_upgrades_at_once_from_threads_and_processes_make_the_tables_once(empty_database):
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty_database], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    revision = schema.upgrade(empty_database)
    assert [p.communicate(timeout=60)[0].strip() for p in processes] == [revision] * 2
    assert {p.returncode for p in processes} == {0}
    assert tables(empty_database) == {("public", name) for name in TABLES}


def test_upgrades_at_once_from_threads_make_the_tables_once(empty_database):
    with ThreadPoolExecutor(4) as pool:
        revisions = set(pool.map(schema.upgrade, [empty_database] * 4))
    assert len(revisions) == 1
    assert rows(empty_database, "select version_num from backfill_schema_version") == [(revisions.pop(),)]


def test_the_tables_are_missed_until_they_are_made(empty_database):
    with pytest.raises(SchemaBehind, match="not there yet: run `backfill db upgrade`"):
        schema.require_current(empty_database)
    assert tables(empty_database) == set()  # asking makes nothing
    schema.upgrade(empty_database)
    schema.require_current(empty_database)


def test_tables_of_another_revision_are_named(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("update backfill_schema_version set version_num = 'f00d'")
    with pytest.raises(SchemaBehind, match=r"at revision f00d, the code needs \d{4}"):
        schema.require_current(database_url)


def test_upgrading_tables_of_a_newer_program_is_refused_in_a_sentence(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("update backfill_schema_version set version_num = 'f00d'")
    with pytest.raises(BackfillError, match="f00d"):
        schema.upgrade(database_url)
    assert rows(database_url, "select version_num from backfill_schema_version") == [("f00d",)]


def test_a_role_that_may_not_make_tables_is_told_so_in_a_sentence(empty_database):
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


def test_an_emptied_version_table_counts_as_no_tables(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from backfill_schema_version")
    with pytest.raises(SchemaBehind, match="not there yet"):
        schema.require_current(database_url)


def test_down_and_up_again_leads_to_the_same_tables(database_url):
    before = columns(database_url)
    downgrade(database_url)
    assert tables(database_url) == {("public", schema.VERSION_TABLE)}
    with pytest.raises(SchemaBehind, match="not there yet"):
        schema.require_current(database_url)
    schema.upgrade(database_url)
    schema.require_current(database_url)
    assert sorted(columns(database_url)) == sorted(before)


@pytest.mark.parametrize("ask", [schema.upgrade, schema.require_current])
def test_nobody_there(ask):
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/x cannot be used \(nobody answers there\)") as told:
        ask("postgresql://me:sekrit@127.0.0.1:1/x")
    assert "sekrit" not in str(told.value)
