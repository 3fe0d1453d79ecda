"""What a node tells its peers beside its own votes: decided blocks for those that lag, and where it is itself.

Block by block, each asked for by saying one's height: enough for peers that are a little behind. Whoever is told is
remembered for a while, so that a peer cannot make a node send the same block again and again. Whoever brought the
last block is asked for the next one before anybody who merely says to be ahead.
"""

from dataclasses import dataclass
from typing import Final, assert_never

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.consensus_messages import Decided
from consensus.certificate import decode_certificate
from consensus.gossip import (
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    CheckpointVote,
    DecidedGossip,
    EvidenceGossip,
    GossipMessage,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    encode_gossip,
)
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicTransport
from p2p.topics import Topic

ANSWER_INTERVAL_MS: Final = 500
"""A peer is told of one height, or given one block, at most this often."""
MAX_ANSWERS_PER_S: Final = 100
"""To one peer, of whatever height: each costs a read of the database, and many times the bytes of the question."""
MAX_REMEMBERED: Final = 4096
"""Peers whose last answer is remembered; the one remembered longest makes room."""
ASK_INTERVAL_MS: Final = 200
"""One height is asked for at most this often."""
AHEAD_LIFETIME_MS: Final = 5_000
"""How long a peer's greater height counts: it may have been a lie."""


@dataclass(slots=True)
class _Answered:
    """What one peer was answered lately."""

    last: object
    """A height, or a block's hash."""
    last_ms: int
    second_ms: int
    """When the second began in which `count` answers went out."""
    count: int


class PeerTalk:
    """See the module's description. Intervals are by the clock that nobody sets."""

    def __init__(self, transport: TopicTransport, execution: ExecutionLink) -> None:
        self._transport = transport
        self._execution = execution
        self._answered: dict[PeerId, _Answered] = {}
        self._ahead: tuple[int, PeerId, int] | None = None
        """(height, peer, when): the furthest peer seen lately."""
        self._asked: tuple[int, int] = (0, 0)
        """(height, when)"""
        self._brought: tuple[int, PeerId] | None = None
        """The last height that a peer brought decided, and who did."""

    def tell(self, message: GossipMessage) -> None:
        """Everybody."""
        self._transport.broadcast(_topic_of(message), encode_gossip(message))

    def send(self, peer: PeerId, message: GossipMessage) -> None:
        self._transport.send(peer, _topic_of(message), encode_gossip(message))

    async def note_height(self, peer: PeerId, height: int, head_height: int, *, asks: bool) -> None:
        """A peer works at `height`; this node's newest decided block is `head_height`."""
        if height > head_height + 1:
            if self._furthest(head_height) is None or self._ahead is None or height >= self._ahead[0]:
                self._ahead = (height, peer, _now_ms())
            # One height ahead is where the quickest always are: our own commit is on its way. Not so while we catch
            # up: what was said at our height before we came to it was not kept.
            is_catching_up = self._brought is not None and self._brought[0] == head_height
            if is_catching_up or height > head_height + 2:
                self._ask(peer, head_height + 1)
        elif asks and 1 <= height <= head_height and self._may_answer(peer, height):
            decided = await self._execution.decided(height)
            if isinstance(decided, Decided):
                self.send(peer, DecidedGossip(decode_certificate(decided.certificate), decided.raw_block))

    def give_block(self, peer: PeerId, height: int, block_hash: bytes, raw_block: bytes) -> None:
        """A peer wants a body that is here."""
        if self._may_answer(peer, block_hash):
            self.send(peer, BlockGossip(height, raw_block))

    def note_brought(self, peer: PeerId, height: int) -> None:
        """A peer sent a certificate that decides `height`."""
        self._brought = (height, peer)

    def height_begins(self, height: int) -> None:
        """If a peer brought the last block, or one seems to be further, ask it for this one right away."""
        if self._brought is not None and self._brought[0] == height - 1:
            self._ask(self._brought[1], height)
        elif (furthest := self._furthest(height - 1)) is not None:
            self._ask(furthest, height)

    def is_caught_up(self, head_height: int) -> bool:
        return self._furthest(head_height) is None

    def _furthest(self, head_height: int) -> PeerId | None:
        """A peer seen lately at a height whose parent this node lacks."""
        if self._ahead is None:
            return None
        height, peer, when_ms = self._ahead
        is_ahead = height > head_height + 1 and _now_ms() - when_ms < AHEAD_LIFETIME_MS
        return peer if is_ahead else None

    def _ask(self, peer: PeerId, height: int) -> None:
        now_ms = _now_ms()
        asked_height, asked_ms = self._asked
        if asked_height != height or now_ms - asked_ms >= ASK_INTERVAL_MS:
            self._asked = (height, now_ms)
            self.send(peer, HeightGossip(height, 0))

    def _may_answer(self, peer: PeerId, asked: object) -> bool:
        """Whether the peer was not answered the same, or too much, just now; it is taken to be answered then."""
        now_ms = _now_ms()
        earlier = self._answered.pop(peer, None)
        if earlier is None:
            if len(self._answered) >= MAX_REMEMBERED:
                del self._answered[next(iter(self._answered))]
            self._answered[peer] = _Answered(asked, now_ms, now_ms, 1)
            return True
        self._answered[peer] = earlier
        if now_ms - earlier.second_ms >= 1000:
            earlier.second_ms, earlier.count = now_ms, 0
        is_again = earlier.last == asked and now_ms - earlier.last_ms < ANSWER_INTERVAL_MS
        if is_again or earlier.count >= MAX_ANSWERS_PER_S:
            return False
        earlier.last, earlier.last_ms, earlier.count = asked, now_ms, earlier.count + 1
        return True


def _topic_of(message: GossipMessage) -> Topic:
    """Small and urgent things travel with votes, which go directly to everybody connected."""
    match message:
        case ProposalGossip() | DecidedGossip() | BlockGossip():
            return Topic.BLOCK
        case VotesGossip() | CertificateGossip() | HeightGossip() | BlockWanted() | CheckpointVote():
            return Topic.VOTE
        case EvidenceGossip():
            return Topic.EVIDENCE
        case _:
            assert_never(message)


def _now_ms() -> int:
    return round(trio.current_time() * 1000)
