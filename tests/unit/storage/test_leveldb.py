"""What only LevelDB can do: survive a crash, be locked, missing, damaged, forbidden or out of space."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from astralink_node.storage.leveldb import open_leveldb, storage_error
from astralink_node.storage.store import (
    DatabaseDamaged,
    DatabaseForbidden,
    DatabaseLocked,
    DatabaseMissing,
    DiskFull,
    StorageError,
    StoreFailed,
)
from tests.support.file_limits import limited_file_size

_HOLDER = """
import os, pathlib, sys
from astralink_node.storage.leveldb import open_leveldb
store = open_leveldb(pathlib.Path(sys.argv[1]), create=True)
for number in range(int(sys.argv[2])):
    store.write({b"%d" % number: b"value" * 100}, sync=False)
print("ready", flush=True)
sys.stdin.read()
"""


def _start_holder(path: Path, batches: int = 0) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path), str(batches)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    return holder


def _kill(holder: subprocess.Popen[bytes]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.communicate()


def _filled(path: Path) -> Path:
    store = open_leveldb(path, create=True)
    for number in range(50):
        store.write({b"%02d" % number: os.urandom(3000)}, sync=True)
    store.close()
    return path


def test_batches_survive_closing_and_opening_again(tmp_path: Path) -> None:
    store = open_leveldb(tmp_path / "chain", create=True)
    store.write({b"a": b"1"}, sync=True)
    store.close()
    store.close()
    store = open_leveldb(tmp_path / "chain", create=False)
    assert store.get(b"a") == b"1"
    store.close()


def test_missing_database_is_reported_and_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match=r"there is no database at .*absent"):
        open_leveldb(tmp_path / "absent", create=False)
    assert list(tmp_path.iterdir()) == []


def test_second_open_in_one_process_is_refused_and_leaves_the_lock_in_place(tmp_path: Path) -> None:
    store = open_leveldb(tmp_path, create=True)
    with pytest.raises(DatabaseLocked):
        open_leveldb(tmp_path, create=True)
    attempt = "import pathlib, sys; from astralink_node.storage.leveldb import open_leveldb; "
    attempt += "open_leveldb(pathlib.Path(sys.argv[1]), create=False)"
    other = subprocess.run([sys.executable, "-c", attempt, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "DatabaseLocked" in other.stderr
    store.close()
    open_leveldb(tmp_path, create=False).close()


def test_killed_holder_leaves_its_batches_and_no_lock(tmp_path: Path) -> None:
    holder = _start_holder(tmp_path / "chain", batches=500)
    with pytest.raises(DatabaseLocked, match="open already"):
        open_leveldb(tmp_path / "chain", create=False)
    _kill(holder)
    store = open_leveldb(tmp_path / "chain", create=False)
    assert sum(1 for _ in store.iterate(b"", b"\xff")) == 500
    store.close()


def test_log_cut_at_any_byte_loses_whole_batches_from_the_end_only(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    store = open_leveldb(origin, create=True)
    for number in range(20):
        store.write({b"%02d" % number: b"x" * 40, b"head": b"%02d" % number}, sync=True)
    store.close()
    (log,) = origin.glob("*.log")
    content = log.read_bytes()
    for length in range(0, len(content), 37):
        copy = tmp_path / "copy"
        shutil.copytree(origin, copy)
        (copy / log.name).write_bytes(content[:length])
        store = open_leveldb(copy, create=False)
        entries = dict(store.iterate(b"", b"\xff"))
        store.close()
        shutil.rmtree(copy)
        kept = len(entries) - 1 if entries else 0
        assert sorted(entries)[:kept] == [b"%02d" % number for number in range(kept)]
        assert entries.get(b"head") == (b"%02d" % (kept - 1) if kept else None)


def test_flipped_bit_in_the_log_is_damage_and_not_a_shorter_history(tmp_path: Path) -> None:
    (log,) = _filled(tmp_path).glob("*.log")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="checksum"):
        open_leveldb(tmp_path, create=False)


def test_flipped_bit_in_a_table_is_damage_when_it_is_read(tmp_path: Path) -> None:
    store = open_leveldb(_filled(tmp_path), create=False)
    store.compact()
    store.close()
    table = next(tmp_path.glob("*.ldb"))
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    store = open_leveldb(tmp_path, create=False)
    with pytest.raises(DatabaseDamaged, match="checksum"):
        list(store.iterate(b"", b"\xff"))
    with pytest.raises(DatabaseDamaged, match="checksum"):
        [store.get(b"%02d" % number) for number in range(50)]
    store.close()


def test_lost_table_is_damage(tmp_path: Path) -> None:
    store = open_leveldb(_filled(tmp_path), create=False)
    store.compact()
    store.close()
    next(tmp_path.glob("*.ldb")).unlink()
    with pytest.raises(DatabaseDamaged, match="missing"):
        open_leveldb(tmp_path, create=False)


@pytest.mark.parametrize("create", [False, True])
def test_lost_root_file_is_damage_and_never_a_fresh_database(tmp_path: Path, create: bool) -> None:
    (_filled(tmp_path) / "CURRENT").unlink()
    with pytest.raises(DatabaseDamaged, match="CURRENT"):
        open_leveldb(tmp_path, create=create)


def test_file_in_place_of_the_folder_is_reported_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "chain").write_text("not a folder")
    with pytest.raises(StorageError, match="chain"):
        open_leveldb(tmp_path / "chain", create=True)


def test_write_after_a_failed_write_is_refused_and_what_was_synced_is_safe(tmp_path: Path) -> None:
    store = open_leveldb(tmp_path, create=True)
    store.write({b"a": b"1"}, sync=True)
    with limited_file_size(64 << 10), pytest.raises(StorageError, match="File too large"):
        store.write({b"b": bytes(256 << 10)}, sync=True)
    with pytest.raises(StoreFailed, match="File too large"):
        store.write({b"c": b"3"}, sync=True)
    assert (store.get(b"a"), store.get(b"b"), store.get(b"c")) == (b"1", None, None)
    store.close()
    store = open_leveldb(tmp_path, create=False)
    assert (store.get(b"a"), store.get(b"b"), store.get(b"c")) == (b"1", None, None)
    store.write({b"c": b"3"}, sync=True)
    store.close()


@pytest.mark.parametrize(
    ("reported", "kind"),
    [
        (plyvel.IOError(b"IO error: /d/000003.log: No space left on device"), DiskFull),
        (plyvel.IOError(b"IO error: /d/000003.log: Disk quota exceeded"), DiskFull),
        (plyvel.IOError(b"IO error: lock /d/LOCK: already held by process"), DatabaseLocked),
        (plyvel.IOError(b"IO error: lock /d/LOCK: Resource temporarily unavailable"), DatabaseLocked),
        (plyvel.IOError(b"IO error: /d/LOCK: Permission denied"), DatabaseForbidden),
        (plyvel.IOError(b"IO error: /d/MANIFEST-000002: Permission denied"), DatabaseForbidden),
        (plyvel.IOError(b"IO error: /d/000005.ldb: Read-only file system"), DatabaseForbidden),
        (PermissionError(13, "Permission denied", "/d"), DatabaseForbidden),
        (plyvel.CorruptionError(b"Corruption: checksum mismatch"), DatabaseDamaged),
        (plyvel.IOError(b"IO error: /d/MANIFEST-000002: No such file or directory"), DatabaseDamaged),
        (plyvel.IOError(b"IO error: /d/000003.log: Input/output error"), StorageError),
    ],
)
def test_cause_is_told_from_what_was_reported(reported: Exception, kind: type[StorageError], tmp_path: Path) -> None:
    error = storage_error(reported, tmp_path)
    assert type(error) is kind
    assert str(tmp_path) in str(error)
