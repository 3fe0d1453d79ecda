"""The links match replies to requests, pass pushes on, and say "unavailable" while the peer is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from astralink_node.chain.call_messages import CallQuestion, CallRequest
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.frames import PUSH_ID, FrameDecoder, encode_frame
from astralink_node.chain.messages import AtLatest, BytesAnswer, CodeQuestion, Query, RunsLong
from astralink_node.gateway import links
from astralink_node.gateway.link_messages import (
    GetPendingNonce,
    NewPendingTransactions,
    PendingNonce,
    Push,
    Request,
    SubmittedTransaction,
)
from astralink_node.gateway.links import INLINE_BYTES, ExecutionLink, NodeLink, SocketBackend
from astralink_node.gateway.reading.errors import Unavailable
from tests.support.asynchronous import run

QUESTION = Query(AtLatest(), CodeQuestion(bytes(20)))


class Peer:
    """A Unix socket server that answers each frame with what `reply` makes of it, or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.connections: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.silent = False
        self.last_id = 0

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        self.server.close()
        while not self.connections.empty():
            writer = self.connections.get_nowait()
            writer.close()
            await writer.wait_closed()
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.put_nowait(writer)
        decoder = FrameDecoder()
        while data := await reader.read(65536):
            for frame in decoder.feed(data):
                self.frames.put_nowait(frame.payload)
                self.last_id = frame.request_id
                if not self.silent:
                    writer.write(encode_frame(frame.request_id, self.reply(frame.payload)))

    def reply(self, payload: bytes) -> bytes:
        return encode(BytesAnswer(b"code"))


class NodePeer(Peer):
    def reply(self, payload: bytes) -> bytes:
        request = decode(Request, payload)
        assert isinstance(request, GetPendingNonce)
        return encode(PendingNonce(True, request.address[0]))


def test_replies_find_their_requests_and_pushes_arrive(tmp_path: Path) -> None:
    async def main() -> None:
        peer = NodePeer(tmp_path / "n")
        await peer.start()
        pushes: list[Push] = []
        link = NodeLink(pushes.append)
        await link.connect(peer.path)
        push = NewPendingTransactions((SubmittedTransaction(b"raw", b"sender"),))
        writer = await peer.connections.get()
        writer.write(encode_frame(PUSH_ID, encode(push)))
        replies = await asyncio.gather(*(link.ask(GetPendingNonce(bytes([number]) * 20)) for number in range(20)))
        assert replies == [PendingNonce(True, number) for number in range(20)]
        assert pushes == [push]
        link.close()
        writer.close()
        await peer.stop()

    run(main)


def test_a_lost_node_fails_what_waits_and_is_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        peer = NodePeer(tmp_path / "n")
        peer.silent = True
        await peer.start()
        link = NodeLink(lambda push: None)
        await link.connect(peer.path)
        waiting = asyncio.create_task(link.ask(GetPendingNonce(bytes(20))))
        await peer.frames.get()
        await peer.stop()
        await link.lost.wait()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await link.ask(GetPendingNonce(bytes(20)))

    run(main)


def test_rubbish_from_the_peer_closes_the_link(tmp_path: Path) -> None:
    async def main() -> None:
        for rubbish in (b"\xff" * 100, encode_frame(PUSH_ID, b"no message")):
            peer = NodePeer(tmp_path / "n")
            await peer.start()
            link = NodeLink(lambda push: None)
            await link.connect(peer.path)
            writer = await peer.connections.get()
            writer.write(rubbish)
            await link.lost.wait()
            writer.close()
            await peer.stop()

    run(main)


def test_queries_are_refused_while_execution_is_away_and_work_again_after(tmp_path: Path) -> None:
    async def main() -> None:
        peer = Peer(tmp_path / "e")
        link = ExecutionLink(peer.path, max_in_flight=4, max_waiting=10)
        running = asyncio.create_task(link.run())
        with pytest.raises(Unavailable):
            await link.query(QUESTION)
        for _ in range(2):
            await peer.start()
            assert await _eventually(link) == BytesAnswer(b"code")
            await peer.stop()
            with pytest.raises(Unavailable):
                await link.query(QUESTION)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main)


async def _eventually(link: ExecutionLink) -> object:
    while True:
        try:
            return await link.query(QUESTION)
        except Unavailable:
            await asyncio.sleep(0.01)


def test_queries_at_execution_are_bounded_and_the_rest_wait_then_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        peer = Peer(tmp_path / "e")
        await peer.start()
        link = ExecutionLink(peer.path, max_in_flight=2, max_waiting=3)
        running = asyncio.create_task(link.run())
        await _eventually(link)
        await peer.frames.get()
        peer.silent = True
        waiting = [asyncio.create_task(link.query(QUESTION)) for _ in range(5)]
        for _ in range(2):
            await peer.frames.get()
        with pytest.raises(Unavailable, match="too many queries"):
            await link.query(QUESTION)
        assert peer.frames.empty()
        for task in waiting:
            task.cancel()
        running.cancel()
        await asyncio.gather(*waiting, running, return_exceptions=True)
        await peer.stop()

    run(main)


def test_execution_is_told_of_a_query_that_was_given_up(tmp_path: Path) -> None:
    """It would go on with it for as long as a query may take, while others wait for its threads."""

    async def main() -> None:
        peer = Peer(tmp_path / "e")
        await peer.start()
        link = ExecutionLink(peer.path, max_in_flight=2, max_waiting=3)
        running = asyncio.create_task(link.run())
        await _eventually(link)
        await peer.frames.get()
        peer.silent = True
        query = asyncio.create_task(link.query(QUESTION))
        assert await peer.frames.get() == encode(QUESTION)
        query.cancel()
        assert await peer.frames.get() == b""
        running.cancel()
        await asyncio.gather(query, running, return_exceptions=True)
        await peer.stop()

    run(main)


CALL = Query(AtLatest(), CallQuestion(CallRequest(bytes(20), bytes(20), None, None, None, None, 0, b"", (), None)))
LONG_CALL = replace(CALL, runs_long=True)


class ExecutionPeer(Peer):
    """Every call runs long; asked again as one that does, it is never answered, and nothing is while it is silent."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.put_nowait(writer)
        decoder = FrameDecoder()
        while data := await reader.read(65536):
            for frame in decoder.feed(data):
                self.frames.put_nowait(frame.payload)
                if not self.silent and frame.payload != encode(LONG_CALL):
                    answer = RunsLong() if frame.payload == encode(CALL) else BytesAnswer(b"code")
                    writer.write(encode_frame(frame.request_id, encode(answer)))


@asynccontextmanager
async def backend_of(peer: Peer) -> AsyncIterator[SocketBackend]:
    """One place in each link; all are connected."""
    await peer.start()
    backend = SocketBackend(NodeLink(lambda push: None), peer.path, max_in_flight=1, max_waiting=3)
    running = asyncio.create_task(backend.run())
    for _ in range(3):
        peer.connections.put_nowait(await peer.connections.get())
    yield backend
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await peer.stop()


def test_what_is_only_read_overtakes_calls(tmp_path: Path) -> None:
    async def main() -> None:
        peer = ExecutionPeer(tmp_path / "e")
        peer.silent = True
        async with backend_of(peer) as backend:
            asked = [asyncio.create_task(backend.query(CALL)) for _ in range(2)]
            assert await peer.frames.get() == encode(CALL)
            asked.append(asyncio.create_task(backend.query(QUESTION)))
            assert await peer.frames.get() == encode(QUESTION)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    run(main)


def test_calls_that_run_long_are_asked_again_and_others_overtake_them(tmp_path: Path) -> None:
    async def main() -> None:
        peer = ExecutionPeer(tmp_path / "e")
        async with backend_of(peer) as backend:
            asked = [asyncio.create_task(backend.query(CALL)) for _ in range(3)]
            frames = [await peer.frames.get() for _ in range(4)]
            assert frames.count(encode(CALL)) == 3
            assert frames.count(encode(LONG_CALL)) == 1
            assert not any(task.done() for task in asked)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    run(main)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_query_that_was_given_up_keeps_its_place_until_execution_has_done_with_it(
    tmp_path: Path, *, is_answered: bool
) -> None:
    """Or until the link to it is lost."""

    async def main() -> None:
        peer = Peer(tmp_path / "e")
        await peer.start()
        link = ExecutionLink(peer.path, max_in_flight=1, max_waiting=3)
        running = asyncio.create_task(link.run())
        await _eventually(link)
        await peer.frames.get()
        peer.silent = True
        first = asyncio.create_task(link.query(QUESTION))
        await peer.frames.get()
        first.cancel()
        assert await peer.frames.get() == b""
        second = asyncio.create_task(link.query(QUESTION))
        for _ in range(100):
            await asyncio.sleep(0)
        assert peer.frames.empty()
        writer = await peer.connections.get()
        if is_answered:
            writer.write(encode_frame(peer.last_id, b""))
            assert await peer.frames.get() == encode(QUESTION)
        else:
            writer.close()
            with pytest.raises(Unavailable):
                await second
        second.cancel()
        running.cancel()
        await asyncio.gather(first, second, running, return_exceptions=True)
        writer.close()
        await peer.stop()

    run(main)


def test_a_long_answer_is_decoded_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def noted(expected: object, payload: bytes) -> object:
        threads.append(threading.current_thread() is threading.main_thread())
        return decode(expected, payload)

    class LongWinded(Peer):
        def reply(self, payload: bytes) -> bytes:
            return encode(BytesAnswer(bytes(INLINE_BYTES)))

    async def main() -> None:
        for peer in (Peer(tmp_path / "short"), LongWinded(tmp_path / "long")):
            await peer.start()
            link = ExecutionLink(peer.path, max_in_flight=1, max_waiting=1)
            running = asyncio.create_task(link.run())
            await _eventually(link)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await peer.stop()

    monkeypatch.setattr(links, "decode", noted)
    run(main)
    assert threads == [True, False]
