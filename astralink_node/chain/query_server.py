"""Queries for gateways: a Unix socket, a reader thread for each connection, a small pool that answers.

Every answer comes from a snapshot of its own, so queries never wait for the database; but they share one
interpreter with block work, and therefore pause while any of it runs (:class:`WorkGate`). Connections, requests
in flight, threads and the time of one answer are all bounded; a reader stops reading where its bound is reached.
"""

import os
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.execution import Execution
from astralink_node.chain.frames import Frame, FrameDecoder, FrameError, encode_frame
from astralink_node.chain.messages import LimitExceeded, Query
from astralink_node.errors import UserError
from astralink_node.storage.store import StorageError

MAX_CONNECTIONS = 16
MAX_IN_FLIGHT = 64
"""Requests of one connection that wait or are being answered."""
RECEIVE_BYTES = 1 << 18
SEND_TIMEOUT_S = 10
"""A gateway that does not read its answers for so long is disconnected."""
_SEND_TIMEOUT = struct.pack("ll", SEND_TIMEOUT_S, 0)
MAX_PAUSE_S = 0.25
"""How long a query pauses at most before it looks at its deadline again."""
THREAD_STACK_BYTES = 256 * 1024 * 1024
"""Address space, not memory: EVM calls nest 1,024 deep, and C functions sit between some of their frames."""
MAX_SOCKET_PATH_BYTES = 107


class _Stopping(Exception):
    """The process ends: the answer is not wanted any more."""


class WorkGate:
    """Lets queries pause while block work runs."""

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()

    @contextmanager
    def block_work(self) -> Iterator[None]:
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def give_way(self) -> None:
        """Called by queries now and then: returns when no block work runs, or after a short while at most."""
        self._idle.wait(MAX_PAUSE_S)


class QueryServer:
    """A context manager: listens while it is open. An empty path serves nothing."""

    def __init__(
        self,
        execution: Execution,
        gate: WorkGate,
        path: str,
        threads: int,
        complain: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise UserError(f"query socket: expected a path of at most {MAX_SOCKET_PATH_BYTES} bytes, found {path}")
        self._execution = execution
        self._gate = gate
        self._path = path
        self._threads = threads
        self._complain = complain
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._closing = False

    def __enter__(self) -> "QueryServer":
        previous_size = threading.stack_size(THREAD_STACK_BYTES)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="query")
        # The pool starts its threads lazily: start them all while the stack size holds.
        barrier = threading.Barrier(self._threads + 1)
        for _ in range(self._threads):
            self._pool.submit(barrier.wait)
        barrier.wait()
        threading.stack_size(previous_size)
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)  # left by a process that was killed; the database's lock says it is gone
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self._path)
            os.chmod(self._path, 0o600)
            self._listener.listen(MAX_CONNECTIONS)
            threading.Thread(target=self._accept, name="query-accept", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closing = True
            connections = list(self._connections)
        if self._path:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                if self._closing or len(self._connections) >= MAX_CONNECTIONS:
                    connection.close()
                    continue
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="query-read", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Read one connection's requests until it closes or breaks the protocol."""
        frames = FrameDecoder()
        in_flight = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        sending = threading.Lock()
        connection.settimeout(None)
        try:
            while data := connection.recv(RECEIVE_BYTES):
                for frame in frames.feed(data):
                    in_flight.acquire()
                    self._pool.submit(self._answer, connection, sending, in_flight, frame)
        except (FrameError, OSError, RuntimeError):
            pass  # a broken gateway, or the pool is shutting down: the connection ends
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(
        self, connection: socket.socket, sending: threading.Lock, in_flight: threading.BoundedSemaphore, frame: Frame
    ) -> None:
        try:
            query = decode(Query, frame.payload)
            if self._closing:
                return
            payload = encode(self._execution.query(query, self._interrupt))
        except _Stopping:
            return
        except CodecError as error:
            # Either the gateway sent what is no query, or the answer is larger than a frame may be.
            payload = encode(LimitExceeded(f"the question or its answer cannot be sent: {error}"))
        except StorageError as error:
            self._complain(f"ERROR execution: a query met a failing database: {error}\n")
            payload = encode(CallFailed("invalid", "the database failed: see the node's log"))
        except Exception as error:  # noqa: BLE001 - the task's outermost frame: one query's bug must not end block work
            trace = traceback.format_exc()
            self._complain(f"ERROR execution: a query failed, {type(error).__name__}: {error}\n{trace}")
            payload = encode(CallFailed("invalid", "internal error: see the node's log"))
        finally:
            in_flight.release()
        with suppress(OSError), sending:
            _send_all(connection, encode_frame(frame.request_id, payload))

    def _interrupt(self) -> None:
        self._gate.give_way()
        if self._closing:
            raise _Stopping


def _send_all(connection: socket.socket, data: bytes) -> None:
    """Send with a bound on how long the peer may refuse to read; a peer that does is disconnected."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
    try:
        connection.sendall(data)
    except OSError:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        raise
