"""The folders of one node on disk: names, the lock that keeps a second node out, and the folder for sockets.

A Unix socket's path is limited to 107 bytes, so sockets live in a short folder of their own, private to the user.
"""

import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from astralink_node.chain.data_folder import DATABASE_NAME, GENESIS_NAME
from astralink_node.errors import UserError
from astralink_node.log import Log

LOCK_WAIT_S: Final = 10
"""The execution process of a killed node ends within a few seconds and frees the database."""
_BACKLOG: Final = 16
_MAX_LOCK_TEXT: Final = 512
"""Bytes of the lock file: a process id and a URL, a line each."""
_MAX_SOCKET_PATH: Final = 107
_DATABASE_LOCK: Final = "astralink.lock"
"""The file in the database's folder that storage.leveldb locks."""

_log = Log("start")


class FolderInUse(UserError):
    """Another node runs on the same data folder."""


class NotPrepared(UserError):
    """The data folder has no genesis file or no database."""


class UnusableFolder(UserError):
    """The operating system does not let this user work in a folder."""


class UnsafeFolder(UserError):
    """A folder that others could tamper with."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below --data-dir."""

    root: Path

    @property
    def genesis_file(self) -> Path:
        return self.root / GENESIS_NAME

    @property
    def database(self) -> Path:
        return self.root / DATABASE_NAME

    @property
    def consensus(self) -> Path:
        return self.root / "consensus"

    @property
    def validator_keys(self) -> Path:
        return self.root / "validator"

    @property
    def next_validator_keys(self) -> Path:
        """Keys that the validator's operator rotates to: they vote once they stand in the set. Usually absent."""
        return self.root / "validator-next"

    @property
    def signing(self) -> Path:
        return self.root / "signing"

    @property
    def node_key(self) -> Path:
        """The node's name on the network; not the validator's key."""
        return self.root / "node.key"

    @property
    def peer_book(self) -> Path:
        return self.root / "peers.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "node.lock"

    @property
    def lost_database(self) -> bool:
        """There was a chain here, as its genesis file says, and it is gone."""
        return self.genesis_file.is_file() and not (self.database.is_dir() and any(self.database.iterdir()))

    def check_prepared(self) -> None:
        """Raises NotPrepared with what to do."""
        if self.lost_database:
            raise NotPrepared(
                f"{self.database} is missing, though {self.genesis_file} says that there was a chain: put the folder "
                f"back, or begin again with `astralink-node init --data-dir {self.root} {self.genesis_file}` and "
                "`import` blocks exported before (a devnet: `devnet --reset`)"
            )
        if not self.genesis_file.is_file() or not self.database.is_dir():
            raise NotPrepared(
                f"{self.root} holds no chain: prepare it with `astralink-node init --data-dir {self.root} GENESIS_FILE`"
                ", or run `astralink-node devnet` for a network of your own"
            )


class FolderLock:
    """Held while a node runs on a data folder. The operating system frees it when the process ends, however."""

    def __init__(self, folder: DataFolder) -> None:
        try:
            folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnusableFolder(f"{folder.lock_file}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read_holder(self._descriptor)
            os.close(self._descriptor)
            raise FolderInUse(
                f"{folder.root} is in use by another node (process {holder.process}): stop it, or give this one "
                "another folder (--data-dir; of a devnet --dir)"
            ) from error
        # The number is for people; the lock holds without it, also where the disk has no room for it.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def note_url(self, url: str) -> None:
        """Where the holder answers JSON-RPC. It stands beside the process id, and is worth as little once it ended."""
        with suppress(OSError):
            os.write(self._descriptor, f"{url}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A node that runs on a data folder, as its lock file says."""

    process: str
    """Its id; "unknown" if it could not say."""
    rpc_url: str
    """Where it answers; empty until it does, and of a node that could not say."""


def _read_holder(descriptor: int) -> LockHolder:
    process, _, rest = os.read(descriptor, _MAX_LOCK_TEXT).decode(errors="replace").partition("\n")
    url, ended, _ = rest.partition("\n")
    return LockHolder(process.strip() or "unknown", url if ended else "")


def node_on(folder: DataFolder) -> LockHolder | None:
    """The node that runs on the folder; None: no node does."""
    try:
        descriptor = os.open(folder.lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    finally:
        os.close(descriptor)
    return None


async def wait_for_database(folder: DataFolder) -> None:
    """Let the execution process of a node that was killed finish; raises FolderInUse if it does not."""
    path = folder.database / _DATABASE_LOCK
    if not path.exists():
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UnusableFolder(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.warning("the database is still locked: waiting for the process that has it", seconds=LOCK_WAIT_S)
        with trio.move_on_after(LOCK_WAIT_S) as waiting:
            # The thread waits in the kernel. If it is given up, it ends with this process, which is about to fail.
            await trio.to_thread.run_sync(fcntl.flock, descriptor, fcntl.LOCK_EX, abandon_on_cancel=True)
        if waiting.cancelled_caught:
            raise FolderInUse(
                f"the database in {folder.database} is locked by another process: is an `astralink-node db` or "
                "`import` command at work on it?"
            ) from None
    os.close(descriptor)


def runtime_folder_path(folder: DataFolder) -> Path:
    """Where the sockets of the node on `folder` are, while it runs."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    parent = (
        Path(base) / "astralink"
        if base and Path(base).is_dir()
        else Path(tempfile.gettempdir()) / f"astralink-{os.geteuid()}"
    )
    return parent / hashlib.sha256(os.fsencode(folder.root.resolve())).hexdigest()[:12]


def runtime_folder(folder: DataFolder) -> Path:
    """A short folder for the sockets of the node on `folder`, empty, readable by this user alone."""
    path = runtime_folder_path(folder)
    parent = path.parent
    try:
        for part in (parent, path):
            part.mkdir(mode=0o700, exist_ok=True)
            _check_private(part)
        for left_over in path.iterdir():
            left_over.unlink()
    except OSError as error:
        raise UnusableFolder(
            f"{error.filename}: {error.strerror}; sockets live below {parent}: set XDG_RUNTIME_DIR to a folder of this "
            "user"
        ) from error
    if len(os.fsencode(path / "execution.sock")) > _MAX_SOCKET_PATH:
        raise UnsafeFolder(f"{path}: too long for a socket's path; set XDG_RUNTIME_DIR or TMPDIR to a shorter folder")
    return path


def _check_private(path: Path) -> None:
    """Not a link, ours, and closed to others: /tmp is shared, and names in it can be taken by anybody."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UnsafeFolder(f"{path}: expected a folder of this user that nobody else may open (mode 700); remove it")


def listen_unix(path: Path) -> trio.SocketListener:
    """A listening Unix socket; the folder around it keeps others out."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen(_BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def remove_sockets(folder: Path) -> None:
    """The folder as well: each data folder has one of its own, and they would pile up."""
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    folder.rmdir()
