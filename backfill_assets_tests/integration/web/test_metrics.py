"""`/metrics`: its values, and in a real Prometheus with the rules and the dashboard of deploy/."""

import json
import re
import shutil
import subprocess
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backfill_assets_tests.integration.cli.test_status import LOST, THIN
from backfill_assets_tests.integration.web.conftest import serving
from backfill_assets_tests.integration.web.test_health import beat
from backfill_assets_tests.support import PROJECT, unused_port

DEPLOY = PROJECT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "backfill.json").read_text(encoding="utf-8"))
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
NAME = re.compile(r"\bbackfill_[a-z_]+\b")


def metrics(client):
    """The samples by name, and by the values of their labels in the order of the labels' names."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = {}
    for family in families:
        found.setdefault(family.name, {})
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


@pytest.fixture
def filled(backfilled_except):
    backfill = backfilled_except(LOST, THIN)
    beat(backfill, 5)
    return backfill


def test_the_values_are_those_of_the_commands(filled):
    status = json.loads(filled("status", "--json").out)
    with serving() as client:
        found = metrics(client)
    assert found["backfill_database_up"] == found["backfill_daemon_up"] == {(): 1}
    for timeframe in ("1m", "1d"):
        series = [s for s in status["series"] if (s["market"], s["timeframe"]) == ("stocks", timeframe)]
        for state in ("expected", "complete", "partial", "missing"):
            expected = sum(s[f"{state}_sessions"] for s in series)
            assert found["backfill_sessions"]["stocks", state, timeframe] == expected
    assert found["backfill_open_gaps"] == {
        ("stocks", "missing"): 7,
        ("stocks", "partial"): 0,
        ("crypto", "missing"): 0,
        ("crypto", "partial"): 6,
    }
    runs = json.loads(filled("report", "--json").out)["runs"]
    assert found["backfill_requests_total"] == {(r["kind"], r["market"]): r["requests"] for r in runs}
    assert found["backfill_rows_written_total"] == {(r["kind"], r["market"]): r["bars_written"] for r in runs}
    assert found["backfill_runs_total"] == {(r["kind"], r["market"], "succeeded"): 1 for r in runs}
    assert found["backfill_failed_checks"][("warning",)] == 8
    assert found["backfill_source_limit_requests_per_second"] == {("polygon",): 500}


def test_the_rules_and_the_dashboard_use_metrics_that_there_are(filled):
    filled("status")
    with serving() as client:
        known = metrics(client)
    rules = (DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    used = set(NAME.findall(" ".join([*re.findall(r"expr: (.*)", rules), *EXPRESSIONS]))) - {"backfill_assets"}
    assert used - known.keys() == set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.usefixtures("bare_backfill")
def test_without_a_database_the_metrics_say_so():
    with serving() as client:
        found = metrics(client)
    assert (found["backfill_database_up"], found["backfill_daemon_up"]) == ({(): 0}, {(): 0})
    assert "backfill_sessions" not in found


@pytest.mark.skipif(not PROMETHEUS, reason="Debian's package prometheus is not installed")
def test_prometheus_scrapes_the_metrics_and_accepts_rules_and_queries(filled, tmp_path):
    filled("status")
    with serving() as client:
        page = client.get("/metrics").text
        linted = subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
        shutil.copy(DEPLOY / "prometheus" / "rules.yml", tmp_path)
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        text = text.replace("127.0.0.1:3001", f"127.0.0.1:{client.base_url.port}").replace("1m", "1s", 1)
        config = tmp_path / "prometheus.yml"
        config.write_text(text.replace("scrape_timeout: 30s", "scrape_timeout: 1s"), encoding="utf-8")
        subprocess.run([PROMTOOL, "check", "config", config], capture_output=True, check=True)
        port = unused_port()
        command = [
            *(PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
        ]
        with (
            subprocess.Popen(command, cwd=tmp_path) as prometheus,
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}/api/v1/", transport=httpx.HTTPTransport(retries=8)
            ) as server,
        ):
            try:
                deadline = time.monotonic() + 60
                while not result(server, "backfill_daemon_up == 1") and time.monotonic() < deadline:
                    time.sleep(0.2)
                assert result(server, 'up{job="backfill_assets"}')[0]["value"][1] == "1"
                for expression in EXPRESSIONS:
                    result(server, expression)
                names = [
                    rule["name"] for group in server.get("rules").json()["data"]["groups"] for rule in group["rules"]
                ]
                assert "BackfillDaemonDown" in names
            finally:
                prometheus.terminate()


def result(server, expression):
    reply = server.get("query", params={"query": expression}).json()
    assert reply["status"] == "success", (expression, reply)
    return reply["data"]["result"]
