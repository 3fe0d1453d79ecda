"""A query server on a chain in memory, and what a gateway does on its socket, blocking."""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from astralink_node.chain.codec import decode, encode
from astralink_node.chain.frames import Frame, FrameDecoder, encode_frame
from astralink_node.chain.json_stream import Emit
from astralink_node.chain.messages import Answer, Query
from astralink_node.chain.queries import Interrupt
from astralink_node.chain.query_server import Answering, QueryServer, WorkGate
from astralink_node.chain.trace_messages import StreamChunk

PATIENCE_S = 60


@dataclass
class WatchedQueries:
    """Stands before an execution facade and tells when a query began and how it ended."""

    execution: Answering
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    endings: list[str] = field(default_factory=list)
    """The kind of each answer, or the name of what was raised instead."""

    def query(self, query: Query, interrupt: Interrupt, emit: Emit) -> Answer:
        self.began.release()
        try:
            answer = self.execution.query(query, interrupt, emit)
        except BaseException as error:
            self.endings.append(type(error).__name__)
            raise
        else:
            self.endings.append(type(answer).__name__)
            return answer
        finally:
            self.ended.release()


class Asker:
    """One connection to a query server."""

    def __init__(self, path: str) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.link.settimeout(PATIENCE_S)
        self.link.connect(path)
        self._frames = FrameDecoder()
        self._received: list[Answer] = []

    def send(self, query: Query, request_id: int = 1) -> None:
        self.link.sendall(encode_frame(request_id, encode(query)))

    def receive(self) -> Answer | None:
        """The next answer; None when the server has closed."""
        while not self._received:
            frames = self.receive_frames()
            if not frames:
                return None
            self._received += [decode(Answer, frame.payload) for frame in frames]
        return self._received.pop(0)

    def receive_frames(self) -> list[Frame]:
        """The next ones, as they are; none when the server has closed."""
        while data := self.link.recv(1 << 16):
            frames = self._frames.feed(data)
            if frames:
                return frames
        return []

    def collect(self) -> tuple[bytes, Answer | None]:
        """(text of all chunks, what ended the stream)."""
        parts = []
        while isinstance(answer := self.receive(), StreamChunk):
            parts.append(answer.data)
        return b"".join(parts), answer

    def close(self) -> None:
        self.link.close()


@contextmanager
def query_server(
    execution: Answering, gate: WorkGate | None = None, complain: Callable[[str], object] = sys.stderr.write
) -> Iterator[tuple[WatchedQueries, Callable[[], Asker]]]:
    """What watches the queries, and how to connect."""
    watched = WatchedQueries(execution)
    askers: list[Asker] = []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "q")

        def connect() -> Asker:
            askers.append(Asker(path))
            return askers[-1]

        with QueryServer(watched, gate or WorkGate(), path, threads=2, complain=complain):
            try:
                yield watched, connect
            finally:
                for asker in askers:
                    asker.close()
