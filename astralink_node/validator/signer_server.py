"""The signer as a server: one thread a connection, one history under all of them.

Several nodes may be connected, by mistake or while one takes over from another: each request passes the same
history, so that together they get no more signed than one alone. Blocking code and threads, because that is all there
is to do: a signature waits for the disk. A thread that ends in the middle of a request is a crash of the kind that
the history is made for.
"""

import selectors
import socket
import threading
from contextlib import suppress
from typing import Final

from astralink_node.log import Log
from astralink_node.validator.keys import ValidatorKeys
from astralink_node.validator.local_signer import sign_message
from astralink_node.validator.signer_certificates import PeerNotPinned
from astralink_node.validator.signer_protocol import (
    MAX_REQUEST_BYTES,
    Answer,
    AskForeign,
    AskHistory,
    AskPublicKeys,
    Failed,
    FloorSet,
    Foreign,
    FrameTooLong,
    History,
    Keys,
    Refused,
    Request,
    SetFloor,
    Sign,
    Signature,
    decode_request,
    encode_answer,
)
from astralink_node.validator.signer_transport import FrameSocket, Listener, accept_peer
from astralink_node.validator.signing_history import HistoryUnwritable, RefusedToSign, SigningHistory
from consensus.wire import DecodeError

MAX_CONNECTIONS: Final = 16
"""A further one is closed at once. Two nodes need two; the rest is for those that died without saying so."""
HANDSHAKE_TIMEOUT_S: Final = 5.0
FRAME_TIMEOUT_S: Final = 10.0
"""For the rest of a request that began, and for an answer to be taken."""
STOP_TIMEOUT_S: Final = 5.0
"""For requests at work when the signer is stopped."""

_FLOOR_NEEDS_OPERATOR: Final = (
    "the signing history of this chain is new, and only its operator may say that no other node signs with this key: "
    "start the signer once with --new-signing-history"
)

_log = Log("signer")


class SigningService:
    """Answers requests for one validator, on any chain. Safe to call from several threads."""

    def __init__(self, keys: ValidatorKeys, history: SigningHistory, *, may_set_floor: bool) -> None:
        self._keys = keys
        self._history = history
        self._may_set_floor = may_set_floor

    def answer(self, request: Request) -> Answer:
        """Raises HistoryUnwritable: then nothing more will be signed."""
        try:
            match request:
                case AskPublicKeys():
                    return Keys(self._keys.public)
                case AskHistory(genesis_hash):
                    return History(self._history.state(genesis_hash))
                case Sign(message):
                    return Signature(sign_message(self._keys, self._history, message))
                case AskForeign(message):
                    return Foreign(self._history.is_foreign(message))
                case SetFloor(genesis_hash, height):
                    if not self._may_set_floor:
                        return Refused(_FLOOR_NEEDS_OPERATOR)
                    self._history.set_floor(genesis_hash, height)
                    return FloorSet()
        except RefusedToSign as refusal:
            return Refused(refusal.reason)


class SignerServer:
    """Serves on one listener until it is stopped. Use as a context manager, run once."""

    def __init__(self, listener: Listener, service: SigningService) -> None:
        self._listener = listener
        self._service = service
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_sender.settimeout(0)
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._is_stopping = False
        self._failure: Exception | None = None

    def __enter__(self) -> "SignerServer":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._wake_receiver.close()
        self._wake_sender.close()

    @property
    def wake_descriptor(self) -> int:
        """A byte written to it stops the server."""
        return self._wake_sender.fileno()

    def run(self) -> None:
        """Until `stop`. Raises what ended it otherwise: HistoryUnwritable, or a bug of a connection's thread."""
        listening = self._listener.listening
        listening.settimeout(0)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(listening, selectors.EVENT_READ)
                selector.register(self._wake_receiver, selectors.EVENT_READ)
                while all(key.fileobj is not self._wake_receiver for key, _ in selector.select()):
                    self._accept(listening)
        finally:
            self._end_connections()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """From any thread or signal handler; requests at work are answered first."""
        with suppress(OSError):  # awake already, or closed
            self._wake_sender.send(b"\0")

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, ConnectionError):
            return
        with self._lock:
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                _log.warning("a connection was turned away", most=MAX_CONNECTIONS)
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="signer-connection", daemon=True)
            self._connections[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        """The outermost frame of a connection's thread."""
        try:
            self._talk(connection)
        except PeerNotPinned as error:
            _log.warning("a peer was turned away", reason=str(error))
        except FrameTooLong as error:
            _log.warning("a connection was closed", reason=str(error))
        except OSError as error:
            _log.warning("a connection was lost", reason=error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - the outermost frame: a bug ends the signer, with its traceback
            self._fail(error)
        finally:
            connection.close()
            with self._lock:
                del self._connections[threading.current_thread()]

    def _talk(self, raw: socket.socket) -> None:
        with accept_peer(raw, self._listener.identity, HANDSHAKE_TIMEOUT_S) as connection:
            with self._lock:
                if self._is_stopping:
                    return
                self._connections[threading.current_thread()] = connection
            frames = FrameSocket(connection, MAX_REQUEST_BYTES)
            _log.info("a node connected", peer=_peer_of(connection))
            while (payload := frames.receive(FRAME_TIMEOUT_S, wait_for_first=True)) is not None:
                try:
                    answer = self._service.answer(decode_request(payload))
                except DecodeError as error:
                    frames.send(encode_answer(Failed(f"not a request: {error}")), FRAME_TIMEOUT_S)
                    _log.warning("a connection was closed", reason=str(error))
                    return
                except HistoryUnwritable as error:
                    self._fail(error)
                    frames.send(encode_answer(Failed(str(error))), FRAME_TIMEOUT_S)
                    return
                if isinstance(answer, Refused):
                    _log.warning("refused to sign", reason=answer.reason)
                frames.send(encode_answer(answer), FRAME_TIMEOUT_S)
            _log.info("a node went away", peer=_peer_of(connection))

    def _fail(self, error: Exception) -> None:
        """The first failure is the one that is told."""
        self._failure = self._failure or error
        self.stop()

    def _end_connections(self) -> None:
        with self._lock:
            self._is_stopping = True
            open_now = dict(self._connections)
        for connection in open_now.values():
            # Of the plain socket class: ssl's own `shutdown` drops the encryption, and an answer that a thread is
            # about to send would leave as plain text.
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RD)
        for thread in open_now:
            thread.join(STOP_TIMEOUT_S)


def _peer_of(connection: socket.socket) -> str:
    if connection.family == socket.AF_UNIX:
        return "unix"
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return "gone"
    return f"{host}:{port}"
