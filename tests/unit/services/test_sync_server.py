"""Helping others: true answers, bounded in every way, and never at the cost of block work."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Answer, AtLatest, Query
from astralink_node.chain.sync_messages import BlocksAnswer, BlocksQuestion
from astralink_node.light_client import read_light_block
from astralink_node.services import sync_server
from astralink_node.services.peer_choice import MAX_AT_A_PEER, PeerChoice
from astralink_node.services.peer_heads import MAX_PEERS, PeerHeads
from astralink_node.services.snapshot_trust import light_block_of
from astralink_node.services.sync_offences import SyncOffence
from astralink_node.services.sync_protocols import BLOCKS, CHUNK, LIGHT_BLOCK, MANIFEST
from astralink_node.services.sync_server import MAX_AT_ONCE, MAX_WAITING, SyncServer
from consensus.sync_wire import (
    BlocksRequest,
    ChunkRequest,
    LightBlockRequest,
    ManifestRequest,
    decode_blocks_reply,
    decode_light_block_reply,
    decode_manifest_reply,
    encode_blocks_request,
    encode_chunk_request,
    encode_light_block_request,
    encode_manifest_request,
)
from p2p.memory_requests import MemoryRequester, MemoryRequests
from p2p.peer_id import PeerId
from p2p.request_protocol import Failure, MalformedRequest, Refused, RequestFailed, RequestProtocol
from tests.support.chains import LocalChain, candidate
from tests.support.lying_peers import Reports
from tests.support.snapshots import EPOCH, ServingChain, genesis_with

SERVER, ASKER = PeerId(b"server"), PeerId(b"asker")


@pytest.fixture(scope="module")
def chain() -> ServingChain:
    made = ServingChain(genesis_with(10))
    made.advance(2 * EPOCH + 1)
    return made


class Asking:
    def __init__(self, chain: LocalChain, queries: object | None = None) -> None:
        network = MemoryRequests()
        self.server = network.join(SERVER)
        SyncServer(queries or InProcessExecution(chain.execution), self.server)  # type: ignore[arg-type]
        self.asker: MemoryRequester = network.join(ASKER)

    async def ask(self, protocol: RequestProtocol, data: bytes) -> bytes:
        return await self.asker.request(SERVER, protocol, data)

    def run(self, protocol: RequestProtocol, data: bytes) -> bytes:
        return trio.run(self.ask, protocol, data, clock=MockClock(autojump_threshold=0))


def test_a_range_ends_at_the_count_and_at_the_head(chain: ServingChain) -> None:
    asking = Asking(chain)
    reply = decode_blocks_reply(asking.run(BLOCKS, encode_blocks_request(BlocksRequest(3, 4))))
    expected = [chain.execution.decided(height) for height in range(3, 7)]
    assert [(block.raw_block, block.certificate) for block in reply.blocks] == [
        (one.raw_block, one.certificate)  # type: ignore[union-attr]
        for one in expected
    ]
    assert reply.head_height == 2 * EPOCH + 1
    rest = decode_blocks_reply(asking.run(BLOCKS, encode_blocks_request(BlocksRequest(9, 64))))
    assert len(rest.blocks) == 3
    beyond = decode_blocks_reply(asking.run(BLOCKS, encode_blocks_request(BlocksRequest(500, 1))))
    assert beyond.blocks == ()


def test_a_range_ends_before_it_is_too_long_but_holds_a_block() -> None:
    chain = LocalChain()
    for nonce in range(3):
        chain.produce([candidate(0, nonce, data=b"\x01" * 60_000, gas=3_000_000)])
    ask = partial(BlocksQuestion, 1, 3)
    for max_bytes, count in ((1, 1), (130_000, 2), (1_000_000, 3)):
        answer = chain.execution.query(Query(AtLatest(), ask(max_bytes)))
        assert isinstance(answer, BlocksAnswer)
        assert len(answer.blocks) == count


def test_a_light_block_can_be_read(chain: ServingChain) -> None:
    data = Asking(chain).run(LIGHT_BLOCK, encode_light_block_request(LightBlockRequest(7)))
    header, _, _ = read_light_block(light_block_of(decode_light_block_reply(data)))
    assert header.block_hash == chain.execution.context.block_hash_at(7)
    with pytest.raises(RequestFailed) as failed:
        Asking(chain).run(LIGHT_BLOCK, encode_light_block_request(LightBlockRequest(700)))
    assert failed.value.failure is Failure.REFUSED


def test_a_manifest_comes_in_parts(chain: ServingChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_server, "MANIFEST_PART_BYTES", 1000)
    asking = Asking(chain)
    first = decode_manifest_reply(asking.run(MANIFEST, encode_manifest_request(ManifestRequest(0, 0))))
    assert first.height == 2 * EPOCH - 1
    parts = [
        decode_manifest_reply(asking.run(MANIFEST, encode_manifest_request(ManifestRequest(first.height, number)))).part
        for number in range(first.parts)
    ]
    assert b"".join(parts) == chain.manifest(2 * EPOCH - 1)
    assert {len(part) for part in parts[:-1]} == {1000}
    gone = decode_manifest_reply(asking.run(MANIFEST, encode_manifest_request(ManifestRequest(3, 0))))
    assert (gone.height, gone.parts) == (0, 0)


def test_a_chunk_of_no_snapshot_is_refused(chain: ServingChain) -> None:
    with pytest.raises(RequestFailed) as failed:
        Asking(chain).run(CHUNK, encode_chunk_request(ChunkRequest(3, bytes(32), bytes(32), b"\xff" * 32)))
    assert failed.value.failure is Failure.REFUSED


@pytest.mark.parametrize("protocol", [BLOCKS, LIGHT_BLOCK, MANIFEST, CHUNK], ids=lambda protocol: protocol.name)
def test_a_malformed_request_is_the_askers_fault(protocol: RequestProtocol, chain: ServingChain) -> None:
    asking = Asking(chain)
    with pytest.raises(MalformedRequest):
        trio.run(asking.server.answerers[protocol.name], ASKER, b"\x00")


class Slow:
    """Queries that take a second; counts how many run at once."""

    def __init__(self, chain: LocalChain) -> None:
        self._execution = InProcessExecution(chain.execution)
        self.running = self.most = 0

    async def query(self, query: Query) -> Answer:
        self.running += 1
        self.most = max(self.most, self.running)
        await trio.sleep(1)
        self.running -= 1
        return await self._execution.query(query)


def test_few_queries_run_at_once_and_few_wait(chain: ServingChain) -> None:
    slow = Slow(chain)
    asking = Asking(chain, slow)
    refused = []

    async def one() -> None:
        try:
            await asking.server.answerers[BLOCKS.name](ASKER, encode_blocks_request(BlocksRequest(1, 1)))
        except Refused as error:
            refused.append(error)

    async def many() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_WAITING + 5):
                nursery.start_soon(one)

    trio.run(many, clock=MockClock(autojump_threshold=0))
    assert slow.most == MAX_AT_ONCE
    assert len(refused) == 5


def test_all_together_get_so_many_bytes_a_second(chain: ServingChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_server, "BYTES_RATE", 1000)
    monkeypatch.setattr(sync_server, "BYTES_BURST", 1000)
    asking = Asking(chain)

    async def twice() -> tuple[int, float]:
        size, started = 0, trio.current_time()
        for _ in range(2):
            size += len(await asking.ask(BLOCKS, encode_blocks_request(BlocksRequest(1, 3))))
        return size, trio.current_time() - started

    size, seconds = trio.run(twice, clock=MockClock(autojump_threshold=0))
    assert seconds == pytest.approx((size - 1000) / 1000, abs=0.01)


# --- Choosing whom to ask ----------------------------------------------------------------------------------------


def choosing(body: Callable[[PeerChoice, Reports], Awaitable[None]]) -> Reports:
    reports = Reports()

    async def main() -> None:
        with trio.fail_after(100):
            await body(PeerChoice(reports), reports)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return reports


QUICK, LATE = PeerId(b"quick"), PeerId(b"late")


def test_the_quickest_with_room_is_asked() -> None:
    async def body(peers: PeerChoice, reports: Reports) -> None:
        for peer, seconds in ((LATE, 5), (QUICK, 1)):
            with peers.asking(peer):
                await trio.sleep(seconds)
        both = lambda: [LATE, QUICK]  # noqa: E731
        picked = []
        async with trio.open_nursery() as nursery:

            async def hold(peer: PeerId) -> None:
                with peers.asking(peer):
                    await trio.sleep(10)

            for _ in range(2 * MAX_AT_A_PEER):
                peer = await peers.pick(both, lambda: False)
                assert peer is not None
                picked.append(peer)
                nursery.start_soon(hold, peer)
                await trio.sleep(0.01)
            started = trio.current_time()
            assert await peers.pick(both, lambda: False) is not None
            assert trio.current_time() - started > 9, "nobody had room"
        assert picked == [QUICK] * MAX_AT_A_PEER + [LATE] * MAX_AT_A_PEER

    choosing(body)


def test_a_liar_is_named_once_and_not_asked_until_pardoned() -> None:
    async def body(peers: PeerChoice, reports: Reports) -> None:
        peers.convict(LATE, SyncOffence.WRONG_CHUNK, "a lie")
        peers.convict(LATE, SyncOffence.WRONG_CHUNK, "the same")
        assert await peers.pick(lambda: [LATE], lambda: False) is None
        assert await peers.pick(lambda: [LATE, QUICK], lambda: False) == QUICK
        peers.pardon([LATE])
        assert await peers.pick(lambda: [LATE], lambda: False) == LATE

    assert choosing(body).noted == [(LATE, SyncOffence.WRONG_CHUNK, "a lie")]


def test_heads_are_claims_that_can_be_forgotten_and_are_bounded() -> None:
    async def main() -> None:
        heads = PeerHeads()
        assert heads.best() == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heads.change)
            await trio.sleep(1)
            heads.note(LATE, 7)
        heads.note(QUICK, 9)
        assert (heads.best(), heads.best({QUICK}), heads.at_least(8)) == (9, 7, [QUICK])
        heads.forget(QUICK)
        assert heads.best() == 7
        for number in range(MAX_PEERS):
            heads.note(PeerId(b"%d" % number), 1)
        assert len(heads.at_least(0)) == MAX_PEERS
        assert heads.best() == 1, "the one remembered longest made room"

    trio.run(main, clock=MockClock(autojump_threshold=0))
