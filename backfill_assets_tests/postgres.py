"""Databases for tests, on a real server.

Set TEST_DATABASE_URL to use a server of your own (PostgreSQL 15 or newer, a role that may create databases); otherwise an
embedded one is made for the session, and ended with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets_tests.surroundings import PROJECT

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
"""Nothing here has to outlive a power cut, and the vacuum's timing would be a difference between two runs."""


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that every user can enter, unlike `tmp_path`; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="backfill-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a database on the session's server, whose role may create databases."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with open_folder() as folder:
        server = EmbeddedPostgres(folder, extra_configuration=FAST)
        yield server.url()
        server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a migrated, otherwise empty database to clone."""
    # a test of the server alone needs no migrations
    from backfill_assets.adapters.store.schema import upgrade  # noqa: PLC0415 # loaded for those who ask for tables

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
    """The URL of a database of the test's own: migrated, empty, dropped afterwards whoever is still connected."""
    with database_like(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def dagster_template(
    postgres_server: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same with Dagster's tables, which take half a second to make."""
    # a test of the tables needs no Dagster
    from backfill_assets.adapters.settings import Settings  # noqa: PLC0415
    from backfill_assets.deployment.environment import BATCH_SIZE, NUMBA_CACHE  # noqa: PLC0415
    from backfill_assets.orchestration.launch import open_instance  # noqa: PLC0415

    with database_like(postgres_server, postgres_template) as url, pytest.MonkeyPatch.context() as patch:
        unset(patch, BATCH_SIZE, NUMBA_CACHE)
        patch.setenv("DAGSTER_HOME", str(PROJECT))
        patch.setenv("DATABASE_URL", url)
        patch.setenv("BACKFILL_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        with open_instance(Settings.read(os.environ)):
            patch.undo()
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def used_database_url(postgres_server: str, dagster_template: str) -> Iterator[str]:
    """A database of the test's own as `database_url`, in which Dagster has kept records before."""
    with database_like(postgres_server, dagster_template) as url:
        yield url


@contextmanager
def database_like(postgres_server: str, template: str) -> Iterator[str]:
    """The URL of a new database that begins as a copy, dropped afterwards whoever is still connected."""
    name = new_name("test")
    with psycopg.connect(postgres_server, autocommit=True) as server:
        copy_database(server, template, name)
        try:
            yield _database(postgres_server, name)
        finally:
            server.execute(f"drop database {name} with (force)")


def unset(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Unset these of the environment; whatever sets them meanwhile, they are as before when the patch is undone."""
    for name in names:
        patch.setenv(name, "")
        patch.delenv(name)


def copy_database(server: psycopg.Connection, template: str, name: str) -> None:
    """Make a database as a copy of another one, whose sessions are ended: one left behind by a pool would forbid it."""
    server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [template])
    # file_copy takes a tenth of a second; the other strategy writes every page to the log
    server.execute(f"create database {name} template {template} strategy file_copy")


def new_name(kind: str) -> str:
    """A name that no other database has."""
    return f"{kind}_{uuid.uuid4().hex[:12]}"


def _database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
