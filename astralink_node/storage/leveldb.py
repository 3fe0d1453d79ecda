"""The node's database: LevelDB, and the only importer of plyvel.

The database is open once at a time; its lock ends with the process that holds it, however that ends. Checks are
paranoid: a damaged file is an error when it is met, since a silently dropped batch would mean a wrong state. (The
price: a power failure on a file system that leaves zeros in the unsynced end of a file may make the database read
as damaged, until `cut_unwritten_end`. The end of the process never does.) After a failed write the state of
LevelDB's log is unknown, so the store refuses further writes until it is opened again.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final

import plyvel
from plyvel._plyvel import Iterator as LevelDbIterator
from plyvel._plyvel import Snapshot

from astralink_node.storage.log_tail import unwritten_record
from astralink_node.storage.store import (
    DatabaseDamaged,
    DatabaseForbidden,
    DatabaseLocked,
    DatabaseMissing,
    DiskFull,
    StorageError,
    StoreFailed,
)

_WRITE_BUFFER_BYTES: Final = 32 << 20
"""Kept in memory (twice while one is written out) before it becomes a file."""

_BLOCK_CACHE_BYTES: Final = 64 << 20
_MAX_OPEN_FILES: Final = 256
_LOCK_FILE: Final = "astralink.lock"
_LOCKED: Final = "the database at {path} is open already, in another process or in this one"

_BLOOM_BITS_PER_KEY: Final = 10
"""One read in a hundred of an absent key touches the disk."""


def open_leveldb(path: Path, *, create: bool) -> "LevelDbStore":
    """Open the database in the folder ``path``; ``create`` makes an empty one where there is none.

    Raises DatabaseMissing, DatabaseLocked, DatabaseDamaged, DatabaseForbidden or DiskFull.
    """
    lock = -1
    try:
        _check_folder(path, create=create)
        lock = _lock_folder(path)
        database = plyvel.DB(
            str(path),
            create_if_missing=create,
            paranoid_checks=True,
            write_buffer_size=_WRITE_BUFFER_BYTES,
            lru_cache_size=_BLOCK_CACHE_BYTES,
            max_open_files=_MAX_OPEN_FILES,
            bloom_filter_bits=_BLOOM_BITS_PER_KEY,
        )
    except (plyvel.Error, OSError) as error:
        if lock >= 0:
            os.close(lock)
        raise storage_error(error, path) from error
    return LevelDbStore(database, path, lock)


@dataclass(frozen=True, slots=True)
class CutLog:
    """A log that was cut, and the copy of it as it was."""

    log: Path
    copy: Path
    removed_bytes: int

    def undo(self) -> None:
        self.copy.replace(self.log)


def cut_unwritten_end(path: Path) -> CutLog | None:
    """Cut off what a power failure left of an unfinished write (storage.log_tail), in a database that does not open.

    None, and nothing is changed, where there is no such thing. Raises DatabaseLocked and what the disk refuses.
    """
    lock = _lock_folder(path)
    try:
        logs = sorted(path.glob("*.log"), key=lambda log: int(log.stem))
        content = logs[-1].read_bytes() if logs else b""
        record = unwritten_record(content)
        if record is None:
            return None
        copy = path.parent / f"{path.name}-{logs[-1].name}.damaged"
        _write_synced(copy, content)
        with logs[-1].open("r+b") as log:
            log.truncate(record)
            os.fsync(log.fileno())
        return CutLog(logs[-1], copy, len(content) - record)
    finally:
        os.close(lock)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _check_folder(path: Path, *, create: bool) -> None:
    """LevelDB would make a folder even when it finds nothing, and a new database over a broken one.

    A MANIFEST alone is what a creation that was interrupted leaves: LevelDB writes it before CURRENT, and the first
    file that can hold an entry after that.
    """
    if (path / "CURRENT").is_file():
        return
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if any(name.endswith((".ldb", ".sst", ".log")) for name in names):
        raise DatabaseDamaged(f"the database at {path} is damaged: its file CURRENT is missing")
    if not create:
        raise DatabaseMissing(f"there is no database at {path}")
    path.mkdir(parents=True, exist_ok=True)


def _lock_folder(path: Path) -> int:
    """Lock the folder ourselves, before LevelDB does: its own lock is a POSIX one, which a second attempt to open
    in the same process would silently release. Returns the file descriptor that holds the lock."""
    lock = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise DatabaseLocked(_LOCKED.format(path=path)) from error
    return lock


def storage_error(error: Exception, path: Path) -> StorageError:
    """The typed error for what plyvel or the operating system reported. LevelDB tells causes by text alone."""
    reported = error.args[0] if error.args else b""
    text = reported.decode(errors="replace") if isinstance(reported, bytes) else str(error)
    if _names(text, errno.ENOSPC) or _names(text, errno.EDQUOT):
        return DiskFull(f"the disk that holds the database at {path} is full: make room; committed blocks are safe")
    if "/LOCK: " in text or "already held by process" in text:
        if _names(text, errno.EACCES) or _names(text, errno.EROFS):
            return DatabaseForbidden(f"the database at {path} cannot be opened for writing: {text}")
        return DatabaseLocked(_LOCKED.format(path=path))
    if isinstance(error, plyvel.CorruptionError) or "Corruption" in text or _is_short_table(text):
        return DatabaseDamaged(f"the database at {path} is damaged: {text}")
    if _names(text, errno.EACCES) or _names(text, errno.EPERM) or _names(text, errno.EROFS):
        return DatabaseForbidden(f"the database at {path} cannot be opened for writing: {text}")
    if _names(text, errno.ENOENT):
        return DatabaseDamaged(f"the database at {path} is damaged, a file is missing: {text}")
    return StorageError(f"the database at {path} failed: {text}")


def _is_short_table(text: str) -> bool:
    """LevelDB maps its tables; a read beyond the end of one that was cut short is an invalid argument to it."""
    return (".ldb: " in text or ".sst: " in text) and _names(text, errno.EINVAL)


def _names(text: str, code: int) -> bool:
    return os.strerror(code) in text


class _LevelDbReader:
    """Reads of the database or of a snapshot, with typed errors."""

    __slots__ = ("_get", "_path", "_source")

    def __init__(self, source: plyvel.DB | Snapshot, path: Path) -> None:
        self._source = source
        # LevelDB checks a block's checksum only where asked to: a flipped bit in a balance must not be believed.
        self._get = partial(source.get, verify_checksums=True)
        self._path = path

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._get(key)
        except plyvel.Error as error:
            raise storage_error(error, self._path) from error

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The entries as they stand now, whatever is written while they are consumed."""
        if not reverse:
            return self._consume(self._source.iterator(start=start, stop=stop, verify_checksums=True))
        # plyvel 1.5.1 loses the only entry of a backward range when its key is exactly `start`, so start lower.
        entries = self._source.iterator(start=start[:-1], stop=stop, reverse=True, verify_checksums=True)
        return takewhile(lambda entry: entry[0] >= start, self._consume(entries))

    def _consume(self, entries: LevelDbIterator) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from entries
        except plyvel.Error as error:
            raise storage_error(error, self._path) from error
        finally:
            entries.close()


class LevelDbSnapshot(_LevelDbReader):
    """The database at one moment; pins it until closed."""

    __slots__ = ("_snapshot",)

    def __init__(self, snapshot: Snapshot, path: Path) -> None:
        super().__init__(snapshot, path)
        self._snapshot = snapshot

    def close(self) -> None:
        self._snapshot.close()


class LevelDbStore(_LevelDbReader):
    """See :class:`astralink_node.storage.store.Store`; made by :func:`open_leveldb`."""

    __slots__ = ("_database", "_failure", "_lock")

    def __init__(self, database: plyvel.DB, path: Path, lock: int) -> None:
        super().__init__(database, path)
        self._database = database
        self._lock = lock
        self._failure = ""

    def write(self, batch: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        if self._failure:
            raise StoreFailed(f"the database at {self._path} takes no writes after one failed: {self._failure}")
        entries = self._database.write_batch(sync=sync)
        put, delete = entries.put, entries.delete
        for key, value in batch.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            entries.write()
        except plyvel.Error as error:
            failure = storage_error(error, self._path)
            self._failure = str(failure)
            raise failure from error

    def snapshot(self) -> LevelDbSnapshot:
        return LevelDbSnapshot(self._database.snapshot(), self._path)

    def compact(self) -> None:
        try:
            self._database.compact_range()
        except plyvel.Error as error:
            raise storage_error(error, self._path) from error

    def approximate_bytes(self, start: bytes, stop: bytes) -> int:
        return self._database.approximate_size(start, stop)

    def close(self) -> None:
        """Release the lock. Closing again does nothing."""
        if not self._database.closed:
            self._database.close()
            os.close(self._lock)
