"""deploy/Caddyfile in Debian's Caddy, in front of the webserver: a login, and the guard behind it."""

import base64
import shutil
import ssl
import subprocess
from http import HTTPStatus

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from backfill_assets_tests.integration.deployment.test_webserver import PERMISSIONS, serving
from backfill_assets_tests.support import PROJECT, unused_port

CADDY = shutil.which("caddy")
PASSWORD = "a word for tests"  # noqa: S105  # of no account
SETTINGS = """{{
	admin off
	local_certs
	skip_install_trust
	http_port {http}
	https_port {https}
}}
"""


def caddy(*arguments):
    return subprocess.run([CADDY, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not CADDY, reason="Caddy is not installed")
def test_the_proxy_asks_for_a_login_and_the_webserver_refuses_pages_of_other_sites(tmp_path):
    site, port = "localhost", unused_port()
    host = f"{site}:{port}"
    own = f"https://{host}"
    with serving(tmp_path, own) as upstream:
        digest = caddy("hash-password", "--plaintext", PASSWORD)
        rules = (PROJECT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
        for service in ("ui", "viewer"):
            assert f"reverse_proxy {service}:3000\n" in rules
            rules = rules.replace(f"{service}:3000", upstream)
        if caddy("version").startswith(("2.6.", "v2.6.", "2.7.", "v2.7.")):
            rules = rules.replace("basic_auth", "basicauth")  # its name in Debian 12's
        (tmp_path / "Caddyfile").write_text(SETTINGS.format(http=unused_port(), https=port) + rules, encoding="utf-8")
        variables = {
            "HOME": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
            "SITE": site,
            "OPERATOR_HASH": digest,
            "VIEWER_HASH": digest,
        }
        command = [CADDY, "run", "--config", tmp_path / "Caddyfile"]
        with subprocess.Popen(command, env=variables, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as proxy:
            try:
                assert any("certificate obtained" in line and f'"{site}"' in line for line in proxy.stderr)
                trusted = ssl.create_default_context(cafile=tmp_path / "caddy" / "pki/authorities/local/root.crt")
                pages(own, trusted)
                websockets(own, trusted)
                status_page(own, trusted)
            finally:
                proxy.terminate()


def pages(own, trusted):
    # Caddy says that it has a certificate a moment before it uses it, and refuses connections until then.
    transport = httpx.HTTPTransport(verify=trusted, retries=8)
    with httpx.Client(base_url=own, transport=transport, timeout=60) as nobody:
        for path in ("/", "/graphql", "/server_info"):
            assert nobody.get(path).status_code == HTTPStatus.UNAUTHORIZED
    with httpx.Client(base_url=own, verify=trusted, auth=("operator", PASSWORD), timeout=60) as operator:
        page = operator.get("/", headers={"accept": "text/html"})
        assert (page.status_code, page.headers["x-frame-options"]) == (HTTPStatus.OK, "SAMEORIGIN")
        assert "data" in operator.post("/graphql", json=PERMISSIONS, headers={"origin": own}).json()
        # What the page of another site makes a browser send, with the login that it has kept.
        refused = [
            operator.post("/graphql", json=PERMISSIONS, headers={"origin": "https://evil.example"}),
            operator.post("/graphql", json=PERMISSIONS, headers={"sec-fetch-site": "cross-site"}),
            operator.post("/graphql", data=PERMISSIONS, headers={"origin": own}),
            operator.get("/graphql", params=PERMISSIONS),
            operator.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
        ]
        assert [reply.status_code for reply in refused] == [403, 403, 415, 405, 403]
        # A name that resolves to this server: Caddy has no site of that name, and passes nothing on.
        assert operator.get("/server_info", headers={"host": "evil.example"}).text == ""
        # X-Forwarded-Host does not replace Host.
        forged = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}
        assert operator.get("/server_info", headers=forged).status_code == HTTPStatus.OK


def status_page(own, trusted):
    host = own.removeprefix("https://")
    bearer = {"authorization": "Bearer x"}
    with httpx.Client(base_url=own, verify=trusted, timeout=60) as client:
        for path, headers, status in (
            ("/", {}, 401),
            ("/", bearer, 401),
            ("/metrics", bearer, 401),
            ("/api/v1/status", {}, 401),
            ("/api/../metrics", bearer, 401),
            ("/api/v1/status", bearer, 502),  # passed on to a server that is not there
        ):
            named = {"host": f"status.{host}", **headers}
            reply = client.get(path, headers=named, extensions={"sni_hostname": f"status.{host.partition(':')[0]}"})
            assert reply.status_code == status, (path, headers)


def websockets(own, trusted):
    address = f"{own.replace('https', 'wss')}/graphql"
    login = {"Authorization": f"Basic {base64.b64encode(f'operator:{PASSWORD}'.encode()).decode()}"}
    options = {"ssl": trusted, "subprotocols": ["graphql-ws"]}
    with connect(address, origin=own, additional_headers=login, **options) as socket:
        socket.send('{"type": "connection_init"}')
        assert "connection_ack" in socket.recv(timeout=30)
    for origin, headers, status in (("https://evil.example", login, 403), (None, login, 403), (own, {}, 401)):
        with pytest.raises(InvalidStatus, match=str(status)):
            connect(address, origin=origin, additional_headers=headers, **options)
