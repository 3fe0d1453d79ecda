"""The data folder's lock and the private folder for sockets."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from astralink_node.services.data_folder import (
    DataFolder,
    FolderInUse,
    FolderLock,
    LockHolder,
    NotPrepared,
    UnsafeFolder,
    UnusableFolder,
    node_on,
    runtime_folder,
)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's, whatever pytest's own are called."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def test_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with FolderLock(folder), pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
        FolderLock(folder)
    with FolderLock(folder):
        assert folder.lock_file.read_text() == f"{os.getpid()}\n"


def test_the_lock_says_who_runs_and_where_it_answers_while_it_is_held(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert node_on(folder) is None
    with FolderLock(folder) as lock:
        assert node_on(folder) == LockHolder(str(os.getpid()), "")
        lock.note_url("http://127.0.0.1:18545")
        assert node_on(folder) == LockHolder(str(os.getpid()), "http://127.0.0.1:18545")
        with pytest.raises(FolderInUse, match=rf"\(process {os.getpid()}\)"):
            FolderLock(folder)
    assert node_on(folder) is None, "what the file says is over"
    with FolderLock(folder):
        assert node_on(folder) == LockHolder(str(os.getpid()), "")


@pytest.mark.parametrize(("text", "holder"), [("", ("unknown", "")), ("7\nhttp://127", ("7", ""))])
def test_a_lock_file_that_is_cut_short_says_less(tmp_path: Path, text: str, holder: tuple[str, str]) -> None:
    folder = DataFolder(tmp_path)
    with FolderLock(folder):
        folder.lock_file.write_text(text)
        assert node_on(folder) == LockHolder(*holder)


def test_sockets_get_a_private_short_and_empty_folder(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    folder = DataFolder(tmp_path / ("deep/" * 30))
    path = runtime_folder(folder)
    assert path.stat().st_mode & 0o777 == 0o700
    assert len(str(path / "execution.sock")) < 108
    (path / "left over").touch()
    assert list(runtime_folder(folder).iterdir()) == []
    assert runtime_folder(DataFolder(tmp_path / "other")) != path


def test_folder_that_others_may_open_is_refused(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    path = runtime_folder(DataFolder(tmp_path / "x"))
    path.chmod(0o755)
    with pytest.raises(UnsafeFolder, match="mode 700"):
        runtime_folder(DataFolder(tmp_path / "x"))


def test_link_in_place_of_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "astralink").symlink_to(tmp_path / "target")
    with pytest.raises(UnsafeFolder):
        runtime_folder(DataFolder(tmp_path / "x"))


def test_path_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(UnsafeFolder, match="too long"):
        runtime_folder(DataFolder(tmp_path / "x"))


def test_runtime_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "astralink").write_text("a file in its place")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(UnusableFolder, match="set XDG_RUNTIME_DIR"):
        runtime_folder(DataFolder(tmp_path / "x"))


def test_chain_whose_database_is_gone_is_told_apart_from_no_chain(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(NotPrepared, match="holds no chain: prepare it"):
        folder.check_prepared()
    folder.genesis_file.write_text("{}")
    with pytest.raises(NotPrepared, match=r"chain is missing, though .*genesis\.json says that there was a chain"):
        folder.check_prepared()
    folder.database.mkdir()
    with pytest.raises(NotPrepared, match="is missing, though"):
        folder.check_prepared()
