"""An append-only log of records that are on disk before anything depends on them.

A record is its length (4 bytes, big-endian), a CRC-32 of length and body (4 bytes), and the body. The crash of a
process or a machine can only tear the end: opening keeps the records up to the first that is incomplete or fails
its checksum, cuts the rest off and says how many bytes that were. What a record means is the owner's business.
"""

import errno
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astralink_node.errors import EXIT_STORAGE, AstraLinkError
from astralink_node.storage.store import DiskFull

MAX_RECORD_BYTES: Final = 64 << 20
"""A longer record is a bug in the owner; a longer length in a file is damage."""

_HEAD_BYTES: Final = 8


class WalFailed(AstraLinkError):
    """The log could not be read or written; it takes no further records."""

    exit_code = EXIT_STORAGE


@dataclass(frozen=True, slots=True)
class Recovered:
    """What opening found."""

    records: tuple[bytes, ...]
    torn_bytes: int
    """Bytes after the last whole record, cut off; 0 after a clean end. The owner logs a warning."""


class WriteAheadLog:
    """One open log file. Opening recovers it; see :attr:`recovered`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._fail(error, "open") from error
        try:
            self.recovered = self._recover()
        except OSError as error:
            os.close(self._file)
            raise self._fail(error) from error

    def _recover(self) -> Recovered:
        content = self._path.read_bytes()
        records, end = decode_records(content)
        if end < len(content):
            os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        os.fsync(self._file)
        _sync_folder(self._path.parent)
        return Recovered(records, len(content) - end)

    def append(self, record: bytes) -> None:
        """Hand a record to the operating system. It survives a power failure only after :meth:`sync`."""
        if self._failed:
            raise WalFailed(f"the log {self._path} takes no records after a failed write")
        if len(record) > MAX_RECORD_BYTES:
            raise ValueError(f"a record of {len(record)} bytes is longer than {MAX_RECORD_BYTES}")
        rest = memoryview(encode_record(record))
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise self._fail(error) from error

    def sync(self) -> None:
        """Return when everything appended is on disk."""
        if self._failed:
            raise WalFailed(f"the log {self._path} takes no records after a failed write")
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._fail(error) from error

    def read_all(self) -> tuple[bytes, ...]:
        """Every record in the log, oldest first."""
        return decode_records(self._path.read_bytes())[0]

    def truncate(self) -> None:
        """Drop all records, durably."""
        try:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.fsync(self._file)
        except OSError as error:
            raise self._fail(error) from error

    def close(self) -> None:
        os.close(self._file)

    def _fail(self, error: OSError, doing: str = "write") -> AstraLinkError:
        """After a failed write or sync what the file holds is unknown: only opening it again tells."""
        self._failed = True
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(f"the disk that holds the log {self._path} is full: make room; committed blocks are safe")
        return WalFailed(f"cannot {doing} the log {self._path}: {error.strerror}")


def encode_record(record: bytes) -> bytes:
    length = len(record).to_bytes(4, "big")
    return length + zlib.crc32(record, zlib.crc32(length)).to_bytes(4, "big") + record


def decode_records(content: bytes) -> tuple[tuple[bytes, ...], int]:
    """The whole records at the start of ``content``, and where the last of them ends."""
    records: list[bytes] = []
    end = 0
    while len(content) - end >= _HEAD_BYTES:
        length_bytes = content[end : end + 4]
        start = end + _HEAD_BYTES
        stop = start + int.from_bytes(length_bytes, "big")
        if stop - start > MAX_RECORD_BYTES or stop > len(content):
            break
        record = content[start:stop]
        if zlib.crc32(record, zlib.crc32(length_bytes)) != int.from_bytes(content[end + 4 : start], "big"):
            break
        records.append(record)
        end = stop
    return tuple(records), end


def _sync_folder(path: Path) -> None:
    """Make the file's name durable too."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
