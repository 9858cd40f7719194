"""Services of `backfill up`: their address, and ending those left running. Ordinary processes stand in for Dagster's."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.adapters.processes import identity
from backfill_assets.deployment import services as module
from backfill_assets.deployment.services import STARTED_BY, Address, Service, end_orphans, started_by_this_process
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


WAITS = "import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.read()"
RUNS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}, 'multiprocessing.spawn'])"
CODE, DAEMON = ("api", "grpc"), ("-m", "dagster._daemon", "run")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0)


@pytest.fixture
def killed(tmp_path):
    """The variables of services whose `backfill up` has died."""
    mark = started_by_this_process(tmp_path)[STARTED_BY]
    return {STARTED_BY: mark.replace(identity(os.getpid()), identity(os.getpid()) + "0")}


@contextmanager
def program(variables, *arguments, code=WAITS):
    """Start a process with these variables and arguments, and wait until it is up."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            for child in psutil.Process(process.pid).children() if process.poll() is None else []:
                child.kill()
            process.kill()


def test_services_left_by_a_killed_up_command_are_ended_with_their_code(tmp_path, killed):
    with program(killed, *DAEMON) as daemon, program(killed, "code-server") as server, program(killed, *CODE) as code:
        assert end_orphans(tmp_path) == 2
        assert None not in (daemon.wait(20), server.wait(20), code.wait(20))
        assert end_orphans(tmp_path) == 0


def test_services_of_another_data_folder_or_machine_and_other_programs_are_left_running(tmp_path, killed):
    elsewhere = {STARTED_BY: f"elsewhere.example {killed[STARTED_BY].partition(' ')[2]}"}
    with (
        program({STARTED_BY: f"{killed[STARTED_BY]}-2"}, *DAEMON) as other_folder,
        program(elsewhere, *DAEMON) as other_machine,
        program({}, *DAEMON) as not_ours,
        program(killed, "postgres") as other_program,
    ):
        assert end_orphans(tmp_path) == 0
        assert {p.poll() for p in (other_folder, other_machine, not_ours, other_program)} == {None}


def test_services_of_a_running_up_command_are_left_running(tmp_path, killed):
    with program({}) as starter:
        variables = {STARTED_BY: killed[STARTED_BY].replace(identity(os.getpid()) + "0", identity(starter.pid))}
        with program(variables, *DAEMON) as daemon, program(variables, *CODE) as code:
            assert end_orphans(tmp_path) == 0
            assert daemon.poll() is code.poll() is None
            starter.kill()
            starter.wait()
            assert end_orphans(tmp_path) == 1
            assert daemon.wait(20) is not None


def test_code_that_executes_a_run_is_left_running_until_the_run_has_ended(tmp_path, killed):
    with program(killed, *CODE, code=RUNS) as code:
        (run,) = psutil.Process(code.pid).children()
        assert end_orphans(tmp_path) == 0
        assert code.poll() is None
        run.kill()
        assert code.wait(20) == 0


def test_stopping_a_service_leaves_no_code_process(tmp_path):
    variables = os.environ | started_by_this_process(tmp_path)
    starts_code = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()', {CODE[0]!r}, {CODE[1]!r}]); "
    )
    wait = "import time; time.sleep(60)"
    service = Service("code-server", [sys.executable, "-c", starts_code + wait], tmp_path / "log", variables)
    service.start()
    while not (children := service.process.children()):
        pass
    service.stop()
    assert service.process.poll() is not None
    end_orphans(tmp_path)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
