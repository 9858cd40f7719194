"""PG… variables for another server do not affect the embedded one; every driver reads them."""

import os

import psycopg
import psycopg2
import pytest

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.schema import require_current
from backfill_assets_tests.postgres import public_folder
from backfill_assets_tests.support import read_settings

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
    with public_folder() as made:
        yield made
        database.embedded(read_settings({"BACKFILL_DATA_DIR": str(made)})).stop()


@pytest.fixture
def settings(folder, monkeypatch):
    """Settings in an environment without DATABASE_URL and PG… variables."""
    for name in [name for name in os.environ if name.startswith("PG") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    for name in HARMFUL | CHANGING:  # so that monkeypatch restores what is removed
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


def with_both_drivers(url):
    return [shown(url, driver) for driver in (psycopg, psycopg2)]


@pytest.mark.parametrize("name", HARMFUL | CHANGING)
def test_a_variable_for_another_server_has_no_effect(name, settings, monkeypatch):
    url = database.ready(settings)
    usual = with_both_drivers(url)
    monkeypatch.setenv(name, (HARMFUL | CHANGING)[name])
    try:
        assert with_both_drivers(url) != usual, "the variable has no effect, so the test shows nothing"
    except (psycopg.OperationalError, psycopg2.OperationalError):
        assert name in HARMFUL

    assert database.ready(settings) == url
    assert name not in os.environ
    assert with_both_drivers(url) == usual
    require_current(url)


def test_all_libpq_variables_are_removed_and_others_stay(settings):
    kept = {"PG_BINDIR": "", "PGBOUNCER_URL": "x", "PATH": os.environ["PATH"]}
    environ = HARMFUL | CHANGING | kept
    url = database.locate(settings, environ)
    assert environ == kept
    assert url.endswith("/market")


def test_variables_stay_with_database_url(tmp_path):
    own = {"DATABASE_URL": "postgresql://me@127.0.0.1:1/market", "BACKFILL_DATA_DIR": str(tmp_path)}
    environ = dict(HARMFUL)
    assert database.locate(read_settings(own), environ) == own["DATABASE_URL"]
    assert environ == HARMFUL
