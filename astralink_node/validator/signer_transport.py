"""The sockets between a node and its signer: listening, connecting, and frames on a blocking connection.

There are two kinds: a Unix socket in a folder that is closed to other users, and TLS 1.3 with both sides pinned
(signer_certificates). There is no third: nothing here opens a TCP connection without TLS.
"""

import os
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astralink_node.config import SignerAddress, SignerConfig, TlsAddress, UnixAddress
from astralink_node.listening import CannotListen, listen_tcp
from astralink_node.validator.signer_certificates import Identity, load_identity
from astralink_node.validator.signer_protocol import LENGTH_BYTES, frame, payload_length

TLS_FOLDER: Final = "signer-tls"
"""In the data folder, unless `signer.tls_folder` names another."""
_BACKLOG: Final = 16
_MAX_SOCKET_PATH: Final = 107
_PROBE_S: Final = 1.0
_LINGER_S: Final = 1.0
_LEAST_S: Final = 0.001
"""A time-out of 0 would mean a socket that never waits."""
_RECEIVE_BYTES: Final = 4_096


class FrameSocket:
    """Frames over one connection. One thread at a time; whatever it raises, the connection is of no further use."""

    def __init__(self, connection: socket.socket, max_received_bytes: int) -> None:
        self._connection = connection
        self._max_received_bytes = max_received_bytes

    def send(self, payload: bytes, timeout_s: float) -> None:
        """Raises OSError, a TimeoutError among them."""
        self._connection.settimeout(timeout_s)
        self._connection.sendall(frame(payload))

    def receive(self, timeout_s: float, *, wait_for_first: bool = False) -> bytes | None:
        """The next payload; None if the peer closed before it. Raises OSError or FrameTooLong.

        With `wait_for_first` the time begins to count with the frame's first bytes.
        """
        data = b""
        deadline = None if wait_for_first else time.monotonic() + timeout_s
        wanted = LENGTH_BYTES
        while len(data) < wanted:
            self._connection.settimeout(None if deadline is None else _time_left(deadline))
            received = self._connection.recv(min(wanted - len(data), _RECEIVE_BYTES))
            if not received:
                if data:
                    raise ConnectionResetError("the peer closed the connection in the middle of a message")
                return None
            data += received
            deadline = time.monotonic() + timeout_s if deadline is None else deadline
            if len(data) == LENGTH_BYTES:
                wanted = LENGTH_BYTES + payload_length(data, self._max_received_bytes)
        return data[LENGTH_BYTES:]

    def interrupt(self) -> None:
        """From another thread: whoever sends or waits here gets an OSError or the end of the connection."""
        with suppress(OSError):
            # Of the plain socket class: ssl's own would let what is sent next leave unencrypted.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, the address with the port that the system chose, and whom TLS lets in."""

    listening: socket.socket
    address: SignerAddress
    identity: Identity | None


def tls_folder(config: SignerConfig, data_folder: Path) -> Path:
    return Path(config.tls_folder).expanduser() if config.tls_folder else data_folder / TLS_FOLDER


@contextmanager
def listen(address: SignerAddress, tls_files: Path) -> Iterator[Listener]:
    """Bind and listen; the socket, and the name of a Unix socket, go with the block. Raises UserError."""
    match address:
        case UnixAddress(path):
            name = Path(path).expanduser()
            with closing(_listen_unix(name)) as listening:
                try:
                    yield Listener(listening, UnixAddress(str(name)), None)
                finally:
                    name.unlink(missing_ok=True)
        case TlsAddress(host, port):
            identity = load_identity(tls_files, is_server=True)
            with closing(listen_tcp(host, port, "--listen")) as listening:
                yield Listener(listening, TlsAddress(host, listening.getsockname()[1]), identity)


def accept_peer(connection: socket.socket, identity: Identity | None, timeout_s: float) -> socket.socket:
    """What a signer does first with a connection. Raises OSError (with ssl's) or PeerNotPinned; closes it then."""
    if identity is None:
        return connection
    return _secure(connection, identity, timeout_s, is_server=True)


def connector(address: SignerAddress, tls_files: Path) -> Callable[[float], socket.socket]:
    """A function that connects within the seconds given, and raises OSError (with ssl's) or PeerNotPinned.

    Raises UnusableCertificate now rather than later.
    """
    match address:
        case UnixAddress(path):
            name = str(Path(path).expanduser())
            return lambda timeout_s: _connect_unix(name, timeout_s)
        case TlsAddress(host, port):
            identity = load_identity(tls_files, is_server=False)
            return lambda timeout_s: _connect_tls(host, port, identity, timeout_s)


def _connect_unix(path: str, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_tls(host: str, port: int, identity: Identity, timeout_s: float) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    connection = socket.create_connection((host, port), timeout_s)
    return _secure(connection, identity, max(deadline - time.monotonic(), _LEAST_S), is_server=False)


def _secure(connection: socket.socket, identity: Identity, timeout_s: float, *, is_server: bool) -> socket.socket:
    secured: ssl.SSLSocket | None = None
    try:
        connection.settimeout(timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        secured = identity.context.wrap_socket(connection, server_side=is_server, do_handshake_on_connect=False)
        secured.do_handshake()
        identity.check_peer(secured)
    except BaseException as error:
        if secured is not None and isinstance(error, ssl.SSLError):
            _let_alert_arrive(secured)
        (secured or connection).close()
        raise
    return secured


def _let_alert_arrive(connection: ssl.SSLSocket) -> None:
    """Closing while the peer's first request is unread would reset the connection, and the peer never learn why."""
    deadline = time.monotonic() + _LINGER_S
    with suppress(OSError):
        # Below ssl, which is through with this connection.
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while True:
            connection.settimeout(_time_left(deadline))
            if not socket.socket.recv(connection, _RECEIVE_BYTES):
                return


def _listen_unix(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise CannotListen(f"{path}: longer than the {_MAX_SOCKET_PATH} bytes of a socket's path; choose a shorter one")
    _prepare_folder(path.parent)
    if os.path.lexists(path):
        _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        # Nobody else can reach it in the meantime: the folder is closed.
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise CannotListen(f"{path}: {error.strerror}") from error
    return listening


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise CannotListen(f"{folder}: {error.strerror}") from error
    is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not is_private:
        raise CannotListen(
            f"{folder}: expected a folder of this user that nobody else may open (mode 700) for the signer's socket"
        )


def _remove_stale(path: Path) -> None:
    """The socket of a signer that was killed; raises CannotListen if one answers, or if it is something else."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise CannotListen(f"{path}: expected no file or an old socket, found something else")
    try:
        _connect_unix(str(path), _PROBE_S).close()
    except ConnectionRefusedError:
        path.unlink()
        return
    except OSError as error:
        raise CannotListen(f"{path}: {error.strerror or error}") from error
    raise CannotListen(f"{path} is already in use: is another signer serving there?")
