"""The gateway's two Unix sockets: to the node (mempool, head feed) and to the execution process (queries).

Clients for chain.frames and chain.codec on asyncio. The node's socket closing ends the gateway; the execution
process's query socket is connected again with growing pauses, and queries fail as unavailable meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import cast

from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.frames import PUSH_ID, FrameDecoder, FrameError, encode_frame
from astralink_node.chain.messages import Answer, Query, RunsLong, SlowQuestion
from astralink_node.gateway.askers import asker
from astralink_node.gateway.link_messages import Push, Reply, Request
from astralink_node.gateway.reading.errors import Unavailable

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 2.0
MAX_REQUESTS_AT_NODE = 4096
INLINE_BYTES = 128 * 1024
"""Longer answers are decoded in a thread, beside the event loop."""
STREAM_BUFFER_BYTES = 128 * 1024
"""Of a streamed answer: twice as much waits here at most; beyond it the socket is not read."""


class FramedLink(asyncio.Protocol):
    """Requests and replies matched by id over one socket, and pushes as they come."""

    def __init__(self, peer: str, on_push: Callable[[bytes], None] | None = None) -> None:
        self._peer = peer
        self._on_push = on_push
        self._decoder = FrameDecoder()
        self._transport: asyncio.WriteTransport | None = None
        self._next_id = PUSH_ID + 1
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self.lost = asyncio.Event()

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def send(self, payload: bytes) -> tuple[int, asyncio.Future[bytes]]:
        """The request's id and its reply to come, which fails as Unavailable when the link goes down.

        Raises Unavailable when it is down already.
        """
        if self._transport is None or self.lost.is_set():
            raise Unavailable(f"{self._peer} is temporarily unavailable")
        frame = encode_frame(self._next_id, payload)
        request_id = self._next_id
        self._next_id += 1
        reply = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        self._transport.write(frame)
        return request_id, reply

    def give_up(self, request_id: int, then: Callable[[], None]) -> None:
        """Tell a peer that understands it that nobody wants the reply, which comes all the same, and soon.

        `then` is called when it has come, or the link is lost.
        """
        if self._transport is None or self.lost.is_set():
            then()
            return

        def over(unwanted: asyncio.Future[bytes]) -> None:
            unwanted.exception()  # nobody else hears of it
            then()

        self._waiting[request_id] = asyncio.get_running_loop().create_future()
        self._waiting[request_id].add_done_callback(over)
        self._transport.write(encode_frame(request_id, b""))

    async def request(self, payload: bytes) -> bytes:
        """The reply's payload. Raises Unavailable."""
        request_id, reply = self.send(payload)
        try:
            return await reply
        finally:
            # A request that was given up leaves no trace; its late reply is dropped.
            self._waiting.pop(request_id, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                if frame.request_id != PUSH_ID:
                    waiting = self._waiting.pop(frame.request_id, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(frame.payload)
                elif self._on_push is not None:
                    self._on_push(frame.payload)
        except (FrameError, CodecError) as error:
            # The peer is our own program: bytes out of step mean a bug or another version, not noise.
            logger.error("%s sent what cannot be read: %s", self._peer, error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unavailable(f"{self._peer} is temporarily unavailable"))


class NodeLink:
    """Requests to the node, and its head feed."""

    def __init__(self, on_push: Callable[[Push], None]) -> None:
        self._link = FramedLink("the node", lambda payload: on_push(decode(Push, payload)))

    async def connect(self, path: str) -> None:
        """Raises OSError when nobody listens there."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._link, path)

    @property
    def lost(self) -> asyncio.Event:
        return self._link.lost

    async def ask(self, request: Request) -> Reply:
        if self._link.in_flight >= MAX_REQUESTS_AT_NODE:
            raise Unavailable("the node is busy: too many requests wait for it; try again")
        reply: Reply = decode(Reply, await self._link.request(encode(request)))
        return reply

    def close(self) -> None:
        self._link.close()


class ExecutionLink:
    """Queries to the execution process. Bounded: so many at work, so many waiting, the rest are refused.

    One that was given up keeps its place until the execution process has done with it.
    """

    def __init__(self, path: str, *, max_in_flight: int, max_waiting: int) -> None:
        self.path = path
        self._max_waiting = max_waiting
        self._gate = asyncio.Semaphore(max_in_flight)
        self._waiting = 0
        self._link: FramedLink | None = None

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        retry_s = FIRST_RETRY_S
        while True:
            link = FramedLink("the execution process")
            try:
                await asyncio.get_running_loop().create_unix_connection(partial(_same, link), self.path)
            except OSError as error:
                logger.warning("the execution process cannot be reached (%s); next try in %.2f s", error, retry_s)
            else:
                retry_s = FIRST_RETRY_S
                self._link = link
                try:
                    await link.lost.wait()
                finally:
                    self._link = None
                    link.close()
                logger.warning("the link to the execution process was lost: connecting again")
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    async def query(self, query: Query) -> Answer:
        if self._waiting >= self._max_waiting:
            raise Unavailable("the node is busy: too many queries wait for execution; try again")
        self._waiting += 1
        try:
            await self._gate.acquire()
        finally:
            self._waiting -= 1
        link = self._link
        try:
            if link is None:
                raise Unavailable("the execution process is temporarily unavailable")
            request_id, reply = link.send(encode(query))
        except BaseException:
            self._gate.release()
            raise
        is_done = True
        try:
            payload = await reply
        except asyncio.CancelledError:
            if reply.cancelled():
                link.give_up(request_id, self._gate.release)
                is_done = False
            raise
        finally:
            if is_done:
                self._gate.release()
        try:
            return await _decoded(payload)
        except CodecError as error:
            raise Unavailable(f"the execution process gave an answer that cannot be read: {error}") from error


async def ask_long(path: str, query: Query) -> AsyncGenerator[Answer]:
    """One long question over a connection of its own, whose end is the question's.

    What the reader of the answers does not take waits in the socket, and the execution process with it.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=STREAM_BUFFER_BYTES)
    except OSError as error:
        raise Unavailable("the execution process is temporarily unavailable") from error
    try:
        writer.write(encode_frame(PUSH_ID + 1, encode(query)))
        frames = FrameDecoder()
        while data := await reader.read(STREAM_BUFFER_BYTES):
            for frame in frames.feed(data):
                yield await _decoded(frame.payload)
    except OSError as error:
        raise Unavailable("the link to the execution process was lost") from error
    except (CodecError, FrameError) as error:
        raise Unavailable(f"the execution process gave an answer that cannot be read: {error}") from error
    finally:
        writer.close()
    raise Unavailable("the execution process is gone, or has too many connections; try again")


class SocketBackend:
    """The :class:`~astralink_node.gateway.backend.Backend` of a gateway process.

    What is only read, slow questions, and those of them that run long have a link each, and with it bounds of their
    own: the quicker overtake the slower.
    """

    def __init__(self, node: NodeLink, path: str, *, max_in_flight: int, max_waiting: int) -> None:
        """`path` is the execution process's socket; the bounds hold for each kind of question."""
        self._node = node
        self._path = path
        self._reads, self._slow, self._long = self._links = tuple(
            ExecutionLink(path, max_in_flight=max_in_flight, max_waiting=max_waiting) for _ in range(3)
        )

    async def run(self) -> None:
        """Keep the links to the execution process until cancelled."""
        async with asyncio.TaskGroup() as group:
            for link in self._links:
                group.create_task(link.run())

    async def query(self, query: Query) -> Answer:
        if not isinstance(query.question, SlowQuestion):
            return await self._reads.query(query)
        client = asker.get()
        with nullcontext() if client is None else client.wait():
            answer = await self._slow.query(query)
            return await self._long.query(replace(query, runs_long=True)) if isinstance(answer, RunsLong) else answer

    def stream(self, query: Query) -> AsyncGenerator[Answer]:
        return ask_long(self._path, query)

    async def ask_node(self, request: Request) -> Reply:
        return await self._node.ask(request)


async def _decoded(payload: bytes) -> Answer:
    """Raises CodecError."""
    answer: Answer
    if len(payload) > INLINE_BYTES:
        answer = await asyncio.to_thread(decode, Answer, payload)
    else:
        answer = decode(Answer, payload)
    return answer


def _same(link: FramedLink) -> FramedLink:
    return link
