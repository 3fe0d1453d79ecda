"""What a node tells its peers beside its own votes: decided blocks for those that lag, and where it is itself.

Block by block, each asked for by saying one's height: enough for peers that are a little behind. Whoever is told is
remembered for a while, so that a peer cannot make a node send the same block again and again. Whoever brought the
last block is asked for the next one before anybody who merely says to be ahead.
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
ASK_INTERVAL_MS: Final = 200
"""One height is asked for at most this often."""
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
        self._asked: tuple[int, int] = (0, 0)
        """(height, when)"""
        self._brought: tuple[int, PeerId] | None = None
        """The last height that a peer brought decided, and who did."""

    def tell(self, message: GossipMessage) -> None:
        """Everybody."""
        self._transport.broadcast(encode_gossip(message))

    def send(self, peer: PeerId, message: GossipMessage) -> None:
        self._transport.send(peer, encode_gossip(message))

    async def note_height(self, peer: PeerId, height: int, head_height: int, *, asks: bool) -> None:
        """A peer works at `height`; this node's newest decided block is `head_height`."""
        if height > head_height + 1:
            if self._furthest(head_height) is None or self._ahead is None or height >= self._ahead[0]:
                self._ahead = (height, peer, self._now_ms())
            # One height ahead is where the quickest always are: our own commit is on its way. Not so while we catch
            # up: what was said at our height before we came to it was not kept.
            is_catching_up = self._brought is not None and self._brought[0] == head_height
            if is_catching_up or height > head_height + 2:
                self._ask(peer, head_height + 1)
        elif asks and 1 <= height <= head_height:
            await self._answer(peer, height)

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
        is_ahead = height > head_height + 1 and self._now_ms() - when_ms < AHEAD_LIFETIME_MS
        return peer if is_ahead else None

    def _ask(self, peer: PeerId, height: int) -> None:
        now_ms = self._now_ms()
        asked_height, asked_ms = self._asked
        if asked_height != height or now_ms - asked_ms >= ASK_INTERVAL_MS:
            self._asked = (height, now_ms)
            self.send(peer, HeightGossip(height, 0))

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
