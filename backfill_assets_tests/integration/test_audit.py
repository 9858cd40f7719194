"""`make audit`: what is said of each way that pip-audit can end."""

import os
import subprocess

import pytest

from backfill_assets_tests.support import PROJECT

SKIPPED = "ERROR:pip_audit._cli:aiohttp: Dependency not found on PyPI and could not be audited: aiohttp (3.14.5)"
TABLE = "Name Version ID Fix Versions\\nurllib3 1.0 PYSEC-2000-1 1.1"


@pytest.fixture
def audit(tmp_path):
    """Run the script with a program in pip-audit's place that notes its arguments and carries out a line of shell."""

    def run(line):
        program = tmp_path / "pip-audit"
        program.write_text(f'#!/bin/sh\nfor given; do out=$given; done\necho "$*" > {tmp_path}/given\n{line}\n')
        program.chmod(0o755)
        return subprocess.run(
            [PROJECT / "scripts" / "audit"],
            env=os.environ | {"PIP_AUDIT": str(program)},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    return run


def test_nothing_known_is_said_with_the_number_of_versions(audit, tmp_path):
    done = audit("exit 0")
    pinned = (PROJECT / "constraints.txt").read_text().count("==")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"No vulnerability is known of the {pinned} versions in constraints.txt.\n"
    given = (tmp_path / "given").read_text().split()
    assert "--strict" in given, "a package that nothing is known of must not count as a good one"
    assert given[given.index("--requirement") + 1] == "constraints.txt"


def test_what_is_known_is_shown_with_what_to_do(audit):
    done = audit(f'printf "{TABLE}" > "$out"; echo "Found 1 known vulnerability" >&2; exit 1')
    assert done.returncode == 1
    assert "PYSEC-2000-1" in done.stdout
    assert done.stderr.startswith("Raise the versions named above in constraints.txt")


@pytest.mark.parametrize("reason", [SKIPPED, "requests.exceptions.ConnectionError: no route"])
def test_a_service_that_does_not_answer_is_no_good_news(audit, reason):
    done = audit(f'echo "Traceback" >&2; echo "{reason}" >&2; exit 1')
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"The dependencies were not audited: PyPI's advisories could not be asked ({reason}). "
        "Try where pypi.org is reached.\n"
    )
