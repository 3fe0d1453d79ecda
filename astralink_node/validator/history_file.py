"""The file under a signing history: appended, synced, replaced whole, and held by one process at a time."""

import fcntl
import os
from pathlib import Path
from typing import Protocol

from astralink_node.crypto.secret_files import sync_folder
from astralink_node.errors import UserError


class HistoryLocked(UserError):
    """Another process signs with this history."""


class HistoryStorage(Protocol):
    """What a signing history needs of the disk. Every method may raise OSError."""

    def load(self) -> bytes | None:
        """The whole content; None if nothing was ever stored."""

    def append(self, data: bytes) -> None:
        """Add at the end: a crash before `sync` returns keeps any prefix of it."""

    def sync(self) -> None:
        """Return when all that was appended is durable."""

    def replace(self, data: bytes) -> None:
        """Put `data` in the place of everything, at once and durably."""

    def close(self) -> None:
        """Let another process have it."""


class HistoryFile:
    """A file in the signing folder with a lock file beside it. Raises `HistoryLocked` when it is held."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._descriptor: int | None = None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise HistoryLocked(f"{path}: another process is signing with this history") from error

    def load(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def append(self, data: bytes) -> None:
        descriptor = self._open()
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])

    def sync(self) -> None:
        os.fsync(self._open())

    def replace(self, data: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        sync_folder(self._path.parent)
        self._close_file()

    def close(self) -> None:
        self._close_file()
        os.close(self._lock)

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return self._descriptor

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
