"""The embedded server beside PG… variables that are meant for another one; every driver that the platform uses reads them."""

import os

import psycopg
import psycopg2
import pytest

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.revision import require_current
from backfill_assets_tests.postgres import open_folder
from backfill_assets_tests.surroundings import read_settings

OPTIONS = "-c default_transaction_read_only=on -c search_path=nowhere"
HARMFUL = {
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGHOSTADDR": "192.0.2.1",
    "PGOPTIONS": OPTIONS,
    "PGREQUIREAUTH": "none",
    "PGSERVICE": "nowhere",
    "PGSSLMODE": "require",
    "PGTARGETSESSIONATTRS": "standby",
}
CHANGING = {"PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "SQL, DMY", "PGTZ": "Asia/Tokyo", "PGAPPNAME": "another"}
SHOWN = ("client_encoding", "DateStyle", "TimeZone", "application_name", "default_transaction_read_only", "search_path")


@pytest.fixture(scope="module")
def folder():
    with open_folder() as made:
        yield made
        database.embedded(read_settings({"BACKFILL_DATA_DIR": str(made)})).stop()


@pytest.fixture
def settings(folder, monkeypatch):
    """The environment names no database and holds none of PostgreSQL's variables; as it was, afterwards."""
    for name in [name for name in os.environ if name.startswith("PG") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    for name in HARMFUL | CHANGING:  # noted by monkeypatch, which puts back what the platform has taken out
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(folder))
    return Settings.read()


def shown(url, driver):
    connection = driver.connect(url, connect_timeout=5)
    try:
        cursor = connection.cursor()
        cursor.execute(" union all ".join(f"select current_setting('{name}')" for name in SHOWN))
        return [value for (value,) in cursor.fetchall()]
    finally:
        connection.close()


def by_both(url):
    return [shown(url, driver) for driver in (psycopg, psycopg2)]


@pytest.mark.parametrize("name", HARMFUL | CHANGING)
def test_a_variable_for_another_server_does_no_harm(name, settings, monkeypatch):
    url = database.ready(settings)
    usual = by_both(url)
    monkeypatch.setenv(name, (HARMFUL | CHANGING)[name])
    try:
        assert by_both(url) != usual, "else there is nothing to be shown"
    except (psycopg.OperationalError, psycopg2.OperationalError):
        assert name in HARMFUL

    assert database.ready(settings) == url
    assert name not in os.environ
    assert by_both(url) == usual
    require_current(url)


def test_all_at_once_and_what_is_not_libpqs_stays(settings):
    kept = {"PG_BINDIR": "", "PGBOUNCER_URL": "x", "PATH": os.environ["PATH"]}
    environ = HARMFUL | CHANGING | kept
    url = database.locate(settings, environ)
    assert environ == kept
    assert url.endswith("/market")


def test_with_a_server_of_the_users_own_they_are_the_users_business(tmp_path):
    theirs = {"DATABASE_URL": "postgresql://me@127.0.0.1:1/market", "BACKFILL_DATA_DIR": str(tmp_path)}
    environ = dict(HARMFUL)
    assert database.locate(read_settings(theirs), environ) == theirs["DATABASE_URL"]
    assert environ == HARMFUL
