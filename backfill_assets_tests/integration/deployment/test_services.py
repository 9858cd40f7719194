"""Services that outlive their `backfill up`: which ones are ended. Ordinary processes stand in for Dagster's programs."""

import os
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from backfill_assets.adapters.processes import identity
from backfill_assets.deployment import services as module
from backfill_assets.deployment.services import STARTED_BY, Service, end_orphans, started_by_this_process

WAITS = "import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.read()"
RUNS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}, 'multiprocessing.spawn'])"
CODE, DAEMON = ("api", "grpc"), ("-m", "dagster._daemon", "run")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0)


@pytest.fixture
def killed(tmp_path):
    """The variables of services whose `backfill up` is gone."""
    mark = started_by_this_process(tmp_path)[STARTED_BY]
    return {STARTED_BY: mark.replace(identity(os.getpid()), identity(os.getpid()) + "0")}


@contextmanager
def program(variables, *arguments, code=WAITS):
    """A process with these variables and arguments, once it waits."""
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


def test_services_of_a_killed_one_are_ended_with_their_code(tmp_path, killed):
    with program(killed, *DAEMON) as daemon, program(killed, "code-server") as server, program(killed, *CODE) as code:
        assert end_orphans(tmp_path) == 2
        assert None not in (daemon.wait(20), server.wait(20), code.wait(20))
        assert end_orphans(tmp_path) == 0


def test_services_of_another_data_folder_or_machine_and_other_programs_go_on(tmp_path, killed):
    elsewhere = {STARTED_BY: f"elsewhere.example {killed[STARTED_BY].partition(' ')[2]}"}
    with (
        program({STARTED_BY: f"{killed[STARTED_BY]}-2"}, *DAEMON) as other_folder,
        program(elsewhere, *DAEMON) as other_machine,
        program({}, *DAEMON) as not_ours,
        program(killed, "postgres") as other_program,
    ):
        assert end_orphans(tmp_path) == 0
        assert {p.poll() for p in (other_folder, other_machine, not_ours, other_program)} == {None}


def test_services_of_one_that_runs_go_on(tmp_path, killed):
    with program({}) as starter:
        variables = {STARTED_BY: killed[STARTED_BY].replace(identity(os.getpid()) + "0", identity(starter.pid))}
        with program(variables, *DAEMON) as daemon, program(variables, *CODE) as code:
            assert end_orphans(tmp_path) == 0
            assert daemon.poll() is code.poll() is None
            starter.kill()
            starter.wait()
            assert end_orphans(tmp_path) == 1
            assert daemon.wait(20) is not None


def test_code_that_carries_out_a_run_goes_on_until_the_run_has_ended(tmp_path, killed):
    with program(killed, *CODE, code=RUNS) as code:
        (run,) = psutil.Process(code.pid).children()
        assert end_orphans(tmp_path) == 0
        assert code.poll() is None
        run.kill()
        assert code.wait(20) == 0


def test_a_stopped_service_leaves_no_code_behind(tmp_path):
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
