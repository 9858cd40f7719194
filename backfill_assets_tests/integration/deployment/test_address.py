"""The address of the Dagster UI: which ones are accepted, and whether it can be listened on."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.deployment.address import Address
from backfill_assets.domain.errors import SettingMistake, UsageMistake
from backfill_assets_tests.support import unused_port

EVERYWHERE = "0.0.0.0"  # noqa: S104  # parsed, never bound to


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("127.8.0.1", "http://127.8.0.1:3000"),
        ("localhost", "http://127.0.0.1:3000"),
        ("::1", "http://[::1]:3000"),
    ],
)
def test_loopback_needs_no_proxy(host, url):
    assert Address.parse(host, 3000, behind_proxy=False).url == url


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.7", "2001:db8::7"])
def test_an_address_that_other_machines_reach_needs_a_proxy(host):
    with pytest.raises(UsageMistake, match=r"is reachable from other machines, and .* no login.*--i-have-a-proxy"):
        Address.parse(host, 3000, behind_proxy=False)
    assert str(Address.parse(host, 3000, behind_proxy=True).host) == host


@given(st.ip_addresses())
def test_only_loopback_addresses_are_accepted_without_a_proxy(host):
    try:
        assert Address.parse(str(host), 3000, behind_proxy=False).host.is_loopback
    except UsageMistake:
        assert not host.is_loopback


@pytest.mark.parametrize(("host", "url"), [(EVERYWHERE, "http://127.0.0.1:80"), ("::", "http://[::1]:80")])
def test_the_url_of_all_addresses_is_that_of_loopback(host, url):
    assert Address.parse(host, 80, behind_proxy=True).url == url


@pytest.mark.parametrize("host", ["", "dagit.example", "127.0.0.1:3000", "256.1.1.1", "[::1]"])
def test_other_texts_are_refused(host):
    with pytest.raises(UsageMistake, match="is not an IP address"):
        Address.parse(host, 3000, behind_proxy=True)


def test_a_port_in_use_is_refused_and_a_free_one_is_not():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingMistake, match=rf"port {port} of 127\.0\.0\.1: Address already in use\. .* --port"):
            Address.parse("127.0.0.1", port, behind_proxy=False).require_free()
    Address.parse("127.0.0.1", unused_port(), behind_proxy=False).require_free()


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(SettingMistake, match=r"of 192\.0\.2\.7: Cannot assign requested address\. .* --host"):
        Address.parse("192.0.2.7", unused_port(), behind_proxy=True).require_free()
