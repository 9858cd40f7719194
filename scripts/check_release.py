"""Check what a release would contain: build it, install it, list what it brings. `make check-release` runs this.

sdist and wheel hold the package's files that Git tracks, and nothing else; twine accepts them; the wheel works where only
constraints.txt and the package index are known; the CycloneDX SBOM of that installation names the versions of
constraints.txt. All three files are then in dist/. Tools and installation are in virtual environments that are removed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "backfill_assets"
BESIDE_THE_PACKAGE = {"LICENSE", "README.md", "pyproject.toml", "setup.py"}
"""Files of the project that an sdist needs to build a wheel."""
GENERATED = re.compile(r"PKG-INFO|setup\.cfg|backfill_assets\.egg-info/.*|backfill_assets-[^/]*\.dist-info/.*")
TOOLS = ("build>=1.2,<2", "twine>=6,<8", "cyclonedx-bom>=7,<8")


def tracked() -> set[str]:
    """Return the package's files that Git tracks."""
    return set(_run("git", "ls-files", PACKAGE, folder=PROJECT).splitlines())


def wheel_files(path: Path) -> set[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def sdist_files(path: Path) -> set[str]:
    """Return the names of the files in an sdist, below its one folder."""
    with tarfile.open(path) as archive:
        return {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}


def differences(found: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Return a sentence for each file that an archive has too much or too little."""
    found, expected = {name for name in found if not GENERATED.fullmatch(name)}, set(expected)
    surplus = [f"contains {name}, which is not a tracked file of the package" for name in sorted(found - expected)]
    return surplus + [f"does not contain {name}" for name in sorted(expected - found)]


def not_pinned(components: Iterable[dict[str, str]], constraints: str) -> list[str]:
    """Return a sentence for each component whose version is not the one in the constraints."""
    pins = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    pinned = {_normal(name): version.partition(";")[0].strip() for name, version in pins.items()}
    return [
        f"{each['name']} {each['version']}: constraints.txt has {pinned.get(_normal(each['name']), 'no version of it')}"
        for each in components
        if pinned.get(_normal(each["name"])) != each["version"]
    ]


def main() -> int:
    """Return the exit code: 0 if a release can be made, 1 with sentences if not."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tools = _environment(home / "tools", *TOOLS)
        _run(tools / "python", "-m", "build", "--outdir", home / "dist", PROJECT)
        (sdist,), (wheel,) = (home / "dist").glob("*.tar.gz"), (home / "dist").glob("*.whl")
        expected = tracked()
        wrong = [f"{wheel.name} {each}" for each in differences(wheel_files(wheel), expected)]
        wrong += [f"{sdist.name} {each}" for each in differences(sdist_files(sdist), expected | BESIDE_THE_PACKAGE)]
        _run(tools / "twine", "check", "--strict", sdist, wheel)

        runtime = _environment(home / "runtime", "-c", PROJECT / "constraints.txt", wheel)
        _run(runtime / "pip", "uninstall", "--yes", "pip")  # it brought the others and is not part of them
        _run(runtime / "backfill", "--help", folder=home)
        sbom = home / "dist" / "sbom.cdx.json"
        _run(
            tools / "cyclonedx-py", "environment", "--validate", "--output-reproducible", "-o", sbom, runtime / "python"
        )
        listed = [
            c for c in json.loads(sbom.read_text(encoding="utf-8"))["components"] if c["name"] != "backfill-assets"
        ]
        wrong += [f"{sbom.name}: {each}" for each in not_pinned(listed, (PROJECT / "constraints.txt").read_text())]
        installed = {path.name.partition("-")[0] for path in home.glob("runtime/lib/*/site-packages/*.dist-info")}
        if len(listed) != len(installed) - 1:
            wrong.append(
                f"{sbom.name}: lists {len(listed)} distributions beside the package, {len(installed) - 1} are there"
            )
        if wrong:
            sys.stderr.write("".join(f"{sentence}.\n" for sentence in wrong))
            return 1
        (PROJECT / "dist").mkdir(exist_ok=True)
        for path in (sdist, wheel, sbom):
            (PROJECT / "dist" / path.name).write_bytes(path.read_bytes())
    sys.stdout.write(
        f"dist/ has {sdist.name}, {wheel.name}, and {sbom.name}, which lists {len(listed)} pinned versions.\n"
    )
    return 0


def _environment(folder: Path, *requirements: str | Path) -> Path:
    """Create a virtual environment with these distributions; return the folder of its programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    _run(programs / "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return programs


def _run(*command: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  # named above
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}`{' '.join(map(str, command))}` failed: no release was checked.")
    return done.stdout


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    raise SystemExit(main())
