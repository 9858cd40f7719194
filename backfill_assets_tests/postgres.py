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


@pytest.fixture
def database_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of the test's own database: migrated, empty, dropped at the end."""
    with database_copy(postgres_server, postgres_template) as url:
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


@pytest.fixture
def dagster_database_url(postgres_server: str, dagster_template: str) -> Iterator[str]:
    """Like `database_url`, with Dagster's tables."""
    with database_copy(postgres_server, dagster_template) as url:
        yield url


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
