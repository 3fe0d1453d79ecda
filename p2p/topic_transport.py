"""What carries messages between nodes, as services see it: bytes by topic, with a verdict on what others sent.

Delivery is best effort, as on any network: messages may be lost, doubled and reordered, and nobody waits for a slow
peer. Whoever needs more repeats itself. What the bytes mean is no business of this package.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from p2p.gossip_events import Verdict
from p2p.peer_id import PeerId
from p2p.topics import Topic


@dataclass(frozen=True, slots=True)
class TopicMessage:
    peer: PeerId
    """Who sent it, authenticated by the transport; of what was gossiped, the first who did, not its author."""
    topic: Topic
    data: bytes
    gossip_id: bytes | None
    """Under which it waits for a verdict before it goes on to others; None: it was sent to this node alone."""


class TopicTransport(Protocol):
    def broadcast(self, topic: Topic, data: bytes) -> None:
        """To everyone. Returns at once; what a peer's full queue cannot take is lost."""

    def send(self, peer: PeerId, topic: Topic, data: bytes) -> None:
        """To one peer, likewise; nothing happens where there is no such peer (any more)."""

    async def receive(self) -> TopicMessage:
        """The next message."""

    def receive_waiting(self, limit: int) -> list[TopicMessage]:
        """What has arrived already, at most `limit` messages, without waiting."""

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        """What was gossiped goes on only once it is accepted; what is rejected counts against whoever sent it."""

    @property
    def peers(self) -> Collection[PeerId]:
        """Who is connected now."""
