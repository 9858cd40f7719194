"""What a command loads before it does its work."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["plan", "status", "gaps", "report", "run", "repair"])
def test_no_dagster_is_loaded_before_it_is_needed(command):
    """The first four never need it; the others plan, and send the first requests, before they load it."""
    code = f"import sys; import backfill_assets.cli.{command}; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
