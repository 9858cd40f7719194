"""What a command loads before it does its work."""

import subprocess
import sys


def test_no_dagster_is_loaded_before_it_is_needed():
    """plan, status, gaps and report never need it; run and repair plan, and send the first requests, before they load it."""
    modules = ", ".join(f"backfill_assets.cli.{name}" for name in ("plan", "status", "gaps", "report", "run", "repair"))
    code = f"import sys, {modules}; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
