"""A member of a memory network that notes how it judges what it was sent."""

from __future__ import annotations

from collections.abc import Collection

from p2p.gossip_events import Verdict
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage, TopicTransport
from p2p.topics import Topic


class JudgedTransport:
    """`inner`, with its verdicts in order."""

    def __init__(self, inner: TopicTransport) -> None:
        self._inner = inner
        self.verdicts: list[tuple[PeerId, bytes, Verdict]] = []
        """(who sent it, data, verdict)"""

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        self.verdicts.append((message.peer, message.data, verdict))
        self._inner.judge(message, verdict)

    def broadcast(self, topic: Topic, data: bytes) -> None:
        self._inner.broadcast(topic, data)

    def send(self, peer: PeerId, topic: Topic, data: bytes) -> None:
        self._inner.send(peer, topic, data)

    async def receive(self) -> TopicMessage:
        return await self._inner.receive()

    def receive_waiting(self, limit: int) -> list[TopicMessage]:
        return self._inner.receive_waiting(limit)

    @property
    def peers(self) -> Collection[PeerId]:
        return self._inner.peers
