"""Private folders and files under different umasks."""

import os
import stat
from pathlib import Path

import pytest

from backfill_assets.adapters.embedded_postgres.privileges import require_owner
from backfill_assets.adapters.private_files import (
    make_data_folder,
    make_private_folder,
    open_private,
    write_private,
)
from backfill_assets.cli.output import write_file
from backfill_assets.deployment.environment import BATCH_SIZE, NUMBA_CACHE, set_defaults
from backfill_assets.domain.errors import EmbeddedServerError, SettingMistake, UsageMistake

PARENT = 0o711 if os.geteuid() == 0 else 0o700
"""For root, `nobody` must be able to traverse the parents, since the embedded server may run as that user."""


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct, autouse=True)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_private_and_its_new_parents_can_be_traversed_at_most(tmp_path):
    folder = make_private_folder(tmp_path / "a" / "b" / "c")
    assert [mode(p) for p in (folder, folder.parent, folder.parent.parent)] == [0o700, PARENT, PARENT]


def test_an_existing_folder_becomes_private_and_existing_parents_stay(tmp_path):
    folder = tmp_path / "data" / "logs"
    folder.parent.mkdir()
    folder.parent.chmod(0o755)
    folder.mkdir()
    folder.chmod(0o777)
    assert make_private_folder(folder) == folder
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o755)
    assert mode(make_data_folder(folder.parent)) == 0o755


def test_a_file_in_place_of_a_folder_is_an_os_error(tmp_path):
    write_private(tmp_path / "file", b"")
    for make in (make_private_folder, make_data_folder):
        with pytest.raises(FileExistsError):
            make(tmp_path / "file")


def test_new_and_existing_files_become_private(tmp_path):
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


def planted(path, kind, owner):
    """Make what another user may put into a folder that both can write to, such as /tmp; return where a link leads."""
    target = path.with_name("target")
    if kind == "link":
        target.mkdir()
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("theirs")
        path.chmod(0o666)
    os.chown(path, owner, owner, follow_symlinks=False)
    return target


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_folder_that_another_user_planted_is_refused(tmp_path, monkeypatch, kind):
    target = planted(tmp_path / "numba", kind, 12345)
    with pytest.raises(SettingMistake, match=r"numba belongs to the user 12345: run as that user, or choose another"):
        make_private_folder(tmp_path / "numba")
    with pytest.raises(EmbeddedServerError, match="belongs to the user 12345"):
        require_owner(tmp_path / "numba")
    assert not target.exists() or not list(target.iterdir())
    for name in (NUMBA_CACHE, BATCH_SIZE):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    set_defaults()
    assert not os.environ[NUMBA_CACHE], "code would be loaded from it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "file"])
def test_a_file_that_another_user_planted_is_neither_written_nor_waited_for(tmp_path, kind):
    planted(tmp_path / ".page.html.part", kind, 12345)
    with pytest.raises(OSError, match=r"symbolic link|Is a directory|No such device|Operation not permitted"):
        write_private(tmp_path / ".page.html.part", b"ours")
    assert kind != "file" or (tmp_path / ".page.html.part").read_text() == "theirs"
    with pytest.raises(UsageMistake, match="cannot be written"):
        write_file(tmp_path / "page.html", "ours", "--html")


def test_ones_own_link_to_a_folder_of_ones_own_is_followed(tmp_path):
    planted(tmp_path / "data", "link", os.geteuid())
    assert make_private_folder(tmp_path / "data") == tmp_path / "data"
    assert mode(tmp_path / "target") == 0o700


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
