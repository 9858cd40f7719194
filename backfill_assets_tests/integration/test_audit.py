"""`make audit`: message and exit code for each outcome of pip-audit."""

import os
import subprocess

import pytest

from backfill_assets_tests.support import PROJECT

SKIPPED = "ERROR:pip_audit._cli:aiohttp: Dependency not found on PyPI and could not be audited: aiohttp (3.14.5)"
TABLE = "Name Version ID Fix Versions\\nurllib3 1.0 PYSEC-2000-1 1.1"


@pytest.fixture
def audit(tmp_path):
    """Run the script with a stand-in for pip-audit that records its arguments and runs a line of shell."""

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


def test_without_a_known_vulnerability_the_number_of_versions_is_printed(audit, tmp_path):
    done = audit("exit 0")
    pinned = (PROJECT / "constraints.txt").read_text().count("==")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"No known vulnerability in the {pinned} versions in constraints.txt.\n"
    given = (tmp_path / "given").read_text().split()
    assert "--strict" in given, "an unknown package must not count as safe"
    assert given[given.index("--requirement") + 1] == "constraints.txt"


def test_known_vulnerabilities_are_printed_with_what_to_do(audit):
    done = audit(f'printf "{TABLE}" > "$out"; echo "Found 1 known vulnerability" >&2; exit 1')
    assert done.returncode == 1
    assert "PYSEC-2000-1" in done.stdout
    assert done.stderr.startswith("Raise the versions named above in constraints.txt")


@pytest.mark.parametrize("reason", [SKIPPED, "requests.exceptions.ConnectionError: no route"])
def test_a_service_that_does_not_answer_is_not_a_pass(audit, reason):
    done = audit(f'echo "Traceback" >&2; echo "{reason}" >&2; exit 1')
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"The dependencies were not audited: no answer from PyPI's advisories ({reason}). "
        "Try again with access to pypi.org.\n"
    )
