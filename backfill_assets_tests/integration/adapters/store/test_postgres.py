"""adapters/postgres.py: what is said when there is no database, and staying with one that goes away and comes back."""

from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from backfill_assets.adapters.alchemy import sqlalchemy_url
from backfill_assets.adapters.postgres import (
    RECONNECT_PAUSES,
    connect,
    open_pool,
    unavailable,
    with_reconnection,
    without_password,
)
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable

SECRET = "pa55:w/rd@äß"  # noqa: S105  # of nobody


@pytest.fixture(autouse=True)
def a_server_of_the_users_own(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/market")


def with_login(url, user=None, password=SECRET, path=None):
    parts = urlsplit(url)
    login = f"{user or parts.username}:{quote(password, safe='')}"
    return parts._replace(
        netloc=f"{login}@{parts.hostname}:{parts.port or 5432}", path=parts.path if path is None else path
    ).geturl()


def refusal(url):
    with pytest.raises(DatabaseUnavailable) as told:
        connect(url)
    sentence = str(told.value)
    assert "\n" not in sentence
    assert sentence.startswith("PostgreSQL at ")
    assert sentence.endswith("; check DATABASE_URL.")
    assert told.value.__cause__ is None
    for secret in (SECRET, quote(SECRET, safe=""), urlsplit(url).password or SECRET):
        assert secret not in sentence
    return sentence


def test_nobody_listens():
    assert "at 127.0.0.1:1/market cannot be used (nobody answers there)" in refusal(
        with_login("postgresql://127.0.0.1:1/market", "me")
    )


def test_no_such_host():
    assert "no-such-host.invalid:5432/market cannot be used (nobody answers there)" in refusal(
        with_login("postgresql://no-such-host.invalid/market", "me")
    )


def test_a_role_that_does_not_exist(postgres_server):
    assert "nosuchrole" in refusal(with_login(postgres_server, "nosuchrole"))


def test_a_wrong_password(postgres_server):
    wrong = with_login(postgres_server)
    try:
        psycopg.connect(wrong).close()
    except psycopg.OperationalError:
        pass
    else:
        pytest.skip("this server asks for no password")
    assert "password authentication failed" in refusal(wrong)


def test_no_such_database(postgres_server):
    assert 'database "no_such_thing" does not exist' in refusal(
        urlsplit(postgres_server)._replace(path="/no_such_thing").geturl()
    )


@pytest.mark.parametrize("unset", [None, ""])
def test_of_the_embedded_server_it_says_how_to_start_it_and_where_its_log_is(monkeypatch, unset):
    if unset is None:
        monkeypatch.delenv("DATABASE_URL")
    else:
        monkeypatch.setenv("DATABASE_URL", unset)
    with pytest.raises(DatabaseUnavailable) as told:
        connect("postgresql://me:sekrit@127.0.0.1:1/market")
    assert str(told.value) == (
        "PostgreSQL at 127.0.0.1:1/market cannot be used (nobody answers there); `backfill db start` starts the embedded "
        "server, whose log is postgres/server.log in the data folder."
    )


def test_a_pool_says_the_same():
    with pytest.raises(DatabaseUnavailable, match="nobody answers there"):
        open_pool("postgresql://me:sekrit@127.0.0.1:1/market", 2)


def test_a_parameter_that_no_driver_knows_is_told_in_a_sentence():
    with pytest.raises(BackfillError) as told:
        connect("postgresql://me:sekrit@127.0.0.1:1/market?nonsense=1")
    assert "sekrit" not in str(told.value)


def test_an_error_without_words_is_named_by_its_type():
    assert "(PoolTimeout)" in str(unavailable("postgresql://h/d", PoolTimeout()))


def test_an_address_without_its_secrets():
    assert without_password("postgresql://me:sekrit@db.example:6543/market?password=sekrit") == "db.example:6543/market"
    assert without_password("postgresql:///market") == "localhost:5432/market"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_each_driver_gets_its_own_form(scheme):
    url = f"{scheme}://me:p%40ss@h:1/d?sslmode=require"
    ours, dagsters = sqlalchemy_url(url), sqlalchemy_url(url, driver="psycopg2")
    assert (ours.drivername, dagsters.drivername) == ("postgresql+psycopg", "postgresql+psycopg2")
    assert (ours.password, ours.query["sslmode"], ours.database) == ("p@ss", "require", "d")
    assert "p@ss" not in str(ours)


def test_connections_commit_by_themselves(database_url):
    with connect(database_url) as connection:
        assert connection.autocommit


def test_a_pool_does_not_lend_a_connection_that_the_server_has_dropped(database_url):
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


def test_a_transaction_whose_connection_breaks_is_run_again_once_the_server_answers(database_url):
    slept = []
    run = transaction(psycopg.OperationalError("gone"), PoolTimeout("none"), "done")
    assert with_reconnection(database_url, run, slept.append) == "done"
    assert slept == [RECONNECT_PAUSES[0]] * 2


def test_a_server_that_answers_and_breaks_off_every_attempt_is_named(database_url):
    run = transaction(*[psycopg.OperationalError("gone")] * (len(RECONNECT_PAUSES) + 1))
    with pytest.raises(DatabaseUnavailable, match=r"cannot be used \(gone\)"):
        with_reconnection(database_url, run, lambda _: None)


def test_a_full_disk_is_told_with_its_own_cure():
    full = psycopg.errors.DiskFull('could not extend file "base/5/1": No space left on device')
    assert str(unavailable("postgresql://h/d", full)).endswith(
        "No space left on device); make room on the server's disk, and run the same again."
    )


def test_a_server_that_stays_away_is_waited_for_and_then_named():
    slept = []
    run = transaction(*[psycopg.OperationalError("connection refused")] * (len(RECONNECT_PAUSES) + 1))
    with pytest.raises(DatabaseUnavailable, match=r"h:5432/d cannot be used \(nobody answers there\)"):
        with_reconnection("postgresql://me:sekrit@h/d", run, slept.append)
    assert slept == list(RECONNECT_PAUSES)


def test_a_mistake_is_not_repeated():
    slept = []
    with pytest.raises(psycopg.errors.UndefinedTable):
        with_reconnection("postgresql://h/d", transaction(psycopg.errors.UndefinedTable("no"), "done"), slept.append)
    assert slept == []
