"""A process is found again by its identity, whatever the machine's clock does meanwhile, and no other is taken for it."""

import os
import subprocess
import sys

import psutil
import pytest

from backfill_assets.adapters.processes import find, identity


def test_a_living_process_is_found() -> None:
    found = find(identity(os.getpid()))
    assert found is not None
    assert found.pid == os.getpid()


def test_a_step_of_the_clock_changes_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(os.getpid())
    first_boot = psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: first_boot + 1_000)
    assert identity(os.getpid()) == before


def test_a_name_with_brackets_and_spaces_is_read_right() -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) S 1 (b', 0, 0, 0); print('named', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        before = identity(process.pid)
        assert process.stdout.readline() == b"named\n"
        assert identity(process.pid) == before
        process.kill()


def test_a_gone_a_dead_and_another_process_are_not_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known = identity(process.pid)
        assert find(known + "0") is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        assert find(known) is None
    assert find(known) is None


@pytest.mark.parametrize("unreadable", ["", "?", "x@1", "-1@1", f"{2**70}@1", "1@1.00"])
def test_what_is_no_identity_is_nobodys(unreadable: str) -> None:
    assert find(unreadable) is None
