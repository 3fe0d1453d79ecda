"""Queries for gateways: a Unix socket, a reader thread for each connection, small pools that answer.

Every answer comes from a snapshot of its own, so queries never wait for the database; but they share one
interpreter with block work, and therefore pause while any of it runs (:class:`WorkGate`). Connections, requests
in flight, threads and the time of one answer are all bounded; a reader stops reading where its bound is reached.

Calls and searches of logs may take seconds, traces minutes: each kind has a pool of its own, so that what is only
read finds a thread. What a gateway asks of either kind comes over connections of its own too, since a reader thread
stops for all that its connection brings. Most calls are over in milliseconds, and nobody can tell which before: one
that is not over soon is answered with RunsLong, and asked again it begins anew among the long ones, where only such
wait for each other.

An answer in several frames goes as fast as the gateway takes it. A connection that closes ends the work for all that
was asked over it: the reader thread sees the end, and work in progress looks for it as often as it looks at the clock.
So does an empty frame end the work for the one request that it names; an empty frame answers it once nothing works for
it any more.
"""

import os
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.frames import Frame, FrameDecoder, FrameError, encode_frame
from astralink_node.chain.json_stream import Emit
from astralink_node.chain.messages import Answer, LimitExceeded, Query, RunsLong, SlowQuestion
from astralink_node.chain.queries import Interrupt
from astralink_node.chain.trace_messages import LongQuestion, TracePart
from astralink_node.errors import UserError
from astralink_node.storage.store import StorageError

MAX_CONNECTIONS = 48
"""A gateway has three, and one for each trace that it asks for; more are closed at once."""
MAX_IN_FLIGHT = 64
"""Requests of one connection that wait or are being answered."""
TRACE_THREADS = 2
"""Traces that run at once: more would only share the same interpreter."""
MAX_TRACES_WAITING = 16
"""For a thread; beyond that a trace is refused. Gateways hold theirs back long before."""
FIRST_TRY_CPU_S = 0.05
FIRST_TRY_S = 1.0
"""A call that takes longer than either runs long. Mostly it is processor time that tells, which does not grow with what
else runs."""
LONG_THREADS = 2
"""Calls that run long at once: more would only share the same interpreter, and leave less of it to short ones."""
RECEIVE_BYTES = 1 << 18
SEND_TIMEOUT_S = 10
"""A gateway that does not read its answers for so long is disconnected."""
_SEND_TIMEOUT = struct.pack("ll", SEND_TIMEOUT_S, 0)
MAX_PAUSE_S = 0.25
"""How long a query pauses at most before it looks at its deadline again."""
THREAD_STACK_BYTES = 256 * 1024 * 1024
"""Address space, not memory: EVM calls nest 1,024 deep, and C functions sit between some of their frames."""
MAX_SOCKET_PATH_BYTES = 107


class _Unwanted(Exception):
    """The process ends, or the gateway has gone: nobody wants the answer any more."""


class _Long(Exception):
    """The first try took too long."""


class Answering(Protocol):
    """What the server needs of :class:`~astralink_node.chain.execution.Execution`."""

    def query(self, query: Query, interrupt: Interrupt, emit: Emit) -> Answer: ...


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


class _Connection:
    """One gateway's connection, as its reader thread and the threads that answer share it."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.in_flight = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self.is_gone = False
        self.wanted: set[int] = set()
        """Requests that wait or run; those that the gateway gave up are in it no more."""
        self._sending = threading.Lock()

    def send(self, request_id: int, payload: bytes) -> None:
        """Waits while the gateway does not read, for so long; raises _Unwanted when it has gone."""
        try:
            with self._sending:
                _send_all(self.link, encode_frame(request_id, payload))
        except OSError:
            self.is_gone = True
            raise _Unwanted from None

    def close(self) -> None:
        """Whoever is sending fails first: a descriptor that is free again may soon be another connection's."""
        self.is_gone = True
        with suppress(OSError):
            self.link.shutdown(socket.SHUT_RDWR)
        with self._sending:
            self.link.close()


class QueryServer:
    """A context manager: listens while it is open. An empty path serves nothing."""

    def __init__(
        self,
        execution: Answering,
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
        self._traces_accepted = 0
        """Running or waiting for a thread."""
        self._closing = False

    def __enter__(self) -> "QueryServer":
        self._pool = _started_pool(self._threads, "query")
        self._call_pool = _started_pool(self._threads, "call")
        self._long_pool = _started_pool(LONG_THREADS, "long-call")
        self._trace_pool = _started_pool(TRACE_THREADS, "trace")
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
        for pool in (self._pool, self._call_pool, self._long_pool, self._trace_pool):
            pool.shutdown(wait=True, cancel_futures=True)

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

    def _serve(self, link: socket.socket) -> None:
        """Read one connection's requests until it closes or breaks the protocol."""
        frames = FrameDecoder()
        connection = _Connection(link)
        link.settimeout(None)
        try:
            while data := link.recv(RECEIVE_BYTES):
                for frame in frames.feed(data):
                    if not frame.payload:
                        connection.wanted.discard(frame.request_id)
                        continue
                    connection.in_flight.acquire()
                    connection.wanted.add(frame.request_id)
                    self._submit(connection, frame)
        except (FrameError, OSError, RuntimeError):
            pass  # a broken gateway, or the pool is shutting down: the connection ends
        finally:
            with self._lock:
                self._connections.discard(link)
            connection.close()

    def _submit(self, connection: _Connection, frame: Frame) -> None:
        """Raises RuntimeError when the pools are shutting down."""
        try:
            query: Query = decode(Query, frame.payload)
        except CodecError as error:
            self._pool.submit(self._refuse, connection, frame.request_id, f"the question cannot be read: {error}")
            return
        if not isinstance(query.question, LongQuestion):
            if not isinstance(query.question, SlowQuestion):
                self._pool.submit(self._answer, connection, frame.request_id, query)
            elif query.runs_long:
                self._long_pool.submit(self._answer, connection, frame.request_id, query)
            else:
                self._call_pool.submit(self._first_try, connection, frame.request_id, query)
            return
        with self._lock:
            is_accepted = self._traces_accepted < TRACE_THREADS + MAX_TRACES_WAITING
            self._traces_accepted += is_accepted
        if is_accepted:
            self._trace_pool.submit(self._trace, connection, frame.request_id, query)
        else:
            self._pool.submit(self._refuse, connection, frame.request_id, "too many traces at once; try again")

    def _refuse(self, connection: _Connection, request_id: int, reason: str) -> None:
        connection.wanted.discard(request_id)
        connection.in_flight.release()
        with suppress(_Unwanted):
            connection.send(request_id, encode(LimitExceeded(reason)))

    def _first_try(self, connection: _Connection, request_id: int, query: Query) -> None:
        began, began_cpu = time.monotonic(), time.thread_time()

        def hurry() -> None:
            elapsed = time.monotonic() - began
            if elapsed < FIRST_TRY_CPU_S:
                return  # it cannot have had more processor time
            if elapsed > FIRST_TRY_S or time.thread_time() - began_cpu > FIRST_TRY_CPU_S:
                raise _Long

        self._answer(connection, request_id, query, hurry)

    def _trace(self, connection: _Connection, request_id: int, query: Query) -> None:
        try:
            self._answer(connection, request_id, query)
        finally:
            with self._lock:
                self._traces_accepted -= 1

    def _answer(
        self, connection: _Connection, request_id: int, query: Query, hurry: Callable[[], object] = lambda: None
    ) -> None:
        """`hurry` may raise _Long."""

        def interrupt() -> None:
            if self._closing or connection.is_gone or request_id not in connection.wanted:
                raise _Unwanted
            self._gate.give_way()
            hurry()

        def emit(part: TracePart) -> None:
            connection.send(request_id, encode(part, interrupt))

        try:
            interrupt()
            payload = encode(self._execution.query(query, interrupt, emit), interrupt)
        except _Unwanted:
            payload = b""
        except _Long:
            payload = encode(RunsLong())
        except CodecError as error:
            payload = encode(LimitExceeded(f"the answer cannot be sent: {error}"))  # larger than a frame may be
        except StorageError as error:
            self._complain(f"ERROR execution: a query met a failing database: {error}\n")
            payload = encode(CallFailed("internal", "the database failed: see the node's log"))
        except Exception as error:  # noqa: BLE001 - the task's outermost frame: one query's bug must not end block work
            trace = traceback.format_exc()
            self._complain(f"ERROR execution: a query failed, {type(error).__name__}: {error}\n{trace}")
            payload = encode(CallFailed("internal", "internal error: see the node's log"))
        finally:
            connection.wanted.discard(request_id)
            connection.in_flight.release()
        with suppress(_Unwanted):
            connection.send(request_id, payload)


def _started_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool starts its threads lazily, and the stack size is the process's: all start while it holds."""
    previous_size = threading.stack_size(THREAD_STACK_BYTES)
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    barrier = threading.Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(barrier.wait)
    barrier.wait()
    threading.stack_size(previous_size)
    return pool


def _send_all(connection: socket.socket, data: bytes) -> None:
    """Send with a bound on how long the peer may refuse to read; a peer that does is disconnected."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
    try:
        connection.sendall(data)
    except OSError:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        raise
