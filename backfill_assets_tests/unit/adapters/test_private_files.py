"""Folders and files for their owner only, under the most open umask and the most closed one."""

import os
import stat
from pathlib import Path

import pytest

from backfill_assets.adapters.private_files import data_folder, open_private, private_folder, write_private
from backfill_assets.cli.output import write_file
from backfill_assets.domain.errors import UsageMistake

WAY = 0o711 if os.geteuid() == 0 else 0o700
"""Of a folder that `nobody` may have to pass, as the embedded server runs as that user for root."""


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct, autouse=True)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_private_and_its_new_parents_are_no_more_than_passed_through(tmp_path):
    folder = private_folder(tmp_path / "a" / "b" / "c")
    assert [mode(p) for p in (folder, folder.parent, folder.parent.parent)] == [0o700, WAY, WAY]


def test_a_folder_of_ours_is_closed_and_a_parent_that_was_there_stays_as_it_is(tmp_path):
    folder = tmp_path / "data" / "logs"
    folder.parent.mkdir()
    folder.parent.chmod(0o755)
    folder.mkdir()
    folder.chmod(0o777)
    assert private_folder(folder) == folder
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o755)
    assert mode(data_folder(folder.parent)) == 0o755


def test_a_file_in_place_of_a_folder_is_an_os_error(tmp_path):
    write_private(tmp_path / "file", b"")
    for make in (private_folder, data_folder):
        with pytest.raises(FileExistsError):
            make(tmp_path / "file")


def test_a_file_is_private_also_where_it_was_open_to_all(tmp_path):
    for name in ("new", "old"):
        path = tmp_path / name
        if name == "old":
            path.touch()
            path.chmod(0o666)
        write_private(path, name.encode())
        assert (mode(path), path.read_text()) == (0o600, name)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        open_private(tmp_path / "link", os.O_WRONLY | os.O_CREAT)
    assert not (tmp_path / "elsewhere").exists()


def test_a_written_file_is_private_and_keeps_changed_permissions(tmp_path):
    path = tmp_path / "page.html"
    write_file(path, "one é", "--html")
    assert mode(path) == 0o600
    path.chmod(0o644)
    write_file(path, "two é", "--html")
    assert (mode(path), path.read_text(encoding="utf-8")) == (0o644, "two é")
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_path_is_one_sentence(tmp_path):
    with pytest.raises(UsageMistake, match=r"^--html '.*' cannot be written \(No such file or directory\)\.$"):
        write_file(tmp_path / "none" / "page.html", "", "--html")
    assert list(Path(tmp_path).iterdir()) == []
