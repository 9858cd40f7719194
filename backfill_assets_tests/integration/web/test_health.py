"""`/healthz`, `/readyz` and `backfill healthcheck`: the database, the tables, the daemon's heartbeat."""

import shutil
import subprocess
import sys

import httpx
import psycopg
import pytest
import yaml
from dagster._daemon.types import DaemonHeartbeat

from backfill_assets.deployment.health import DAEMON_SECONDS
from backfill_assets.deployment.services import STATUS_PAGE
from backfill_assets_tests.integration.web.conftest import serving
from backfill_assets_tests.support import PROJECT, unused_port


def beat(backfill, seconds_ago):
    """Record heartbeats of the daemon's threads, as it does itself; the newest one is so old."""
    now = backfill.rows("select extract(epoch from clock_timestamp())::float8")[0][0]
    with backfill.instance() as instance:
        for thread, earlier in (("SENSOR", 0), ("SCHEDULER", 25)):
            instance.add_daemon_heartbeat(DaemonHeartbeat(now - seconds_ago - earlier, thread, "this"))


def test_a_daemon_that_was_killed_40_seconds_ago_is_seen(closed_markets, client):
    """A daemon sends a heartbeat every 30 seconds: when it was killed, the last one was up to so old."""
    assert closed_markets("healthcheck").out.startswith("The Dagster daemon has never run: ")
    for age, code, words in (
        (5, 0, "The database accepts connections, the daemon was seen "),
        (32, 0, "The database accepts connections, the daemon was seen "),
        (DAEMON_SECONDS, 1, "The Dagster daemon is down, last seen 4"),
    ):
        beat(closed_markets, age)
        result = closed_markets("healthcheck")
        ready = client.get("/readyz")
        assert (result.code, ready.status_code) == (code, 503 if code else 200)
        for line in (result.out, ready.text):
            assert line.startswith(words)
            assert line.count("\n") == 1
    assert client.get("/healthz").text == "The server is running.\n"


def test_a_missing_database_and_old_tables_are_one_line_without_secrets(bare_backfill):
    result = bare_backfill("healthcheck")
    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("PostgreSQL at 127.0.0.1:1/market cannot be used")
    with serving() as client:
        assert client.get("/healthz").status_code == 200
        assert (client.get("/readyz").status_code, client.get("/readyz").text) == (503, result.out)
    assert "pa55word" not in result.out


def test_tables_of_another_revision_are_not_ready(backfill):
    with psycopg.connect(backfill.database_url) as connection:
        connection.execute("update backfill_schema_version set version_num = '0001'")
    result = backfill("healthcheck")
    assert result.code == 1
    assert result.out.startswith("The market tables are at revision 0001, the code needs ")


def test_the_health_of_a_server_is_its_answer(closed_markets, client):
    page = closed_markets("healthcheck", "--url", f"{client.base_url}/healthz")
    assert (page.code, page.out) == (0, f"{client.base_url}/healthz answers with 200.\n")
    assert closed_markets("healthcheck", "--url", f"{client.base_url}/nothing").code == 1
    nobody = f"http://127.0.0.1:{unused_port()}/"
    assert closed_markets("healthcheck", "--url", nobody).out == f"{nobody[:-1]} does not answer (ConnectError).\n"
    assert closed_markets("healthcheck", "--url", "ftp://x").code == 2


def test_only_requests_of_own_pages_and_programs_pass_and_errors_are_problem_documents(client):
    for path in ("/healthz", "/readyz", "/nothing"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 421
        assert client.get(path, headers={"origin": "http://evil.example"}).status_code == 403
        reply = client.get(path)
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")
    assert reply.json() == {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Not Found."}
    assert client.post("/healthz").json()["status"] == 405


@pytest.mark.usefixtures("closed_markets")
def test_the_program_serves_until_it_is_terminated():
    port = unused_port()
    with subprocess.Popen(
        [sys.executable, "-m", STATUS_PAGE, "127.0.0.1", str(port)], stderr=subprocess.PIPE, cwd=PROJECT
    ) as server:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            server.terminate()
            assert server.wait(30) in {0, -15}
            assert server.stderr.read() == b""
        finally:
            server.kill()


def test_every_service_of_compose_has_a_health_check_that_a_command_answers():
    compose = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    checked = {name: service.get("healthcheck", {}).get("test") for name, service in compose["services"].items()}
    assert [name for name, test in checked.items() if not test] == ["upgrade"]  # it ends
    for name in ("daemon", "ui", "viewer", "status"):
        assert checked[name][:3] == ["CMD", "backfill", "healthcheck"]


SYSTEMD_ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="systemd-analyze is not installed")
def test_the_systemd_unit_is_valid(tmp_path):
    unit = (PROJECT / "deploy" / "systemd" / "backfill.service").read_text(encoding="utf-8")
    assert "ExecStart=/srv/backfill/.venv/bin/backfill up\n" in unit
    path = tmp_path / "backfill.service"
    path.write_text(unit.replace("/srv/backfill/.venv/bin/backfill", "/bin/true"), encoding="utf-8")
    done = subprocess.run([SYSTEMD_ANALYZE, "verify", path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
