"""Dagster's tables are made in their schema, or nowhere: also behind a connection pooler."""

import os
import shutil
import subprocess
import time
from urllib.parse import urlsplit

import pytest

from backfill_assets.adapters.postgres import connect
from backfill_assets.deployment.storage import MarketPostgresStorage
from backfill_assets.domain.errors import DatabaseUnavailable
from backfill_assets_tests.postgres import ordinary_role, public_folder
from backfill_assets_tests.support import rows, unused_port

CONFIGURATION = """
[databases]
* = host={0.hostname} port={0.port} user={0.username} password={0.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {1}
unix_socket_dir =
auth_type = any
pool_mode = transaction
{2}
"""
TABLES = "select schemaname, count(*) from pg_tables where tablename in ('runs', 'event_logs') group by 1"


@pytest.fixture
def pooled(database_url):
    """A function that starts PgBouncer with more settings and returns the URL through it."""
    if shutil.which("pgbouncer") is None:
        pytest.skip("pgbouncer is not installed")
    parts, started = urlsplit(database_url), []

    with public_folder() as folder:

        def start(settings):
            port = unused_port()
            (folder / "pgbouncer.ini").write_text(CONFIGURATION.format(parts, port, settings))
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            started.append(subprocess.Popen(["pgbouncer", "-q", *user, folder / "pgbouncer.ini"]))  # noqa: S607  # found on PATH, as by a user
            url = parts._replace(netloc=f"127.0.0.1:{port}").geturl()
            for _ in range(100):
                try:
                    connect(url).close()
                except DatabaseUnavailable:
                    time.sleep(0.05)
                else:
                    return url
            raise AssertionError("PgBouncer does not answer")

        yield start
        for process in started:
            process.terminate()
            process.wait()


def test_the_tables_are_in_their_schema(database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)
    MarketPostgresStorage.from_config_value(None, {})
    assert rows(database_url, TABLES) == [("dagster", 2)]


def test_a_role_that_may_not_create_the_schema_gets_the_grant_that_helps(database_url, monkeypatch):
    with ordinary_role(database_url, 'a "role"') as url:
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(DatabaseUnavailable, match="may not create the schema dagster") as refusal:
            MarketPostgresStorage.from_config_value(None, {})
        _, grant, _ = str(refusal.value).split("`")
        with connect(database_url) as owner:
            owner.execute(grant)
        MarketPostgresStorage.from_config_value(None, {})
    assert rows(database_url, TABLES) == [("dagster", 2)]


@pytest.mark.parametrize("settings", ["", "ignore_startup_parameters = options"])
def test_a_pooler_that_drops_the_schema_is_refused(database_url, pooled, monkeypatch, settings):
    monkeypatch.setenv("DATABASE_URL", pooled(settings))
    with pytest.raises(DatabaseUnavailable, match="leads to a connection pooler"):
        MarketPostgresStorage.from_config_value(None, {})
    assert rows(database_url, TABLES) == []
