"""Rates are judged by the permits' times on the database's clock, never by how long a test took."""

import asyncio
import itertools
import json
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from backfill_assets.adapters import rate_limit
from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.postgres import RECONNECT_PAUSES
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store import schema
from backfill_assets.domain.errors import DatabaseUnavailable, SchemaBehind, StoreError
from backfill_assets_tests.integration.adapters.scripted_vendor import NoSleep

HOLDER = """
import asyncio, json, sys
from backfill_assets.adapters.rate_limit import RateLimiter

async def main(url, per_second, permits, sleeps):
    nap = asyncio.sleep if sleeps else lambda _: asyncio.sleep(0)
    async with RateLimiter(url, per_second=per_second, sleep=nap) as limiter:
        async def one():
            print(json.dumps(await limiter.acquire()), flush=True)
        await asyncio.gather(*(one() for _ in range(permits)))

asyncio.run(main(sys.argv[1], *(json.loads(x) for x in sys.argv[2:])))
"""


@pytest.fixture
def url(database_url):
    schema.upgrade(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("delete from rate_limit")
    return database_url


def holder(url, per_second, permits, *, sleeps):
    arguments = [url, *(json.dumps(x) for x in (per_second, permits, sleeps))]
    return subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)


def row(url, statement="select extract(epoch from next_at - clock_timestamp())::float8, gen from rate_limit"):
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchone()


def gaps(slots):
    ordered = sorted(slots)
    return [later - earlier for earlier, later in itertools.pairwise(ordered)]


async def test_permits_are_an_interval_apart(url):
    sleep = NoSleep()
    async with RateLimiter(url, per_second=2.5, sleep=sleep) as limiter:
        slots = [await limiter.acquire() for _ in range(6)]
    assert gaps(slots) == pytest.approx([1.02 / 2.5] * 5, abs=1e-5)
    assert len(sleep.slept) == 5  # the first was free at once
    assert all(seconds > 0 for seconds in sleep.slept)


async def test_a_permit_that_others_delay_is_announced(url, monkeypatch):
    said, heard = [], asyncio.Event()

    def on_wait(sentence):
        said.append(sentence)
        heard.set()

    async with RateLimiter(url, per_second=2.5, sleep=NoSleep(), on_wait=on_wait) as limiter:
        await limiter.acquire()
        await limiter.push_back(30)
        await limiter.acquire()
        assert said == [], "its own delay"
        async with RateLimiter(url, per_second=2.5) as other:
            await other.push_back(90)
        await limiter.acquire()
        assert said == ["Waiting 90 s for the request rate limit, shared with other processes."]
        monkeypatch.setattr(rate_limit, "_LONG", 0.05)
        with psycopg.connect(url) as holder:
            holder.execute("select from rate_limit for update")
            heard.clear()
            waiting = asyncio.create_task(limiter.acquire())
            await heard.wait()
            holder.rollback()
            await waiting
    assert said[1:] == ["Waiting for the shared request rate limit."]


async def test_no_minute_has_more_permits_than_the_rate_allows(url):
    async with RateLimiter(url, per_second=2.5, sleep=NoSleep()) as limiter:
        slots = sorted([await limiter.acquire() for _ in range(400)])
    assert max(sum(start <= slot <= start + 60 for slot in slots) for start in slots) in range(146, 151)


async def test_a_permit_is_never_early(url):
    async with RateLimiter(url, per_second=50) as limiter, await psycopg.AsyncConnection.connect(url) as connection:
        await connection.set_autocommit(True)
        for _ in range(10):
            slot = await limiter.acquire()
            cursor = await connection.execute("select extract(epoch from clock_timestamp())::float8")
            assert slot <= (await cursor.fetchone())[0]


async def test_unused_permits_do_not_accumulate(url):
    async with RateLimiter(url, per_second=2.5, sleep=NoSleep()) as limiter:
        await limiter.acquire()
        row(url, "update rate_limit set next_at = next_at - interval '1 hour' returning 1")
        slots = [await limiter.acquire() for _ in range(4)]
    assert min(gaps(slots)) > 0.4


@pytest.mark.parametrize("sign", "+-")
async def test_a_step_of_the_servers_clock_neither_stops_nor_hurries(url, sign):
    """A step of the clock is a step of the stored time in the other direction."""
    sleep = NoSleep()
    async with RateLimiter(url, per_second=2.5, sleep=sleep) as limiter:
        slots = [await limiter.acquire() for _ in range(3)]
        row(url, f"update rate_limit set next_at = next_at {sign} interval '1 hour' returning 1")  # noqa: S608
        slots += [await limiter.acquire() for _ in range(4)]
    assert min(gaps(slots[3:])) > 0.4
    assert sum(sleep.slept) < 5


def test_processes_share_one_rate(url):
    processes = [holder(url, 100, 25, sleeps=False) for _ in range(4)]
    slots = [float(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(slots) == 100
    assert min(gaps(slots)) > 0.0102 - 1e-4


def test_a_killed_holder_wastes_no_more_than_its_permit(url):
    process = holder(url, 0.1, 8, sleeps=True)
    first = float(process.stdout.readline())
    while row(url)[0] < 10.2:  # it holds the second permit, ten seconds ahead
        pass
    process.kill()
    process.communicate()

    async def go_on():
        async with RateLimiter(url, per_second=0.1, sleep=NoSleep()) as limiter:
            return await limiter.acquire()

    assert asyncio.run(go_on()) - first == pytest.approx(2 * 10.2, abs=1e-3)


async def test_a_process_reserves_one_permit_for_all_its_tasks(url):
    asleep, wake = asyncio.Event(), asyncio.Event()

    async def sleep(_):
        asleep.set()
        await wake.wait()

    async with RateLimiter(url, per_second=1, sleep=sleep) as limiter:
        await limiter.acquire()
        tasks = [asyncio.create_task(limiter.acquire()) for _ in range(20)]
        await asleep.wait()
        await asyncio.sleep(0.05)
        assert row(url)[0] < 2 * 1.02
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_push_back_voids_reserved_permits(url):
    others = RateLimiter(url, per_second=0.1)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 1:
            await others.push_back(30)

    async with others, RateLimiter(url, per_second=0.1, sleep=sleep) as limiter:
        first = await limiter.acquire()
        second = await limiter.acquire()
    assert second - first > 30
    assert slept[0] < 10.2
    assert 29 < slept[1] <= 30
    assert row(url)[1] == 1


async def test_a_push_back_delays_later_permits_and_never_shortens(url):
    async with RateLimiter(url, per_second=2.5, sleep=NoSleep()) as limiter:
        await limiter.push_back(40)
        await limiter.push_back(3)
        await limiter.push_back(-1)
        assert row(url)[0] > 39
        await limiter.acquire()
        assert 39 < limiter._sleep.slept[0] <= 40
    assert row(url)[1] == 3


async def test_a_permit_after_a_long_sleep_is_dropped(url):
    now = 0.0

    async def oversleep(seconds):
        nonlocal now
        now += seconds + (5 if now == 0 else 0)

    async with RateLimiter(url, per_second=2.5, sleep=oversleep, clock=lambda: now) as limiter:
        first = await limiter.acquire()
        assert await limiter.acquire() - first == pytest.approx(2 * 0.408, abs=1e-4)


async def test_a_permit_that_arrives_late_is_dropped(url):
    ticks = iter([0.0, 5.0, 5.0])  # requested at 0, answered at 5
    async with RateLimiter(url, per_second=2.5, sleep=NoSleep(), clock=lambda: next(ticks, 5.0)) as limiter:
        await limiter.acquire()
    assert row(url)[0] > 0.408 + 0.2  # two permits were taken


def test_limiters_on_several_loops_at_once(url):
    slots, failures = [], []

    async def some():
        async with RateLimiter(url, per_second=200) as limiter:
            slots.extend([await limiter.acquire() for _ in range(10)])

    def loop():
        try:
            asyncio.run(some())
        except Exception as error:  # noqa: BLE001  # whatever a thread died of is shown
            failures.append(error)

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(slots) == 30
    assert min(gaps(slots)) > 0.0051 - 1e-4


async def test_rates_with_different_names_are_independent(url):
    async with (
        RateLimiter(url, per_second=0.01, name="a", sleep=NoSleep()) as a,
        RateLimiter(url, per_second=0.01, name="b", sleep=NoSleep()) as b,
    ):
        assert abs(await a.acquire() - await b.acquire()) < 50


async def test_a_cancelled_wait_leaves_the_limiter_usable(url):
    async with RateLimiter(url, per_second=20) as limiter:
        for _ in range(5):
            task = asyncio.create_task(limiter.acquire())
            await asyncio.sleep(0.003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await limiter.acquire()


async def test_a_broken_connection_is_reopened(url):
    async with RateLimiter(url, per_second=100) as limiter:
        first = await limiter.acquire()
        mine = limiter._connection.info.backend_pid
        row(url, f"select pg_terminate_backend({mine})")
        assert await limiter.acquire() - first > 0.0101
        assert limiter._connection.info.backend_pid != mine


async def test_a_closed_limiter_reopens(url):
    limiter = RateLimiter(url, per_second=100)
    await limiter.acquire()
    await limiter.close()
    await limiter.close()
    async with limiter:
        await limiter.acquire()


async def test_without_a_database_there_is_no_permit(url):
    parts = urlsplit(url)
    nowhere = parts._replace(path="/no_such_database").geturl()
    sleep = NoSleep()
    async with RateLimiter(nowhere, per_second=100, sleep=sleep) as limiter:
        with pytest.raises(DatabaseUnavailable) as caught:
            await limiter.acquire()
        with pytest.raises(DatabaseUnavailable):
            await limiter.push_back(1)
    assert sleep.slept == [*RECONNECT_PAUSES, *RECONNECT_PAUSES]
    assert not parts.password or parts.password not in str(caught.value)


async def test_a_missing_table_is_a_sentence_with_the_command_to_run(url):
    elsewhere = make_conninfo(url, options="-csearch_path=elsewhere")
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute("create schema elsewhere")
        try:
            async with RateLimiter(elsewhere, per_second=100) as limiter:
                with pytest.raises(SchemaBehind, match="run `backfill db upgrade`"):
                    await limiter.acquire()
                connection.execute("create table rate_limit (name text primary key)")
                with pytest.raises(SchemaBehind):
                    await limiter.push_back(1)
                connection.execute("drop table rate_limit")
                connection.execute("create table rate_limit (name int, next_at text, gen int)")
                with pytest.raises(StoreError, match="cannot be used"):
                    await limiter.acquire()
        finally:
            connection.execute("drop schema elsewhere cascade")


@pytest.mark.parametrize(
    ("rate", "margin"), [(0, 0.02), (-1, 0.02), (float("nan"), 0), (float("inf"), 0), (1, -0.1), (1, 1)]
)
def test_an_invalid_rate_is_rejected(rate, margin):
    with pytest.raises(ValueError, match="per_second"):
        RateLimiter("postgresql://", per_second=rate, margin=margin)


def test_a_restart_of_the_server_loses_no_permit(tmp_path):
    server = EmbeddedPostgres(tmp_path, extra_configuration={"shared_buffers": "8MB"})
    url = server.url()
    try:
        schema.upgrade(url)
        before, after = asyncio.run(_across_a_restart(url, server))
    finally:
        server.stop()
    assert len(before + after) == 7
    assert min(gaps(before + after)) > 0.204 - 1e-4  # above all, the permit held meanwhile was not given out again


async def _across_a_restart(url, server):
    async with RateLimiter(url, per_second=5) as limiter:
        before = [await limiter.acquire() for _ in range(3)]
        held = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.02)

        def restart():
            server.stop()
            assert server.url() == url

        await asyncio.to_thread(restart)
        return before, [await held, *[await limiter.acquire() for _ in range(3)]]
