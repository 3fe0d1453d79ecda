"""What a node tells its peers beside its own votes: decided blocks for those that lag, and where it is itself.

Block by block, each asked for by saying one's height: enough for peers that are a little behind. Whoever is told is
remembered for a while, so that a peer cannot make a node send the same block again and again.
"""

from typing import Final

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.consensus_messages import Decided
from astralink_node.clock import NowMs
from consensus.certificate import decode_certificate
from consensus.gossip import DecidedGossip, GossipMessage, HeightGossip, encode_gossip
from p2p.transport import PeerId, Transport

ANSWER_INTERVAL_MS: Final = 500
"""A peer is told of one height at most this often."""
MAX_REMEMBERED: Final = 4096
"""Peers whose last answer is remembered; the one remembered longest makes room."""
AHEAD_LIFETIME_MS: Final = 5_000
"""How long a peer's greater height counts: it may have been a lie."""


class PeerTalk:
    def __init__(self, transport: Transport, execution: ExecutionLink, now_ms: NowMs) -> None:
        self._transport = transport
        self._execution = execution
        self._now_ms = now_ms
        self._answered: dict[PeerId, tuple[int, int]] = {}
        """Peer -> (height, when)."""
        self._ahead: tuple[int, PeerId, int] | None = None
        """(height, peer, when): the furthest peer seen lately."""

    def tell(self, message: GossipMessage) -> None:
        """Everybody."""
        self._transport.broadcast(encode_gossip(message))

    def send(self, peer: PeerId, message: GossipMessage) -> None:
        self._transport.send(peer, encode_gossip(message))

    async def note_height(self, peer: PeerId, height: int, head_height: int, *, asks: bool) -> None:
        """A peer works at `height`; this node's newest decided block is `head_height`."""
        if height > head_height + 1:
            is_news = self._furthest(head_height) is None
            if is_news or self._ahead is None or height >= self._ahead[0]:
                self._ahead = (height, peer, self._now_ms())
            # One height ahead is where the quickest always are: our own commit is on its way.
            if is_news and height > head_height + 2:
                self.send(peer, HeightGossip(head_height + 1, 0))
        elif asks and 1 <= height <= head_height:
            await self._answer(peer, height)

    def ask_whoever_is_ahead(self, height: int) -> None:
        """A height begins: if a peer is further, ask it for this one's block right away."""
        furthest = self._furthest(height - 1)
        if furthest is not None:
            self.send(furthest, HeightGossip(height, 0))

    def is_caught_up(self, head_height: int) -> bool:
        return self._furthest(head_height) is None

    def _furthest(self, head_height: int) -> PeerId | None:
        """A peer seen lately at a height whose parent this node lacks."""
        if self._ahead is None:
            return None
        height, peer, when_ms = self._ahead
        is_ahead = height > head_height + 1 and self._now_ms() - when_ms < AHEAD_LIFETIME_MS
        return peer if is_ahead else None

    async def _answer(self, peer: PeerId, height: int) -> None:
        now_ms = self._now_ms()
        last_height, last_ms = self._answered.get(peer, (0, 0))
        if last_height == height and now_ms - last_ms < ANSWER_INTERVAL_MS:
            return
        self._answered.pop(peer, None)
        if len(self._answered) >= MAX_REMEMBERED:
            del self._answered[next(iter(self._answered))]
        self._answered[peer] = (height, now_ms)
        decided = await self._execution.decided(height)
        if isinstance(decided, Decided):
            self.send(peer, DecidedGossip(decode_certificate(decided.certificate), decided.raw_block))
