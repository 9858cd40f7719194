"""Messages without a database, and reconnection to one that restarts."""

from datetime import UTC, date, datetime
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from backfill_assets.adapters.postgres import (
    RECONNECT_PAUSES,
    connect,
    open_pool,
    sqlalchemy_url,
    unavailable,
    with_reconnection,
    without_password,
)
from backfill_assets.adapters.sql import statements
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable

SECRET = "pa55:w/rd@äß"  # noqa: S105  # not a real one


@pytest.fixture(autouse=True)
def users_own_server(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/market")


def with_login(url, user=None, password=SECRET, path=None):
    parts = urlsplit(url)
    login = f"{user or parts.username}:{quote(password, safe='')}"
    return parts._replace(
        netloc=f"{login}@{parts.hostname}:{parts.port or 5432}", path=parts.path if path is None else path
    ).geturl()


def error_message(url):
    with pytest.raises(DatabaseUnavailable) as raised:
        connect(url)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("PostgreSQL at ")
    assert message.endswith("; check DATABASE_URL.")
    assert raised.value.__cause__ is None
    for secret in (SECRET, quote(SECRET, safe=""), urlsplit(url).password or SECRET):
        assert secret not in message
    return message


@pytest.mark.parametrize(
    ("host", "named"), [("127.0.0.1:1", "127.0.0.1:1"), ("no-such-host.invalid", "no-such-host.invalid:5432")]
)
def test_no_server_or_no_such_host(host, named):
    message = error_message(with_login(f"postgresql://{host}/market", "me"))
    assert f"at {named}/market cannot be used (the server does not answer)" in message


def test_a_role_that_does_not_exist(postgres_server):
    assert "nosuchrole" in error_message(with_login(postgres_server, "nosuchrole"))


def test_a_wrong_password(postgres_server):
    wrong = with_login(postgres_server)
    try:
        psycopg.connect(wrong).close()
    except psycopg.OperationalError:
        pass
    else:
        pytest.skip("this server asks for no password")
    assert "password authentication failed" in error_message(wrong)


def test_no_such_database(postgres_server):
    assert 'database "no_such_thing" does not exist' in error_message(
        urlsplit(postgres_server)._replace(path="/no_such_thing").geturl()
    )


@pytest.mark.parametrize("unset", [None, ""])
def test_the_message_says_how_to_start_the_embedded_server(monkeypatch, unset):
    if unset is None:
        monkeypatch.delenv("DATABASE_URL")
    else:
        monkeypatch.setenv("DATABASE_URL", unset)
    with pytest.raises(DatabaseUnavailable) as raised:
        connect("postgresql://me:sekrit@127.0.0.1:1/market")
    assert str(raised.value) == (
        "PostgreSQL at 127.0.0.1:1/market cannot be used (the server does not answer); `backfill db start` starts the "
        "embedded server, whose log is postgres/server.log in the data folder."
    )


def test_a_pool_raises_the_same():
    with pytest.raises(DatabaseUnavailable, match="the server does not answer"):
        open_pool("postgresql://me:sekrit@127.0.0.1:1/market", 2)


def test_an_unknown_parameter_in_the_url():
    with pytest.raises(BackfillError) as raised:
        connect("postgresql://me:sekrit@127.0.0.1:1/market?nonsense=1")
    assert "sekrit" not in str(raised.value)


def test_an_error_without_message_shows_its_type():
    assert "(PoolTimeout)" in str(unavailable("postgresql://h/d", PoolTimeout()))


def test_without_password():
    assert without_password("postgresql://me:sekrit@db.example:6543/market?password=sekrit") == "db.example:6543/market"
    assert without_password("postgresql:///market") == "localhost:5432/market"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_sqlalchemy_url(scheme):
    url = f"{scheme}://me:p%40ss@h:1/d?sslmode=require"
    ours, dagsters = sqlalchemy_url(url), sqlalchemy_url(url, driver="psycopg2")
    assert (ours.drivername, dagsters.drivername) == ("postgresql+psycopg", "postgresql+psycopg2")
    assert (ours.password, ours.query["sslmode"], ours.database) == ("p@ss", "require", "d")
    assert "p@ss" not in str(ours)


def test_connections_autocommit(database_url):
    with connect(database_url) as connection:
        assert connection.autocommit


def test_a_pool_replaces_connections_that_the_server_has_closed(database_url):
    with open_pool(database_url, 1) as pool:
        for _ in range(2):
            with pool.connection() as connection:
                (pid,) = connection.execute("select pg_backend_pid()").fetchone()
            with psycopg.connect(database_url, autocommit=True) as killer:
                killer.execute("select pg_terminate_backend(%s, 5000)", [pid])


def transaction(*outcomes):
    left = list(outcomes)

    def run():
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return run


def test_a_transaction_is_retried_when_the_server_accepts_connections_again(database_url):
    slept = []
    run = transaction(psycopg.OperationalError("gone"), PoolTimeout("none"), "done")
    assert with_reconnection(database_url, run, slept.append) == "done"
    assert slept == [RECONNECT_PAUSES[0]] * 2


def test_a_transaction_that_breaks_in_every_attempt(database_url):
    run = transaction(*[psycopg.OperationalError("gone")] * (len(RECONNECT_PAUSES) + 1))
    with pytest.raises(DatabaseUnavailable, match=r"cannot be used \(gone\)"):
        with_reconnection(database_url, run, lambda _: None)


def test_a_full_disk_has_its_own_advice():
    full = psycopg.errors.DiskFull('could not extend file "base/5/1": No space left on device')
    assert str(unavailable("postgresql://h/d", full)).endswith(
        "No space left on device); free space on the server's disk, then run the command again."
    )


@pytest.mark.parametrize("error", ["too many clients already", 'too many connections for role "me"'])
def test_a_lack_of_connections_has_its_own_advice(error):
    full = psycopg.OperationalError(f"FATAL:  sorry, {error}")
    assert "raise the server's max_connections or the role's limit" in str(unavailable("postgresql://h/d", full))


def test_a_password_in_the_drivers_message_is_masked():
    error = psycopg.ProgrammingError(f'invalid URI: "{SECRET}", {quote(SECRET, safe="")}')
    message = str(unavailable(with_login("postgresql://h:1/d", "me"), error))
    assert '(invalid URI: "***", ***)' in message


@pytest.mark.parametrize("option", ["default_transaction_read_only = on", "role = pg_read_all_data"])
def test_a_role_that_may_only_read_gets_one_sentence(database_url, option):
    with connect(database_url) as admin:
        admin.execute("create table kept (n int)")
        name = admin.info.dbname
        admin.execute(f"alter database {name} set {option}")
    with open_pool(database_url, 1) as pool:

        def write():
            with pool.connection() as connection:
                connection.execute("insert into kept values (1)")

        with pytest.raises(DatabaseUnavailable, match="grant the right to the role"):
            with_reconnection(database_url, write)


def test_a_lock_that_another_program_holds_has_its_own_advice(database_url):
    url = f"{database_url}?options=-c%20lock_timeout%3D1"
    with psycopg.connect(database_url) as other, open_pool(url, 1) as pool:
        other.execute("lock table market_data in access exclusive mode")

        def read():
            with pool.connection() as connection:
                connection.execute("select from market_data")

        with pytest.raises(DatabaseUnavailable, match="when the program that locks the tables, such as VACUUM FULL"):
            with_reconnection(url, read, lambda _: None)


@pytest.mark.parametrize("option", ["datestyle = 'German'", "extra_float_digits = -9", "timezone = 'Asia/Kathmandu'"])
def test_values_do_not_depend_on_the_databases_settings(database_url, option):
    written = (date(2024, 2, 1), datetime(2024, 2, 1, 3, 4, 5, tzinfo=UTC), 0.1 + 0.2)
    with connect(database_url) as admin:
        admin.execute(f"alter database {admin.info.dbname} set {option}")
    with open_pool(database_url, 1) as pool, pool.connection() as pooled, connect(database_url) as single:
        for connection in (pooled, single):
            assert connection.execute("select %s::date, %s::timestamptz, %s::float8", written).fetchone() == written


def test_text_in_a_database_without_an_encoding(postgres_server):
    with connect(postgres_server) as admin:
        admin.execute("create database plain encoding sql_ascii locale 'C' template template0")
    try:
        with connect(urlsplit(postgres_server)._replace(path="/plain").geturl()) as connection:
            assert connection.execute("select %s::text", ["é"]).fetchone() == ("é",)
    finally:
        with connect(postgres_server) as admin:
            admin.execute("drop database plain")


def test_a_server_that_stays_down():
    slept = []
    run = transaction(*[psycopg.OperationalError("connection refused")] * (len(RECONNECT_PAUSES) + 1))
    with pytest.raises(DatabaseUnavailable, match=r"h:5432/d cannot be used \(the server does not answer\)"):
        with_reconnection("postgresql://me:sekrit@h/d", run, slept.append)
    assert slept == list(RECONNECT_PAUSES)


def test_other_errors_are_not_retried():
    slept = []
    with pytest.raises(psycopg.errors.UndefinedTable):
        with_reconnection("postgresql://h/d", transaction(psycopg.errors.UndefinedTable("no"), "done"), slept.append)
    assert slept == []


@pytest.mark.parametrize(("file", "lock"), [("gaps", "lock_gaps"), ("alerts", "lock_alerts"), ("bars", "lock_source")])
def test_a_transaction_in_which_python_works_may_idle(database_url, file, lock):
    statement = statements("backfill_assets.adapters.store", f"{file}.sql")[lock]
    show = "select current_setting('idle_in_transaction_session_timeout')"
    with connect(database_url) as admin:
        admin.execute(f"alter database {admin.info.dbname} set idle_in_transaction_session_timeout = '500ms'")
    with connect(database_url) as connection:
        with connection.transaction():
            connection.execute(statement, {"symbols": ["AAPL"], "timeframe": "1m"})
            assert connection.execute(show).fetchone() == ("0",)
        assert connection.execute(show).fetchone() == ("500ms",)
