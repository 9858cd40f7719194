"""What Dagster's programs write to log files: no colour codes, no long lists, by the contract that the module relies on."""

import json
import os
import subprocess
import sys

import pytest

from backfill_assets.deployment import services
from backfill_assets.deployment.plain_logs import shortened
from backfill_assets.deployment.services import PLAIN_LOGS, LogStyle, Service
from backfill_assets.domain.errors import UsageMistake

PROGRAM = """
import logging, sys
from dagster._utils.log import configure_loggers
configure_loggers(formatter=sys.argv[1], log_level="INFO")
logger = logging.getLogger("dagster.daemon.BackfillDaemon")
logger.info("Targets of %s:\\n- stocks/ohlcv_1d: {%s}", "abc", ", ".join(f"2024-03-{i:02}|AAPL" for i in range(4000)))
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("It failed.")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_logs_of_dagster_are_plain_and_short(tmp_path, form):
    (tmp_path / "noisy.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", PLAIN_LOGS, "noisy", LogStyle.parse("info", form).format],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    text = done.stdout + done.stderr
    assert "\x1b" not in text
    assert "ZeroDivisionError" in text
    assert "(4,000 in all)" in text
    assert len(text) < 2500
    if form == "json":
        assert [json.loads(line)["level"] for line in text.splitlines()] == ["info", "error"]


def test_short_messages_stay_and_long_ones_say_how_long_they_were():
    assert shortened("as it is {1, 2}\nhere") == "as it is {1, 2}\nhere"
    assert shortened("x" * 501) == f"{'x' * 300} … (501 characters)"


def test_a_long_log_is_moved_aside_while_the_program_writes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "_MOST_LOG_BYTES", 20)
    writes = "import sys\nfor line in sys.stdin: sys.stdout.write(line); sys.stdout.flush()"
    service = Service("echo", (sys.executable, "-c", writes), tmp_path / "echo.log", dict(os.environ))
    with (
        service.log.open("ab") as output,
        subprocess.Popen(service.command, stdin=subprocess.PIPE, stdout=output, text=True) as program,
    ):
        for number in range(6):
            size = service.log.stat().st_size
            program.stdin.write(f"a line of the round {number}\n")
            program.stdin.flush()
            while service.log.stat().st_size == size:
                assert program.poll() is None
            service.rotate_log()
        program.stdin.close()
    kept = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert kept == {
        "echo.log": "",
        "echo.log.1": "a line of the round 5\n",
        "echo.log.2": "a line of the round 4\n",
        "echo.log.3": "a line of the round 3\n",
    }
    assert (tmp_path / "echo.log.1").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("level", "form"), [("loud", "text"), ("info", "xml"), ("", "")])
def test_an_unknown_level_or_format_is_refused(level, form):
    with pytest.raises(UsageMistake, match="must be"):
        LogStyle.parse(level, form)
