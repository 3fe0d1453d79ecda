"""Answers peers that catch up: blocks by range, light blocks, manifests and chunks of snapshots.

Everything comes over the socket for queries, which gives way to block work. What all peers together may take is
bounded here, by bytes a second and by how many wait; what one peer may, by whoever carries the requests.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import trio

from astralink_node.chain.messages import Answer, AtLatest, Query
from astralink_node.chain.sync_messages import (
    BlocksAnswer,
    BlocksQuestion,
    LightBlockAnswer,
    LightBlockQuestion,
    SnapshotChunk,
    SnapshotChunkQuestion,
    SnapshotHeights,
    SnapshotHeightsQuestion,
    SnapshotManifest,
    SnapshotManifestQuestion,
    SyncQuestion,
)
from astralink_node.light_client import prove_payload
from astralink_node.services.sync_protocols import BLOCKS, CHUNK, LIGHT_BLOCK, MANIFEST
from consensus.payload import decode_payload
from consensus.sync_wire import (
    MANIFEST_PART_BYTES,
    TARGET_BLOCKS_BYTES,
    BlocksReply,
    LightBlockReply,
    ManifestReply,
    WireBlock,
    decode_blocks_request,
    decode_chunk_request,
    decode_light_block_request,
    decode_manifest_request,
    encode_blocks_reply,
    encode_light_block_reply,
    encode_manifest_reply,
)
from consensus.wire import DecodeError
from p2p.peer_id import PeerId
from p2p.peer_limits import TokenBucket
from p2p.request_protocol import MalformedRequest, Refused, ServesPeers

BYTES_RATE: Final = 16 << 20
BYTES_BURST: Final = 32 << 20
"""Given to all peers together; answers beyond come later."""
MAX_AT_ONCE: Final = 2
"""Answers that are being read from the database: execution has four threads for queries, and gateways need them."""
MAX_WAITING: Final = 32
"""Requests that wait for their turn; further ones are refused, and ask somebody else."""
MAX_MANIFESTS: Final = 2
"""Kept, since they are asked for in parts."""

T = TypeVar("T")


class AnswersQueries(Protocol):
    async def query(self, query: Query) -> Answer: ...


class SyncServer:
    """Serves until its peers' carrier ends; nothing has to run. `queries` must not be the link of block work."""

    def __init__(self, queries: AnswersQueries, requests: ServesPeers) -> None:
        self._queries = queries
        self._turns = trio.CapacityLimiter(MAX_AT_ONCE)
        self._waiting = 0
        self._bucket = TokenBucket(BYTES_RATE, BYTES_BURST)
        self._manifests: dict[int, bytes] = {}
        requests.serve(BLOCKS, self._bounded(self._blocks))
        requests.serve(LIGHT_BLOCK, self._bounded(self._light_block))
        requests.serve(MANIFEST, self._bounded(self._manifest))
        requests.serve(CHUNK, self._bounded(self._chunk))

    def _bounded(self, answer: Callable[[bytes], Awaitable[bytes]]) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        async def answer_in_turn(_: PeerId, data: bytes) -> bytes:
            if self._waiting >= MAX_WAITING:
                raise Refused("too many are asking: ask others, or come back")
            self._waiting += 1
            try:
                async with self._turns:
                    try:
                        reply = await answer(data)
                    except DecodeError as error:
                        raise MalformedRequest(str(error)) from error
                await trio.sleep(self._bucket.borrow(len(reply), trio.current_time()))
            finally:
                self._waiting -= 1
            return reply

        return answer_in_turn

    async def _blocks(self, data: bytes) -> bytes:
        request = decode_blocks_request(data)
        # Room for the lengths and the height around the blocks.
        question = BlocksQuestion(request.from_height, request.count, TARGET_BLOCKS_BYTES - 1024)
        answer = await self._ask(question, BlocksAnswer)
        return encode_blocks_reply(
            BlocksReply(
                answer.head_height, tuple(WireBlock(block.certificate, block.raw_block) for block in answer.blocks)
            )
        )

    async def _light_block(self, data: bytes) -> bytes:
        answer = await self._ask(LightBlockQuestion(decode_light_block_request(data).height), LightBlockAnswer)
        proof = prove_payload(decode_payload(answer.raw_payload))
        return encode_light_block_reply(
            LightBlockReply(
                raw_header=answer.raw_header,
                time_ms=proof.time_ms,
                voting_set_hash=proof.voting_set_hash,
                next_set_hash=proof.next_set_hash,
                branches=proof.branches,
                certificate=answer.certificate,
                voting_set=answer.voting_set,
                next_set=b"" if answer.next_set == answer.voting_set else answer.next_set,
                # Nobody keeps them: whoever meets a new member goes over the header that announced it.
                possessions=(),
            )
        )

    async def _manifest(self, data: bytes) -> bytes:
        request = decode_manifest_request(data)
        heights = (await self._ask(SnapshotHeightsQuestion(), SnapshotHeights)).heights
        height = request.height or (heights[-1] if heights else 0)
        if height not in heights:
            return encode_manifest_reply(ManifestReply(0, 0, b""))
        raw_manifest = self._manifests.get(height)
        if raw_manifest is None:
            raw_manifest = (await self._ask(SnapshotManifestQuestion(height), SnapshotManifest)).raw_manifest
            self._manifests = {known: raw for known, raw in self._manifests.items() if known in heights}
            if len(self._manifests) < MAX_MANIFESTS:
                self._manifests[height] = raw_manifest
        parts = -(-len(raw_manifest) // MANIFEST_PART_BYTES)
        start = request.part * MANIFEST_PART_BYTES
        return encode_manifest_reply(ManifestReply(height, parts, raw_manifest[start : start + MANIFEST_PART_BYTES]))

    async def _chunk(self, data: bytes) -> bytes:
        request = decode_chunk_request(data)
        question = SnapshotChunkQuestion(request.height, request.account, request.slot, request.last_account)
        return (await self._ask(question, SnapshotChunk)).raw_chunk

    async def _ask(self, question: SyncQuestion, expected: type[T]) -> T:
        answer = await self._queries.query(Query(AtLatest(), question))
        if not isinstance(answer, expected):
            raise Refused(f"not here: {answer}")
        return answer
