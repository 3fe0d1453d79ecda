"""Gives each service the topics it is for: one transport, one reader, a bounded queue for each service.

A service that is slow loses its own messages, never another's.
"""

from collections.abc import Collection
from typing import Final

import trio

from p2p.gossip_events import Verdict
from p2p.topic_transport import TopicMessage, TopicTransport
from p2p.topics import Topic
from p2p.transport import PeerId

MAX_QUEUED: Final = 2048
"""Messages that wait for one service; further ones are dropped."""


class TopicSplit:
    """See the module's description. `run` must be running for anything to arrive."""

    def __init__(self, transport: TopicTransport) -> None:
        self._transport = transport
        self._queues: dict[Topic, trio.MemorySendChannel[TopicMessage]] = {}

    def share(self, *topics: Topic) -> "TopicShare":
        """A transport of these topics alone. Each topic is shared out once, before `run`."""
        queue, arrived = trio.open_memory_channel[TopicMessage](MAX_QUEUED)
        for topic in topics:
            if topic in self._queues:
                raise ValueError(f"the topic {topic.short_name} is shared out already")
            self._queues[topic] = queue
        return TopicShare(self._transport, arrived)

    async def run(self) -> None:
        while True:
            message = await self._transport.receive()
            queue = self._queues.get(message.topic)
            try:
                if queue is None:
                    raise trio.WouldBlock
                queue.send_nowait(message)
            except trio.WouldBlock:
                self._transport.judge(message, Verdict.IGNORE)


class TopicShare:
    """One service's end; see `p2p.topic_transport`."""

    def __init__(self, transport: TopicTransport, arrived: trio.MemoryReceiveChannel[TopicMessage]) -> None:
        self._transport = transport
        self._arrived = arrived

    def broadcast(self, topic: Topic, data: bytes) -> None:
        self._transport.broadcast(topic, data)

    def send(self, peer: PeerId, topic: Topic, data: bytes) -> None:
        self._transport.send(peer, topic, data)

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        self._transport.judge(message, verdict)

    @property
    def peers(self) -> Collection[PeerId]:
        return self._transport.peers

    async def receive(self) -> TopicMessage:
        return await self._arrived.receive()

    def receive_waiting(self, limit: int) -> list[TopicMessage]:
        found: list[TopicMessage] = []
        while len(found) < limit:
            try:
                found.append(self._arrived.receive_nowait())
            except trio.WouldBlock:
                break
        return found
