"""Interrupts that meet the machinery of `import`: raised soon, and no lock of it stays taken."""

import signal
import subprocess
import sys

import pytest

from backfill_assets.cli import interrupting

MANY = 30
"""With Python's own handler the second or third one ends it."""

IMPORTING = f"""
import importlib, os, random, signal, sys, threading, time
from backfill_assets.cli import interrupting

interrupting.take([signal.SIGINT])
looks, wanted = 0, threading.Event()

def another_thread():
    global looks
    while True:
        try:
            importlib.import_module("is_not_there")
        except ImportError:
            looks += 1

def interrupts():
    pause = random.Random(1)
    while True:
        wanted.wait()
        time.sleep(pause.random() * 0.004)
        wanted.clear()
        os.kill(os.getpid(), signal.SIGINT)

for work in (another_thread, interrupts):
    threading.Thread(target=work, daemon=True).start()
for number in range({MANY}):
    try:
        wanted.set()
        while True:
            for name in ("wave", "colorsys", "plistlib", "sched"):
                sys.modules.pop(name, None)
                importlib.import_module(name)
    except KeyboardInterrupt:
        before, deadline = looks, time.monotonic() + 20
        while looks == before:
            if time.monotonic() > deadline:
                print("the other thread waits for ever after", number, flush=True)
                os._exit(1)
            time.sleep(0.001)
print("all went on", flush=True)
os._exit(0)
"""


@pytest.fixture
def taken():
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    interrupting.take([signal.SIGINT, signal.SIGTERM])
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_it_is_raised_at_once_between_ordinary_steps(name):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(name)


def test_whenever_it_comes_other_threads_go_on_importing():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (0, "all went on\n"), done.stdout + done.stderr
