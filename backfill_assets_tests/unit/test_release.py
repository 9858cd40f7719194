"""The comparisons of `make check-release`, which itself takes minutes: it builds and installs the package."""

import io
import tarfile
import zipfile

import pytest

from backfill_assets_tests.support import PROJECT, script

RELEASE = script("check_release")
TRACKED = {"backfill_assets/__init__.py", "backfill_assets/py.typed"}
CONSTRAINTS = "# made by pip freeze\nDagster_Postgres==0.29.27\nhttpx==0.28.1 ; python_version > '3'\n"


def test_an_archive_holds_what_git_tracks_and_nothing_else(tmp_path):
    names = {"backfill_assets/__init__.py", "backfill_assets/.env", "backfill_assets-0.1.dist-info/RECORD"}
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in names:
            wheel.writestr(name, b"")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as sdist:
        for name in ("PKG-INFO", "backfill_assets.egg-info/PKG-INFO", *names):
            sdist.addfile(tarfile.TarInfo(f"backfill_assets-0.1/{name}"), io.BytesIO())
    for found in (RELEASE.wheel_files(tmp_path / "a.whl"), RELEASE.sdist_files(tmp_path / "a.tar.gz")):
        assert RELEASE.differences(found, TRACKED) == [
            "contains backfill_assets/.env, which is not a tracked file of the package",
            "does not contain backfill_assets/py.typed",
        ]


@pytest.mark.parametrize(
    ("name", "version", "wrong"),
    [
        ("dagster-postgres", "0.29.27", []),
        ("httpx", "0.28.1", []),
        ("httpx", "0.28.2", ["httpx 0.28.2: constraints.txt has 0.28.1"]),
        ("leftpad", "1", ["leftpad 1: constraints.txt has no version of it"]),
    ],
)
def test_every_version_is_the_pinned_one(name, version, wrong):
    assert RELEASE.not_pinned([{"name": name, "version": version}], CONSTRAINTS) == wrong


def test_the_files_beside_the_package_exist():
    assert all((PROJECT / name).is_file() for name in RELEASE.BESIDE_THE_PACKAGE)
