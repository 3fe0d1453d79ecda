"""The execution process: `python -m astralink_node.chain.process CONFIG`.

It alone opens the database. Block work comes over one inherited socket and is done by the main thread, one
message at a time; queries come over a Unix socket of their own (chain.query_server) and give way to block work.
It ends when the node's socket closes, so that the database's lock never outlives a killed node. Expected failures
of block work are answers; an error that escapes is a bug or a failing disk and ends the process with an exit code
of its own (process_config) and one line on stderr. Whatever happens, the database stands at a committed block.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.data_folder import errors_naming
from astralink_node.chain.errors import ConflictingCommit, InvalidCertificate
from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.frames import FrameDecoder, FrameError, encode_frame
from astralink_node.chain.messages import BlockWork, Commit, Query
from astralink_node.chain.process_config import (
    EXIT_BUG,
    EXIT_CANNOT_START,
    EXIT_CONFLICT,
    EXIT_STOPPED,
    EXIT_STORAGE,
    ORPHAN_GRACE_S,
    ProcessConfig,
)
from astralink_node.chain.query_server import QueryServer, WorkGate
from astralink_node.errors import UserError
from astralink_node.interpreter import take_short_turns
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import (
    DatabaseDamaged,
    DatabaseForbidden,
    DatabaseLocked,
    DatabaseMissing,
    StorageError,
)

NODE_REQUESTS = BlockWork | Query
"""What the node's socket carries; its queries are few and small, so they need no thread."""

DAMAGE_ADVICE = (
    "after a power failure try `astralink-node db repair`; `astralink-node db check` shows how far other damage goes. "
    "Put a copy of the folder back, or undo the newest blocks with `db rollback`, or set the folder aside, `init` "
    "again and `import` exported blocks"
)

RECEIVE_BYTES = 1 << 20


class Terminated(BaseException):
    """SIGTERM came during a build or a validation. Not an Exception: nothing on the way may catch it."""


class NodeLink:
    """The node's socket: blocking, one request after the other."""

    def __init__(self, node: socket.socket, execution: Execution, gate: WorkGate) -> None:
        self._node = node
        self._execution = execution
        self._gate = gate
        self._frames = FrameDecoder()
        self.may_be_abandoned = False
        """While work runs that leaves nothing behind when the process ends in the middle of it."""

    def serve(self) -> None:
        """Until the node closes its end, or somebody shuts the socket down for reading."""
        while True:
            try:
                data = self._node.recv(RECEIVE_BYTES)
            except ConnectionError:
                return
            if not data:
                return
            for frame in self._frames.feed(data):
                answer = encode_frame(frame.request_id, self._answer(frame.payload))
                try:
                    self._node.sendall(answer)
                except (BrokenPipeError, ConnectionError):
                    return

    def _answer(self, payload: bytes) -> bytes:
        request = decode(NODE_REQUESTS, payload)
        with self._gate.block_work():
            self.may_be_abandoned = not isinstance(request, Commit)
            try:
                if isinstance(request, Query):
                    return encode(self._execution.query(request))
                return encode(self._execution.handle(request))
            finally:
                self.may_be_abandoned = False


def run(config: ProcessConfig) -> int:
    """Serve until the node goes away. Returns the exit code; errors of serving escape."""
    genesis_file = Path(config.genesis_file).read_bytes() if config.genesis_file else None
    store = open_leveldb(Path(config.database), create=False)
    try:
        with errors_naming(Path(config.genesis_file)):
            execution = Execution.open(
                store,
                ExecutionConfig(
                    window=HistoryWindow(config.history_heights),
                    query_limits=config.query_limits,
                    explorer_index=config.explorer_index,
                ),
                now_ns=time.monotonic_ns,
                genesis_file=genesis_file,
            )
        gate = WorkGate()
        with socket.socket(fileno=config.node_socket) as node:
            node.settimeout(None)
            link = NodeLink(node, execution, gate)
            _stop_on_sigterm(node, link)
            _watch_for_orphanhood(node)
            queries = QueryServer(execution, gate, config.query_socket, config.query_threads)
            with queries:
                link.serve()
    except Terminated:
        pass
    finally:
        store.close()
    return EXIT_STOPPED


def _stop_on_sigterm(node: socket.socket, link: NodeLink) -> None:
    """A commit is finished first; anything else is void once the process ends, so it is dropped at once."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        with suppress(OSError):
            node.shutdown(socket.SHUT_RD)
        if link.may_be_abandoned:
            raise Terminated

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C, or a terminal that is closed, reaches the whole process group; the node decides what it means.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)


def _watch_for_orphanhood(node: socket.socket) -> None:
    """End the process soon after the node has gone, even in the middle of a long validation or query."""
    descriptor = os.dup(node.fileno())

    def watch() -> None:
        poller = select.poll()
        poller.register(descriptor, select.POLLHUP)
        poller.poll()
        timer = threading.Timer(ORPHAN_GRACE_S, os._exit, [EXIT_STOPPED])
        timer.daemon = True
        timer.start()

    threading.Thread(target=watch, name="node-watch", daemon=True).start()


def main(arguments: list[str], stderr: Callable[[str], object] = sys.stderr.write) -> int:
    take_short_turns()
    try:
        if len(arguments) != 1:
            raise UserError("expected one argument, the configuration as JSON; the node starts this process")
        return run(ProcessConfig.from_json(arguments[0]))
    except ConflictingCommit as error:
        stderr(f"astralink execution: {error}\n")
        return EXIT_CONFLICT
    except (DatabaseLocked, DatabaseMissing, DatabaseForbidden, UserError, FileNotFoundError, PermissionError) as error:
        stderr(f"astralink execution: {error}\n")
        return EXIT_CANNOT_START
    except DatabaseDamaged as error:
        stderr(f"astralink execution: {error}; {DAMAGE_ADVICE}\n")
        return EXIT_STORAGE
    except StorageError as error:
        stderr(f"astralink execution: {error}\n")
        return EXIT_STORAGE
    except (CodecError, FrameError, InvalidCertificate) as error:
        stderr(f"astralink execution: the node broke the protocol: {error}\n")
        return EXIT_BUG
    except Exception as error:  # noqa: BLE001 - the outermost frame: a bug must end the process with its own code
        stderr(f"astralink execution: unexpected {type(error).__name__}: {error}\n{traceback.format_exc()}")
        return EXIT_BUG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
