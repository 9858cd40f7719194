"""Databases for tests, on a real server.

TEST_DATABASE_URL names the server (PostgreSQL 15 or newer, a role that may create databases); without it an embedded
server is started for the session.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets_tests.support import PROJECT

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
"""Test data need not survive a power cut, and autovacuum would make timings differ from run to run."""


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that every user can enter, unlike `tmp_path`; remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="backfill-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the session's server, with a role that may create databases."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with public_folder() as folder:
        server = EmbeddedPostgres(folder, extra_configuration=FAST)
        yield server.url()
        server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a migrated, empty database to copy."""
    from backfill_assets.adapters.store.schema import upgrade  # noqa: PLC0415  # most tests need no migrations

    name = new_name("template")
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"create database {name}")
        try:
            upgrade(_database(postgres_server, name))
            yield name
        finally:
            server.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def _market_databases(postgres_server: str, postgres_template: str) -> Iterator[_Databases]:
    with _Databases.of(postgres_server, postgres_template) as databases:
        yield databases


@pytest.fixture
def database_url(_market_databases: _Databases) -> Iterator[str]:
    """The URL of the test's own database: migrated, empty, under a name of its own."""
    with _market_databases.one() as url:
        yield url


@pytest.fixture(scope="session")
def dagster_template(
    postgres_server: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database that also has Dagster's tables, which take half a second to make."""
    # Tests of the store need no Dagster.
    from backfill_assets.adapters.settings import Settings  # noqa: PLC0415
    from backfill_assets.deployment.environment import BATCH_SIZE, NUMBA_CACHE  # noqa: PLC0415
    from backfill_assets.orchestration.launch import open_instance  # noqa: PLC0415

    with database_copy(postgres_server, postgres_template) as url, pytest.MonkeyPatch.context() as patch:
        unset_variables(patch, BATCH_SIZE, NUMBA_CACHE)
        patch.setenv("DAGSTER_HOME", str(PROJECT))
        patch.setenv("DATABASE_URL", url)
        patch.setenv("BACKFILL_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        with open_instance(Settings.read()):
            patch.undo()
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture(scope="session")
def _dagster_databases(postgres_server: str, dagster_template: str) -> Iterator[_Databases]:
    with _Databases.of(postgres_server, dagster_template) as databases:
        yield databases


@pytest.fixture
def dagster_database_url(_dagster_databases: _Databases) -> Iterator[str]:
    """Like `database_url`, with Dagster's tables."""
    with _dagster_databases.one() as url:
        yield url


class _Databases:
    """Copies of a template for one test after another.

    To copy and drop a database takes ten times the processor time of emptying its tables. A database is used again only
    if all that is not a row of a table is as in a new copy: tables, functions, triggers, privileges, settings.
    """

    def __init__(self, server: psycopg.Connection, url: str, template: str) -> None:
        self._server, self._url, self._template = server, url, template
        self._free: str | None = None
        name = self._copy()
        with psycopg.connect(_database(url, name)) as connection:
            self._filled = _tables_with_pages(connection)
            self._restart_sequences = connection.execute(_RESTART_SEQUENCES).fetchone()[0]
            self._new = self._state(connection)
        self._free = name

    @classmethod
    @contextmanager
    def of(cls, url: str, template: str) -> Iterator[_Databases]:
        with psycopg.connect(url, autocommit=True) as server:
            databases = cls(server, url, template)
            yield databases
            if databases._free:
                databases._drop(databases._free)

    @contextmanager
    def one(self) -> Iterator[str]:
        """Lend a database that is like a new copy."""
        name = self._renamed() or self._copy()
        try:
            yield _database(self._url, name)
        finally:
            if self._is_new_again(name):
                self._free = name
            else:
                self._drop(name)

    def _renamed(self) -> str | None:
        """Return the free database under a new name, so that what an earlier test left running does not find it."""
        free, self._free = self._free, None
        if free:
            try:
                self._server.execute(f"alter database {free} rename to {(name := new_name('test'))}")
            except psycopg.errors.ObjectInUse:  # something reconnected
                self._drop(free)
            else:
                return name
        return None

    def _is_new_again(self, name: str) -> bool:
        """Empty the tables; return whether nothing else was changed."""
        try:
            with psycopg.connect(_database(self._url, name), autocommit=True) as connection:
                connection.execute(_END_OTHER_CONNECTIONS)
                if used := _tables_with_pages(connection) - self._filled:
                    connection.execute(f"truncate {', '.join(used)} cascade")
                connection.execute(self._restart_sequences)
                return self._state(connection) == self._new
        except psycopg.Error:  # the test dropped it, refused connections, or removed what is queried here
            return False

    def _state(self, connection: psycopg.Connection) -> list[object]:
        """Everything but the rows of tables that a new copy has empty."""
        contents = [
            connection.execute(f"select t::text from {table} t order by 1").fetchall()  # noqa: S608  # a quoted name
            for table in sorted(self._filled)
        ]
        return [contents, sorted(_tables_with_pages(connection)), connection.execute(_OBJECTS).fetchone()]

    def _copy(self) -> str:
        name = new_name("test")
        copy_database(self._server, self._template, name)
        return name

    def _drop(self, name: str) -> None:
        self._server.execute(f"drop database if exists {name} with (force)")


_END_OTHER_CONNECTIONS = """
do $$ begin
  loop
    perform pg_stat_clear_snapshot();
    perform pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid();
    exit when not found;
    perform pg_sleep(0.001);
  end loop;
end $$"""

_RESTART_SEQUENCES = """
select 'select ' || string_agg(
  format('setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value),
    last_value is not null), ', ')
from pg_sequences"""

_OBJECTS = """
with objects (object) as (
  select row(c.oid, relname, relnamespace, relkind, relowner, relacl, reloptions, relhasindex, relchecks, relhastriggers,
    relrowsecurity)::text
  from pg_class c where c.oid >= 16384 and relpersistence <> 't'
  union all select row('n', oid, xmin)::text from pg_namespace where nspname !~ '^pg_(toast_)?temp_'
  union all select row('a', attrelid, attnum, xmin)::text from pg_attribute where attrelid >= 16384
  union all select row('d', oid, xmin)::text from pg_attrdef
  union all select row('t', oid, xmin)::text from pg_type where oid >= 16384
  union all select row('f', oid, xmin)::text from pg_proc where oid >= 16384
  union all select row('c', oid, xmin)::text from pg_constraint
  union all select row('i', indexrelid, xmin)::text from pg_index where indexrelid >= 16384
  union all select row('g', oid, xmin)::text from pg_trigger
  union all select row('r', oid, xmin)::text from pg_rewrite where oid >= 16384
  union all select row('p', oid, xmin)::text from pg_policy
  union all select row('x', oid, xmin)::text from pg_extension
  union all select row('e', oid, xmin)::text from pg_event_trigger
  union all select row('q', seqrelid, xmin)::text from pg_sequence
  union all select row('l', oid, xmin)::text from pg_default_acl
  union all select row('s', schemaname, tablename, attname)::text from pg_stats where schemaname !~ '^(pg_|information_)'
  union all select row(datacl, datallowconn, datconnlimit, s.setrole, s.setconfig)::text
  from pg_database d left join pg_db_role_setting s on s.setdatabase = d.oid where datname = current_database()
)
select md5(string_agg(object, '' order by object)) from objects"""


def _tables_with_pages(connection: psycopg.Connection) -> set[str]:
    query = """
      select format('%I.%I', nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace
      where relkind = 'r' and relpersistence <> 't' and c.oid >= 16384 and pg_relation_size(c.oid) > 0"""
    return {name for (name,) in connection.execute(query)}


@contextmanager
def database_copy(postgres_server: str, template: str) -> Iterator[str]:
    """Copy a database; drop the copy at the end, even if it still has connections."""
    name = new_name("test")
    with psycopg.connect(postgres_server, autocommit=True) as server:
        copy_database(server, template, name)
        try:
            yield _database(postgres_server, name)
        finally:
            server.execute(f"drop database {name} with (force)")


@contextmanager
def ordinary_role(database_url: str, name: str) -> Iterator[str]:
    """Create a role without rights, which may not use the connections that are reserved; yield its URL of the database.

    At the end, drop the role with what it owns.
    """
    parts, role = urlsplit(database_url), Identifier(name)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(SQL("create role {} login password 'a pa55word'").format(role))
        yield parts._replace(netloc=f"{quote(name)}:a%20pa55word@{parts.hostname}:{parts.port}").geturl()
        owner.execute(SQL("reassign owned by {0} to current_user; drop owned by {0}; drop role {0}").format(role))


def unset_variables(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Unset these environment variables; undoing the patch restores them whatever set them in between."""
    for name in names:
        patch.setenv(name, "")
        patch.delenv(name)


def copy_database(server: psycopg.Connection, template: str, name: str) -> None:
    """Copy a database. Its connections are closed first: one that a pool left open would prevent the copy."""
    server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [template])
    # file_copy takes a tenth of a second; the default writes every page to the WAL
    server.execute(f"create database {name} template {template} strategy file_copy")


def new_name(kind: str) -> str:
    """Return a unique database name."""
    return f"{kind}_{uuid.uuid4().hex[:12]}"


def _database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
