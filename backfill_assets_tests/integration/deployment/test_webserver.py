"""The webserver as a program, with options of `dagster-webserver`: the guard is in front of all that it serves."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
import yaml
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from backfill_assets.deployment.services import WEBSERVER
from backfill_assets.deployment.webserver import main
from backfill_assets_tests.support import PROJECT, unused_port

COMMAND = [sys.executable, "-m", WEBSERVER, "--empty-workspace", "--read-only", "-h", "127.0.0.1"]
PERMISSIONS = {"query": "{ permissions { permission value } }"}


@contextmanager
def serving(folder, url, *options):
    """Run a read-only webserver of its own records behind a proxy at `url`; yields its host and port."""
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    port = unused_port()
    variables = os.environ | {"DAGSTER_HOME": str(folder), "DAGSTER_UI_URL": url}
    command = [*COMMAND, *options, "-p", str(port)]
    with subprocess.Popen(command, env=variables, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            for line in process.stdout:
                if b"Serving dagster-webserver on" in line:
                    break
            yield f"127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.fixture
def webserver(tmp_path):
    """The base URL of a webserver behind a proxy at https://market.example.org/ui."""
    with serving(tmp_path, "https://market.example.org/ui", "--path-prefix", "/ui") as host:
        yield f"http://{host}/ui"


def test_the_guard_is_in_front_of_pages_graphql_files_and_websockets(webserver):
    host = webserver.removeprefix("http://").removesuffix("/ui")
    with httpx.Client(base_url=webserver, transport=httpx.HTTPTransport(retries=5)) as client:
        for path in ("", "/server_info", "/graphql", "/manifest.json", "/nothing", "/logs/no/thing.out"):
            reply = client.get(path, headers={"host": "evil.example"})
            assert (reply.status_code, reply.text.count("\n")) == (421, 1)
            assert client.get(path, headers={"origin": "http://evil.example"}).status_code == 403
            for own in (host, "market.example.org"):
                reply = client.get(path, headers={"host": own, "accept": "text/html"})
                assert reply.status_code in {200, 404}
                assert reply.headers["x-frame-options"] == "SAMEORIGIN"
                assert "frame-ancestors 'self'" in reply.headers["content-security-policy"]
        for headers in ({}, {"host": "market.example.org", "origin": "https://market.example.org"}):
            permissions = client.post("/graphql", json=PERMISSIONS, headers=headers).json()["data"]["permissions"]
            assert {"permission": "launch_pipeline_execution", "value": False} in permissions
        # Starlette's route also matches a path that ends with a line feed.
        assert {client.get(f"/graphql{end}", params=PERMISSIONS).status_code for end in ("", "%0A")} == {405}
        assert {client.post(f"/graphql{end}", params=PERMISSIONS).status_code for end in ("", "%0A")} == {415}
    address = f"ws://{host}/ui/graphql"
    with connect(address, origin=f"http://{host}", subprotocols=["graphql-ws"]) as socket:
        socket.send('{"type": "connection_init"}')
        assert "connection_ack" in socket.recv(timeout=30)
    for origin in ("http://evil.example", None):
        with pytest.raises(InvalidStatus, match="403"), connect(address, origin=origin, subprotocols=["graphql-ws"]):
            pass


def test_a_wrong_setting_is_reported_in_one_sentence(monkeypatch):
    monkeypatch.setenv("DAGSTER_UI_URL", "market.example.org")
    with pytest.raises(SystemExit, match=r"^DAGSTER_UI_URL \(or DAGIT_URL\) must be an address like https://[^\n]*$"):
        main()


@pytest.mark.parametrize(("service", "url"), [("ui", "https://${SITE:?}"), ("viewer", "https://view.${SITE:?}")])
def test_the_containers_behind_a_proxy_have_the_guard_and_their_address(service, url):
    compose = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    found = compose["services"][service]
    assert found["command"][:3] == ["python", "-m", WEBSERVER]
    assert url in found["environment"]["DAGSTER_UI_URL"]
