"""README and tutorial, word for word, on a clean clone: every command is run, and what the pages show is printed.

Takes minutes: a part of `make soak`. `-s` shows how long each command takes.
"""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from backfill_assets.simulator import Simulator
from backfill_assets_tests.support import PROJECT, SOAK

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(\$ )?(make|export|cp|rm|backfill|\.venv/bin/\w+|python3\.12) ")
NOT_RUN = re.compile(r"make test|(\.venv/bin/)?backfill up|python3\.12 -m venv|\.venv/bin/pip install")
"""The tests themselves; what runs until Ctrl-C, which other tests start; the way to install without `make`."""
EXAMPLE = "backfill status"
"""Shows gaps that the simulator does not have: only the names of its columns are compared."""
SECONDS = 240


class Reader:
    """Someone who types what a page says, in one shell: what is exported stays."""

    def __init__(self, folder, variables):
        self.folder, self.variables, self.state = folder, variables, folder / ".git" / "exported"
        self.state.touch()

    def type(self, command, text=None):
        """Run a command, with a key where the page leaves it out; return what it prints on both streams."""
        command = command.replace("API_KEY=…", "API_KEY=a-key-for-tests")
        started = time.monotonic()
        done = subprocess.run(
            ["/bin/bash", "-c", f". {self.state}; {command}\ncode=$?; export -p > {self.state}; exit $code"],
            cwd=self.folder,
            env=self.variables,
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        sys.stdout.write(f"{time.monotonic() - started:6.1f} s  {command.splitlines()[0]}\n")
        assert done.returncode in (0, 3), f"{command}\n{done.stdout}"  # 3: days are missing
        return done.stdout


def form(line):
    """A line without its numbers, days and times, which differ each time."""
    line = re.sub(r"[\d,.:]*\d[\d,.:]*", "#", line)
    return " ".join(re.sub(r"\bin # \w+|\bnow\b", "soon", line).split())


def compare(command, shown, printed):
    """Assert that each line that a page shows is printed, but for numbers."""
    lines = {form(line) for line in printed.splitlines()}
    shown = [line for line in shown if line.strip() and "…" not in line]
    if command == EXAMPLE:
        shown = [line for line in shown if line.startswith("symbol")]
    assert [line for line in shown if form(line) not in lines] == [], f"{command}\n{printed}"


def follow(page, reader):
    """Run all blocks of a page."""
    blocks = [(language, textwrap.dedent(text)) for _, language, text in BLOCK.findall(page)]
    command, printed = "", ""
    for (language, text), (following, query) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        lines = text.splitlines()
        if language == "python":
            command = "python"
            script = reader.folder / ".git" / "block.py"
            script.write_text(text, encoding="utf-8")
            printed = reader.type(f".venv/bin/python {script}")
        elif language:
            continue
        elif lines[0].startswith("$ "):
            command = lines[0].removeprefix("$ ")
            if not NOT_RUN.match(command):
                printed = reader.type(command)
                compare(command, lines[1:], printed)
        elif COMMAND.match(lines[0]):
            for command in lines:  # the last one is the one whose output may be shown next
                if not NOT_RUN.match(command):
                    printed = reader.type(command, query if following == "sql" else None)
        else:
            compare(command, lines, printed)


@pytest.mark.skipif(not SOAK, reason="part of `make soak`")
@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_a_page_is_followed_on_a_clean_clone(tmp_path, name):
    folder = tmp_path / "clone"
    subprocess.run(["/usr/bin/env", "git", "clone", "--quiet", PROJECT, folder], check=True)
    environment = folder / ".venv"
    environment.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (environment / part).symlink_to(Path(sys.prefix) / part)
    (environment / "ready").touch()  # installed: the tests' own environment
    ours = ("DAGSTER_", "BACKFILL_", "ALERT_", "DAGIT_", "POLYGON_", "DATABASE_", "PG", "PYTEST")
    with Simulator() as simulator:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "POLYGON_BASE_URL": simulator.url,
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "MPLBACKEND": "Agg",
        }
        reader = Reader(folder, variables)
        try:
            follow((PROJECT / name).read_text(encoding="utf-8"), reader)
        finally:
            for stop in ("backfill db stop", "backfill db stop --demo"):
                if environment.exists():
                    subprocess.run(["/bin/bash", "-c", stop], cwd=folder, env=variables, check=False)
    assert name == "README.md" or not (folder / ".demo").exists()
