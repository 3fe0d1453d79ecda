"""The node's end of the execution socket: answers find their questions, and a broken process is told as gone."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import memory_stream_pair

from astralink_node.chain.client import ExecutionClient, ExecutionGone, InProcessExecution
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.frames import Frame, FrameDecoder, encode_frame
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtLatest,
    BlockWork,
    Built,
    Commit,
    GetStatus,
    Query,
    Status,
    Valid,
    Validate,
)
from tests.support.chains import LocalChain, candidate

STATUS = LocalChain().execution.status()
QUESTION = Query(AtLatest(), AccountsQuestion((bytes(20),)))
Peer = trio.abc.Stream


def with_client(body: Callable[[ExecutionClient, "FakeProcess"], Awaitable[None]]) -> None:
    async def main() -> None:
        ours, theirs = memory_stream_pair()
        client = ExecutionClient(ours)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await body(client, FakeProcess(theirs))
                nursery.cancel_scope.cancel()

    trio.run(main)


class FakeProcess:
    """The other end, answering as each test wants."""

    def __init__(self, stream: Peer) -> None:
        self.stream = stream
        self._frames = FrameDecoder()
        self._received: list[Frame] = []

    async def next_request(self) -> Frame:
        while not self._received:
            self._received += self._frames.feed(bytes(await self.stream.receive_some(1 << 16)))
        return self._received.pop(0)

    async def answer(self, request: Frame, answer: object) -> None:
        await self.stream.send_all(encode_frame(request.request_id, encode(answer)))


def test_answers_find_their_questions_in_any_order() -> None:
    async def body(client: ExecutionClient, process: FakeProcess) -> None:
        found: dict[str, object] = {}

        async def ask(name: str, call: Callable[[], Awaitable[object]]) -> None:
            found[name] = await call()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "status", client.status)
            status_request = await process.next_request()
            nursery.start_soon(ask, "validate", lambda: client.validate(Validate(b"")))
            validate_request = await process.next_request()
            assert decode(BlockWork, validate_request.payload) == Validate(b"")
            await process.answer(validate_request, Valid(b"hash"))
            await process.answer(status_request, STATUS)
        assert found == {"status": STATUS, "validate": Valid(b"hash")}

    with_client(body)


def test_the_answer_to_a_cancelled_request_is_dropped() -> None:
    async def body(client: ExecutionClient, process: FakeProcess) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.status)
            cancelled = await process.next_request()
            nursery.cancel_scope.cancel()
        await process.answer(cancelled, STATUS)

        async def serve() -> None:
            await process.answer(await process.next_request(), STATUS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await client.status() == STATUS

    with_client(body)


@pytest.mark.parametrize("wrong", [Valid(b""), Built(b"", b"", 0, (), "")], ids=repr)
def test_an_answer_of_the_wrong_kind_is_a_broken_process(wrong: object) -> None:
    async def body(client: ExecutionClient, process: FakeProcess) -> None:
        async def serve() -> None:
            await process.answer(await process.next_request(), wrong)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ExecutionGone, match="answers something else"):
                await client.status()

    with_client(body)


@pytest.mark.parametrize("rubbish", [b"\xff" * 12, encode_frame(1, b"rubbish"), None], ids=repr)
def test_rubbish_or_the_end_of_the_stream_wakes_whoever_waits(rubbish: bytes | None) -> None:
    async def body(client: ExecutionClient, process: FakeProcess) -> None:
        async def serve() -> None:
            await process.next_request()
            if rubbish is None:
                await process.stream.aclose()
            else:
                await process.stream.send_all(rubbish)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ExecutionGone):
                await client.commit(Commit(bytes(32), b""))
        with pytest.raises(ExecutionGone):
            await client.query(QUESTION)

    with_client(body)


def test_in_process_gives_the_same_answers_as_the_facade() -> None:
    async def main() -> None:
        chain = LocalChain()
        link = InProcessExecution(chain.execution)
        built = await link.build(chain.build_request([candidate(0, 0)]))
        assert isinstance(built, Built)
        assert await link.validate(Validate(built.raw_block)) == Valid(built.block_hash)
        committed = await link.commit(Commit(built.block_hash, chain.certificate(built.block_hash)))
        assert committed == chain.execution.commit(Commit(built.block_hash, b""))
        status = await link.status()
        assert isinstance(status, Status)
        assert status == chain.execution.handle(GetStatus())
        assert isinstance(await link.query(QUESTION), AccountsAnswer)

    trio.run(main)
